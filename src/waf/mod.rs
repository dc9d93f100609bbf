//! Judges a request by what it is, without counting over time.
//!
//! Floor 2, pure. In: the [`Facts`] of a request. Out: an [`Inspection`]: what is to happen, and which rules say so.
//! Called by `pipeline::shield`. Asked in this order: the lists of addresses, the operator's rules, the built-in checks;
//! the first that ends the asking counts. Deliberately absent: rates and bans, which are limits' business; bodies,
//! which in Superset carry SQL that looks like an attack and is none.

pub mod agents;
mod glob;
pub mod networks;
mod rule;

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use crate::config;
use crate::config::shield::{Action, Mode};
use crate::lexicon::{AgentClass, Fingerprint, LimitName, RuleName};

pub use glob::Glob;
pub use networks::Networks;

use rule::{Compiled, Key};

/// What a request is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path in its one spelling.
    pub path: &'a str,
    /// Host in lower case, without port.
    pub host: &'a str,
    /// Fields.
    pub fields: &'a HeaderMap,
    /// The client, identified through trusted proxies.
    pub client: IpAddr,
    /// What its user agent says that it is.
    pub agent: AgentClass,
    /// What its TLS looks like.
    pub fingerprint: Option<&'a Fingerprint>,
}

/// What became of a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Inspection {
    /// What is to happen.
    pub ruling: Ruling,
    /// Which rules say so, and which would.
    pub hits: Vec<Hit>,
    /// Limits that the request counts on.
    pub limits: Vec<LimitName>,
}

/// What is to happen to a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ruling {
    /// It goes on.
    #[default]
    Pass,
    /// It is answered with this status.
    Deny(StatusCode),
    /// It gets no answer.
    Drop,
    /// It is answered 403 after this time.
    Tarpit(Duration),
}

/// A rule that fits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hit {
    /// Its place in [`Shield::rules`].
    pub rule: usize,
    /// Whether it acts.
    pub mode: Mode,
}

/// Built-in checks, which are rules with names of their own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    /// The client's address is in `shield.deny`.
    DenyList,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 1] = [Self::DenyList];

    /// Its name as a rule.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DenyList => "shield.deny_list",
        }
    }
}

/// The shield of one generation.
#[derive(Debug, Default)]
pub struct Shield {
    exempt: Networks,
    lists: Lists,
    rules: Vec<Compiled>,
    names: Vec<(RuleName, &'static str)>,
}

/// What the shield's files say.
#[derive(Debug, Default)]
pub struct Lists {
    /// Addresses let through.
    pub allow: Networks,
    /// Addresses refused.
    pub deny: Networks,
}

impl Shield {
    /// A shield as configured, with what was read from files.
    pub fn new(config: &config::Shield, lists: Lists) -> Self {
        let checks = Check::ALL.iter().map(|check| (RuleName::new(check.as_str()), "deny"));
        let rules = config.rules.iter().map(|rule| (rule.name.clone(), rule.action.as_str()));
        Self {
            exempt: Networks::new(config.exempt.iter().copied()),
            lists,
            rules: config.rules.iter().map(Compiled::new).collect(),
            names: checks.chain(rules).collect(),
        }
    }

    /// All rules by their place, built-in checks first: name, and the word for what it does.
    pub fn rules(&self) -> &[(RuleName, &'static str)] {
        &self.names
    }

    /// Judges a request.
    pub fn inspect(&self, facts: &Facts<'_>) -> Inspection {
        let mut inspection = Inspection::default();
        if self.exempt.contains(facts.client) || self.lists.allow.contains(facts.client) {
            return inspection;
        }
        if self.lists.deny.contains(facts.client) {
            let hit = Hit { rule: Check::DenyList as usize, mode: Mode::Enforce };
            return Inspection { ruling: Ruling::Deny(StatusCode::FORBIDDEN), hits: vec![hit], limits: Vec::new() };
        }
        self.ask_rules(facts, &mut inspection);
        inspection
    }

    /// Whether a rule has ended the asking.
    fn ask_rules(&self, facts: &Facts<'_>, inspection: &mut Inspection) -> bool {
        let key = Key::new(facts);
        for (index, rule) in self.rules.iter().enumerate() {
            if !rule.fits(key, facts, |_| None) {
                continue;
            }
            inspection.hits.push(Hit { rule: Check::ALL.len().saturating_add(index), mode: rule.mode });
            if rule.mode == Mode::Observe {
                continue;
            }
            inspection.ruling = match &rule.action {
                Action::Tag => continue,
                Action::Limit(limit) => {
                    inspection.limits.push(limit.clone());
                    continue;
                }
                Action::Allow => Ruling::Pass,
                Action::Deny(status) => Ruling::Deny(*status),
                Action::Drop => Ruling::Drop,
                Action::Tarpit(delay) => Ruling::Tarpit(*delay),
            };
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests;
