//! What is logged of one exchange or tunnel.
//!
//! A [`Record`] is filled on the worker with reference-counted pieces of the request and encoded elsewhere: the
//! request path formats nothing.

mod attempts;
mod detached;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime};

use http::{Method, Uri};

use crate::head::HeaderValue;
use crate::lexicon::{
    Clock, ConnectionId, EndpointName, Fingerprint, Generation, LimitName, ListenerName, PoolName, Protocol, RouteName,
    RuleName,
};
pub use attempts::{Attempt, Attempts, Link, Why, span_of};

/// What a record is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A request and its response.
    Exchange,
    /// A tunnel has opened; its end follows with the same request id.
    TunnelStart,
    /// A tunnel has ended.
    TunnelEnd,
}

impl Kind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::TunnelStart => "tunnel_start",
            Self::TunnelEnd => "tunnel_end",
        }
    }
}

/// One line of the access log.
#[derive(Clone, Debug)]
pub struct Record {
    /// Tells this record from all others; given by the access log.
    pub id: RecordId,
    /// What it is about.
    pub kind: Kind,
    /// When the request head was complete.
    pub at: SystemTime,
    /// The request's id, as sent to the endpoint and returned to the client.
    pub request_id: HeaderValue,
    /// W3C `traceparent`, as sent to the endpoint; where traces are exported and this one is sampled, each attempt sends one
    /// with a span of its own, see [`span_of`].
    pub traceparent: Option<HeaderValue>,
    /// The span of a trusted proxy that the exchange belongs to.
    pub parent: Option<NonZeroU64>,
    /// What spans tell beyond that; nothing where none are made, so that it costs no other exchange anything.
    pub traced: Option<Box<Traced>>,
    /// The client, as identified through trusted proxies.
    pub client: SocketAddr,
    /// The connection it came on.
    pub connection: ConnectionId,
    /// The listener.
    pub listener: ListenerName,
    /// What the client spoke.
    pub protocol: Protocol,
    /// `TLSv1.2`, `TLSv1.3`.
    pub tls: Option<&'static str>,
    /// JA4 of the client's TLS.
    pub ja4: Option<Fingerprint>,
    /// Method.
    pub method: Method,
    /// Host as the client named it.
    pub host: Option<HeaderValue>,
    /// Path and query; secrets in the query are redacted when it is written.
    pub target: Uri,
    /// Status sent; `None` when the client was gone before.
    pub status: Option<u16>,
    /// Request body bytes received.
    pub bytes_in: u64,
    /// Response body bytes sent.
    pub bytes_out: u64,
    /// Where the time went.
    pub stages: Stages,
    /// The route taken.
    pub route: Option<RouteName>,
    /// The pool asked.
    pub pool: Option<PoolName>,
    /// The endpoint that answered, or was tried last.
    pub endpoint: Option<EndpointName>,
    /// Everybody who was asked, and what came of it.
    pub attempts: Attempts,
    /// Why nobody else was asked after an attempt that failed.
    pub gave_up: Option<GaveUp>,
    /// How it ended.
    pub end: End,
    /// Reason code when the proxy itself answered or broke off.
    pub fault: Option<&'static str>,
    /// The clock that ended it.
    pub clock: Option<Clock>,
    /// Generation of the configuration that it went by.
    pub generation: Generation,
    /// Limits that refused it, or (true) would have if they did more than observe. Empty for almost every request.
    pub limits: Vec<(LimitName, bool)>,
    /// What rules said, in their order. Empty for almost every request.
    pub verdicts: Vec<Verdict>,
    /// What the ban is for that shut its client out.
    pub ban: Option<Cow<'static, str>>,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// `Referer`; secrets in its query are redacted when it is written.
    pub referer: Option<HeaderValue>,
    /// Messages from the client and to it, for a tunnel's end.
    pub messages: Option<(u64, u64)>,
}

/// What only spans tell.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// W3C `tracestate` of the trusted proxy whose trace goes on.
    pub state: Option<HeaderValue>,
    /// What endpoints were asked for: whether over TLS, and path and query.
    pub asked: Option<(bool, Uri)>,
}

impl Record {
    /// How many spans tell of it where traces are exported: none unless its trace is sampled; else its own, and one for each
    /// attempt. A tunnel is told of at its end.
    pub fn spans(&self) -> usize {
        let sampled = self.traceparent.as_ref().is_some_and(|parent| parent.as_bytes().ends_with(b"-01"));
        if sampled && self.kind != Kind::TunnelStart { 1 + self.attempts.iter().count() } else { 0 }
    }

