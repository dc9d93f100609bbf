//! Everything that is counted: the handles through which it is counted and the exposition.
//!
//! Floor 2. A listener, route, pool or endpoint gets its handle once, when a snapshot is built; an exchange then costs a
//! handful of relaxed additions on its worker's own cache lines, and no lookup. [`Metrics`] keeps weak references: a series
//! lives as long as somebody holds its handle, so those of a removed pool end with its last exchange, and a name that stays
//! keeps its counts. Gauges are read from state at the scrape through [`Gauges`]. Deliberately absent: client-supplied
//! text; labels are names of the configuration or members of closed lists.

mod admin;
mod causes;
mod cells;
mod encode;
mod endpoint;
mod exemplar;
mod exposition;
mod families;
mod glance;
mod handles;
mod held;
mod log;
mod page;
mod points;
mod process;
mod quic;
mod quota;
mod recorder;
mod rules;
mod served;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak, atomic::AtomicBool, atomic::Ordering};
use std::time::{Duration, SystemTime};

pub use admin::{AdminMetrics, Place, Places};
pub use causes::{
    AdminChange, Cause, ConnectResult, ConnectionRefusal, Direction, DiscoveryResult, Ejection, FleetDrop,
    HandshakeFailure, HedgeOutcome, LimitResult, LogDrop, LoginResult, ProbeResult, ProofResult, RaceOutcome, Reload,
    RetryCause, Standing,
};
pub use cells::{Count, set_worker};
pub use endpoint::{EndpointCounts, EndpointMetrics};
pub use exemplar::Exemplar;
pub use exposition::Exposition;
pub use families::{FAMILIES, Family, Kind, Unit, reference};
pub use glance::{BUCKET_BOUNDS, Buckets, Classes, Glance, PoolGlance, Verdicts};
pub use handles::{ListenerMetrics, PoolMetrics, RouteMetrics};
pub use log::{Cargo, LogMetrics, Turn, Waiting};
pub use page::{Point, Value, Values};
pub use quic::QuicMetrics;
pub use quota::{FleetMetrics, LimitMetrics, LimitState};
pub use recorder::RecorderMetrics;
pub use rules::RuleMetrics;
pub use served::Served;

use crate::lexicon::{EndpointName, LimitName, ListenerName, PoolName, Protocol, RouteName, RuleName, SinkName};
use crate::lifecycle::Phase;
use crate::telemetry::slo::Report;
use cells::Causes;
use handles::Codes;
use held::Handles;
use quota::Logins;

/// All metrics of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    workers: usize,
    started: SystemTime,
    listeners: Handles<ListenerName, ListenerMetrics>,
    routes: Handles<RouteName, RouteMetrics>,
    pools: Handles<PoolName, PoolMetrics>,
    /// A rule that does something else after a reload is another one.
    rules: Handles<(RuleName, &'static str), RuleMetrics>,
    reloads: Causes<Reload>,
    /// Whether the last one failed.
    reload_failed: AtomicBool,
    admin_changes: Causes<AdminChange>,
    admin: AdminMetrics,
    panics: Count,
    objectives_errors: Count,
    limits: Handles<LimitName, LimitMetrics>,
    bans: Codes,
    logins: Logins,
    proofs: Causes<ProofResult>,
    fleet: Arc<FleetMetrics>,
    log: Arc<LogMetrics>,
    recorder: Arc<RecorderMetrics>,
    sinks: Handles<SinkName, LogMetrics>,
    exports: Handles<&'static str, LogMetrics>,
    gauges: Mutex<Option<Weak<dyn Gauges>>>,
}

/// State that gauges are read from; implemented where the state is.
pub trait Gauges: fmt::Debug + Send + Sync {
    /// The state now. Called at each scrape, on the control runtime.
    fn state(&self) -> State;
}

