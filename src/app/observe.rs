//! What background tasks find out, told as events and metrics.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;

use crate::balance::drain::Target;
use crate::balance::{Endpoint, Standing};
use crate::config::Pool;
use crate::control::Pools;
use crate::control::drains;
use crate::control::names;
use crate::control::prober::{self, Report, Why};
use crate::lexicon::PoolName;
use crate::snapshot::Live;
use crate::telemetry::events::{self, EndpointFlipped};
use crate::telemetry::metrics::{self, ProbeResult};

impl Pools for Live {
    fn each(&self, visit: &mut dyn FnMut(&Arc<Pool>, &Arc<Endpoint>, Option<&Arc<ClientConfig>>)) {
        for pool in &self.load().pools {
            let security = pool.upstream.security.as_ref().map(|security| &security.config);
            for endpoint in pool.upstream.roster().endpoints() {
                visit(&pool.upstream.config, endpoint, security);
            }
        }
    }
}

/// Tells what checks and names found.
#[derive(Debug)]
pub(super) struct Observer {
    live: Arc<Live>,
}

impl Observer {
    pub(super) const fn new(live: Arc<Live>) -> Self {
        Self { live }
    }
}

impl prober::Observer for Observer {
    fn probed(&self, pool: &PoolName, endpoint: &Endpoint, report: &Report) {
        let snapshot = self.live.load();
        let Some(counts) = snapshot.pool(pool).map(|pool| pool.counts(endpoint)) else { return };
        events::endpoint_probed(&counts, pool, &endpoint.name, result(report, &snapshot, pool));
    }

    fn flipped(&self, pool: &PoolName, endpoint: &Endpoint, from: Standing, to: Standing, reason: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        endpoint.vitals.set_since(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let snapshot = self.live.load();
        let Some(known) = snapshot.pool(pool) else { return };
        let flip = EndpointFlipped { pool, endpoint: &endpoint.name, from: standing(from), to: standing(to), reason };
        flip.emit(&known.counts(endpoint));
        if let Some(panics) = known.upstream.panic_changed() {
            let roster = known.upstream.roster();
            let usable =
                |endpoint: &&Arc<Endpoint>| matches!(endpoint.vitals.standing(), Standing::Up | Standing::Late);
            let up = roster.endpoints().iter().filter(usable).count();
            let told = if panics { events::panic_mode_entered } else { events::panic_mode_left };
            told(pool, up, roster.endpoints().len());
        }
        // Who waits may have somebody to ask now, or nobody any more.
        known.upstream.pump();
    }
}

impl drains::Observer for Observer {
    fn drained(&self, pool: &PoolName, endpoint: &Endpoint, out: bool) {
        let vitals = &endpoint.vitals;
        events::endpoint_drained(pool, &endpoint.name, out, vitals.in_flight(), vitals.tunnels());
    }

    fn expired(&self, target: &Target) {
        events::drain_expired(target);
    }

    fn settled(&self) {
        for pool in &self.live.load().pools {
            pool.upstream.pump();
        }
    }
}

impl names::Observer for Observer {
    fn renamed(&self, pool: &PoolName, endpoint: &Endpoint, before: &[SocketAddr], now: &[SocketAddr]) {
        events::name_resolved(pool, &endpoint.name, before.len(), now.len());
    }

    fn unresolved(&self, pool: &PoolName, endpoint: &Endpoint, error: &io::Error) {
        events::name_unresolved(pool, &endpoint.name, error);
    }
}

fn result(report: &Report, snapshot: &crate::snapshot::Snapshot, pool: &PoolName) -> ProbeResult {
    match (&report.result, &report.deep) {
        (Ok(()), Some(Err(_))) => ProbeResult::DeepFailed,
        (Ok(()), _) => {
            let late_after =
                snapshot.pool(pool).and_then(|pool| pool.upstream.config.health.as_ref()).map(|h| h.late_after);
            if late_after.is_some_and(|limit| report.took > limit) { ProbeResult::Late } else { ProbeResult::Good }
        }
        (Err(why), _) => match why {
            Why::Silent(_) => ProbeResult::Silent,
            Why::Status(_) | Why::Body | Why::Malformed(_) => ProbeResult::Wrong,
            Why::Closed | Why::Broken(_) => ProbeResult::Broken,
            _ => ProbeResult::Unconnected,
        },
    }
}

/// The metrics' word for a standing.
pub(super) const fn standing(of: Standing) -> metrics::Standing {
    match of {
        Standing::Unknown => metrics::Standing::Unknown,
        Standing::Up => metrics::Standing::Up,
        Standing::Late => metrics::Standing::Late,
        Standing::Down => metrics::Standing::Down,
    }
}