    /// Moves the record out and leaves a blank one behind: no piece of the request is counted up for the log and down
    /// again for the exchange.
    pub fn take(&mut self) -> Self {
        const BLANK: HeaderValue = HeaderValue::from_static("");
        Self {
            request_id: std::mem::replace(&mut self.request_id, BLANK),
            traceparent: self.traceparent.take(),
            traced: self.traced.take(),
            listener: self.listener.clone(),
            method: std::mem::take(&mut self.method),
            host: self.host.take(),
            target: std::mem::take(&mut self.target),
            route: self.route.take(),
            pool: self.pool.take(),
            endpoint: self.endpoint.take(),
            attempts: std::mem::take(&mut self.attempts),
            limits: std::mem::take(&mut self.limits),
            verdicts: std::mem::take(&mut self.verdicts),
            ban: self.ban.take(),
            user_agent: self.user_agent.take(),
            referer: self.referer.take(),
            ..*self
        }
    }
}

/// Tells a record from all others of all processes, so that a receiver can drop what it gets twice.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordId {
    /// Random for each start of a process.
    process: u64,
    /// Counts from 1; 0 for a record that nobody has numbered.
    number: u64,
}

impl RecordId {
    /// The first of this process.
    pub(super) fn first() -> Self {
        Self { process: fastrand::u64(..), number: 1 }
    }

    /// The process that gave it, and its number there.
    pub(super) const fn parts(self) -> (u64, u64) {
        (self.process, self.number)
    }

    /// This id; the next time, the next one.
    pub(super) const fn take(&mut self) -> Self {
        let taken = *self;
        self.number = self.number.wrapping_add(1);
        taken
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.process, self.number)
    }
}

/// What a rule said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The rule.
    pub rule: RuleName,
    /// The word for what it does.
    pub action: &'static str,
    /// Whether it was only observed.
    pub observed: bool,
}

/// Why nobody else was asked after an attempt that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GaveUp {
    /// The endpoint may have acted on the request, or it cannot be sent again.
    Unsafe,
    /// As many attempts were made as an exchange may make.
    Attempts,
    /// The pool's budget of retries is spent.
    Budget,
    /// There was nobody else to ask, or nobody was free at once where that was a condition.
    Nobody,
    /// The time of the whole exchange was over.
    Late,
}

impl GaveUp {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsafe => "unsafe",
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Nobody => "nobody",
            Self::Late => "late",
        }
    }
}

/// Where the time of an exchange went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    /// Receiving the request body before an endpoint was leased.
    pub receive: Duration,
    /// Waiting for a free endpoint.
    pub queue: Duration,
    /// Connecting, last attempt; zero on a reused connection.
    pub connect: Duration,
    /// From the request sent to the response head, last attempt.
    pub first_byte: Duration,
    /// From the request head to the last byte of the response.
    pub total: Duration,
}

/// How an exchange ended, as two letters: who ended it (`-` nobody, `C` client, `U` upstream, `P` the proxy), and
/// during what (`-` complete, `R` request, `Q` queue, `C` connect, `H` waiting for the head, `D` response data,
/// `T` tunnel).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct End {
    /// Who.
    pub who: Who,
    /// During what.
    pub stage: Stage,
}

/// Who ended an exchange.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Who {
    /// Nobody: it is complete.
    Nobody,
    /// The client.
    Client,
    /// The endpoint.
    Upstream,
    /// The proxy, for a reason of its own (a fault).
    Proxy,
}

/// The stage of an exchange.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stage {
    /// Over.
    Complete,
    /// Reading the request.
    Request,
    /// Waiting for a free endpoint.
    Queue,
    /// Connecting.
    Connect,
    /// Waiting for the response head.
    Head,
    /// Passing the response body.
    Data,
    /// In the tunnel.
    Tunnel,
}

impl End {
    /// Complete and well.
    pub const COMPLETE: Self = Self { who: Who::Nobody, stage: Stage::Complete };

    /// The two letters.
    pub const fn code(self) -> Code {
        let who = match self.who {
            Who::Nobody => b'-',
            Who::Client => b'C',
            Who::Upstream => b'U',
            Who::Proxy => b'P',
        };
        let stage = match self.stage {
            Stage::Complete => b'-',
            Stage::Request => b'R',
            Stage::Queue => b'Q',
            Stage::Connect => b'C',
            Stage::Head => b'H',
            Stage::Data => b'D',
            Stage::Tunnel => b'T',
        };
        Code([who, stage])
    }
}

/// An [`End`] as two letters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Code([u8; 2]);

impl Code {
    /// As bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [who, stage] = self.0.map(char::from);
        write!(f, "{who}{stage}")
    }
}
