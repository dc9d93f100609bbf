//! The immutable world of one generation.
//!
//! Floor 4. An exchange takes the snapshot once, at its beginning, and holds it to its end. A reload builds the next
//! one on the one before, so that endpoints, their health and claims, those who wait and warm connections live on,
//! and publishes it by a single store. Whatever can fail (files, certificates) is done before anything is shared, so
//! that a failed reload leaves no trace.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::StatusCode;
use rustls_pki_types::ServerName;
use tokio::sync::Notify;

use crate::balance::{Bench, Endpoint, EndpointId, Live as LiveResult, Percentile};
use crate::config::route::Action;
use crate::config::{self, Config};
use crate::lexicon::{Generation, ListenerName, PoolName};
use crate::route::Table;
use crate::telemetry::metrics::{EndpointMetrics, ListenerMetrics, Metrics, PoolMetrics, RouteMetrics};
use crate::telemetry::redact::Redactor;
use crate::tls;
use crate::upstream;
use crate::upstream::connect::Security;

mod quotas;
mod shield;

pub use quotas::{Guard, Quota, Quotas};
pub use shield::{Shield, ShieldError};

/// The world of one generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Its number.
    pub generation: Generation,
    /// When it was built.
    pub built_at: SystemTime,
    /// As configured.
    pub config: Arc<Config>,
    /// Where requests go.
    pub routes: Table<Arc<Route>>,
    /// What clients may have.
    pub quotas: Quotas,
    /// What is asked of them first.
    pub shield: Shield,
    /// Who serves them.
    pub pools: Vec<Arc<Pool>>,
    /// What listeners count.
    pub listeners: Vec<(ListenerName, Arc<ListenerMetrics>)>,
    /// Own pages for faults.
    pub pages: Pages,
    /// Keeps secrets out of what is shown of exchanges.
    pub redactor: Arc<Redactor>,
    /// Raised when live traffic speaks against an endpoint; the same in every generation.
    pub alarm: Arc<Notify>,
}

/// A route with what it leads to.
#[derive(Debug)]
pub struct Route {
    /// As configured.
    pub config: Arc<config::Route>,
    /// The pool it forwards to; `None` for fixed answers and redirects.
    pub pool: Option<Arc<Pool>>,
    /// The limits that hold for it.
    pub limits: Vec<Arc<Quota>>,
    /// How slow an answer must be to be asked for elsewhere as well; `None` where none is.
    pub hedge: Option<Percentile>,
    /// What it counts.
    pub metrics: Arc<RouteMetrics>,
}

/// A pool with what it counts.
#[derive(Debug)]
pub struct Pool {
    /// The pool at run time.
    pub upstream: upstream::Pool,
    /// What it counts.
    pub metrics: Arc<PoolMetrics>,
    /// What each endpoint counts, so that an exchange looks nothing up under a lock.
    endpoints: ArcSwap<HashMap<EndpointId, Arc<EndpointMetrics>>>,
    alarm: Arc<Notify>,
}

impl Pool {
    fn new(upstream: upstream::Pool, metrics: Arc<PoolMetrics>, alarm: Arc<Notify>) -> Self {
        let pool = Self { upstream, metrics, endpoints: ArcSwap::default(), alarm };
        pool.follow_roster();
        pool
    }

    /// Counts what the roster has now and forgets the rest; to be called after every change of it.
    pub fn follow_roster(&self) {
        let roster = self.upstream.roster();
        self.metrics.keep_only(roster.endpoints().iter().map(|endpoint| &endpoint.name));
        let counts = roster.endpoints().iter().map(|each| (each.id, self.metrics.endpoint(&each.name))).collect();
        self.endpoints.store(Arc::new(counts));
    }

    /// What an answer with `status` says about the endpoint that gave it.
    pub fn verdict(&self, status: StatusCode) -> LiveResult {
        let outliers = self.upstream.config.outliers.as_ref();
        if outliers.is_some_and(|outliers| outliers.statuses.contains(&status)) {
            LiveResult::Unserved
        } else if status.is_server_error() {
            LiveResult::Erred
        } else {
            LiveResult::Answered
        }
    }

    /// Notes how an exchange went; raises the alarm when it may be time to eject the endpoint, or to take it back. `now`
    /// on the clock of live traffic, in milliseconds.
    pub fn note_live(&self, endpoint: &Endpoint, live: LiveResult, now: u64) {
        let seen = endpoint.vitals.note_live(live, now);
        let Some(outliers) = &self.upstream.config.outliers else { return };
        let reached = |row: u32, most: u32| most > 0 && row >= most;
        if endpoint.vitals.bench() != Bench::In
            || reached(seen.gateway, outliers.gateway_errors)
            || reached(seen.connects, outliers.connect_failures)
            || reached(seen.silences, outliers.timeouts)
            || reached(seen.errors, outliers.min_requests)
        {
            self.alarm.notify_one();
        }
    }

    /// What `endpoint` counts.
    pub fn counts(&self, endpoint: &Endpoint) -> Arc<EndpointMetrics> {
        match self.endpoints.load().get(&endpoint.id) {
            Some(counts) => Arc::clone(counts),
            // It has left the roster, or joined it this moment.
            None => self.metrics.endpoint(&endpoint.name),
        }
    }
}

