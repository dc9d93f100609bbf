//! `[limits.NAME]`, `[login]`, `[bans]`: what clients may have over time, and who is shut out.

use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use crate::lexicon::LimitName;

use super::mode::Mode;

/// One of `[limits.NAME]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limit {
    /// Its name; the record's, the metrics' and the client's word for it.
    pub name: LimitName,
    /// Requests that agree in all of these are counted together. Default: the client's address.
    pub by: Vec<By>,
    /// How many over time. A limit has this, `concurrency`, or both.
    pub rate: Option<Allowance>,
    /// How many at once, from a request's head to the last byte of its response or the end of its tunnel.
    pub concurrency: Option<NonZeroU32>,
    /// Keys known at once, 32 bytes each. Default 100,000; beyond it the mildest share, nobody gets more.
    pub max_keys: usize,
    /// Leading bits of addresses that count as one network, of IPv4 and of IPv6. Default 24 and 48.
    pub network: (u8, u8),
    /// Whether it acts. Default enforce.
    pub mode: Mode,
    /// Whether it holds for every route that does not name its limits. Default false.
    pub default: bool,
    /// Whether every answer tells what is left, not only a refusal. Default false.
    pub announce: bool,
    /// Where its states are. Default here alone.
    pub store: Store,
}

/// What requests are counted by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum By {
    /// The client's address; of IPv6 the prefix of `clients.ipv6_prefix`.
    Address,
    /// The client's network.
    Network,
    /// A field's value; requests without it by their address.
    Header(HeaderName),
    /// A cookie's value; requests without it by their address.
    Cookie(String),
    /// The user name of a login; other requests are not counted.
    User,
    /// The route.
    Route,
}

/// So many per time, of which some at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Allowance {
    /// How many.
    pub count: NonZeroU32,
    /// In what time.
    pub period: Duration,
    /// How many may come at once. Default: `count`.
    pub burst: NonZeroU32,
}

/// Where the states of a limit are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Store {
    /// In this process.
    Local,
    /// In this process and in Redis, for all proxies of the fleet.
    Redis {
        /// Who decides.
        decides: Decides,
        /// What happens while Redis is away.
        when_away: WhenAway,
    },
}

/// Who decides on a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decides {
    /// This process at once; what others let pass is learnt in the background. The default.
    Process,
    /// Redis, within this time; after it what happens while Redis is away.
    Redis(Duration),
}

/// What happens while Redis is away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhenAway {
    /// Each process keeps the limit by itself. The default.
    Local,
    /// Everything passes.
    Allow,
    /// Nothing passes: 429.
    Deny,
}

/// `[login]`: guessing passwords. Failures count, not logins: many colleagues behind one address do not hurt each
/// other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    /// Paths of the form. Default `/login`, below the application root too.
    pub form: Vec<String>,
    /// Paths of the API. Default `/api/v1/security/login`.
    pub api: Vec<String>,
    /// Failures of one address. Default 10 a minute, 20 at once.
    pub per_address: Allowance,
    /// Failures on one user name. Default 5 a minute, 10 at once.
    pub per_user: Allowance,
    /// Addresses and user names known at once, each. Default 50,000.
    pub max_keys: usize,
    /// Whether it acts. Default enforce.
    pub mode: Mode,
    /// Where its states are. Default here alone.
    pub store: Store,
}

/// `[bans]`: how bans come about, grow and end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bans {
    /// Bans, and clients with points, remembered at once. Default 10,000; beyond it the ban that would end first goes.
    /// Needs a restart.
    pub max: usize,
    /// Points that a client may collect within `within`; one more is a ban. Default 20.
    pub points: NonZeroU32,
    /// The time in which that many points are forgiven. Default 10 min.
    pub within: Duration,
    /// Length of a first ban. Default 5 min.
    pub first: Duration,
    /// By how much each further one is longer. Default 4.
    pub growth: u32,
    /// Longest ban. Default 24 h.
    pub longest: Duration,
    /// How long after its end a ban still makes the next one longer. Default 24 h.
    pub remembered: Duration,
    /// Networks that are never banned. Default none.
    pub never: Vec<IpNet>,
}
