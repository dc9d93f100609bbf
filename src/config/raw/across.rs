//! What only shows when the sections are seen together.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::super::findings::Severity;
use super::super::listener::Listener;
use super::super::pool::Pool;
use super::super::process::{Admin, Clients, Process};
use super::super::quota::{Limit, Login, Store};
use super::super::route::Action;
use super::super::shield::{Rule, Shield};
use super::key::Table;
use super::listener::Draft;
use super::shapes::At;
use super::sheet::{Place, Words, Written};
use super::{ROOT, route};
use crate::lexicon::{ListenerName, PoolName};

/// What is there of the sections; broken ones are missing.
pub(super) struct Parts<'a> {
    pub(super) listeners: &'a [At<Option<Draft>>],
    pub(super) pools: &'a [At<Option<Pool>>],
    pub(super) routes: &'a [At<Option<route::Draft>>],
    pub(super) rules: &'a [At<Option<Rule>>],
    pub(super) shield: Option<&'a Shield>,
    pub(super) process: Option<&'a Process>,
    pub(super) clients: Option<&'a Clients>,
    pub(super) admin: Option<&'a Admin>,
    pub(super) limits: &'a [At<Option<Limit>>],
    pub(super) login: Option<&'a Login>,
}

/// The unbroken ones with their places.
fn good<T>(list: &[At<Option<T>>]) -> impl Iterator<Item = (&T, &Place)> {
    list.iter().filter_map(|at| at.value.as_ref().map(|value| (value, &at.place)))
}

