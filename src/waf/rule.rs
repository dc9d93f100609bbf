//! One rule, ready to be asked.
//!
//! Part of `waf`. Most rules are about other requests than the one at hand: [`super::index`] leaves those out at a glance.

use std::net::IpAddr;

use http::{HeaderName, Method};

use super::{Facts, Glob, Networks};
use crate::config::Mode;
use crate::config::shield::{Action, Rule};

/// One rule.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) paths: Vec<Path>,
    /// By [`bit`]; all of them when it names none.
    pub(super) methods: u16,
    named_methods: Vec<Method>,
    pub(super) hosts: Vec<String>,
    pub(super) headers: Vec<(HeaderName, Glob)>,
    pub(super) networks: Option<Networks>,
    countries: Vec<[u8; 2]>,
    /// By [`crate::lexicon::AgentClass::bit`]; none of them when it names none.
    pub(super) agents: u16,
    pub(super) fingerprints: Vec<Glob>,
    pub(super) action: Action,
    pub(super) mode: Mode,
}

/// What a path must be.
#[derive(Debug)]
pub(super) enum Path {
    /// On segment borders.
    Prefix(Box<str>),
    Glob(Glob),
}

impl Compiled {
    pub(super) fn new(rule: &Rule) -> Self {
        let when = &rule.when;
        let path = |text: &String| match text.contains('*') {
            true => Path::Glob(Glob::path(text)),
            false => Path::Prefix(text.strip_suffix('/').unwrap_or(text).into()),
        };
        let methods = match when.methods.as_slice() {
            [] => u16::MAX,
            methods => methods.iter().fold(0, |bits, method| bits | bit(method)),
        };
        Self {
            paths: when.paths.iter().map(path).collect(),
            methods,
            named_methods: when.methods.clone(),
            hosts: when.hosts.clone(),
            headers: when.headers.iter().map(|(name, glob)| (name.clone(), Glob::text(glob))).collect(),
            networks: (!when.networks.is_empty()).then(|| Networks::new(when.networks.iter().copied())),
            countries: when.countries.clone(),
            agents: when.agents.iter().fold(0, |bits, class| bits | class.bit()),
            fingerprints: when.fingerprints.iter().map(|glob| Glob::text(glob)).collect(),
            action: rule.action.clone(),
            mode: rule.mode,
        }
    }

    /// Whether the request fits every condition. The cheap ones first.
    pub(super) fn fits(&self, facts: &Facts<'_>, mut country: impl FnMut(IpAddr) -> Option<[u8; 2]>) -> bool {
        (self.named_methods.is_empty() || self.named_methods.contains(facts.method))
            && (self.agents == 0 || self.agents & facts.agent.bit() != 0)
            && (self.paths.is_empty() || self.paths.iter().any(|path| path.fits(facts.path)))
            && (self.hosts.is_empty() || self.hosts.iter().any(|host| serves(host, facts.host)))
            && self.networks.as_ref().is_none_or(|networks| networks.contains(facts.client))
            && self
                .headers
                .iter()
                .all(|(name, glob)| facts.fields.get_all(name).any(|value| glob.fits(value.as_bytes())))
            && (self.fingerprints.is_empty()
                || facts
                    .fingerprint
                    .is_some_and(|seen| self.fingerprints.iter().any(|glob| glob.fits(seen.as_bytes()))))
            && (self.countries.is_empty() || country(facts.client).is_some_and(|code| self.countries.contains(&code)))
    }
}

impl Path {
    fn fits(&self, path: &str) -> bool {
        match self {
            Self::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Glob(glob) => glob.fits(path.as_bytes()),
        }
    }

    /// What every path that fits begins with.
    pub(super) fn literal(&self) -> &[u8] {
        match self {
            Self::Prefix(prefix) => prefix.as_bytes(),
            Self::Glob(glob) => glob.literal(),
        }
    }
}

/// Whether a pattern of the configuration, exact or `*.example.com`, stands for `host`.
fn serves(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// A bit for each method of RFC 9110 §9 and PATCH; one for all others.
pub(super) fn bit(method: &Method) -> u16 {
    match *method {
        Method::GET => 1,
        Method::HEAD => 1 << 1,
        Method::POST => 1 << 2,
        Method::PUT => 1 << 3,
        Method::PATCH => 1 << 4,
        Method::DELETE => 1 << 5,
        Method::OPTIONS => 1 << 6,
        Method::CONNECT => 1 << 7,
        Method::TRACE => 1 << 8,
        _ => 1 << 9,
    }
}
