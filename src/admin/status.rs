//! The process as `/status` shows it.
//!
//! Floor 6. Plain values, filled by `app` at each request; field names are the JSON's. What gauges need is read from
//! the same values, so that `/status` and `/metrics` cannot disagree.

mod gauges;
mod shield;
mod sinks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::lexicon::{EndpointName, LimitName, ListenerName, PoolName, Protocol};
use crate::lifecycle::Phase;
use crate::telemetry::metrics::{EndpointCounts, Standing, phase_word};
use crate::telemetry::slo::Report;

pub use shield::{Rule, Shield, Table};
pub use sinks::{Export, Sink};

/// Everything about the process.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: &'static str,
    /// Generation of the configuration in use; 0 before the first.
    pub generation: u64,
    /// When that generation was loaded.
    #[serde(serialize_with = "optional_time")]
    pub loaded_at: Option<SystemTime>,
    /// The configuration's file.
    pub config_file: String,
    /// Phase of the process.
    #[serde(serialize_with = "phase")]
    pub phase: Phase,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Data-plane threads.
    pub workers: usize,
    /// What each of them carries.
    pub load: Vec<Load>,
    /// Client connections that may be open.
    pub connections_max: u64,
    /// Reloads so far.
    pub reloads: Reloads,
    /// Request bodies in temporary files, bytes.
    pub temp_bytes: u64,
    /// Request bodies in memory, bytes.
    pub buffered_bytes: u64,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// Limits on requests and logins.
    pub limits: Vec<Limit>,
    /// What operators took out.
    pub drains: Vec<Drain>,
    /// Bans that last.
    pub bans: u64,
    /// What judges requests, and what it has found.
    pub shield: Shield,
    /// Whether Redis answers; `null` without one.
    pub fleet: Option<bool>,
    /// The last loads of the configuration, the youngest first.
    pub generations: Vec<Generation>,
    /// Where records go.
    pub sinks: Vec<Sink>,
    /// What else is sent to collectors.
    pub exports: Vec<Export>,
}

/// A load of the configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Generation {
    /// The generation in use after it.
    pub number: u64,
    /// When.
    #[serde(serialize_with = "time")]
    pub at: SystemTime,
    /// What is written differently than before, by key.
    pub changes: Vec<String>,
    /// Changes beyond those.
    pub more: usize,
    /// Why nothing was loaded; `null` when it was.
    pub error: Option<String>,
}

/// What a worker carries.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Load {
    /// Seconds in which it was not idle, since the start.
    pub busy_seconds: f64,
    /// Open client connections.
    pub connections: u64,
    /// Tasks that have not ended.
    pub tasks: u64,
}

/// A ban, as `/bans` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Ban {
    /// Address or fingerprint.
    pub who: String,
    /// `everything` or `login`.
    pub scope: &'static str,
    /// Seconds until it ends.
    pub seconds_left: u64,
    /// Bans before it that still count.
    pub before: u32,
    /// What it is for.
    pub reason: String,
}

/// A limit over time.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// Its name.
    #[serde(serialize_with = "word")]
    pub name: LimitName,
    /// Keys that have used something of it.
    pub keys: u64,
    /// Keys whose count somebody new took over.
    pub pushed_out: u64,
    /// Bytes that its states take.
    pub bytes: u64,
}

/// An operator's drain.
#[derive(Clone, Debug, Serialize)]
pub struct Drain {
    /// `POOL/ENDPOINT` or `zone ZONE`.
    pub target: String,
    /// When it ends by itself; `null` when never.
    pub seconds_left: Option<u64>,
}

/// Reloads by result.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Reloads {
    /// Took effect.
    pub ok: u64,
    /// Left the old generation in place.
    pub failed: u64,
}

/// A listener.
#[derive(Clone, Debug, Serialize)]
pub struct Listener {
    /// Its name.
    #[serde(serialize_with = "word")]
    pub name: ListenerName,
    /// Addresses that are bound, port 0 resolved. Empty: not up.
    pub addresses: Vec<SocketAddr>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Open connections.
    pub connections: u64,
    /// Those that have agreed on a protocol, by protocol.
    #[serde(serialize_with = "by_protocol")]
    pub speaking: [(Protocol, u64); 3],
    /// Who brings datagrams of QUIC to their workers: `kernel` or `process`. None where no HTTP/3 is spoken.
    pub quic_steering: Option<&'static str>,
    /// Its certificates.
    pub certificates: Vec<Certificate>,
}

/// A certificate.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    /// The file it came from.
    pub file: String,
    /// End of its validity.
    #[serde(serialize_with = "time")]
    pub not_after: SystemTime,
    /// Whole days until then; negative when it has expired.
    pub days_left: i64,
}

impl Certificate {
    /// A certificate as of `now`.
    pub fn new(file: String, not_after: SystemTime, now: SystemTime) -> Self {
        let days = |seconds: u64| i64::try_from(seconds / 86_400).unwrap_or(i64::MAX);
        let days_left = match not_after.duration_since(now) {
            Ok(left) => days(left.as_secs()),
            Err(past) => -days(past.duration().as_secs()) - 1,
        };
        Self { file, not_after, days_left }
    }
}

