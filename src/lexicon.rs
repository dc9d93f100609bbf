//! The words of the domain as types.
//!
//! Floor 0. Names and small facts that every floor above shares: who a listener, pool, endpoint or zone is, which
//! protocol a client speaks, which clock ran out. Deliberately absent: behaviour.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares a cheaply cloned name.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name that the configuration has checked.
            pub fn new(name: &str) -> Self {
                Self(Arc::from(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A listener's name, unique in a configuration; a metric label.
    ListenerName
}
name! {
    /// A pool's name, unique in a configuration; a metric label.
    PoolName
}
name! {
    /// An endpoint's name within its pool: its address as written. A metric label.
    EndpointName
}
name! {
    /// A route's name: given, or derived from host and path. Never client text.
    RouteName
}
name! {
    /// A failure domain.
    ZoneName
}
name! {
    /// A rule's name, unique in a configuration; `shield.` and a word for the built-in checks. A metric label.
    RuleName
}
name! {
    /// A limit's name, as `[limits.NAME]` has it; a metric label.
    LimitName
}

name! {
    /// A log sink's name, unique in a configuration; a metric label.
    SinkName
}

/// The fields of a record, as the JSON format names them and in its order.
#[rustfmt::skip] // a table
pub const RECORD_FIELDS: &[&str] = &[
    "v", "id", "time", "kind", "request_id", "traceparent", "client", "client_port", "connection",
    "listener", "protocol", "tls", "ja4", "method", "host", "path", "status", "bytes_in",
    "bytes_out", "receive_ms", "queue_ms", "connect_ms", "first_byte_ms", "total_ms", "route",
    "pool", "endpoint", "attempts", "end", "fault",
    "clock", "limits", "verdicts", "user_agent", "referer",
    "messages_in", "messages_out",
];

/// What checks say about an endpoint.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Standing {
    /// Not yet checked.
    #[default]
    Unknown,
    /// Answers well.
    Up,
    /// Answers, but late or without its database; usable.
    Late,
    /// Does not answer.
    Down,
}

impl Standing {
    /// The word used in status, events and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Late => "late",
            Self::Down => "down",
        }
    }
}

/// Why one endpoint was picked and not another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice {
    /// It was its turn.
    Turn,
    /// It carried least for its weight.
    Least,
    /// It was the first with a free slot: others took theirs in that moment.
    Free,
    /// It is ejected, and was tried out.
    Trial,
    /// So few are up that health is not heeded.
    Panic,
    /// It is of another priority group or zone than the preferred one, which is full or has less than all of the share.
    Spill,
    /// It is ejected or a backup, and nobody better was left.
    Resort,
    /// It is the one that was asked before.
    Same,
}

impl Choice {
    /// The word used in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "round_robin",
            Self::Least => "least_connection",
            Self::Free => "first_free",
            Self::Trial => "trial",
            Self::Panic => "panic",
            Self::Spill => "spill",
            Self::Resort => "last_resort",
            Self::Same => "same",
        }
    }
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2, over TLS or by prior knowledge.
    Http2,
    /// HTTP/3, over QUIC.
    Http3,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Http3];

    /// The word used in records and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
        }
    }
}

/// What a user agent says that it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AgentClass {
    /// It says nothing.
    None,
    /// None of the others: a person's browser, as far as it tells.
    Browser,
    /// A library or a command: curl, python-requests.
    Tool,
    /// A browser that a program drives, such as the one of Superset's reports.
    Automation,
    /// Checks whether a service is up.
    Monitoring,
    /// Indexes for a search engine.
    SearchEngine,
    /// Collects for a language model.
    AiCrawler,
    /// Any other robot: previews, feeds, archives, advertising, SEO.
    Crawler,
    /// Looks for weaknesses.
    Scanner,
}

impl AgentClass {
    /// Every class.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Browser,
        Self::Tool,
        Self::Automation,
        Self::Monitoring,
        Self::SearchEngine,
        Self::AiCrawler,
        Self::Crawler,
        Self::Scanner,
    ];

    /// The word used in the configuration and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Browser => "browser",
            Self::Tool => "tool",
            Self::Automation => "automation",
            Self::Monitoring => "monitoring",
            Self::SearchEngine => "search_engine",
            Self::AiCrawler => "ai_crawler",
            Self::Crawler => "crawler",
            Self::Scanner => "scanner",
        }
    }

    /// A bit of its own, for sets.
    pub const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// What a client's first TLS message looks like, in the form of JA4: `t13d1516h2_8daaf6152771_02713d6af862`.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Fingerprint([u8; 36]);

impl Fingerprint {
    /// Wraps the 36 characters of a JA4; `None` when they are not ASCII.
    pub fn new(text: [u8; 36]) -> Option<Self> {
        text.is_ascii().then_some(Self(text))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // It is ASCII, so this always succeeds.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its characters.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which clock ended an exchange or a connection; named in the fault's body, the record and the metric.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Clock {
    /// The client's request head did not complete.
    HeadRead,
    /// The client's request body stalled, or came below the minimum rate.
    BodyRead,
    /// The client took nothing of the response.
    ClientWrite,
    /// The client took less of the response than the minimum rate.
    SlowRead,
    /// The TLS handshake did not complete.
    Handshake,
    /// No connection between two requests was used.
    KeepAlive,
    /// No endpoint had a free slot.
    Queue,
    /// The endpoint did not accept the connection.
    Connect,
    /// The endpoint did not take the request body.
    UpstreamWrite,
    /// The endpoint did not send a response head.
    FirstByte,
    /// The endpoint paused for too long in the middle of its response.
    BetweenBytes,
    /// The whole exchange took too long.
    Exchange,
    /// A tunnel carried nothing.
    TunnelIdle,
}

impl Clock {
    /// The word used in fault bodies, records and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HeadRead => "head_read",
            Self::BodyRead => "body_read",
            Self::ClientWrite => "client_write",
            Self::SlowRead => "slow_read",
            Self::Handshake => "handshake",
            Self::KeepAlive => "keep_alive",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::UpstreamWrite => "upstream_write",
            Self::FirstByte => "first_byte",
            Self::BetweenBytes => "between_bytes",
            Self::Exchange => "exchange",
            Self::TunnelIdle => "tunnel_idle",
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counts generations of the configuration, from 1.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a client connection within this process, for events and records.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The next unused id.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// As a number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
