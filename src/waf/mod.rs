//! Judges a request by what it is, without counting over time.
//!
//! Floor 2, pure. In: the [`Facts`] of a request. Out: an [`Inspection`]: what is to happen, and which rules say so.
//! Called by `pipeline::shield`. Asked in this order: the lists of addresses, the operator's rules, the built-in checks;
//! the first that ends the asking counts. Deliberately absent: rates and bans, which are limits' business; bodies,
//! which in Superset carry SQL that looks like an attack and is none.

pub mod agents;
pub mod attack;
mod check;
pub mod country;
mod glob;
pub mod hello;
mod index;
pub mod networks;
mod plausible;
pub mod proofs;
mod rule;
pub mod spelling;

use std::net::IpAddr;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::config;
use crate::config::Mode;
use crate::config::shield::Action;
use crate::head::Fields;
use crate::lexicon::{AgentClass, Fingerprint, LimitName, RuleName};

pub use check::{Check, is_page};
pub use country::Countries;
pub use glob::Glob;
pub use networks::Networks;
pub use proofs::{Proof, Proofs};

use index::Index;
use rule::Compiled;

/// What a request is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path in its one spelling.
    pub path: &'a str,
    /// The same as the application knows it, below its root: what the built-in checks ask about.
    pub below: &'a str,
    /// Path as the client wrote it.
    pub written: &'a str,
    /// Query.
    pub query: Option<&'a str>,
    /// Host in lower case, without port.
    pub host: &'a str,
    /// Fields.
    pub fields: &'a Fields,
    /// The client, identified through trusted proxies.
    pub client: IpAddr,
    /// What its user agent says that it is.
    pub agent: AgentClass,
    /// Whether it is the search engine that it says it is; asked where [`Shield::wants_proof`].
    pub proof: Proof,
    /// What its TLS looks like.
    pub fingerprint: Option<&'a Fingerprint>,
    /// Whether the built-in checks are asked: Superset's routes, not others'.
    pub checked: bool,
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
    /// Whether what the client does counts for nothing: it is exempt, or a rule lets it through.
    pub exempt: bool,
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

/// The shield of one generation.
#[derive(Debug, Default)]
pub struct Shield {
    exempt: Networks,
    lists: Lists,
    rules: Vec<Compiled>,
    index: Index,
    /// By place in [`Check::ALL`].
    modes: [Option<Mode>; Check::ALL.len()],
    /// Those of them that each request is asked about.
    asked: Vec<(Check, Mode)>,
    names: Vec<(RuleName, &'static str)>,
}

/// What the shield's files say.
#[derive(Debug, Default)]
pub struct Lists {
    /// Addresses let through.
    pub allow: Networks,
    /// Addresses refused.
    pub deny: Networks,
    /// Addresses of search engines.
    pub crawlers: Networks,
    /// Countries of addresses.
    pub countries: Option<Countries>,
}

impl Shield {
    /// A shield as configured, with what was read from files.
    pub fn new(config: &config::Shield, lists: Lists) -> Self {
        let checks = Check::ALL.iter().map(|check| (RuleName::new(check.as_str()), check.action()));
        let named = config.rules.iter().map(|rule| (rule.name.clone(), rule.action.as_str()));
        let rules: Vec<Compiled> = config.rules.iter().map(Compiled::new).collect();
        let modes = Check::ALL.map(|check| match (check.mode(config.profile), config.mode) {
            (Some(_), Mode::Observe) if check != Check::DenyList => Some(Mode::Observe),
            (mode, _) => mode,
        });
        let asked = Check::ALL.iter().zip(modes).filter(|(check, _)| check.is_about_one());
        Self {
            exempt: Networks::new(config.exempt.iter().copied()),
            lists,
            modes,
            asked: asked.filter_map(|(check, mode)| Some((*check, mode?))).collect(),
            index: Index::new(&rules),
            rules,
            names: checks.chain(named).collect(),
        }
    }

    /// All rules by their place, built-in checks first: name, and the word for what it does.
    pub fn rules(&self) -> &[(RuleName, &'static str)] {
        &self.names
    }

    /// Whether nothing judges the client at this address.
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        self.exempt.contains(client) || self.lists.allow.contains(client)
    }

    /// Judges a request.
    pub fn inspect(&self, facts: &Facts<'_>) -> Inspection {
        let mut inspection = Inspection::default();
        if self.is_exempt(facts.client) {
            inspection.exempt = true;
            return inspection;
        }
        if self.lists.deny.contains(facts.client) {
            inspection.hits.push(Hit { rule: Check::DenyList as usize, mode: Mode::Enforce });
            inspection.ruling = Ruling::Deny(Check::DenyList.status());
            return inspection;
        }
        if !self.ask_rules(facts, &mut inspection) && facts.checked {
            self.ask_checks(facts, &mut inspection);
        }
        inspection
    }

    /// Whether a check about more than one request is asked, and acts.
    pub fn mode(&self, check: Check) -> Option<Mode> {
        self.modes.get(check as usize).copied().flatten()
    }

    /// Whether the rule at `place` acts; `None` when it is not asked.
    pub fn mode_of(&self, place: usize) -> Option<Mode> {
        match place.checked_sub(Check::ALL.len()) {
            None => self.modes.get(place).copied().flatten(),
            Some(own) => self.rules.get(own).map(|rule| rule.mode),
        }
    }

    /// Whether it matters that a client at this address, with such a user agent, proves to be a search engine.
    pub fn wants_proof(&self, agent: AgentClass, client: IpAddr) -> bool {
        agent == AgentClass::SearchEngine
            && self.mode(Check::Crawler).is_some()
            && !self.lists.crawlers.contains(client)
            && !self.is_exempt(client)
    }

    fn ask_checks(&self, facts: &Facts<'_>, inspection: &mut Inspection) {
        for (check, mode) in self.asked.iter().filter(|(check, _)| check.finds(facts, &self.lists)) {
            // Whoever is still being asked about has the benefit of the doubt.
            let doubted = *check == Check::Crawler && facts.proof == Proof::Pending;
            let mode = if doubted { Mode::Observe } else { *mode };
            inspection.hits.push(Hit { rule: *check as usize, mode });
            if mode == Mode::Enforce {
                inspection.ruling = Ruling::Deny(check.status());
                return;
            }
        }
    }

    /// Whether a rule has ended the asking.
    fn ask_rules(&self, facts: &Facts<'_>, inspection: &mut Inspection) -> bool {
        for index in self.index.candidates(facts) {
            let country = |client| self.lists.countries.as_ref()?.of(client);
            let Some(rule) = self.rules.get(index).filter(|rule| rule.fits(facts, country)) else { continue };
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
                Action::Allow => {
                    inspection.exempt = true;
                    Ruling::Pass
                }
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