/// A pool.
#[derive(Clone, Debug, Serialize)]
pub struct Pool {
    /// Its name.
    #[serde(serialize_with = "word")]
    pub name: PoolName,
    /// `round_robin` or `least_connection`.
    pub strategy: &'static str,
    /// Discovery by DNS; `null` when its endpoints are written.
    pub discovery: Option<Discovery>,
    /// Exchanges waiting for a free endpoint.
    pub queue_length: u64,
    /// What is waited for, and how waits have ended.
    pub queue: Vec<Lane>,
    /// Whether so few endpoints are up that health is not heeded.
    pub panicking: bool,
    /// Further attempts so far.
    pub retries: Retries,
    /// Where the traffic goes by priority group and zone; empty where endpoints are all alike.
    pub shares: Vec<Share>,
    /// How its objectives are kept.
    pub slo: Report,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// Discovery by DNS.
#[derive(Clone, Debug, Serialize)]
pub struct Discovery {
    /// The name that is asked for.
    pub name: String,
    /// `found`, `empty` or `failed`; `null` before the first.
    pub last_answer: Option<&'static str>,
}

/// A lane of a pool's queue.
#[derive(Clone, Debug, Serialize)]
pub struct Lane {
    /// `main` or `express`.
    pub lane: &'static str,
    /// Exchanges that wait.
    pub waiting: u64,
    /// Waits that have ended, by ending.
    pub ended: BTreeMap<&'static str, u64>,
}

/// Further attempts on a pool.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Retries {
    /// Those made, by what failed before.
    pub made: BTreeMap<&'static str, u64>,
    /// Those that the budget did not allow.
    pub refused: u64,
    /// What the budget holds.
    pub budget: Budget,
}

/// A budget of retries, over the last 10 s.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Budget {
    /// Those made.
    pub used: u64,
    /// Those allowed.
    pub allowed: u64,
}

/// What one tier takes of a pool's traffic.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Share {
    /// Priority group.
    pub priority: u8,
    /// `near`: the proxy's own zone; `far`: all others.
    pub zone: &'static str,
    /// Of the pool's traffic.
    pub percent: u32,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    /// Its name: the address as configured.
    #[serde(serialize_with = "word")]
    pub name: EndpointName,
    /// Addresses that the name has now.
    pub addresses: Vec<SocketAddr>,
    /// Its standing.
    #[serde(serialize_with = "standing")]
    pub standing: Standing,
    /// Why it has that standing.
    pub reason: String,
    /// Since when.
    #[serde(serialize_with = "optional_time")]
    pub since: Option<SystemTime>,
    /// Taken out by configuration or drained.
    pub disabled: bool,
    /// What live traffic has made of it: `in`, `ejected`, `trial`.
    pub bench: &'static str,
    /// Why it was last ejected; empty if it never was.
    pub bench_reason: String,
    /// Share of its due that it takes, in percent; below 100 after a recovery.
    pub warmth: u8,
    /// Taken out by an operator.
    pub drained: bool,
    /// Exchanges in flight.
    pub in_flight: u64,
    /// Exchanges and tunnels without a connection yet.
    pub pending: u64,
    /// Repeats in flight of what failed elsewhere.
    pub retries: u64,
    /// How often each limit on what it carries was reached.
    pub limits_reached: LimitsReached,
    /// Milliseconds for which it keeps idle connections, as its closes have shown; `null` while they have shown nothing.
    pub idle_time_ms: Option<u64>,
    /// Idle connections that it closed before they were used again.
    pub idle_closes: u64,
    /// Open tunnels.
    pub tunnels: u64,
    /// Weight.
    pub weight: u16,
    /// Priority group.
    pub priority: u8,
    /// Failure domain.
    pub zone: Option<String>,
    /// What was counted since the process (or the endpoint) began.
    pub counts: EndpointCounts,
}

/// How often each limit on what an endpoint carries was reached.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LimitsReached {
    /// `max_in_flight`.
    pub in_flight: u64,
    /// `max_pending`.
    pub pending: u64,
    /// `max_retries`.
    pub retries: u64,
}

fn word<S: Serializer>(name: &impl std::fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(name)
}

fn by_protocol<S: Serializer>(speaking: &[(Protocol, u64); 3], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(speaking.iter().map(|(protocol, open)| (protocol.as_str(), open)))
}

// Serde hands over references.
fn phase<S: Serializer>(phase: &Phase, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(phase_word(*phase))
}

fn standing<S: Serializer>(standing: &Standing, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(standing.as_str())
}

fn time<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    optional_time(&Some(*time), to)
}

/// RFC 3339 in UTC, whole seconds; `null` for what has no time.
fn optional_time<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
    let stamp = time.and_then(|time| jiff::Timestamp::try_from(time).ok());
    match stamp {
        Some(stamp) => to.collect_str(&stamp.strftime("%Y-%m-%dT%H:%M:%SZ")),
        None => to.serialize_none(),
    }
}
