//! What happens to pools and their endpoints.
//!
//! Floor 2.

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::lexicon::{EndpointName, PoolName};
use crate::telemetry::metrics::{Ejection, EndpointMetrics, ProbeResult, Standing};

/// A flip of an endpoint's standing.
#[derive(Clone, Copy, Debug)]
pub struct EndpointFlipped<'a> {
    /// Its pool.
    pub pool: &'a PoolName,
    /// Itself.
    pub endpoint: &'a EndpointName,
    /// Before.
    pub from: Standing,
    /// Now.
    pub to: Standing,
    /// Why, in words: `3 checks without an answer`.
    pub reason: &'a str,
}

impl EndpointFlipped<'_> {
    /// Writes and counts it. Going down is a warning: it heals by itself.
    pub fn emit(&self, metrics: &EndpointMetrics) {
        metrics.flip(self.to);
        let Self { pool, endpoint, reason, .. } = self;
        let (from, to) = (self.from.as_str(), self.to.as_str());
        match self.to {
            Standing::Down => {
                warn!(%pool, %endpoint, standing.from = from, standing.to = to, reason, "endpoint down");
            }
            Standing::Late => {
                warn!(%pool, %endpoint, standing.from = from, standing.to = to, reason, "endpoint late");
            }
            Standing::Up | Standing::Unknown => {
                info!(%pool, %endpoint, standing.from = from, standing.to = to, reason, "endpoint standing changed");
            }
        }
    }
}

/// An endpoint has shown how long it keeps idle connections open: they rest for less from now on.
pub fn idle_time_learned(endpoint: &EndpointName, idle: Duration) {
    let reason = "it closes connections that have rested for so long";
    info!(%endpoint, idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX), reason, "idle time learned");
}

/// An active check has ended. Only failures have a line, and only at debug: a flip tells the rest.
pub fn endpoint_probed(metrics: &EndpointMetrics, pool: &PoolName, endpoint: &EndpointName, result: ProbeResult) {
    metrics.probe(result);
    if result != ProbeResult::Good {
        debug!(%pool, %endpoint, result = result.as_str(), "check not passed");
    }
}

/// Live traffic has shown an endpoint to be worse than the others: it takes nothing for `time`.
pub fn endpoint_ejected(
    metrics: &EndpointMetrics,
    pool: &PoolName,
    endpoint: &EndpointName,
    cause: Ejection,
    reason: &str,
    time: Duration,
) {
    metrics.eject(cause);
    let for_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    warn!(%pool, %endpoint, cause = cause.as_str(), reason, for_ms, "endpoint ejected");
}

/// One exchange may try an ejected endpoint out.
pub fn endpoint_on_trial(pool: &PoolName, endpoint: &EndpointName) {
    debug!(%pool, %endpoint, "endpoint on trial");
}

/// An ejected endpoint is back.
pub fn endpoint_returned(pool: &PoolName, endpoint: &EndpointName, reason: &str) {
    info!(%pool, %endpoint, reason, "endpoint returned");
}

/// An endpoint begins to grow into its share, or has come to it.
pub fn endpoint_warming(pool: &PoolName, endpoint: &EndpointName, percent: u8) {
    info!(%pool, %endpoint, percent, "endpoint warming");
}

/// Traffic goes to other priority groups or zones than before.
pub fn traffic_shifted(pool: &PoolName, shares: &str) {
    info!(%pool, shares, "traffic shifted");
}

/// An endpoint carries as much as it may. Written once for each streak, counted each time.
pub fn limit_reached(pool: &PoolName, endpoint: &EndpointName, limit: &str) {
    info!(%pool, %endpoint, limit, "endpoint at its limit");
}

/// Exchanges are refused because all endpoints are full. Written once for each streak, counted each time.
pub fn queue_refusing(pool: &PoolName, waiting: usize) {
    warn!(%pool, waiting, "queue refuses exchanges");
}

/// What failed is not repeated any more, since the budget is spent. Written once for each streak, counted each time.
pub fn retries_refused(pool: &PoolName, used: u64, allowed: u64) {
    warn!(%pool, used, allowed, "retry budget is spent");
}

/// So many endpoints of a pool are out that health is ignored.
pub fn panic_mode_entered(pool: &PoolName, up: usize, of: usize) {
    warn!(%pool, endpoints.up = up, endpoints.all = of, "too few endpoints up, all are used");
}

/// Health is heeded again.
pub fn panic_mode_left(pool: &PoolName, up: usize, of: usize) {
    info!(%pool, endpoints.up = up, endpoints.all = of, "enough endpoints up, health is heeded again");
}
