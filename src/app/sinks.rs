//! Who gets the records, the spans that are made of some of them, and the metrics: sinks and collectors that the configuration
//! names.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use tokio::sync::watch;

use crate::admin::status;
use crate::config::Config;
use crate::config::sink::Destination;
use crate::control::push::{Orders, Target};
use crate::control::shipper::{Ready, Shipper, host_name, tell_of_left};
use crate::lexicon::SinkName;
use crate::telemetry::access_log::{AccessLog, Consumers, Emitter, Local};
use crate::telemetry::events;
use crate::telemetry::metrics::{Cargo, Cause as _, LogDrop, LogMetrics, Metrics};
use crate::telemetry::parcel::Machine;
use crate::telemetry::recorder::Recorder;
use crate::telemetry::redact::Redactor;
use crate::{config, telemetry};

use super::Error;

/// The access log with all of its sinks.
pub(super) struct Sinks {
    log: AccessLog,
    metrics: Metrics,
    machine: Machine,
    recorder: Arc<Recorder>,
    all: Mutex<All>,
    /// Where metrics are pushed.
    pushes: Orders,
}

#[derive(Default)]
struct All {
    here: Vec<Here>,
    elsewhere: Vec<Shipper>,
    /// Not fed any more, and not done.
    leaving: Vec<Shipper>,
}

/// A sink of this machine.
struct Here {
    name: SinkName,
    /// Length and memory of its queue.
    queue: (usize, usize),
    local: Local,
}

/// What the sinks and collectors of a configuration need of files and secrets, sinks in the order of [`sinks`].
pub(super) struct Prepared {
    sinks: Vec<Option<Ready>>,
    push: Option<Target>,
}

/// Where records go, then where spans go.
fn sinks(config: &Config) -> impl Iterator<Item = &config::Sink> {
    config.access_log.sinks.iter().chain(config.otlp.traces.as_ref().map(|traces| &traces.sink))
}

/// Reads what the sinks and collectors of `config` name.
pub(super) fn prepare(config: &Config, metrics: &Metrics) -> Result<Prepared, Error> {
    let ready = |sink: &config::Sink| {
        Ready::read(sink).map_err(|source| {
            let source = Box::new(source);
            match sink.to {
                Destination::Traces(_) => Error::Export { signal: Cargo::Spans.signal(), source },
                _ => Error::Sink { sink: sink.name.clone(), source },
            }
        })
    };
    let push = config.otlp.metrics.as_ref().map(|push| Target::read(push, metrics)).transpose();
    let push = push.map_err(|source| Error::Export { signal: Cargo::Points.signal(), source: Box::new(source) })?;
    Ok(Prepared { sinks: sinks(config).map(ready).collect::<Result<_, _>>()?, push })
}

impl Sinks {
    /// Starts what the configuration names.
    pub(super) fn start(config: &Config, prepared: Prepared, metrics: &Metrics) -> Result<Self, Error> {
        let failed = |source| Error::System { what: "access log", source };
        let log = AccessLog::start(config.access_log.queue, Consumers::new(), metrics.log()).map_err(failed)?;
        let machine = Machine { host: host_name(), process: std::process::id() };
        let recorder = Arc::new(Recorder::new(config.recorder, metrics.recorder()));
        let pushes = Orders::new(None);
        let sinks = Self { log, metrics: metrics.clone(), machine, recorder, all: Mutex::default(), pushes };
        sinks.reconfigure(config, prepared);
        Ok(sinks)
    }

    /// What is kept of exchanges in memory.
    pub(super) const fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Where metrics are pushed, from now on.
    pub(super) fn pushes(&self) -> watch::Receiver<Option<Target>> {
        self.pushes.subscribe()
    }

    /// A queue for one worker.
    pub(super) fn worker(&self) -> Emitter {
        self.log.worker()
    }

    /// Uses another configuration. Loses nothing: what was emitted before goes to the sinks that were, and those whose
    /// settings are the same stay as they are.
    pub(super) fn reconfigure(&self, config: &Config, prepared: Prepared) {
        self.pushes.send_replace(prepared.push);
        self.log.flush(FED);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = mem::take(&mut *all);
        let mut consumers = Consumers::new();
        for (sink, ready) in sinks(config).zip(prepared.sinks) {
            let redactor = redactor(config, sink);
            match ready {
                Some(ready) => {
                    let at = before.elsewhere.iter().position(|shipper| shipper.is_for(sink, &redactor));
                    let shipper = match at {
                        Some(at) => {
                            let same = before.elsewhere.swap_remove(at);
                            same.renew(ready);
                            same
                        }
                        None => {
                            let metrics = counts(sink, &self.metrics);
                            Shipper::start(sink, ready, redactor, &self.machine, &metrics)
                        }
                    };
                    consumers.push(shipper.consumer());
                    all.elsewhere.push(shipper);
                }
                None => {
                    let same = |here: &Here| here.name == sink.name && here.queue == (sink.queue, sink.queue_memory);
                    let at = before.here.iter().position(same);
                    if let Some(here) = at.map(|at| before.here.swap_remove(at)).map_or_else(
                        || self.open(sink, &redactor),
                        |here| {
                            here.local.reconfigure(sink.clone(), redactor.clone());
                            Some(here)
                        },
                    ) {
                        consumers.push(here.local.consumer());
                        all.here.push(here);
                    }
                }
            }
        }
        self.recorder.reconfigure(config.recorder);
        if self.recorder.is_on() {
            consumers.push(Arc::clone(&self.recorder) as _);
        }
        // Where nobody wants records, workers hand none over.
        self.log.feed(consumers);
        self.log.flush(FED);
        // Of those that stay nobody else needs to know where they are.
        tell_of_left(&config.access_log.sinks, before.elsewhere.iter().filter_map(Shipper::spools));
        all.leaving = before.leaving;
        all.leaving.extend(before.elsewhere);
        all.leaving.iter().for_each(Shipper::ask_to_end);
        all.leaving.retain(|shipper| !shipper.has_ended());
    }

