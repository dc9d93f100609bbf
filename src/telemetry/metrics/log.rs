//! What the access log, its sinks and what else is sent to collectors count.
//!
//! Floor 2. One set for the queues of the workers, labelled `-`, one for each sink, and one for each kind of export. Handles and their samples together.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cells::{Causes, Count};
use super::encode::by_cause;
use super::families as f;
use super::page::{Page, family};
use super::{Inner, LogDrop, Metrics};
use crate::lexicon::SinkName;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Cargo {
    /// Records, for a sink.
    #[default]
    Records,
    /// Spans, for a collector.
    Spans,
    /// Points of metrics, for a collector.
    Points,
}

impl Cargo {
    /// What it is called where it is exported.
    pub const fn signal(self) -> &'static str {
        match self {
            Self::Records => "logs",
            Self::Spans => "traces",
            Self::Points => "metrics",
        }
    }
}

/// The access log, one of its sinks, or what else is sent to a collector: then spans or points are counted, not records.
#[derive(Debug, Default)]
pub struct LogMetrics {
    cargo: Cargo,
    /// Records written, or taken by a receiver.
    pub written: Count,
    /// Failed writes, opens, rotations, connections and deliveries.
    pub errors: Count,
    dropped: Causes<LogDrop>,
    spool_max: AtomicU64,
    /// Which of the sinks that have had its name is shown, and what waits in it.
    shown: Mutex<(Turn, Waiting)>,
    /// What takes its records fails: a receiver, a file.
    failing: AtomicBool,
    /// Its spool fails. A thing of its own: a delivery says nothing about the disk.
    spool_failing: AtomicBool,
    last_error: Mutex<Option<String>>,
}

/// Which of the sinks that have had a name one is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Turn(u64);

/// What waits in a sink.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Waiting {
    /// Records in memory.
    pub queue: u64,
    /// Bytes on disk.
    pub spool_bytes: u64,
    /// Records on disk.
    pub spool_records: u64,
    /// When the oldest was made, in nanoseconds of Unix time; 0 when nothing waits.
    pub oldest: u64,
}

impl Waiting {
    /// How old the oldest is.
    pub fn age(&self) -> Duration {
        match self.oldest {
            0 => Duration::ZERO,
            oldest => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                now.saturating_sub(Duration::from_nanos(oldest))
            }
        }
    }
}

impl LogMetrics {
    /// What is counted here.
    pub const fn cargo(&self) -> Cargo {
        self.cargo
    }

    /// A record was lost.
    pub fn drop_record(&self, cause: LogDrop) {
        self.dropped.inc(cause);
    }

    /// So many were lost.
    pub fn drop_records(&self, cause: LogDrop, records: u64) {
        self.dropped.add(cause, records);
    }

    /// Records lost for this cause.
    pub fn dropped(&self, cause: LogDrop) -> u64 {
        self.dropped.get(cause)
    }

    /// A sink begins whose spool may have so many bytes, 0 without one. What waits in one that had the name before is not
    /// shown any more.
    pub fn begin(&self, spool: u64) -> Turn {
        self.spool_max.store(spool, Ordering::Relaxed);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = (Turn(shown.0.0 + 1), Waiting::default());
        shown.0
    }

