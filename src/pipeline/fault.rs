//! Every reason for which the proxy itself answers, in one table.
//!
//! Faults meet HTTP here and nowhere else. The client gets status, reason code and request id; causes go to the record
//! and to events only.

use http::StatusCode;

use crate::body::BodyError;
use crate::lexicon::Clock;
use crate::message::Refusal;
use crate::telemetry::record::{End, Stage, Who};
use crate::upstream::Failure;
use crate::upstream::pool::NoLease;

/// Why the proxy itself answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The head breaks the grammar; says where.
    Malformed(&'static str),
    /// The framing can be read in two ways; says how.
    Ambiguous(&'static str),
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// A tunnel of a protocol that we do not carry.
    UnknownProtocol,
    /// A version of HTTP that we do not speak.
    UnknownVersion,
    /// The head exceeds its bound; says which.
    HeadTooLarge(&'static str),
    /// The request target exceeds its bound.
    UriTooLong,
    /// The host is missing, malformed, or named in two ways.
    BadHost,
    /// `Connection` names a field that it must not remove.
    BadConnection,
    /// CONNECT and TRACE are not for a reverse proxy.
    Method,
    /// A rule of the shield refuses it.
    Denied(StatusCode),
    /// A rule of the shield wants it to get no answer.
    Dropped,
    /// The client is banned.
    Banned,
    /// The client has sent as many requests as it may; seconds until the next.
    RateLimited(u32),
    /// The client has as many requests under way as it may.
    ConcurrencyLimited,
    /// Too many logins have failed; seconds until the next.
    LoginLimited(u32),
    /// No route for host and path.
    NoRoute,
    /// The route takes no tunnels.
    UpgradeRefused,
    /// The tunnel's `Origin` is not allowed.
    OriginRefused,
    /// The client has as many tunnels as it may.
    TooManyTunnels,
    /// The client has as many streams as it may over all its connections.
    TooManyStreams,
    /// The body is of a type that the route does not take.
    ContentType,
    /// No route is for this host.
    UnknownHost,
    /// The body exceeds the route's bound.
    BodyTooLarge,
    /// The body breaks its framing.
    BodyMalformed,
    /// The client was too slow.
    ClientLate(Clock),
    /// The client has gone; nobody reads this.
    ClientGone,
    /// Neither memory nor disk is left for request bodies.
    BufferFull,
    /// No endpoint may be used.
    NoEndpoint,
    /// All endpoints are full and the line is, too.
    QueueFull,
    /// All endpoints are full and as many of this client wait as may.
    QueueClientFull,
    /// No endpoint became free in time.
    QueueLate,
    /// The endpoint's name has no address.
    Unresolved,
    /// No connection to the endpoint.
    Connect,
    /// No TLS session with the endpoint.
    UpstreamTls,
    /// The endpoint closed before it answered.
    UpstreamClosed,
    /// The endpoint's answer is no HTTP.
    UpstreamMalformed,
    /// The endpoint's response head exceeds its bound.
    UpstreamHead,
    /// The endpoint was too slow.
    UpstreamLate(Clock),
    /// The whole exchange has taken too long, whoever was waited for.
    ExchangeLate,
    /// The endpoint closed a tunnel's handshake without an answer, as superset-websocket does with a bad token.
    TunnelRefused(StatusCode),
    /// A defect of the proxy.
    Internal,
}

/// The answers to everything one may ask about a fault.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Status sent.
    pub status: StatusCode,
    /// Reason code in the body, the record and the metric.
    pub code: &'static str,
    /// Who ended the exchange, during what.
    pub end: End,
    /// Whether the client may try again soon (`Retry-After`).
    pub again: bool,
}

impl Fault {
    /// The table.
    #[rustfmt::skip] // a table
    pub const fn profile(&self) -> Profile {
        use Stage::{Connect, Head, Queue, Request, Tunnel};
        use Who::{Client, Proxy, Upstream};
        match self {
            Self::Malformed(_)          => row(StatusCode::BAD_REQUEST,                     "malformed",          Client,   Request, false),
            Self::Ambiguous(_)          => row(StatusCode::BAD_REQUEST,                     "ambiguous_framing",  Client,   Request, false),
            Self::UnknownCoding         => row(StatusCode::NOT_IMPLEMENTED,                 "unknown_coding",     Client,   Request, false),
            Self::UnknownProtocol       => row(StatusCode::NOT_IMPLEMENTED,                 "unknown_protocol",   Client,   Request, false),
            Self::UnknownVersion        => row(StatusCode::HTTP_VERSION_NOT_SUPPORTED,      "unknown_version",    Client,   Request, false),
            Self::HeadTooLarge(_)       => row(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large",     Client,   Request, false),
            Self::UriTooLong            => row(StatusCode::URI_TOO_LONG,                    "uri_too_long",       Client,   Request, false),
            Self::BadHost               => row(StatusCode::BAD_REQUEST,                     "bad_host",           Client,   Request, false),
            Self::BadConnection         => row(StatusCode::BAD_REQUEST,                     "bad_connection",     Client,   Request, false),
            Self::Method                => row(StatusCode::METHOD_NOT_ALLOWED,              "method",             Client,   Request, false),
            Self::Denied(status)        => row(*status,                                     "denied",             Proxy,    Request, false),
            Self::Dropped               => row(StatusCode::FORBIDDEN,                       "dropped",            Proxy,    Request, false),
            Self::Banned                => row(StatusCode::FORBIDDEN,                       "banned",             Proxy,    Request, false),
            Self::RateLimited(_)        => row(StatusCode::TOO_MANY_REQUESTS,               "rate_limited",       Proxy,    Request, true),
            Self::ConcurrencyLimited    => row(StatusCode::TOO_MANY_REQUESTS,               "concurrency_limited", Proxy,   Request, true),
            Self::LoginLimited(_)       => row(StatusCode::TOO_MANY_REQUESTS,               "login_limited",      Proxy,    Request, true),
            Self::NoRoute               => row(StatusCode::NOT_FOUND,                       "no_route",           Proxy,    Request, false),
            Self::UpgradeRefused        => row(StatusCode::FORBIDDEN,                       "upgrade_refused",    Proxy,    Request, false),
            Self::OriginRefused         => row(StatusCode::FORBIDDEN,                       "origin_refused",     Proxy,    Request, false),
            Self::TooManyTunnels        => row(StatusCode::TOO_MANY_REQUESTS,               "too_many_tunnels",   Proxy,    Request, true),
            Self::TooManyStreams        => row(StatusCode::TOO_MANY_REQUESTS,               "too_many_streams",   Proxy,    Request, true),
            Self::ContentType           => row(StatusCode::UNSUPPORTED_MEDIA_TYPE,          "content_type",       Client,   Request, false),
            Self::UnknownHost           => row(StatusCode::MISDIRECTED_REQUEST,             "unknown_host",       Client,   Request, false),
            Self::BodyTooLarge          => row(StatusCode::PAYLOAD_TOO_LARGE,               "body_too_large",     Client,   Request, false),
            Self::BodyMalformed         => row(StatusCode::BAD_REQUEST,                     "body_malformed",     Client,   Request, false),
            Self::ClientLate(clock)     => row(StatusCode::REQUEST_TIMEOUT,                 clock.as_str(),       Client,   Request, false),
            Self::ClientGone            => row(StatusCode::BAD_REQUEST,                     "client_gone",        Client,   Request, false),
            Self::BufferFull            => row(StatusCode::SERVICE_UNAVAILABLE,             "buffer_full",        Proxy,    Request, true),
            Self::NoEndpoint            => row(StatusCode::SERVICE_UNAVAILABLE,             "no_endpoint",        Upstream, Queue,   true),
            Self::QueueFull             => row(StatusCode::SERVICE_UNAVAILABLE,             "queue_full",         Proxy,    Queue,   true),
            Self::QueueClientFull       => row(StatusCode::SERVICE_UNAVAILABLE,             "queue_client_full",  Client,   Queue,   true),
            Self::QueueLate             => row(StatusCode::SERVICE_UNAVAILABLE,             "queue_timeout",      Proxy,    Queue,   true),
            Self::Unresolved            => row(StatusCode::BAD_GATEWAY,                     "unresolved",         Upstream, Connect, true),
            Self::Connect               => row(StatusCode::BAD_GATEWAY,                     "connect",            Upstream, Connect, true),
            Self::UpstreamTls           => row(StatusCode::BAD_GATEWAY,                     "upstream_tls",       Upstream, Connect, false),
            Self::UpstreamClosed        => row(StatusCode::BAD_GATEWAY,                     "upstream_closed",    Upstream, Head,    false),
            Self::UpstreamMalformed     => row(StatusCode::BAD_GATEWAY,                     "upstream_malformed", Upstream, Head,    false),
            Self::UpstreamHead          => row(StatusCode::BAD_GATEWAY,                     "upstream_head",      Upstream, Head,    false),
            Self::UpstreamLate(clock)   => row(StatusCode::GATEWAY_TIMEOUT,                 clock.as_str(),       Upstream, match clock { Clock::Connect => Connect, _ => Head }, false),
            Self::ExchangeLate          => row(StatusCode::GATEWAY_TIMEOUT,                 Clock::Exchange.as_str(), Proxy, Head,   false),
            Self::TunnelRefused(status) => row(*status,                                     "tunnel_refused",     Upstream, Tunnel,  false),
            Self::Internal              => row(StatusCode::INTERNAL_SERVER_ERROR,           "internal",           Proxy,    Request, false),
        }
    }

    /// Whether the client's connection gets no other request: what it sent was read in a way that it may not have meant,
    /// or nothing more is wanted of the client.
    pub const fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::Malformed(_)
                | Self::Ambiguous(_)
                | Self::BadHost
                | Self::BadConnection
                | Self::BodyMalformed
                | Self::Banned
        )
    }

    /// Seconds after which the client may try again; `None` when that would change nothing.
    pub const fn retry_after(&self) -> Option<u32> {
        match self {
            Self::RateLimited(wait) | Self::LoginLimited(wait) => Some(if *wait == 0 { 1 } else { *wait }),
            _ if self.profile().again => Some(1),
            _ => None,
        }
    }

    /// The clock that ran out.
    pub const fn clock(&self) -> Option<Clock> {
        match self {
            Self::ClientLate(clock) | Self::UpstreamLate(clock) => Some(*clock),
            Self::QueueLate => Some(Clock::Queue),
            Self::ExchangeLate => Some(Clock::Exchange),
            _ => None,
        }
    }

    /// What was wrong in particular, for the client's body; never text of the client or the endpoint.
    pub const fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Malformed(what) | Self::Ambiguous(what) | Self::HeadTooLarge(what) => Some(what),
            Self::ClientLate(clock) | Self::UpstreamLate(clock) => Some(clock.as_str()),
            Self::ExchangeLate => Some(Clock::Exchange.as_str()),
            _ => None,
        }
    }
}

