//! One rule, ready to be asked.
//!
//! Part of `waf`. Most rules are about other paths or methods than the request at hand: a [`Gate`] says so in a
//! handful of instructions, before any of the real conditions is looked at.

use std::net::IpAddr;

use http::{HeaderName, Method};

use super::{Facts, Glob, Networks};
use crate::config::Mode;
use crate::config::shield::{Action, Rule, When};

/// One rule.
#[derive(Debug)]
pub(super) struct Compiled {
    gate: Gate,
    when: Conditions,
    pub(super) action: Action,
    pub(super) mode: Mode,
}

/// What is cheap to know about a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// The path's first eight bytes.
    path: u64,
    method: u16,
}

/// What is cheap to ask of it.
#[derive(Clone, Copy, Debug)]
struct Gate {
    mask: u64,
    path: u64,
    methods: u16,
}

#[derive(Debug)]
struct Conditions {
    paths: Vec<Path>,
    methods: Vec<Method>,
    hosts: Vec<String>,
    headers: Vec<(HeaderName, Glob)>,
    networks: Option<Networks>,
    countries: Vec<[u8; 2]>,
    agents: u16,
    fingerprints: Vec<Glob>,
}

#[derive(Debug)]
enum Path {
    /// On segment borders.
    Prefix(Box<str>),
    Glob(Glob),
}

impl Key {
    pub(super) fn new(facts: &Facts<'_>) -> Self {
        Self { path: beginning(facts.path.as_bytes()), method: bit(facts.method) }
    }
}

impl Compiled {
    pub(super) fn new(rule: &Rule) -> Self {
        let when = Conditions::new(&rule.when);
        Self { gate: Gate::new(&rule.when, &when), when, action: rule.action.clone(), mode: rule.mode }
    }

    /// Whether the request fits every condition.
    pub(super) fn fits(&self, key: Key, facts: &Facts<'_>, country: impl FnMut(IpAddr) -> Option<[u8; 2]>) -> bool {
        let Gate { mask, path, methods } = self.gate;
        (key.path & mask) == path && key.method & methods != 0 && self.when.fit(facts, country)
    }
}

impl Gate {
    fn new(when: &When, conditions: &Conditions) -> Self {
        let literals = conditions.paths.iter().map(Path::literal);
        let common = literals.reduce(|one, other| {
            let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
            one.get(..same).unwrap_or_default()
        });
        let common = common.unwrap_or_default();
        let common = common.get(..common.len().min(8)).unwrap_or_default();
        let ones = [u8::MAX; 8];
        let mask = beginning(ones.get(..common.len()).unwrap_or_default());
        let methods = match when.methods.as_slice() {
            [] => u16::MAX,
            methods => methods.iter().fold(0, |bits, method| bits | bit(method)),
        };
        Self { mask, path: beginning(common), methods }
    }
}

impl Conditions {
    fn new(when: &When) -> Self {
        let path = |text: &String| match text.contains('*') {
            true => Path::Glob(Glob::path(text)),
            false => Path::Prefix(text.strip_suffix('/').unwrap_or(text).into()),
        };
        Self {
            paths: when.paths.iter().map(path).collect(),
            methods: when.methods.clone(),
            hosts: when.hosts.clone(),
            headers: when.headers.iter().map(|(name, glob)| (name.clone(), Glob::text(glob))).collect(),
            networks: (!when.networks.is_empty()).then(|| Networks::new(when.networks.iter().copied())),
            countries: when.countries.clone(),
            agents: when.agents.iter().fold(0, |bits, class| bits | class.bit()),
            fingerprints: when.fingerprints.iter().map(|glob| Glob::text(glob)).collect(),
        }
    }

    /// The cheap ones first.
    fn fit(&self, facts: &Facts<'_>, mut country: impl FnMut(IpAddr) -> Option<[u8; 2]>) -> bool {
        (self.methods.is_empty() || self.methods.contains(facts.method))
            && (self.agents == 0 || self.agents & facts.agent.bit() != 0)
            && (self.paths.is_empty() || self.paths.iter().any(|path| path.fits(facts.path)))
            && (self.hosts.is_empty() || self.hosts.iter().any(|host| serves(host, facts.host)))
            && self.networks.as_ref().is_none_or(|networks| networks.contains(facts.client))
            && self
                .headers
                .iter()
                .all(|(name, glob)| facts.fields.get_all(name).iter().any(|value| glob.fits(value.as_bytes())))
            && (self.fingerprints.is_empty()
                || facts
                    .fingerprint
                    .is_some_and(|seen| self.fingerprints.iter().any(|glob| glob.fits(seen.as_str().as_bytes()))))
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

    fn literal(&self) -> &[u8] {
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

fn beginning(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (into, byte) in first.iter_mut().zip(bytes) {
        *into = *byte;
    }
    u64::from_le_bytes(first)
}

/// A bit for each method of RFC 9110 §9 and PATCH; one for all others.
fn bit(method: &Method) -> u16 {
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
