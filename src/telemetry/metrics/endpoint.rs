//! What is counted of an endpoint, and the same as plain numbers for operators.
//!
//! Floor 2.

use serde::Serialize;

use super::cells::{CLASSES, Causes, Count, Shards, Statuses};
use super::{Cause as _, ConnectResult, Ejection, ProbeResult, Standing};
use crate::telemetry::record::Record;

/// One endpoint.
#[derive(Debug)]
pub struct EndpointMetrics {
    pub(super) shards: Shards<Statuses>,
    /// Exchanges that failed for the endpoint's sake.
    failed: Count,
    pub(super) connections: Causes<ConnectResult>,
    pub(super) flips: Causes<Standing>,
    pub(super) ejections: Causes<Ejection>,
    pub(super) probes: Causes<ProbeResult>,
}

impl EndpointMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            shards: Shards::new(workers),
            failed: Count::default(),
            connections: Causes::default(),
            flips: Causes::default(),
            ejections: Causes::default(),
            probes: Causes::default(),
        }
    }

    /// An exchange whose last attempt was here has ended.
    pub fn exchange(&self, record: &Record) {
        self.shards.mine().inc(record.status);
    }

    /// An exchange has failed for the endpoint's sake.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// Exchanges that have failed so far.
    pub fn failures(&self) -> u64 {
        self.failed.get()
    }

    /// What was counted so far.
    pub fn counts(&self) -> EndpointCounts {
        let class = |class| self.shards.sum(|shard| shard.get(class));
        let connections = |results: &[ConnectResult]| results.iter().map(|result| self.connections.get(*result)).sum();
        let checks: u64 = ProbeResult::ALL.iter().map(|result| self.probes.get(*result)).sum();
        EndpointCounts {
            exchanges: (0..CLASSES.len()).map(class).sum(),
            server_errors: class(5),
            connections_opened: connections(&[ConnectResult::Opened]),
            connections_failed: connections(&[
                ConnectResult::Refused,
                ConnectResult::Timeout,
                ConnectResult::Tls,
                ConnectResult::Unresolved,
                ConnectResult::Error,
            ]),
            checks,
            checks_failed: checks - self.probes.get(ProbeResult::Good).min(checks),
            flips: Standing::ALL.iter().map(|standing| self.flips.get(*standing)).sum(),
            ejections: Ejection::ALL.iter().map(|cause| self.ejections.get(*cause)).sum(),
        }
    }

    /// A connection was wanted.
    pub fn connection(&self, result: ConnectResult) {
        self.connections.inc(result);
    }

    /// The standing has changed.
    pub fn flip(&self, to: Standing) {
        self.flips.inc(to);
    }

    /// Live traffic has ejected it.
    pub fn eject(&self, cause: Ejection) {
        self.ejections.inc(cause);
    }

    /// A check has ended.
    pub fn probe(&self, result: ProbeResult) {
        self.probes.inc(result);
    }
}

/// What was counted of one endpoint, for operators.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct EndpointCounts {
    /// Exchanges whose last attempt was here.
    pub exchanges: u64,
    /// Those with a 5xx answer.
    pub server_errors: u64,
    /// New connections.
    pub connections_opened: u64,
    /// Connections that did not come about.
    pub connections_failed: u64,
    /// Active checks.
    pub checks: u64,
    /// Those without a good answer in time.
    pub checks_failed: u64,
    /// Changes of standing.
    pub flips: u64,
    /// Ejections by live traffic.
    pub ejections: u64,
}
