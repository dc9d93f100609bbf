//! What limits, logins, bans and the fleet count.
//!
//! Floor 2. Handles and their samples together: few families, all about what clients may have.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::cells::{Causes, Count, Shards};
use super::encode::by_cause;
use super::families as f;
use super::page::{Page, family};
use super::{FleetDrop, Inner, LimitResult, LoginResult, State};
use crate::lexicon::LimitName;

/// A limit.
#[derive(Debug)]
pub struct LimitMetrics {
    shards: Shards<Causes<LimitResult>>,
}

impl LimitMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self { shards: Shards::new(workers) }
    }

    /// A request was counted, or refused.
    pub fn decided(&self, result: LimitResult) {
        self.shards.mine().inc(result);
    }
}

/// What is shared with other proxies.
#[derive(Debug, Default)]
pub struct FleetMetrics {
    /// Calls of Redis.
    pub calls: Count,
    /// Links that failed, or could not be opened.
    pub failures: Count,
    /// Requests for which Redis did not decide in time.
    pub late: Count,
    /// Requests decided without Redis by `allow` or `deny`.
    pub without: Count,
    dropped: Causes<FleetDrop>,
}

impl FleetMetrics {
    /// So many counts were not told.
    pub fn dropped(&self, cause: FleetDrop, count: u64) {
        self.dropped.add(cause, count);
    }
}

/// Logins by way and result.
#[derive(Debug, Default)]
pub(super) struct Logins {
    form: Causes<LoginResult>,
    api: Causes<LoginResult>,
}

impl Logins {
    pub(super) fn of(&self, form: bool) -> &Causes<LoginResult> {
        if form { &self.form } else { &self.api }
    }
}

/// A limit's states now.
#[derive(Clone, Debug)]
pub struct LimitState {
    /// Its name.
    pub name: LimitName,
    /// Keys that have used something of it.
    pub keys: u64,
    /// Keys whose count somebody new took over.
    pub pushed_out: u64,
}

pub(super) fn encode(inner: &Inner, state: &State, page: &mut Page<'_>) -> fmt::Result {
    let limits: Vec<(LimitName, Arc<LimitMetrics>)> = inner.limits.alive();
    family(page, &f::LIMIT_REQUESTS, |samples| {
        limits.iter().try_for_each(|(name, limit)| {
            by_cause(samples, &[name.as_str()], |result| limit.shards.sum(|shard| shard.get(result)))
        })
    })?;
    family(page, &f::LIMIT_KEYS, |samples| {
        state.limits.iter().try_for_each(|limit| samples.gauge(&[limit.name.as_str()], limit.keys))
    })?;
    family(page, &f::LIMIT_PUSHED_OUT, |samples| {
        state.limits.iter().try_for_each(|limit| samples.counter(&[limit.name.as_str()], limit.pushed_out))
    })?;
    family(page, &f::LOGINS, |samples| {
        by_cause(samples, &["form"], |result| inner.logins.form.get(result))?;
        by_cause(samples, &["api"], |result| inner.logins.api.get(result))
    })?;
    family(page, &f::BANS, |samples| {
        let mut causes = BTreeMap::<&'static str, u64>::new();
        inner.bans.add_to(&mut causes);
        causes.iter().try_for_each(|(cause, count)| samples.counter(&[cause], *count))
    })?;
    family(page, &f::BANS_ACTIVE, |samples| samples.gauge(&[], state.bans))?;
    family(page, &f::FLEET_UP, |samples| state.fleet.map_or(Ok(()), |up| samples.gauge(&[], up.into())))?;
    let fleet = &inner.fleet;
    family(page, &f::FLEET_CALLS, |samples| samples.counter(&[], fleet.calls.get()))?;
    family(page, &f::FLEET_FAILURES, |samples| samples.counter(&[], fleet.failures.get()))?;
    family(page, &f::FLEET_LATE, |samples| samples.counter(&[], fleet.late.get()))?;
    family(page, &f::FLEET_WITHOUT, |samples| samples.counter(&[], fleet.without.get()))?;
    family(page, &f::FLEET_DROPPED, |samples| by_cause(samples, &[], |cause| fleet.dropped.get(cause)))
}
