//! Events of the access log, its sinks, and what else is sent to collectors.

use tracing::{debug, error, info, warn};

use super::Chain;
use crate::telemetry::metrics::{Cargo, LogMetrics};

/// The access log cannot be written; it is tried again. Written once for each streak, counted each time.
pub fn access_log_failing(metrics: &LogMetrics, target: &str, first: bool, error: &std::io::Error) {
    metrics.fail(&error.to_string());
    if first {
        error!(access_log.target = target, error = %Chain(error), "access log failing, records wait and then drop");
    }
}

/// The access log can be written again.
pub fn access_log_recovered(metrics: &LogMetrics, target: &str, failures: u64) {
    metrics.recover();
    info!(access_log.target = target, failures, "access log recovered");
}

/// The access log's file was rotated, or opened anew because it was asked for or had been moved away.
pub fn access_log_reopened(target: &str, why: &'static str) {
    debug!(access_log.target = target, why, "access log reopened");
}

/// A receiver does not take records, spans or points. Written once for each streak, counted each time.
pub fn sink_failing(metrics: &LogMetrics, sink: &str, first: bool, why: &str) {
    metrics.fail(why);
    match metrics.cargo() {
        _ if !first => {}
        Cargo::Records => warn!(sink, error = why, "log sink failing, records wait"),
        cargo @ (Cargo::Spans | Cargo::Points) => warn!(signal = cargo.signal(), error = why, "export failing"),
    }
}

/// The receiver takes them again.
pub fn sink_recovered(metrics: &LogMetrics, sink: &str, failures: u64) {
    metrics.recover();
    let spooled = metrics.waiting().spool_records;
    match metrics.cargo() {
        Cargo::Records => info!(sink, failures, records.spooled = spooled, "log sink recovered"),
        cargo @ (Cargo::Spans | Cargo::Points) => info!(signal = cargo.signal(), failures, "export recovered"),
    }
}

/// Records, spans or points were lost since the last event of this kind.
pub fn records_lost(metrics: &LogMetrics, sink: &str, cause: &'static str, records: u64) {
    match metrics.cargo() {
        Cargo::Records => warn!(sink, cause, records, "records lost"),
        Cargo::Spans => warn!(cause, spans = records, "spans lost"),
        Cargo::Points => warn!(cause, points = records, "points of metrics lost"),
    }
}

/// The spool cannot be used; records wait in memory. Written once for each streak.
pub fn spool_failing(metrics: &LogMetrics, sink: &str, first: bool, error: &std::io::Error) {
    metrics.fail_spool(&format!("spool: {error}"));
    if first {
        error!(sink, error = %Chain(error), "spool cannot be used, records wait in memory");
    }
}

/// The spool can be used again.
pub fn spool_recovered(metrics: &LogMetrics, sink: &str, failures: u64) {
    metrics.recover_spool();
    info!(sink, failures, "spool recovered");
}

/// A segment of the spool, or what is left of it, cannot be read: what is behind it goes on. Counted.
pub fn spool_segment_skipped(metrics: &LogMetrics, sink: &str, why: &str) {
    metrics.note(&format!("spool: {why}"));
    error!(sink, error = why, "spool segment cannot be read, it is passed over");
}

/// What a sink has spooled that is no more: nobody will send it unless a sink of that name comes back.
pub fn spool_left(dir: &std::path::Path, records: u64, bytes: u64) {
    warn!(spool.dir = %dir.display(), records, bytes, "spool belongs to no sink, its records wait for one of that name");
}

/// The spool is open; what an earlier process left will be sent.
pub fn spool_opened(sink: &str, records: u64, torn: u64, foreign: u64) {
    if torn > 0 || foreign > 0 {
        warn!(sink, records, bytes.torn = torn, records.foreign = foreign, "spool opened, not all of it is of use");
    } else if records > 0 {
        info!(sink, records, "spool opened");
    }
}
