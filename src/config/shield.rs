//! `[shield]` and `[[rules]]`: what is asked of a request before it may cost anything.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use ipnet::IpNet;

use crate::lexicon::{AgentClass, LimitName, RuleName};

use super::mode::Mode;
use super::secret::SecretSource;

/// The shield: its built-in checks, its lists, the operator's rules.
#[derive(Clone, Debug)]
pub struct Shield {
    /// Which built-in checks there are, and how severe. Default standard.
    pub profile: Profile,
    /// Whether the built-in checks act, or only say what they would do. Default enforce.
    pub mode: Mode,
    /// Methods let through. Default: those that Superset knows. Beyond: 405 `method`.
    pub methods: Vec<Method>,
    /// Networks that nothing judges, bans included: monitoring, Superset's own headless browser. Default none.
    pub exempt: Vec<IpNet>,
    /// A request that carries this secret in `X-Shield-Token` is not judged. Default none.
    pub token: Option<SecretSource>,
    /// Addresses that are let through before any rule is asked.
    pub allow: Addresses,
    /// Addresses that are refused before any rule is asked; `allow` counts more.
    pub deny: Addresses,
    /// Addresses that search engines publish as theirs; what says that it is one and is not there, is not.
    pub crawlers: Addresses,
    /// Domains that search engines have the names of their crawlers in. Whoever says that it is one and is not in
    /// `crawlers` is asked about by forward-confirmed reverse DNS. Default: those of the large ones. Empty: nobody is.
    pub crawler_domains: Vec<String>,
    /// MaxMind-format database of countries; without it no `country` is known.
    pub country_database: Option<PathBuf>,
    /// Whether clients at private, loopback and shared addresses (RFC 6598) collect points for bans. Default false: there is
    /// probably a load balancer in front that `clients.trusted_proxies` does not name, and a ban would shut out everybody.
    pub ban_private: bool,
    /// Answers 404 beyond one in ten that a client may get, and within which time. Default 40 in a minute.
    pub misses: (NonZeroU32, Duration),
    /// Pages without anything that belongs to them that a client may get, and within which time. Default 60 in ten
    /// minutes.
    pub pages: (NonZeroU32, Duration),
    /// Addresses of which it is known at once whether they are a search engine's. Default 10,000, some 100 bytes each.
    pub max_crawlers: usize,
    /// Clients whose misdeeds are remembered at once. Default 65,536; beyond it the mildest are forgotten.
    pub max_tracked: usize,
    /// Requests held back by `tarpit` at once; beyond it they are denied without delay. Default 256.
    pub max_tarpits: usize,
    /// In the order in which they are asked.
    pub rules: Vec<Rule>,
}

/// How many built-in checks act.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Profile {
    /// None: only the operator's own lists and rules.
    Off,
    /// What no honest client of Superset can trip. The default.
    Standard,
    /// Also what is no person's browser and no client of the API.
    Strict,
}

impl Profile {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Standard => "standard",
            Self::Strict => "strict",
        }
    }
}

/// Networks in the configuration and in files.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// As written.
    pub networks: Vec<IpNet>,
    /// Files with one network a line; `#` begins a comment.
    pub files: Vec<PathBuf>,
}

/// One of `[[rules]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Unique; the record's and metrics' word for it.
    pub name: RuleName,
    /// Which requests it is about: all that fit every condition.
    pub when: When,
    /// What happens to them.
    pub action: Action,
    /// Whether it does happen.
    pub mode: Mode,
}

/// Conditions. An empty one fits everything; of several values one must fit.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// Path prefixes on segment borders, or globs of whole paths: `*` stays within a segment, `**` does not.
    pub paths: Vec<String>,
    /// Methods.
    pub methods: Vec<Method>,
    /// Hosts: exact, or `*.example.com`. Without port, lower case.
    pub hosts: Vec<String>,
    /// Fields, each with a glob that its value must match; all must fit. `*` is any value, but there must be one.
    pub headers: Vec<(HeaderName, String)>,
    /// Networks of the client.
    pub networks: Vec<IpNet>,
    /// ISO 3166-1 alpha-2 codes, upper case.
    pub countries: Vec<[u8; 2]>,
    /// Classes of user agents.
    pub agents: Vec<AgentClass>,
    /// JA4 fingerprints as globs: `t13d*_8daaf6152771_*`.
    pub fingerprints: Vec<String>,
}

/// What a rule does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Lets the request through; nothing else of the shield is asked.
    Allow,
    /// Answers with this status.
    Deny(StatusCode),
    /// Counts the request on a named limit, and goes on.
    Limit(LimitName),
    /// Closes the connection, or resets the stream, without an answer.
    Drop,
    /// Answers 403 after this time.
    Tarpit(Duration),
    /// Names itself in the record, and goes on.
    Tag,
}

impl Action {
    /// The word used in records and metric labels.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(_) => "deny",
            Self::Limit(_) => "limit",
            Self::Drop => "drop",
            Self::Tarpit(_) => "tarpit",
            Self::Tag => "tag",
        }
    }
}