    fn open(&self, sink: &config::Sink, redactor: &Redactor) -> Option<Here> {
        let metrics = self.metrics.sink(&sink.name);
        metrics.begin(0);
        match Local::start(sink.clone(), redactor.clone(), metrics.clone()) {
            Ok(local) => {
                let queue = (sink.queue, sink.queue_memory);
                Some(Here { name: sink.name.clone(), queue, local })
            }
            Err(error) => {
                events::access_log_failing(&metrics, sink.name.as_str(), true, &error);
                None
            }
        }
    }

    /// Opens files anew, for a rotation by others.
    pub(super) fn reopen(&self) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.here.iter().for_each(|here| here.local.reopen());
    }

    /// Brings out, or stores, what waits, within about `deadline`.
    pub(super) async fn end(self, deadline: Duration) {
        let end = Instant::now() + deadline;
        self.log.flush(deadline);
        let All { here, elsewhere, leaving } = self.all.into_inner().unwrap_or_else(PoisonError::into_inner);
        join_all(elsewhere.into_iter().chain(leaving).map(|shipper| shipper.end(deadline))).await;
        for here in here {
            here.local.flush(end.saturating_duration_since(Instant::now()).max(LEAST));
        }
    }
}

/// The sinks of `config` as they are now.
pub(super) fn shown(config: &Config, metrics: &Metrics) -> Vec<status::Sink> {
    let sink = |sink: &config::Sink| {
        let log = metrics.sink(&sink.name);
        let waiting: telemetry::metrics::Waiting = log.waiting();
        let dropped = LogDrop::ALL.iter().map(|cause| (cause.as_str(), log.dropped(*cause)));
        status::Sink {
            name: sink.name.clone(),
            kind: sink.to.as_str(),
            state: if log.is_failing() { "failing" } else { "working" },
            queue: waiting.queue,
            spool_bytes: waiting.spool_bytes,
            spool_max_bytes: sink.spool.as_ref().map_or(0, |spool| spool.size),
            spool_records: waiting.spool_records,
            oldest_age_seconds: waiting.age().as_secs(),
            sent: log.written.get(),
            retried: log.errors.get(),
            dropped: dropped.filter(|(_, records)| *records > 0).collect(),
            last_error: log.last_error(),
        }
    };
    config.access_log.sinks.iter().map(sink).collect()
}

/// What else is sent to collectors, as it is now.
pub(super) fn exported(config: &Config, metrics: &Metrics) -> Vec<status::Export> {
    let export = |cargo: Cargo| {
        let counts = metrics.export(cargo);
        let dropped = LogDrop::ALL.iter().map(|cause| (cause.as_str(), counts.dropped(*cause)));
        status::Export {
            signal: cargo.signal(),
            state: if counts.is_failing() { "failing" } else { "working" },
            queue: counts.waiting().queue,
            sent: counts.written.get(),
            failed: counts.errors.get(),
            dropped: dropped.filter(|(_, lost)| *lost > 0).collect(),
            last_error: counts.last_error(),
        }
    };
    let traces = config.otlp.traces.as_ref().map(|_| export(Cargo::Spans));
    traces.into_iter().chain(config.otlp.metrics.as_ref().map(|_| export(Cargo::Points))).collect()
}

/// What a sink on another machine counts.
fn counts(sink: &config::Sink, metrics: &Metrics) -> Arc<LogMetrics> {
    match sink.to {
        Destination::Traces(_) => metrics.export(Cargo::Spans),
        _ => metrics.sink(&sink.name),
    }
}

/// Longest wait for what was emitted to be handed on before settings change; it takes milliseconds.
const FED: Duration = Duration::from_secs(1);

/// Time that a sink of this machine has at the end in any case.
const LEAST: Duration = Duration::from_secs(1);

fn redactor(config: &Config, sink: &config::Sink) -> Redactor {
    Redactor::new(&config.clients.secret_query_keys).with_emails(sink.redact_emails).with_prefix(sink.anonymise)
}