/// What gauges show.
#[derive(Clone, Debug)]
pub struct State {
    /// Generation in use; 0 before the first.
    pub generation: u64,
    /// When that generation was loaded.
    pub loaded_at: Option<SystemTime>,
    /// Phase of the process.
    pub phase: Phase,
    /// Workers, in order.
    pub workers: Vec<WorkerState>,
    /// Client connections that may be open.
    pub connections_max: u64,
    /// Listeners.
    pub listeners: Vec<ListenerState>,
    /// Pools.
    pub pools: Vec<PoolState>,
    /// Bytes of request bodies in temporary files.
    pub temp_bytes: u64,
    /// Bytes of request bodies in memory.
    pub buffered_bytes: u64,
    /// Limits.
    pub limits: Vec<LimitState>,
    /// Bans that last.
    pub bans: u64,
    /// Whether Redis answers; `None` without one.
    pub fleet: Option<bool>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            generation: 0,
            loaded_at: None,
            phase: Phase::Running,
            workers: Vec::new(),
            connections_max: 0,
            listeners: Vec::new(),
            pools: Vec::new(),
            temp_bytes: 0,
            buffered_bytes: 0,
            limits: Vec::new(),
            bans: 0,
            fleet: None,
        }
    }
}

/// A worker now.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerState {
    /// Time in which it was not idle, since the start.
    pub busy: Duration,
    /// Open client connections.
    pub connections: u64,
    /// Tasks that have not ended.
    pub tasks: u64,
}

/// A listener now.
#[derive(Clone, Debug)]
pub struct ListenerState {
    /// Its name.
    pub name: ListenerName,
    /// Open client connections.
    pub connections: u64,
    /// Those that have agreed on a protocol, by protocol.
    pub speaking: [(Protocol, u64); 3],
    /// Certificates by file, and when they expire.
    pub certificates: Vec<(String, SystemTime)>,
}

/// A pool now.
#[derive(Clone, Debug)]
pub struct PoolState {
    /// Its name.
    pub name: PoolName,
    /// Exchanges waiting for a free endpoint.
    pub queue_length: u64,
    /// Waits for a free endpoint that have ended, by lane and ending.
    pub waits: Vec<(&'static str, &'static str, u64)>,
    /// Where the traffic goes, where endpoints are not all alike.
    pub shares: Vec<TierShare>,
    /// Whether so few endpoints are up that health is not heeded.
    pub panicking: bool,
    /// How its objectives are kept.
    pub slo: Report,
    /// Its endpoints.
    pub endpoints: Vec<EndpointState>,
}

/// The share of the traffic that one tier takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TierShare {
    /// Priority group.
    pub priority: u8,
    /// Not the proxy's own zone.
    pub far: bool,
    /// Of the pool's traffic.
    pub percent: u32,
}

