//! Who gets the records: the sinks that the configuration names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::config::process::LogTarget;
use crate::telemetry::access_log::{AccessLog, Consumers, Emitter, Local};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recorder::Recorder;
use crate::telemetry::redact::Redactor;

use super::Error;

/// The access log with all of its sinks.
pub(super) struct Sinks {
    log: AccessLog,
    local: Local,
    recorder: Arc<Recorder>,
}

impl Sinks {
    /// Starts what the configuration names.
    pub(super) fn start(config: &Config, metrics: &Metrics) -> Result<Self, Error> {
        let failed = |source| Error::System { what: "access log", source };
        let local = Local::start(config.access_log.clone(), redactor(config), metrics.log()).map_err(failed)?;
        let recorder = Arc::new(Recorder::new(config.recorder, metrics.recorder()));
        let consumers = consumers(config, &local, &recorder);
        let log = AccessLog::start(config.access_log.queue, consumers, metrics.log()).map_err(failed)?;
        Ok(Self { log, local, recorder })
    }

    /// What is kept of exchanges in memory.
    pub(super) const fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// A queue for one worker.
    pub(super) fn worker(&self) -> Emitter {
        self.log.worker()
    }

    /// Uses another configuration. Loses nothing: what was emitted before goes to the sinks that were.
    pub(super) fn reconfigure(&self, config: &Config) {
        self.log.flush(FED);
        self.local.reconfigure(config.access_log.clone(), redactor(config));
        self.recorder.reconfigure(config.recorder);
        self.log.feed(consumers(config, &self.local, &self.recorder));
    }

    /// Opens files anew, for a rotation by others.
    pub(super) fn reopen(&self) {
        self.local.reopen();
    }

    /// Brings out what waits, within `deadline`. Blocks.
    pub(super) fn flush(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        self.log.flush(deadline);
        self.local.flush(end.saturating_duration_since(Instant::now()));
    }
}

/// Longest wait for what was emitted to be handed on before settings change; it takes milliseconds.
const FED: Duration = Duration::from_secs(1);

/// Everybody who wants records. Where nobody does, workers hand none over.
fn consumers(config: &Config, local: &Local, recorder: &Arc<Recorder>) -> Consumers {
    let mut consumers = Consumers::new();
    if config.access_log.target != LogTarget::Off {
        consumers.push(local.consumer());
    }
    if recorder.is_on() {
        consumers.push(Arc::clone(recorder) as _);
    }
    consumers
}

fn redactor(config: &Config) -> Redactor {
    Redactor::new(&config.clients.secret_query_keys)
}
