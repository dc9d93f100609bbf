//! The shield as `/status` shows it.

use serde::Serialize;

use crate::lexicon::RuleName;

/// What judges requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Shield {
    /// `off`, `standard`, `strict`.
    pub profile: &'static str,
    /// `enforced`, or `observed`: whether the built-in checks act.
    pub mode: &'static str,
    /// Built-in checks, then the operator's rules in their order.
    pub rules: Vec<Rule>,
    /// What is remembered of clients from one request to the next.
    pub tables: Vec<Table>,
    /// Requests that are held back.
    pub tarpits: u64,
    /// As many as may be.
    pub max_tarpits: u64,
    /// Bans that last.
    pub bans: u64,
    /// As many as are kept.
    pub max_bans: u64,
    /// Addresses of clients that call themselves a search engine.
    pub crawlers_known: u64,
    /// Those whose names prove it.
    pub crawlers_proven: u64,
}

/// A rule of the shield, and what it has found since the process began.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// Its name.
    #[serde(serialize_with = "super::word")]
    pub rule: RuleName,
    /// What it does.
    pub action: &'static str,
    /// `enforced`, `observed`, or `off`.
    pub mode: &'static str,
    /// Requests on which it acted.
    pub enforced: u64,
    /// Requests on which it would have.
    pub observed: u64,
}

/// A table of fixed size.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What it counts.
    pub name: &'static str,
    /// Clients with a count.
    pub keys: u64,
    /// Clients whose count somebody new took over.
    pub pushed_out: u64,
    /// Bytes that it takes.
    pub bytes: u64,
}
