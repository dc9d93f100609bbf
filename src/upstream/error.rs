//! What can go wrong with an endpoint, sorted by what the caller can do about it.

use std::io;

use crate::body::BodyError;
use crate::h1::MalformedResponse;
use crate::lexicon::Clock;

/// Why an attempt on an endpoint did not yield a response.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The endpoint's name has no address yet.
    #[error("no address for the endpoint's name")]
    Unresolved,
    /// No connection.
    #[error("connect")]
    Connect(#[source] io::Error),
    /// No TLS session.
    #[error("TLS handshake with the endpoint")]
    Tls(#[source] io::Error),
    /// A clock ran out: connect, upstream write, first byte, exchange.
    #[error("{0} clock ran out")]
    Late(Clock),
    /// The endpoint has been down by its checks, which it accepts and does not answer, for too long to be waited for.
    #[error("the endpoint hangs")]
    Hangs,
    /// The endpoint has taken longer for its response head than an attempt may that can be repeated elsewhere.
    #[error("the endpoint is slow")]
    Slow,
    /// The connection ended before the response head was whole.
    #[error("closed before the end of the response head")]
    Closed(#[source] Option<io::Error>),
    /// The bytes are no response.
    #[error(transparent)]
    Malformed(#[from] MalformedResponse),
    /// The response head exceeds its bound.
    #[error("response head too large")]
    HeadTooLarge,
    /// The client's body broke off; not the endpoint's doing.
    #[error("request body")]
    Request(#[source] BodyError),
}

/// How much of a request has left when an attempt failed; decides what may be repeated (RFC 9110 §9.2.2).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Sent {
    /// Not a byte: any request may be tried elsewhere.
    Nothing,
    /// Something, on a connection that was used before and may have been closed in that very moment.
    OnReused,
    /// Something, on a fresh connection.
    OnFresh,
}

impl Failure {
    /// The clock that ran out.
    pub const fn clock(&self) -> Option<Clock> {
        match self {
            Self::Late(clock) => Some(*clock),
            Self::Slow => Some(Clock::FirstByte),
            _ => None,
        }
    }

    /// The reason code in records and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "upstream_tls",
            Self::Late(clock) => clock.as_str(),
            Self::Hangs => "upstream_hangs",
            Self::Slow => "per_try",
            Self::Closed(_) => "upstream_closed",
            Self::Malformed(_) => "upstream_malformed",
            Self::HeadTooLarge => "upstream_head",
            Self::Request(_) => "request_body",
        }
    }
}
