//! The built-in checks: which there are, how severe they are in which profile, and what they look for.
//!
//! Part of `waf`. Each is a rule with a name of its own. What `standard` enforces is nothing that a user of Superset, a
//! client of its API, its own headless browser or a probe ever sends.

use http::{Method, StatusCode};

use super::{Facts, Lists, Proof, attack, plausible, spelling};
use crate::config::Mode;
use crate::config::route::NO_PAGES;
use crate::config::shield::Profile;
use crate::lexicon::AgentClass;

/// A built-in check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    /// The client's address is in `shield.deny`.
    DenyList,
    /// The path is spelt to deceive.
    Spelling,
    /// The path is one of other software.
    Probe,
    /// The path, the query or a field makes others run code.
    Injection,
    /// The user agent says that it looks for weaknesses.
    Scanner,
    /// The user agent says that it is a robot that nobody asked for.
    Crawler,
    /// Pages are asked for without a user agent.
    Anonymous,
    /// What says that it is a browser is none.
    Pretended,
    /// Much of what the client asks for is not there.
    Misses,
    /// The client asks for page after page and for nothing that belongs to them.
    Pages,
    /// The client resets most of what it asks for.
    RapidReset,
    /// The client floods a connection.
    Flood,
}

impl Check {
    /// Every check, in the order in which they are asked.
    pub const ALL: [Self; 12] = [
        Self::DenyList,
        Self::Spelling,
        Self::Probe,
        Self::Injection,
        Self::Scanner,
        Self::Crawler,
        Self::Anonymous,
        Self::Pretended,
        Self::Misses,
        Self::Pages,
        Self::RapidReset,
        Self::Flood,
    ];

    /// Its name as a rule.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DenyList => "shield.deny_list",
            Self::Spelling => "shield.spelling",
            Self::Probe => "shield.probe",
            Self::Injection => "shield.injection",
            Self::Scanner => "shield.scanner",
            Self::Crawler => "shield.crawler",
            Self::Anonymous => "shield.anonymous",
            Self::Pretended => "shield.pretended",
            Self::Misses => "shield.misses",
            Self::Pages => "shield.pages",
            Self::RapidReset => "shield.rapid_reset",
            Self::Flood => "shield.flood",
        }
    }

    /// The word for what it does.
    pub const fn action(self) -> &'static str {
        match self {
            Self::Misses | Self::Pages | Self::RapidReset | Self::Flood => "offence",
            _ => "deny",
        }
    }

    /// How bad it is that somebody does this, against `bans.points`; 0 where a robot may just not know better.
    pub const fn points(self) -> u32 {
        match self {
            Self::DenyList | Self::Crawler | Self::Anonymous | Self::Pretended => 0,
            Self::Spelling | Self::Probe | Self::Pages => 5,
            Self::Injection | Self::Scanner | Self::Misses | Self::RapidReset | Self::Flood => 10,
        }
    }

    /// Whether it is asked in `profile`, and whether it acts there.
    pub(super) const fn mode(self, profile: Profile) -> Option<Mode> {
        match (self, profile) {
            (Self::DenyList, _) => Some(Mode::Enforce),
            (_, Profile::Off) => None,
            (Self::Crawler | Self::Anonymous | Self::Pretended | Self::Pages, Profile::Standard) => Some(Mode::Observe),
            (_, Profile::Standard | Profile::Strict) => Some(Mode::Enforce),
        }
    }

    /// Whether one request is enough to tell; the others add up, or are asked about elsewhere.
    pub(super) const fn is_about_one(self) -> bool {
        !matches!(self, Self::DenyList | Self::Misses | Self::Pages | Self::RapidReset | Self::Flood)
    }

    /// How a request that it finds is answered.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Spelling => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        }
    }

    /// Whether it finds a request; those that are about more than one find none.
    pub(super) fn finds(self, facts: &Facts<'_>, lists: &Lists) -> bool {
        match self {
            Self::Spelling => spelling::is_deceptive(facts.written.as_bytes()),
            Self::Probe => attack::is_probe(facts.below),
            Self::Injection => {
                attack::is_injected(facts.path)
                    || facts.query.is_some_and(attack::is_injected_query)
                    || attack::is_injected_field(facts.fields)
            }
            Self::Scanner => facts.agent == AgentClass::Scanner,
            Self::Crawler => match facts.agent {
                AgentClass::AiCrawler | AgentClass::Crawler => true,
                AgentClass::SearchEngine => facts.proof != Proof::Proven && !lists.crawlers.contains(facts.client),
                _ => false,
            },
            Self::Anonymous => facts.agent == AgentClass::None && is_page(facts.method, facts.below),
            Self::Pretended => {
                facts.agent == AgentClass::Browser
                    && is_page(facts.method, facts.below)
                    && plausible::is_pretended(facts.fields)
            }
            Self::DenyList | Self::Misses | Self::Pages | Self::RapidReset | Self::Flood => false,
        }
    }
}

/// Whether a person would see the answer: what is neither the API's, nor a part of a page, nor a probe's. `path` begins
/// at the application's root.
pub fn is_page(method: &Method, path: &str) -> bool {
    let after = path.as_bytes().iter().position(|byte| *byte == b'/').map_or(path.len(), |at| at.saturating_add(1));
    let rest = path.as_bytes().get(after..).unwrap_or_default();
    let first = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
    *method == Method::GET && !NO_PAGES.iter().any(|other| other.as_bytes() == first)
}
