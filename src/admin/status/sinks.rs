//! What is sent elsewhere, in `/status`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::lexicon::SinkName;

/// A place that records go to.
#[derive(Clone, Debug, Serialize)]
pub struct Sink {
    /// Its name.
    #[serde(serialize_with = "super::word")]
    pub name: SinkName,
    /// `stdout`, `file`, `syslog`, `otlp`, `loki`, `http`, `kafka`.
    pub kind: &'static str,
    /// `working`, or `failing` while it takes nothing or its spool cannot be used.
    pub state: &'static str,
    /// Records that wait in memory.
    pub queue: u64,
    /// Size of its spool.
    pub spool_bytes: u64,
    /// Size that its spool may have; 0 without one.
    pub spool_max_bytes: u64,
    /// Records that wait in its spool.
    pub spool_records: u64,
    /// Age of the oldest record that waits; 0 when none does.
    pub oldest_age_seconds: u64,
    /// Records written, or taken by the receiver.
    pub sent: u64,
    /// Writes and deliveries that failed and are repeated.
    pub retried: u64,
    /// Records lost, by cause.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Why it failed last, ever since the start.
    pub last_error: Option<String>,
}

/// Spans or metrics on their way to a collector.
#[derive(Clone, Debug, Serialize)]
pub struct Export {
    /// `traces` or `metrics`.
    pub signal: &'static str,
    /// `working`, or `failing` while the collector takes nothing.
    pub state: &'static str,
    /// Spans that wait in memory, and exchanges of which none are made yet; 0 for metrics.
    pub queue: u64,
    /// Spans or points that the collector has taken.
    pub sent: u64,
    /// Deliveries that failed.
    pub failed: u64,
    /// Spans or points lost, by cause.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Why it failed last, ever since the start.
    pub last_error: Option<String>,
}