    /// What waits now in the sink that began then.
    pub fn show(&self, turn: Turn, waiting: Waiting) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.0 == turn {
            shown.1 = waiting;
        }
    }

    /// What waited when it was last shown.
    pub fn waiting(&self) -> Waiting {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// It fails, for this reason. Counted.
    pub fn fail(&self, why: &str) {
        self.failing.store(true, Ordering::Relaxed);
        self.note(why);
    }

    /// Something failed, and the rest goes on. Counted.
    pub fn note(&self, why: &str) {
        self.errors.inc();
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// It works again; its spool, if it has one, is as it was.
    pub fn recover(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }

    /// Its spool fails, for this reason. Counted.
    pub fn fail_spool(&self, why: &str) {
        self.spool_failing.store(true, Ordering::Relaxed);
        self.note(why);
    }

    /// Its spool works again.
    pub fn recover_spool(&self) {
        self.spool_failing.store(false, Ordering::Relaxed);
    }

    /// Whether it fails at the moment, or its spool does.
    pub fn is_failing(&self) -> bool {
        self.delivery_fails() || self.spool_fails()
    }

    /// Whether what takes its records fails at the moment.
    pub fn delivery_fails(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether its spool, if it has one, fails at the moment.
    pub fn spool_fails(&self) -> bool {
        self.spool_failing.load(Ordering::Relaxed) && self.spool_max.load(Ordering::Relaxed) > 0
    }

    /// Why it failed last.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a gauge shows of a sink.
type Shown = fn(&LogMetrics) -> u64;

/// The label of what is lost before any sink sees it.
const WORKERS: &str = "-";

pub(super) fn encode(inner: &Inner, page: &mut Page<'_>) -> fmt::Result {
    let sinks: Vec<(SinkName, Arc<LogMetrics>)> = inner.sinks.alive();
    let of = |sink: &(SinkName, Arc<LogMetrics>), value: Shown| value(&sink.1);
    family(page, &f::LOG_RECORDS, |samples| {
        sinks.iter().try_for_each(|sink| samples.counter(&[sink.0.as_str()], of(sink, |log| log.written.get())))
    })?;
    family(page, &f::LOG_DROPPED, |samples| {
        by_cause(samples, &[WORKERS], |cause| inner.log.dropped(cause))?;
        sinks.iter().try_for_each(|(name, log)| by_cause(samples, &[name.as_str()], |cause| log.dropped(cause)))
    })?;
    family(page, &f::LOG_ERRORS, |samples| {
        sinks.iter().try_for_each(|sink| samples.counter(&[sink.0.as_str()], of(sink, |log| log.errors.get())))
    })?;
    let gauges: [(_, Shown); 6] = [
        (&f::LOG_FAILING, |log| log.is_failing().into()),
        (&f::LOG_QUEUE, |log| log.waiting().queue),
        (&f::LOG_SPOOL, |log| log.waiting().spool_bytes),
        (&f::LOG_SPOOL_MAX, |log| log.spool_max.load(Ordering::Relaxed)),
        (&f::LOG_SPOOL_RECORDS, |log| log.waiting().spool_records),
        (&f::LOG_OLDEST, |log| log.waiting().age().as_secs()),
    ];
    for (gauge, value) in gauges {
        family(page, gauge, |samples| {
            sinks.iter().try_for_each(|sink| samples.gauge(&[sink.0.as_str()], of(sink, value)))
        })?;
    }
    family(page, &f::EVENTS_DROPPED, |samples| samples.counter(&[], super::super::events::dropped()))?;
    exports(inner, page)
}

/// Why spans or points are lost; nothing else can happen to them.
const LOSSES: [LogDrop; 3] = [LogDrop::SinkFull, LogDrop::Refused, LogDrop::Ending];

fn exports(inner: &Inner, page: &mut Page<'_>) -> fmt::Result {
    let exports = inner.exports.alive();
    let counters: [(_, Shown); 2] =
        [(&f::EXPORTED, |export| export.written.get()), (&f::EXPORT_ERRORS, |export| export.errors.get())];
    for (counter, value) in counters {
        family(page, counter, |samples| {
            exports.iter().try_for_each(|(signal, export)| samples.counter(&[*signal], value(export)))
        })?;
    }
    family(page, &f::EXPORT_DROPPED, |samples| {
        exports.iter().try_for_each(|(signal, export)| {
            LOSSES.iter().try_for_each(|cause| samples.counter(&[*signal, cause.as_str()], export.dropped(*cause)))
        })
    })?;
    let gauges: [(_, Shown); 2] = [
        (&f::EXPORT_FAILING, |export| export.is_failing().into()),
        (&f::EXPORT_QUEUE, |export| export.waiting().queue),
    ];
    for (gauge, value) in gauges {
        family(page, gauge, |samples| {
            exports.iter().try_for_each(|(signal, export)| samples.gauge(&[*signal], value(export)))
        })?;
    }
    Ok(())
}

impl Metrics {
    /// The handle of what is sent to a collector beside records.
    pub fn export(&self, cargo: Cargo) -> Arc<LogMetrics> {
        self.0.exports.get(&cargo.signal(), || LogMetrics { cargo, ..LogMetrics::default() })
    }
}