/// An endpoint now.
#[derive(Clone, Debug)]
pub struct EndpointState {
    /// Its name.
    pub name: EndpointName,
    /// Its standing.
    pub standing: Standing,
    /// Taken out by configuration or drained.
    pub disabled: bool,
    /// Taken out by an operator.
    pub drained: bool,
    /// Exchanges in flight.
    pub in_flight: u64,
    /// Exchanges and tunnels without a connection yet.
    pub pending: u64,
    /// Repeats in flight.
    pub retries: u64,
    /// How often each limit was reached.
    pub reached: [(&'static str, u64); 3],
    /// Ejected by live traffic.
    pub ejected: bool,
    /// Share of its due that it takes, in percent.
    pub warmth: u8,
    /// Idle connections that it closed before they were used again.
    pub idle_closes: u64,
    /// Open tunnels.
    pub tunnels: u64,
}

impl Metrics {
    /// Metrics with a shard for each of `workers` (at least one).
    pub fn new(workers: usize) -> Self {
        Self(Arc::new(Inner {
            workers,
            started: SystemTime::now(),
            listeners: Handles::default(),
            routes: Handles::default(),
            pools: Handles::default(),
            rules: Handles::default(),
            reloads: Causes::default(),
            reload_failed: AtomicBool::new(false),
            admin_changes: Causes::default(),
            admin: AdminMetrics::default(),
            panics: Count::default(),
            objectives_errors: Count::default(),
            limits: Handles::default(),
            bans: Codes::default(),
            logins: Logins::default(),
            proofs: Causes::default(),
            fleet: Arc::default(),
            log: Arc::default(),
            recorder: Arc::default(),
            sinks: Handles::default(),
            exports: Handles::default(),
            gauges: Mutex::new(None),
        }))
    }

    /// Says where gauges are read from. Held weakly: without it, or once it is gone, gauges are empty.
    pub fn read_gauges_from(&self, gauges: &Arc<dyn Gauges>) {
        *self.0.gauges.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(gauges));
    }

    /// The handle of a listener.
    pub fn listener(&self, name: &ListenerName) -> Arc<ListenerMetrics> {
        self.0.listeners.get(name, || ListenerMetrics::new(self.0.workers))
    }

    /// The handle of a route.
    pub fn route(&self, name: &RouteName) -> Arc<RouteMetrics> {
        self.0.routes.get(name, || RouteMetrics::new(self.0.workers))
    }

    /// The handle of a pool.
    pub fn pool(&self, name: &PoolName) -> Arc<PoolMetrics> {
        self.0.pools.get(name, || PoolMetrics::new(self.0.workers))
    }

    /// The handle of a rule that does `action`.
    pub fn rule(&self, name: &RuleName, action: &'static str) -> Arc<RuleMetrics> {
        self.0.rules.get(&(name.clone(), action), || RuleMetrics::new(self.0.workers, action))
    }

    /// Counts a reload.
    pub fn reload(&self, result: Reload) {
        self.0.reloads.inc(result);
        self.0.reload_failed.store(result == Reload::Failed, Ordering::Relaxed);
    }

    /// Reloads so far with this result.
    pub fn reloads(&self, result: Reload) -> u64 {
        self.0.reloads.get(result)
    }

    /// Counts a change that an operator asked for.
    pub fn admin_change(&self, result: AdminChange) {
        self.0.admin_changes.inc(result);
    }

    /// Counts a panic that was caught.
    pub fn panic(&self) {
        self.0.panics.inc();
    }

    /// Counts a failure to read or write what was measured of objectives.
    pub fn objectives_error(&self) {
        self.0.objectives_errors.inc();
    }

    /// The handle of a limit.
    pub fn limit(&self, name: &LimitName) -> Arc<LimitMetrics> {
        self.0.limits.get(name, || LimitMetrics::new(self.0.workers))
    }

    /// Counts a login, by the form or by the API.
    pub fn login(&self, form: bool, result: LoginResult) {
        self.0.logins.of(form).inc(result);
    }

    /// Counts what name servers said of a client that calls itself a search engine.
    pub fn proof(&self, result: ProofResult) {
        self.0.proofs.inc(result);
    }

    /// What is shared with other proxies.
    pub fn fleet(&self) -> Arc<FleetMetrics> {
        Arc::clone(&self.0.fleet)
    }

    /// Counts a ban; `cause` is one of a closed list.
    pub fn banned(&self, cause: &'static str) {
        self.0.bans.inc(cause);
    }

    /// The handle of a log sink.
    pub fn sink(&self, name: &SinkName) -> Arc<LogMetrics> {
        self.0.sinks.get(name, LogMetrics::default)
    }

    /// What the workers' ends of the access log count.
    pub fn log(&self) -> Arc<LogMetrics> {
        Arc::clone(&self.0.log)
    }

    /// Everything as text.
    ///
    /// # Errors
    /// Never in practice: text is written to memory.
    pub fn expose(&self, form: Exposition) -> Result<String, fmt::Error> {
        exposition::expose(&self.0, form)
    }

    /// Everything as values.
    pub fn values(&self) -> Vec<Values> {
        let mut values = Vec::with_capacity(FAMILIES.len());
        // Only text can fail to be written.
        let _infallible = self.0.write(&mut page::Page::Values(&mut values));
        values
    }
}

impl Inner {
    fn state(&self) -> State {
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner).clone();
        gauges.and_then(|gauges| gauges.upgrade()).map_or_else(State::default, |gauges| gauges.state())
    }
}

/// The label value of a phase; also the admin listener's word for it.
pub const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Unready => "unready",
        Phase::Draining => "draining",
        Phase::Ending => "ending",
    }
}

#[cfg(test)]
mod tests;