const fn row(status: StatusCode, code: &'static str, who: Who, stage: Stage, again: bool) -> Profile {
    Profile { status, code, end: End { who, stage }, again }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::MalformedHead(what) => Self::Malformed(what),
            Refusal::AmbiguousFraming(what) => Self::Ambiguous(what),
            Refusal::HeadTooLarge(what) => Self::HeadTooLarge(what),
            Refusal::UriTooLong => Self::UriTooLong,
            Refusal::UnknownCoding => Self::UnknownCoding,
            Refusal::UnknownProtocol => Self::UnknownProtocol,
            Refusal::UnknownVersion => Self::UnknownVersion,
            Refusal::Late(clock) => Self::ClientLate(clock),
            Refusal::Crowded => Self::TooManyStreams,
        }
    }
}

impl From<&BodyError> for Fault {
    fn from(error: &BodyError) -> Self {
        match error {
            BodyError::Gone(_) => Self::ClientGone,
            BodyError::Malformed(_) => Self::BodyMalformed,
            BodyError::Late(clock) => Self::ClientLate(*clock),
            BodyError::TooLarge(_) => Self::BodyTooLarge,
            BodyError::Untyped => Self::ContentType,
            BodyError::Buffer(_) => Self::BufferFull,
        }
    }
}

impl From<&Failure> for Fault {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Unresolved => Self::Unresolved,
            Failure::Connect(_) => Self::Connect,
            Failure::Tls(_) => Self::UpstreamTls,
            Failure::Late(Clock::Exchange) => Self::ExchangeLate,
            Failure::Late(clock) => Self::UpstreamLate(*clock),
            Failure::Hangs | Failure::Slow => Self::UpstreamLate(Clock::FirstByte),
            Failure::Closed(_) => Self::UpstreamClosed,
            Failure::Malformed(_) => Self::UpstreamMalformed,
            Failure::HeadTooLarge => Self::UpstreamHead,
            Failure::Request(error) => Self::from(error),
        }
    }
}

impl From<NoLease> for Fault {
    fn from(none: NoLease) -> Self {
        match none {
            NoLease::NoneUp | NoLease::NoneUntried => Self::NoEndpoint,
            NoLease::QueueFull => Self::QueueFull,
            NoLease::ClientFull => Self::QueueClientFull,
            NoLease::QueueLate => Self::QueueLate,
        }
    }
}
