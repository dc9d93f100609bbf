//! What discovery found, put where the data plane looks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::config::pool::{Discover, Endpoint};
use crate::control::discovery::Discovered;
use crate::control::drains::Drains;
use crate::control::resolver::Unanswered;
use crate::lexicon::PoolName;
use crate::snapshot::{Live, Pool};
use crate::telemetry::events;
use crate::telemetry::metrics::DiscoveryResult;

/// Gives found endpoints to their pools, and tells of it.
#[derive(Debug)]
pub(super) struct Finder {
    live: Arc<Live>,
    drains: Arc<Drains>,
    /// Who looks after endpoints: names, checks.
    wakes: OnceLock<Vec<Arc<Notify>>>,
    last: Mutex<BTreeMap<PoolName, DiscoveryResult>>,
}

impl Finder {
    pub(super) fn new(live: Arc<Live>, drains: Arc<Drains>) -> Self {
        Self { live, drains, wakes: OnceLock::new(), last: Mutex::default() }
    }

    /// Wakes these when endpoints came.
    pub(super) fn wake_also(&self, wakes: Vec<Arc<Notify>>) {
        // Only ever called once.
        drop(self.wakes.set(wakes));
    }

    /// What the last answer about a pool was.
    pub(super) fn last(&self, pool: &PoolName) -> Option<DiscoveryResult> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(pool).copied()
    }
}

impl Discovered for Finder {
    fn wanted(&self) -> Vec<(PoolName, Discover)> {
        let pools = &self.live.load().pools;
        let configs = pools.iter().map(|pool| &pool.upstream.config);
        configs.filter_map(|config| Some((config.name.clone(), config.discover.clone()?))).collect()
    }

    fn servers(&self) -> Vec<SocketAddr> {
        self.live.load().config.process.nameservers.clone()
    }

    fn found(&self, pool: &PoolName, rules: &Discover, endpoints: Vec<Endpoint>) {
        let snapshot = self.live.load();
        // A reload may have come between question and answer.
        let still = |known: &&Arc<Pool>| known.upstream.config.discover.as_ref() == Some(rules);
        let Some(known) = snapshot.pool(pool).filter(still) else { return };
        let changes = known.upstream.discover(endpoints);
        if changes.added.is_empty() && changes.removed.is_empty() {
            return;
        }
        known.follow_roster();
        for endpoint in &changes.added {
            events::endpoint_discovered(pool, &endpoint.name);
        }
        for endpoint in &changes.removed {
            let vitals = &endpoint.vitals;
            events::endpoint_left(pool, &endpoint.name, vitals.in_flight(), vitals.tunnels());
        }
        // Also serves who waits.
        self.drains.obey();
        self.wakes.get().into_iter().flatten().for_each(|wake| wake.notify_one());
    }

    fn answered(&self, pool: &PoolName, name: &str, result: DiscoveryResult) {
        let snapshot = self.live.load();
        let Some(known) = snapshot.pool(pool) else { return };
        known.metrics.discovery(result);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|pool, _| snapshot.pool(pool).is_some());
        let before = last.insert(pool.clone(), result);
        if result == DiscoveryResult::Found && before.is_some_and(|before| before != result) {
            events::discovery_recovered(pool, name);
        }
    }

    fn unanswered(&self, pool: &PoolName, name: &str, why: &Unanswered, kept: bool) {
        events::discovery_failing(pool, name, kept, why);
    }
}
