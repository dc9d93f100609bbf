//! `[pools.NAME]`: endpoints and everything about the upstream side.

use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};

use super::objectives::Objectives;
use crate::head::Fields;
use crate::lexicon::{EndpointName, PoolName, ZoneName};

/// A named set of interchangeable endpoints.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Unique name.
    pub name: PoolName,
    /// Those that are written. At least one, unless the pool discovers. Names are unique in the pool.
    pub endpoints: Vec<Endpoint>,
    /// Endpoints that DNS names, beside those that are written. Default: none.
    pub discover: Option<Discover>,
    /// How an endpoint is chosen. Default round-robin.
    pub strategy: Strategy,
    /// TLS to the endpoints; `None` speaks plain HTTP.
    pub tls: Option<UpstreamTls>,
    /// Exchanges in flight per endpoint. Default 20 = Superset's one worker of 20 threads. Tunnels do not count here.
    pub max_in_flight: u32,
    /// Tunnels per endpoint. Default 2,000.
    pub max_tunnels: u32,
    /// Exchanges and tunnels per endpoint that have no connection yet. Default 10: an endpoint that swallows connects
    /// holds no more than these.
    pub max_pending: u32,
    /// Repeats per endpoint of what failed elsewhere. Default 10: half of the slots stay for first attempts.
    pub max_retries: u32,
    /// Waiting exchanges when every endpoint is full.
    pub queue: Queue,
    /// Clocks on the upstream side.
    pub clocks: UpstreamClocks,
    /// Idle connections kept per endpoint and worker. Default 8.
    pub max_idle: usize,
    /// Whether what changes something is never sent on a connection that was idle. Default true.
    pub fresh_writes: bool,
    /// Repeating what failed.
    pub retry: Retry,
    /// Active checks; `None` trusts every endpoint.
    pub health: Option<Health>,
    /// Ejection from live traffic; `None` leaves judgement to the checks.
    pub outliers: Option<Outliers>,
    /// How an endpoint grows into its share after a recovery; `None` gives it all at once.
    pub slow_start: Option<SlowStart>,
    /// Percent of a priority group's weight that must be well for it to take everything; beneath, the next group takes
    /// what is missing in proportion. Default 50; 1 to 100.
    pub spill_below: u8,
    /// The proxy's own zone.
    pub zones: Zones,
    /// When no endpoint is up. Default `Reject`.
    pub when_all_down: WhenAllDown,
    /// Share of endpoints, in percent, that must be up for health to be heeded; below it every endpoint that is not
    /// drained is used (a Redis failover fails all replicas at once). Default 50; 0 switches it off.
    pub panic_threshold: u8,
    /// Longest response head in bytes. Default 64 KiB. Beyond it: 502 `upstream_head`.
    pub head_bytes: usize,
    /// What is promised of it.
    pub objectives: Objectives,
}

/// Discovery by DNS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Discover {
    /// The name that is asked for.
    pub name: String,
    /// The kind of record. Default: services for names that begin with `_`, else addresses.
    pub record: Record,
    /// Port of endpoints found by address; services have their own.
    pub port: u16,
    /// Failure domain of every endpoint found.
    pub zone: Option<ZoneName>,
    /// Whether that is the proxy's own.
    pub near: bool,
    /// Shortest time between two questions, whatever the records say. Default 5 s.
    pub min_ttl: Duration,
    /// Longest time between two questions. Default 60 s; at least `min_ttl`.
    pub max_ttl: Duration,
    /// Endpoints taken from one answer, the first in order. Default 64; at most 1,000.
    pub max_endpoints: usize,
    /// What an answer without any does. Default keep.
    pub on_empty: OnEmpty,
}

/// The kind of record that names endpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record {
    /// A and AAAA.
    Address,
    /// SRV (RFC 2782).
    Service,
}

/// What an answer without any endpoint does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnEmpty {
    /// The endpoints of the last good answer stay; their health is checked in any case.
    Keep,
    /// They go.
    Remove,
}