/// Own pages for faults, as read.
#[derive(Debug, Default)]
pub struct Pages {
    /// HTML template.
    pub html: Option<String>,
    /// JSON template.
    pub json: Option<String>,
}

/// Why no snapshot could be built; the previous one stays.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file that the configuration names cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The shield's files and its secret.
    #[error("{0}")]
    Shield(#[source] ShieldError),
    /// TLS towards a pool's endpoints.
    #[error("pool {pool}: {source}")]
    Security {
        /// The pool.
        pool: PoolName,
        /// Why.
        #[source]
        source: tls::LoadError,
    },
    /// A name that no certificate can carry.
    #[error("pool {pool}: {name:?} is not a server name")]
    ServerName {
        /// The pool.
        pool: PoolName,
        /// The name.
        name: String,
    },
}

impl Snapshot {
    /// The world that `config` wants, carrying on from `previous`.
    ///
    /// # Errors
    /// All errors at once; nothing has changed then.
    pub fn build(config: Config, previous: Option<&Self>, metrics: &Metrics) -> Result<Self, Vec<BuildError>> {
        let mut errors = Vec::new();
        let pages = Pages {
            html: read_page(config.fault_pages.html.as_deref(), &mut errors),
            json: read_page(config.fault_pages.json.as_deref(), &mut errors),
        };
        let shield = Shield::load(&config.shield, metrics, &mut errors);
        let mut securities = Vec::with_capacity(config.pools.len());
        for pool in &config.pools {
            match security(pool) {
                Ok(security) => securities.push(security),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }

        let alarm = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.alarm));
        let mut pools = Vec::with_capacity(config.pools.len());
        for (pool, security) in config.pools.iter().zip(securities) {
            let before = previous.and_then(|previous| previous.pool(&pool.name));
            let before = before.map(|before| &before.upstream);
            let upstream = upstream::Pool::new(Arc::clone(pool), security, before);
            let counts = metrics.pool(&pool.name);
            pools.push(Arc::new(Pool::new(upstream, counts, Arc::clone(&alarm))));
        }
        let quotas = Quotas::build(&config, previous.map(|previous| &previous.quotas), metrics);
        let find = |name: &PoolName| pools.iter().find(|pool| pool.upstream.config.name == *name).cloned();
        let routes = config.routes.iter().map(|route| {
            let pool = match &route.action {
                Action::Forward(name) => find(name),
                Action::Redirect { .. } | Action::Answer { .. } => None,
            };
            let limits = quotas.of_route(route, &config.limits);
            let metrics = metrics.route(&route.name);
            let hedge = route.retry.hedge_percentile.map(Percentile::new);
            let served = Arc::new(Route { config: Arc::clone(route), pool, limits, hedge, metrics });
            (Arc::clone(route), served)
        });
        let routes = Table::new(routes);
        let listeners =
            config.listeners.iter().map(|listener| (listener.name.clone(), metrics.listener(&listener.name))).collect();
        let generation = Generation(previous.map_or(0, |previous| previous.generation.0).saturating_add(1));
        let redactor = Arc::new(Redactor::new(&config.clients.secret_query_keys));
        let config = Arc::new(config);
        Ok(Self {
            generation,
            built_at: SystemTime::now(),
            config,
            routes,
            quotas,
            shield,
            pools,
            listeners,
            pages,
            redactor,
            alarm,
        })
    }

    /// The pool of that name.
    pub fn pool(&self, name: &PoolName) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| pool.upstream.config.name == *name)
    }

    /// What the listener of that name counts.
    pub fn listener(&self, name: &ListenerName) -> Option<&Arc<ListenerMetrics>> {
        self.listeners.iter().find(|(known, _)| known == name).map(|(_, metrics)| metrics)
    }
}

fn read_page(path: Option<&Path>, errors: &mut Vec<BuildError>) -> Option<String> {
    let path = path?;
    std::fs::read_to_string(path).map_err(|source| errors.push(BuildError::File { path: path.to_owned(), source })).ok()
}

fn security(pool: &config::Pool) -> Result<Option<Security>, BuildError> {
    let Some(wanted) = &pool.tls else { return Ok(None) };
    let config =
        tls::client::load(wanted).map_err(|source| BuildError::Security { pool: pool.name.clone(), source })?;
    let server_name = match &wanted.server_name {
        None => None,
        Some(name) => Some(
            ServerName::try_from(name.clone())
                .map_err(|_| BuildError::ServerName { pool: pool.name.clone(), name: name.clone() })?,
        ),
    };
    Ok(Some(Security::new(config, server_name)))
}

impl Pages {
    /// A page with its placeholders filled in.
    pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
        let mut filled = String::with_capacity(template.len() + 64);
        let mut rest = template;
        while let Some((before, behind)) = rest.split_once('{') {
            filled.push_str(before);
            match behind
                .split_once('}')
                .and_then(|(key, after)| values.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value, after)))
            {
                Some((value, after)) => {
                    filled.push_str(value);
                    rest = after;
                }
                None => {
                    filled.push('{');
                    rest = behind;
                }
            }
        }
        filled.push_str(rest);
        filled
    }
}

/// The snapshot in use: the one place where a generation is published.
#[derive(Debug)]
pub struct Live(ArcSwap<Snapshot>);

impl Live {
    /// With the first generation.
    pub fn new(first: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// The snapshot in use.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Publishes the next generation.
    pub fn publish(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }
}

#[cfg(test)]
mod tests;
