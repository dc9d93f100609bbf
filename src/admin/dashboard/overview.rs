//! What the numbers say of the present: rates, percentiles, causes; the same for the page and for `top`.
//!
//! Part of `admin::dashboard`, pure. In: the history and the state. Out: plain values, whose field names are those of
//! `/overview`'s JSON.

use serde::Serialize;

use super::chronicle::{Chronicle, Mark, Note, reason};
use super::history::{History, PoolNow, RATE, Sample, percentile};
use crate::admin::Status;
use crate::admin::status::{Endpoint, Pool};
use crate::telemetry::metrics::Buckets;

/// Cells of an endpoint's past.
pub(super) const CELLS: u64 = 60;

/// Milliseconds of one cell.
pub(super) const CELL: u64 = 30_000;

/// Everything that is not state.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Overview {
    /// Milliseconds since 1970.
    pub(super) at: u64,
    /// Exchanges a second.
    pub(super) per_second: f64,
    /// Answers with a 5xx status a second.
    pub(super) errors_per_second: f64,
    /// Content bytes to clients a second.
    pub(super) bytes_per_second: f64,
    /// Of the last minute.
    pub(super) latency: Latency,
    /// Exchanges in flight at endpoints.
    pub(super) in_flight: u64,
    /// Exchanges waiting for a free endpoint.
    pub(super) queued: u64,
    /// Open tunnels.
    pub(super) tunnels: u64,
    /// Open client connections.
    pub(super) connections: u64,
    /// What the proxy answered itself or broke off, by reason code, the most frequent of the last ten minutes first.
    pub(super) errors: Vec<Errors>,
    /// What the shield said.
    pub(super) verdicts: Vec<Verdict>,
    /// Pools, in the order of `/status`.
    pub(super) pools: Vec<PoolRow>,
    /// What happened, youngest first.
    pub(super) events: Vec<Note>,
}

/// Durations of exchanges in milliseconds; `null` without any.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Latency {
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

impl Latency {
    pub(super) fn of(durations: &Buckets) -> Self {
        let at = |share| percentile(durations, share);
        Self { p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99) }
    }
}

/// One cause.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Errors {
    pub(super) cause: &'static str,
    pub(super) last_minute: u64,
    pub(super) last_ten_minutes: u64,
    pub(super) total: u64,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) rule: String,
    pub(super) action: &'static str,
    pub(super) enforced: u64,
    pub(super) observed: u64,
}

/// A pool.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PoolRow {
    pub(super) name: String,
    pub(super) per_second: f64,
    pub(super) errors_per_second: f64,
    /// Of the last minute.
    pub(super) latency: Latency,
    /// In the order of `/status`.
    pub(super) endpoints: Vec<EndpointRow>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize)]
pub(super) struct EndpointRow {
    pub(super) name: String,
    pub(super) mark: Mark,
    pub(super) reason: String,
    pub(super) per_second: f64,
    pub(super) errors_per_second: f64,
    #[serde(skip)]
    pub(super) past: Vec<Option<Mark>>,
}

impl Overview {
    pub(super) fn new(history: &History, chronicle: &Chronicle, status: &Status) -> Self {
        let now = history.lately(RATE);
        let latest = history.lately(1);
        let minute = history.lately(60);
        Self {
            at: history.last_at(),
            per_second: now.rate(now.exchanges()),
            errors_per_second: now.rate(now.server_errors()),
            bytes_per_second: now.rate(now.bytes_out),
            latency: Latency::of(&minute.durations),
            in_flight: latest.in_flight,
            queued: latest.queued,
            tunnels: latest.tunnels,
            connections: status.listeners.iter().map(|listener| listener.connections).sum(),
            errors: errors(history, &minute),
            verdicts: verdicts(history),
            pools: status.pools.iter().map(|pool| pool_row(history, pool)).collect(),
            events: chronicle.notes().cloned().collect(),
        }
    }
}

fn errors(history: &History, minute: &Sample) -> Vec<Errors> {
    let ten = history.lately(super::history::SECONDS);
    let row = |(cause, total): (&&'static str, &u64)| Errors {
        cause,
        last_minute: minute.faults_of(cause),
        last_ten_minutes: ten.faults_of(cause),
        total: *total,
    };
    let mut rows: Vec<Errors> = history.totals().faults.iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.last_ten_minutes, row.total)));
    rows
}

fn verdicts(history: &History) -> Vec<Verdict> {
    let rules = history.totals().verdicts.iter();
    rules
        .map(|each| Verdict {
            rule: each.rule.clone(),
            action: each.action,
            enforced: each.enforced,
            observed: each.observed,
        })
        .collect()
}

fn pool_row(history: &History, pool: &Pool) -> PoolRow {
    let PoolNow { per_second, errors_per_second, durations } = history.pool(&pool.name);
    PoolRow {
        name: pool.name.to_string(),
        per_second,
        errors_per_second,
        latency: Latency::of(&durations),
        endpoints: pool.endpoints.iter().map(|endpoint| endpoint_row(history, pool, endpoint)).collect(),
    }
}

fn endpoint_row(history: &History, pool: &Pool, endpoint: &Endpoint) -> EndpointRow {
    let (per_second, errors_per_second, track) = history.endpoint(&pool.name, &endpoint.name);
    EndpointRow {
        name: endpoint.name.to_string(),
        mark: Mark::of(endpoint),
        reason: reason(endpoint),
        per_second,
        errors_per_second,
        past: track.map(|track| track.cells(history.last_at(), CELLS, CELL)).unwrap_or_default(),
    }
}