impl Pool {
    /// The pool as a proxy in `own` zone sees it.
    #[must_use]
    pub fn seen_from(mut self, own: Option<&ZoneName>) -> Self {
        for endpoint in &mut self.endpoints {
            endpoint.near = self.zones.prefer && own.is_some() && endpoint.zone.as_ref() == own;
        }
        if let Some(discover) = &mut self.discover {
            discover.near = self.zones.prefer && own.is_some() && discover.zone.as_ref() == own;
        }
        self
    }
}

/// One upstream address as configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The address as written.
    pub name: EndpointName,
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Share of traffic relative to the others; 1 to 256. Default 1.
    pub weight: u16,
    /// Failure domain.
    pub zone: Option<ZoneName>,
    /// Whether that is the proxy's own. Default: false, also where the proxy knows no zone.
    pub near: bool,
    /// Priority group, 0 to 9; a higher one is a backup of the lower ones. Default 0.
    pub priority: u8,
    /// Taken out by configuration: no new exchanges, no probes.
    pub disabled: bool,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Strategy {
    /// Smooth weighted round-robin.
    #[default]
    RoundRobin,
    /// Fewest exchanges and tunnels in flight relative to weight; ties in turn.
    LeastConnection,
}

/// What happens when no endpoint is up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenAllDown {
    /// 503 `no_endpoint`.
    #[default]
    Reject,
    /// Use all that are not disabled.
    UseAll,
}

/// Waiting exchanges.
#[derive(Clone, Debug)]
pub struct Queue {
    /// How many. Default 128; 0 refuses at once.
    pub length: usize,
    /// How many of one client. Default 64, so that nobody fills the line alone.
    pub per_client: usize,
    /// How long. Default 10 s.
    pub timeout: Duration,
    /// Paths, with all below them, that wait in a lane of their own. Default: Superset's health and login paths.
    pub express: Vec<String>,
    /// How many wait there, beside `length`. Default 32.
    pub express_length: usize,
}

