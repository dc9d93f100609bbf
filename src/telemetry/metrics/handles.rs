//! The handles through which exchanges, connections and probes are counted.
//!
//! Floor 2. Resolved once when a snapshot is built and held by what they are about. What happens for each exchange is
//! sharded by worker; what is rare is one shared counter.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::Cause;
use super::cells::{Causes, Count, Durations, Shards, Statuses};
use super::endpoint::EndpointMetrics;
use super::exemplar::{Exemplars, Newest};
use super::quic::QuicMetrics;
use super::served::Served;
use super::{ConnectionRefusal, DiscoveryResult, HandshakeFailure, HedgeOutcome, RaceOutcome, RetryCause};
use crate::lexicon::{EndpointName, Protocol};
use crate::telemetry::record::{End, Kind, Record};

/// Client side of a listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    pub(super) shards: Shards<ListenerShard>,
    pub(super) refused: Causes<ConnectionRefusal>,
    /// By [`TLS_VERSIONS`]; full and resumed.
    pub(super) handshakes: [[Count; 2]; TLS_VERSIONS.len()],
    pub(super) handshake_failures: Causes<HandshakeFailure>,
    pub(super) backoffs: Count,
    /// What happens over QUIC alone.
    pub quic: QuicMetrics,
}

#[derive(Debug, Default)]
pub(super) struct ListenerShard {
    pub(super) accepted: Count,
    pub(super) http1: Statuses,
    pub(super) http2: Statuses,
    pub(super) http3: Statuses,
    pub(super) ends: Ends,
    pub(super) faults: Codes,
    pub(super) bytes_in: Count,
    pub(super) bytes_out: Count,
}

/// Label values of TLS versions.
pub(super) const TLS_VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

impl ListenerMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            shards: Shards::new(workers),
            refused: Causes::default(),
            handshakes: Default::default(),
            handshake_failures: Causes::default(),
            backoffs: Count::default(),
            quic: QuicMetrics::default(),
        }
    }

    /// A connection was accepted.
    pub fn accepted(&self) {
        self.shards.mine().accepted.inc();
    }

    /// A connection was closed right after accept.
    pub fn refused(&self, cause: ConnectionRefusal) {
        self.refused.inc(cause);
    }

    /// A handshake is complete; `version` as in [`crate::message::TlsFacts`].
    pub fn handshake(&self, version: &str, resumed: bool) {
        let [first, second] = &self.handshakes;
        let [full, again] = if version == TLS_VERSIONS[0] { first } else { second };
        if resumed { again.inc() } else { full.inc() }
    }

    /// A handshake failed.
    pub fn handshake_failed(&self, cause: HandshakeFailure) {
        self.handshake_failures.inc(cause);
    }

    /// Accepting pauses.
    pub fn backed_off(&self) {
        self.backoffs.inc();
    }

    /// The proxy itself answered, or broke an exchange off; `code` is the fault's reason code.
    pub fn fault(&self, code: &'static str) {
        self.shards.mine().faults.inc(code);
    }

    /// An exchange has ended, or the tunnel that it became.
    pub fn exchange(&self, record: &Record) {
        let shard = self.shards.mine();
        match record.protocol {
            Protocol::Http1 => shard.http1.inc(record.status),
            Protocol::Http2 => shard.http2.inc(record.status),
            Protocol::Http3 => shard.http3.inc(record.status),
        }
        shard.ends.inc(record.end);
        // A tunnel's bytes are no bodies; its pool counts them.
        if record.kind == Kind::Exchange {
            shard.bytes_in.add(record.bytes_in);
            shard.bytes_out.add(record.bytes_out);
        }
    }
}

/// Faults by reason code. Codes are constants of the table of faults, so there are a few dozen at most. The lock is a
/// worker's own: a scrape alone ever meets it.
#[derive(Debug, Default)]
pub(super) struct Codes(RwLock<Vec<(&'static str, Count)>>);

impl Codes {
    pub(super) fn inc(&self, code: &'static str) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, count)) = known.iter().find(|(known, _)| *known == code) {
            return count.inc();
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match known.iter().find(|(known, _)| *known == code) {
            // Another thread without a worker was quicker.
            Some((_, count)) => count.inc(),
            None => {
                let count = Count::default();
                count.inc();
                known.push((code, count));
            }
        }
    }

    pub(super) fn add_to(&self, sums: &mut BTreeMap<&'static str, u64>) {
        for (code, count) in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            *sums.entry(code).or_default() += count.get();
        }
    }
}

/// Exchanges by end code.
#[derive(Debug, Default)]
pub(super) struct Ends([Count; STAGES * 4]);

/// Members of [`crate::telemetry::record::Stage`].
const STAGES: usize = 7;

impl Ends {
    fn cell(&self, end: End) -> Option<&Count> {
        self.0.get(end.who as usize * STAGES + end.stage as usize)
    }

    fn inc(&self, end: End) {
        if let Some(count) = self.cell(end) {
            count.inc();
        }
    }

    pub(super) fn get(&self, end: End) -> u64 {
        self.cell(end).map_or(0, Count::get)
    }
}

/// A route.
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) shards: Shards<Statuses>,
}

impl RouteMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self { shards: Shards::new(workers) }
    }

    /// An exchange on it has ended.
    pub fn exchange(&self, record: &Record) {
        self.shards.mine().inc(record.status);
    }
}

