//! What passes between the servers of a protocol and whoever answers.
//!
//! Floor 2. `serve` turns bytes into a [`Request`] and an [`Answer`] into bytes; `pipeline`, `admin` and the demo's
//! endpoints implement [`Handler`]. The seam has no error type: a handler cannot forget to answer. Deliberately
//! absent: protocols on one side, routing on the other.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::Body;
use crate::config::Listener;
use crate::head::{Fields, HeaderValue, request, response};
use crate::lexicon::{Clock, ConnectionId, Fingerprint, Protocol};

/// A request as it arrived, its framing checked.
#[derive(Debug)]
pub struct Request {
    /// Method, target, version, fields.
    pub head: request::Parts,
    /// Content, pulled from the connection on demand.
    pub body: Body,
    /// The connection it came on.
    pub connection: Arc<Connection>,
    /// Takes interim responses (1xx) for the client.
    pub interim: Interim,
    /// Set when the client asks for a tunnel.
    pub upgrade: Option<Upgrade>,
}

/// How a client asked for a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Upgrade {
    /// `Upgrade: websocket` over HTTP/1.1 (RFC 6455 §4.1).
    Http1,
    /// Extended CONNECT with `:protocol: websocket` (RFC 8441 §4, RFC 9220 §3).
    ExtendedConnect,
}

/// The answer to a request.
pub struct Answer {
    /// Status and fields; connection-level fields are the server's business.
    pub head: response::Parts,
    /// Content.
    pub body: Body,
    /// Set when the connection (or stream) becomes a tunnel after this head.
    pub tunnel: Option<Tunnel>,
    /// Whether the connection should end after this answer.
    pub close: bool,
    /// Whether nothing is sent at all: the connection is cut, the stream reset.
    pub cut: bool,
}

/// Takes over the client's stream once the answer's head is sent.
pub type Tunnel = Box<dyn FnOnce(Box<dyn Duplex>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A byte stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A byte stream whose end can be told from a break.
pub trait Transport: Duplex {
    /// Makes dropping this break the connection off (TCP: RST instead of FIN), where the transport can do so: the only
    /// way to tell that content which lasts until the connection closes is not complete.
    fn break_off(&mut self);

    /// Writes what is to leave together with more: a layer that makes records of it may keep these until it is flushed,
    /// as far as it has room.
    fn poll_gather(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write_vectored(cx, slices)
    }

    /// Streams share it from now on: what is urgent of one must not wait behind much of another.
    fn share(&mut self) {}

    /// Bytes that have left in all, where a write only hands them to a layer that may hold them back.
    fn sent(&self) -> Option<u64> {
        None
    }
}

/// An exchange under way.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers requests. Cheap to clone.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers `request`. Dropping the future means that the client has gone.
    fn handle(&self, request: Request) -> Answering;

    /// Answers what never became a request. The connection (or stream) ends after it.
    fn refuse(&self, refused: Refused) -> Answer;

    /// Hears that the client of a connection has reset a stream before it was answered, and how many were answered
    /// since it last did; whether its address has done so too often.
    fn abandoned(&self, _connection: &Connection, _answered: usize) -> bool {
        false
    }

    /// Hears that the client of a connection misbehaves below the level of requests.
    fn flooded(&self, _connection: &Connection, _sign: Sign) {}
}

/// A sign that a client floods a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Sign {
    /// It abandons most of what it asks for (CVE-2023-44487).
    Resets,
    /// It sends much that is malformed.
    Malformed,
    /// It sends much that is neither request nor content: SETTINGS, PING, empty frames.
    Idle,
}

impl Sign {
    /// The word used in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resets => "rapid_reset",
            Self::Malformed => "malformed",
            Self::Idle => "idle",
        }
    }
}

/// Something that never became a request.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// The connection it came on.
    pub connection: Arc<Connection>,
    /// As much of the head as was understood.
    pub head: Option<request::Parts>,
}

/// Why bytes of a client did not become a request. Each is one row in the table of faults.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// The head breaks the grammar (RFC 9112 §2.2, §3, §5).
    MalformedHead(&'static str),
    /// The framing is ambiguous (RFC 9112 §6.3): refused, never repaired.
    AmbiguousFraming(&'static str),
    /// The head exceeds its bound, in bytes or fields.
    HeadTooLarge(&'static str),
    /// The target exceeds its bound.
    UriTooLong,
    /// A transfer coding other than `chunked` (RFC 9112 §6.1).
    UnknownCoding,
    /// Extended CONNECT with a `:protocol` other than `websocket` (RFC 9220 §3).
    UnknownProtocol,
    /// A version other than 1.0, 1.1, 2 (RFC 9110 §15.6.6).
    UnknownVersion,
    /// The head did not come in time.
    Late(Clock),
    /// The client has as many streams as it may.
    Crowded,
}

/// Facts about a client's connection that do not change in its life.
#[derive(Debug)]
pub struct Connection {
    /// This process's number for it.
    pub id: ConnectionId,
    /// The listener, as configured when the connection was accepted.
    pub listener: Arc<Listener>,
    /// The address that the socket names.
    pub peer: SocketAddr,
    /// Our side of the socket.
    pub local: SocketAddr,
    /// The client as a PROXY protocol header names it.
    pub proxied: Option<SocketAddr>,
    /// What the client speaks.
    pub protocol: Protocol,
    /// TLS, when there is any.
    pub tls: Option<TlsFacts>,
    /// `Alt-Svc` for answers (RFC 7838 §3): where else the listener is to be had.
    pub alternative: Option<HeaderValue>,
}

impl Connection {
    /// The client's address as the transport tells it: PROXY header first, then the socket.
    pub fn client(&self) -> IpAddr {
        self.proxied.unwrap_or(self.peer).ip()
    }

    /// `https` or `http`.
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// What TLS told about a client.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// Server name asked for, lower case.
    pub server_name: Option<Arc<str>>,
    /// What the client's first message looked like.
    pub fingerprint: Option<Fingerprint>,
    /// Whether a ticket was used.
    pub resumed: bool,
    /// Subject of the verified client certificate (RFC 4514), ready for a header.
    pub client_subject: Option<HeaderValue>,
}

/// Takes interim responses for the client, in order; the server sends them before the final one.
#[derive(Clone, Debug, Default)]
pub struct Interim(Arc<Mutex<Vec<(StatusCode, Fields)>>>);

impl Interim {
    /// Queues an interim response. More than [`MAX_INTERIM`] waiting ones are dropped: they are hints.
    pub fn push(&self, status: StatusCode, fields: Fields) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_INTERIM {
            waiting.push((status, fields));
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes what waits.
    pub fn take(&self) -> Vec<(StatusCode, Fields)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Interim responses that may wait for one client at a time.
pub const MAX_INTERIM: usize = 8;

impl Answer {
    /// An answer with `status` and `body`.
    pub fn new(status: StatusCode, body: Body) -> Self {
        let head = response::Parts { status, ..response::Parts::default() };
        Self { head, body, tunnel: None, close: false, cut: false }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("head", &self.head).field("tunnel", &self.tunnel.is_some()).finish()
    }
}