impl Queue {
    /// Whether an exchange on `path` waits in the lane of its own.
    pub fn is_express(&self, path: &str) -> bool {
        self.express.iter().any(|express| {
            let rest = path.strip_prefix(express.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// Ejection of endpoints that live traffic shows to be worse than the pool's others.
#[derive(Clone, Debug)]
pub struct Outliers {
    /// Failures and `statuses` in a row; 0 does not look. Default 5.
    pub gateway_errors: u32,
    /// Failed connects in a row; 0 does not look. Default 3.
    pub connect_failures: u32,
    /// Attempts in a row without a response head in time; 0 does not look. Default 3.
    pub timeouts: u32,
    /// Answers that say "cannot serve", as a gateway would. Default 502 and 503. 504 is what Superset says of a slow
    /// query.
    pub statuses: Vec<StatusCode>,
    /// Percentage points by which the share of errors (every 5xx and failure) must exceed that of the pool's others; 0
    /// does not look. Default 30.
    pub error_points: u8,
    /// Attempts within `window`, here and on the others, below which shares say nothing. Default 5.
    pub min_requests: u32,
    /// Past that shares are taken of. Default 10 s.
    pub window: Duration,
    /// First ejection; each further one is twice as long. Default 10 s.
    pub time: Duration,
    /// Longest ejection; also how long an endpoint must behave for one of its ejections to be forgotten. Default 5 min.
    pub max_time: Duration,
    /// Most endpoints of the pool that may be ejected at once, in percent; one may always, the last never. Default 50.
    pub max_ejected: u8,
}

/// How an endpoint grows into its share after a recovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlowStart {
    /// How long it takes. Default 30 s.
    pub window: Duration,
    /// Share of its due to begin with, in percent. Default 10; 1 to 100.
    pub from: u8,
}

/// The proxy's own zone, as a pool heeds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Zones {
    /// Whether endpoints of the proxy's own zone are preferred. Default true.
    pub prefer: bool,
    /// Percent of its slots to which one of them is filled before the other zones help. Default 75; 1 to 100.
    pub fill: u8,
}

/// Clocks on the upstream side.
#[derive(Clone, Debug)]
pub struct UpstreamClocks {
    /// TCP (and TLS) to the endpoint. Default 2 s.
    pub connect: Duration,
    /// Longest pause while the endpoint takes the request body. Default 60 s.
    pub write_idle: Duration,
    /// How long the endpoint's host may acknowledge nothing before a connection counts as dead. Default 12 s, at least
    /// 3 s. Its kernel answers however busy Superset is: only a dead host or a cut wire meets this.
    pub unacknowledged: Duration,
    /// Age of an idle connection at which it is not used again. Default 1.5 s: Gunicorn closes after 2 s.
    pub idle: Duration,
    /// Whether it is shortened for an endpoint that closes sooner. Default true.
    pub learn_idle: bool,
}

/// TLS to endpoints, and to collectors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamTls {
    /// Name to verify and to send as SNI. Default: the endpoint's host.
    pub server_name: Option<String>,
    /// PEM file of trust anchors. Default: Mozilla's.
    pub authorities: Option<PathBuf>,
    /// Whether the certificate is verified. Default true.
    pub verify: bool,
    /// Certificate shown to the endpoint.
    pub certificate: Option<super::listener::Certificate>,
}

/// Retries (RFC 9110 §9.2.2).
#[derive(Clone, Debug)]
pub struct Retry {
    /// Further attempts per exchange, beside those of which not a byte was sent. Default 1; 0 to 5.
    pub attempts: u32,
    /// Wait for the response head after which an attempt that may be repeated goes elsewhere, if another endpoint is free at
    /// once and the budget allows it. Default: none, the route's `first_byte` alone counts, since a slow query that is asked
    /// for twice runs twice.
    pub per_try: Option<Duration>,
    /// How long an endpoint must have been down, accepting checks and not answering them, before exchanges that wait for it
    /// and may be repeated are asked elsewhere, once another is free. Default 60 s; 0 waits for `first_byte` in any case.
    pub hung_after: Duration,
    /// Wait before the second repeat; doubled for each further one, and varied by up to half. The first goes elsewhere
    /// at once. Default 25 ms.
    pub back_off: Duration,
    /// Retries in percent of the exchanges of the last 10 s, with a floor of 3 a second. Default 10.
    pub budget_percent: u8,
}

/// Active checks.
#[derive(Clone, Debug)]
pub struct Health {
    /// What is checked.
    pub check: Check,
    /// Time between two checks of a settled endpoint. Default 5 s.
    pub interval: Duration,
    /// Time between checks while the endpoint is in transition. Default 1 s.
    pub fast_interval: Duration,
    /// Share of the interval, in percent, by which each wait varies. Default 20.
    pub jitter_percent: u8,
    /// An answer after this is `late` and does not count as death. Default 2 s.
    pub late_after: Duration,
    /// No answer by then is a failure. Default 5 s; above `late_after`.
    pub timeout: Duration,
    /// Consecutive good answers until up. Default 2.
    pub rise: u32,
    /// Consecutive failures until down. Default 3.
    pub fall: u32,
    /// Whether an endpoint counts as up before its first check. Default false.
    pub initially_up: bool,
    /// Optional deeper check that degrades but does not alone eject, e.g. `/api/v1/me/` with 200 and 401.
    pub deep: Option<HttpCheck>,
}

/// What is checked.
#[derive(Clone, Debug)]
pub enum Check {
    /// An HTTP request.
    Http(HttpCheck),
    /// A TCP connection; not for Gunicorn, which accepts and never answers while it starts or stops.
    Tcp,
    /// A WebSocket handshake on a path. An endpoint that closes without an answer for want of a token is alive.
    WebSocket {
        /// Path and query.
        path: String,
        /// `Host` sent. Default: the endpoint's host and port.
        host: Option<String>,
    },
}

/// An HTTP check.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// Default GET.
    pub method: Method,
    /// Default `/health`.
    pub path: String,
    /// `Host` sent. Default: the endpoint's host and port.
    pub host: Option<String>,
    /// Good statuses. Default 200.
    pub statuses: Vec<StatusCode>,
    /// Text that the body's first 4 KiB must contain. Default for the main check: `OK`.
    pub body: Option<String>,
    /// Further fields, e.g. a token.
    pub headers: Fields,
}