/// Upstream side of a pool.
#[derive(Debug)]
pub struct PoolMetrics {
    pub(super) workers: usize,
    pub(super) shards: Shards<PoolShard>,
    pub(super) retries: Causes<RetryCause>,
    pub(super) retries_refused: Count,
    pub(super) races: Causes<RaceOutcome>,
    pub(super) hedges: Causes<HedgeOutcome>,
    pub(super) discovery: Causes<DiscoveryResult>,
    pub(super) tunnels: Count,
    pub(super) messages_in: Count,
    pub(super) messages_out: Count,
    pub(super) tunnel_in: Count,
    pub(super) tunnel_out: Count,
    pub(super) endpoints: Mutex<BTreeMap<EndpointName, Arc<EndpointMetrics>>>,
}

#[derive(Debug, Default)]
pub(super) struct PoolShard {
    pub(super) statuses: Statuses,
    pub(super) receive: Durations,
    pub(super) queue: Durations,
    pub(super) connect: Durations,
    pub(super) first_byte: Durations,
    pub(super) total: Durations,
    pub(super) exemplars: Exemplars,
    pub(super) served: Causes<Served>,
}

impl PoolMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers,
            shards: Shards::new(workers),
            retries: Causes::default(),
            retries_refused: Count::default(),
            races: Causes::default(),
            hedges: Causes::default(),
            discovery: Causes::default(),
            tunnels: Count::default(),
            messages_in: Count::default(),
            messages_out: Count::default(),
            tunnel_in: Count::default(),
            tunnel_out: Count::default(),
            endpoints: Mutex::default(),
        }
    }

    /// The handle of an endpoint; held by the pool until [`PoolMetrics::keep_only`] leaves it out.
    pub fn endpoint(&self, name: &EndpointName) -> Arc<EndpointMetrics> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(EndpointMetrics::new(self.workers));
        Arc::clone(endpoints.entry(name.clone()).or_insert_with(fresh))
    }

    /// Forgets endpoints that are no longer in the roster.
    pub fn keep_only<'a>(&self, names: impl IntoIterator<Item = &'a EndpointName>) {
        let names: HashSet<&EndpointName> = names.into_iter().collect();
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name));
    }

    pub(super) fn endpoints(&self) -> Vec<(EndpointName, Arc<EndpointMetrics>)> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.iter().map(|(name, endpoint)| (name.clone(), Arc::clone(endpoint))).collect()
    }

    /// The newest sampled exchange of each bucket of their whole duration.
    pub(super) fn exemplars(&self) -> Newest {
        let mut newest = Newest::default();
        self.shards.each(|shard| shard.exemplars.add_to(&mut newest));
        newest
    }

    /// An exchange has ended. Stages that did not take place (zero) are not observed, but for the total.
    pub fn exchange(&self, record: &Record) {
        let shard = self.shards.mine();
        let stages = &record.stages;
        shard.statuses.inc(record.status);
        if !stages.receive.is_zero() {
            shard.receive.observe(stages.receive);
        }
        shard.queue.observe(stages.queue);
        if !stages.connect.is_zero() {
            shard.connect.observe(stages.connect);
        }
        if !stages.first_byte.is_zero() {
            shard.first_byte.observe(stages.first_byte);
        }
        shard.total.observe(stages.total);
        shard.exemplars.note(record.traceparent.as_ref(), stages.total, record.at + stages.total);
    }

    /// An exchange, or the beginning of a tunnel, counts for the pool's objectives.
    pub fn served(&self, how: Served) {
        self.shards.mine().served.inc(how);
    }

    /// Exchanges so far that were served like this.
    pub fn served_so_far(&self, how: Served) -> u64 {
        self.shards.sum(|shard| shard.served.get(how))
    }

    /// A tunnel has opened.
    pub fn tunnel_opened(&self) {
        self.tunnels.inc();
    }

    /// A tunnel has ended.
    pub fn tunnel_ended(&self, record: &Record) {
        let (from_client, to_client) = record.messages.unwrap_or_default();
        self.messages_in.add(from_client);
        self.messages_out.add(to_client);
        self.tunnel_in.add(record.bytes_in);
        self.tunnel_out.add(record.bytes_out);
    }

    /// A further attempt begins.
    pub fn retry(&self, cause: RetryCause) {
        self.retries.inc(cause);
    }

    /// The budget did not allow a further attempt.
    pub fn retry_refused(&self) {
        self.retries_refused.inc();
    }

    /// DNS was asked about its endpoints.
    pub fn discovery(&self, result: DiscoveryResult) {
        self.discovery.inc(result);
    }

    /// A second question beside a slow first one has ended.
    pub fn hedge(&self, outcome: HedgeOutcome) {
        self.hedges.inc(outcome);
    }

    /// What was repeated so far: by cause, and refused by the budget.
    pub fn retried(&self) -> (Vec<(&'static str, u64)>, u64) {
        let each = RetryCause::ALL.iter().map(|cause| (cause.as_str(), self.retries.get(*cause)));
        (each.filter(|(_, count)| *count > 0).collect(), self.retries_refused.get())
    }

    /// An idle connection had been closed by its endpoint.
    pub fn race(&self, outcome: RaceOutcome) {
        self.races.inc(outcome);
    }
}