impl Parts<'_> {
    /// Reports everything that is wrong or unwise between sections.
    pub(super) fn check(&self, table: &Table<'_>) {
        let root = &table.written;
        self.same_addresses(root);
        self.same_names(root);
        self.open_plain_listeners(root);
        self.same_routes(root);
        self.stripped_roots(root);
        self.unused_pools(root);
        self.buffers(root);
        self.shared_counts(table);
        self.rules(root);
    }

    /// Counts are shared through a Redis that is named, under keys that replicas agree on.
    fn shared_counts(&self, table: &Table<'_>) {
        let shared = |store: &Store| matches!(store, Store::Redis { .. });
        let of_limits = good(self.limits).filter(|(limit, _)| shared(&limit.store)).map(|(_, place)| place.clone());
        let of_login = self.login.filter(|login| shared(&login.store)).map(|_| table.place(&ROOT.login));
        for place in of_limits.chain(of_login) {
            if !table.has(&ROOT.redis) {
                let words = Words::new("is shared through Redis, and none is named").expected("a section `[redis]`");
                table.written.sheet.report(Severity::Error, &place, words);
            }
            if self.process.is_some_and(|process| process.fleet_secret.is_none()) {
                let words = Words::new("is shared, and proxies without a common secret do not know each other's keys");
                table.written.sheet.report(Severity::Error, &place, words.expected("`process.fleet_secret`"));
            }
        }
    }

    fn rules(&self, root: &Written<'_>) {
        let mut names = HashSet::new();
        let knows_countries = self.shield.is_none_or(|shield| shield.country_database.is_some());
        for (rule, place) in good(self.rules) {
            if !names.insert(&rule.name) {
                let words = Words::new("has the name of another rule").found(format!("{:?}", rule.name.as_str()));
                root.sheet.report(Severity::Error, place, words.expected("a `name` of its own"));
            }
            if !rule.when.countries.is_empty() && !knows_countries {
                let words = Words::new("asks for a country, and no country is known");
                root.sheet.report(Severity::Error, place, words.expected("`shield.country_database`"));
            }
        }
    }

    fn same_addresses(&self, root: &Written<'_>) {
        let mut bound: HashSet<SocketAddr> = self.admin.iter().map(|admin| admin.address).collect();
        for (draft, _) in good(self.listeners) {
            for (address, place) in draft.listener.addresses.iter().zip(&draft.places) {
                if address.port() != 0 && !bound.insert(*address) {
                    let words = Words::new("is bound twice").found(address.to_string());
                    root.sheet.report(Severity::Error, place, words.expected("an address of its own"));
                }
            }
        }
    }

    fn same_names(&self, root: &Written<'_>) {
        let mut names = HashSet::new();
        for (draft, _) in good(self.listeners).filter(|(draft, _)| draft.name.value) {
            let name = draft.listener.name.as_str();
            if !names.insert(name) {
                let words = Words::new("is the name of another listener").found(format!("{name:?}"));
                root.sheet.report(Severity::Error, &draft.name.place, words.expected("a name of its own"));
            }
        }
    }

    /// A plain listener that strangers can reach, with nothing in front of it.
    fn open_plain_listeners(&self, root: &Written<'_>) {
        if self.clients.is_none_or(|clients| !clients.trusted_proxies.is_empty()) {
            return;
        }
        for (Draft { listener, .. }, place) in good(self.listeners) {
            let ended_before = !listener.proxy_protocol.is_empty();
            let plain = listener.tls.is_none() && listener.redirect_to_https.is_none() && !ended_before;
            let public = listener.addresses.iter().any(|address| !address.ip().is_loopback());
            if plain && public {
                let words = Words::new("serves plain HTTP to the network: passwords and sessions are readable there");
                let words = words.expected("`certificate` and `key`, or `redirect_to_https = true`");
                let help = "if a proxy in front ends TLS, name its networks in `clients.trusted_proxies`";
                root.sheet.report(Severity::Warning, place, words.help(help));
            }
        }
    }

    fn same_routes(&self, root: &Written<'_>) {
        let (mut matches, mut names) = (HashSet::new(), HashSet::new());
        for (draft, place) in good(self.routes) {
            let route = &draft.route;
            let name = route.name.as_str();
            let hosts: Vec<&str> = route.hosts.iter().map(String::as_str).collect();
            let hosts = if hosts.is_empty() { vec!["every host"] } else { hosts };
            // `count` rather than `all`: every host is noted.
            let new = hosts.iter().filter(|host| matches.insert((**host, route.path.as_str(), route.exact))).count();
            let words = if new < hosts.len() {
                Words::new("matches what another route matches").expected("another host or path")
            } else if !names.insert(name) {
                let problem = if draft.has_name { "has the name of another route" } else { "needs a name" };
                Words::new(problem).found(format!("{name:?}")).expected("a `name` of its own")
            } else {
                continue;
            };
            root.sheet.report(Severity::Error, place, words);
        }
    }

    fn stripped_roots(&self, root: &Written<'_>) {
        let stripped = |draft: &route::Draft| draft.route.strip_prefix.is_some();
        let kept: HashSet<&PoolName> =
            good(self.routes).filter(|(draft, _)| !stripped(draft)).filter_map(|(draft, _)| pool_of(draft)).collect();
        for (draft, _) in good(self.routes).filter(|(draft, _)| stripped(draft)) {
            let (severity, problem) = if pool_of(draft).is_some_and(|pool| kept.contains(pool)) {
                (Severity::Error, "is removed here, while another route keeps its prefix on the way to the same pool")
            } else {
                (Severity::Warning, "breaks Superset, whose pages name `/static/...` and its own root all the same")
            };
            let help = "keep the prefix and set SUPERSET_APP_ROOT; right for other services only";
            root.sheet.report(severity, &draft.strip, Words::new(problem).help(help));
        }
    }

    fn unused_pools(&self, root: &Written<'_>) {
        // Without routes the only pool is used by the default route, and several are an error of their own. A broken
        // route may be the one that uses the pool.
        if self.routes.is_empty() || self.routes.iter().any(|route| route.value.is_none()) {
            return;
        }
        let used: HashSet<&PoolName> = good(self.routes).filter_map(|(draft, _)| pool_of(draft)).collect();
        for (_, place) in good(self.pools).filter(|(pool, _)| !used.contains(&pool.name)) {
            root.sheet.report(Severity::Warning, place, Words::new("is used by no route"));
        }
    }

    fn buffers(&self, root: &Written<'_>) {
        let Some(process) = self.process else { return };
        for (draft, place) in good(self.routes) {
            let Some(buffer) = &draft.route.request_buffer else {
                continue;
            };
            let place = |key: &str| Place { path: format!("{}.{key}", place.path), span: place.span.clone() };
            let memory = u64::try_from(buffer.memory).unwrap_or(u64::MAX);
            if buffer.max > process.temp_bytes.saturating_add(memory) {
                let words = Words::new("is more than all temporary files may hold (`process.temp_bytes`)");
                root.sheet.report(Severity::Warning, &place("request_buffer.max"), words);
            }
            if memory > process.buffer_memory {
                let words = Words::new("is more than all bodies may hold in memory (`process.buffer_memory`)");
                root.sheet.report(Severity::Warning, &place("request_buffer.memory"), words);
            }
        }
    }
}

/// The pool that a route forwards to.
const fn pool_of(draft: &route::Draft) -> Option<&PoolName> {
    match &draft.route.action {
        Action::Forward(pool) => Some(pool),
        Action::Redirect { .. } | Action::Answer { .. } => None,
    }
}

/// The route of a file that has none: everything to its only pool.
pub(super) fn default_route(table: &Table<'_>) -> Option<Vec<route::Draft>> {
    let pools = &table.written.sheet.pools;
    let [pool] = pools.as_slice() else {
        if pools.len() > 1 {
            let words =
                Words::new("is missing, and there are several pools").expected("a `[[routes]]` for each of them");
            table.error(&ROOT.routes, words);
        }
        return None;
    };
    let draft = route::to_pool(table, pool);
    draft.map(|draft| vec![draft])
}

/// The listeners, with numbers behind names that were taken from equal addresses (port 0).
pub(super) fn distinct_names(drafts: Vec<Draft>) -> Vec<Listener> {
    let mut names = HashSet::new();
    let distinct = |draft: Draft| {
        let mut listener = draft.listener;
        let written = listener.name.clone();
        let mut number = 2;
        while !names.insert(listener.name.clone()) {
            listener.name = ListenerName::new(&format!("{written}#{number}"));
            number += 1;
        }
        listener
    };
    drafts.into_iter().map(distinct).collect()
}
