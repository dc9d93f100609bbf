//! What only shows when the sections are seen together.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::super::findings::Severity;
use super::super::listener::Listener;
use super::super::pool::Pool;
use super::super::process::{Admin, Clients, Process};
use super::super::route::Action;
use super::key::Table;
use super::shapes::At;
use super::sheet::{Place, Words, Written};
use super::{ROOT, listener, route};
use crate::lexicon::{ListenerName, PoolName};

/// What is there of the sections; broken ones are missing.
pub(super) struct Parts<'a> {
    pub(super) listeners: &'a [At<listener::Draft>],
    pub(super) pools: &'a [At<Pool>],
    pub(super) routes: &'a [At<route::Draft>],
    pub(super) process: Option<&'a Process>,
    pub(super) clients: Option<&'a Clients>,
    pub(super) admin: Option<&'a Admin>,
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
    }

    fn same_addresses(&self, root: &Written<'_>) {
        let mut bound: HashSet<SocketAddr> = self.admin.iter().map(|admin| admin.address).collect();
        for draft in self.listeners {
            for (address, place) in draft.value.listener.addresses.iter().zip(&draft.value.places) {
                if !bound.insert(*address) && address.port() != 0 {
                    let words = Words::new("is bound twice").found(address.to_string());
                    root.sheet
                        .report(Severity::Error, place, words.expected("an address of its own"));
                }
            }
        }
    }

    fn same_names(&self, root: &Written<'_>) {
        let mut names = HashSet::new();
        for draft in self.listeners.iter().filter(|draft| draft.value.name.value) {
            let name = draft.value.listener.name.as_str();
            if !names.insert(name) {
                let words = Words::new("is the name of another listener").found(format!("{name:?}"));
                root.sheet.report(
                    Severity::Error,
                    &draft.value.name.place,
                    words.expected("a name of its own"),
                );
            }
        }
    }

    /// A plain listener that strangers can reach, with nothing in front of it.
    fn open_plain_listeners(&self, root: &Written<'_>) {
        if self.clients.is_none_or(|clients| !clients.trusted_proxies.is_empty()) {
            return;
        }
        for draft in self.listeners {
            let listener = &draft.value.listener;
            let ended_before = !listener.proxy_protocol.is_empty();
            let plain = listener.tls.is_none() && listener.redirect_to_https.is_none() && !ended_before;
            let public = listener.addresses.iter().any(|address| !address.ip().is_loopback());
            if plain && public {
                let words = Words::new("serves plain HTTP to the network: passwords and sessions are readable there");
                let words = words.expected("`certificate` and `key`, or `redirect_to_https = true`");
                let help = "if a proxy in front ends TLS, name its networks in `clients.trusted_proxies`";
                root.sheet.report(Severity::Warning, &draft.place, words.help(help));
            }
        }
    }

    fn same_routes(&self, root: &Written<'_>) {
        let (mut matches, mut names) = (HashSet::new(), HashSet::new());
        for draft in self.routes {
            let route = &draft.value.route;
            let name = route.name.as_str();
            let any = [String::new()];
            let hosts = if route.hosts.is_empty() { &any[..] } else { &route.hosts };
            let new = hosts
                .iter()
                .filter(|host| matches.insert(((*host).clone(), &route.path, route.exact)))
                .count();
            let words = if new < hosts.len() {
                Words::new("matches what another route matches").expected("another host or path")
            } else if !names.insert(name) {
                let problem = if draft.value.has_name {
                    "has the name of another route"
                } else {
                    "needs a name"
                };
                Words::new(problem)
                    .found(format!("{name:?}"))
                    .expected("a `name` of its own")
            } else {
                continue;
            };
            root.sheet.report(Severity::Error, &draft.place, words);
        }
    }

    fn stripped_roots(&self, root: &Written<'_>) {
        let pool_of = |draft: &At<route::Draft>| match &draft.value.route.action {
            Action::Forward(pool) => Some(pool.clone()),
            Action::Redirect { .. } | Action::Answer { .. } => None,
        };
        let stripped = |draft: &At<route::Draft>| draft.value.route.strip_prefix.is_some();
        let kept: HashSet<PoolName> = self
            .routes
            .iter()
            .filter(|draft| !stripped(draft))
            .filter_map(pool_of)
            .collect();
        for draft in self.routes.iter().filter(|draft| stripped(draft)) {
            let both = pool_of(draft).is_some_and(|pool| kept.contains(&pool));
            let (severity, problem) = if both {
                (
                    Severity::Error,
                    "is removed here, while another route keeps its prefix on the way to the same pool",
                )
            } else {
                (
                    Severity::Warning,
                    "breaks Superset: its pages name `/static/...` and its own root, whatever is removed",
                )
            };
            let help = "keep the prefix and set Superset's SUPERSET_APP_ROOT; right for other services only";
            root.sheet
                .report(severity, &draft.value.strip, Words::new(problem).help(help));
        }
    }

    fn unused_pools(&self, root: &Written<'_>) {
        let used = |pool: &At<Pool>| {
            self.routes
                .iter()
                .any(|draft| matches!(&draft.value.route.action, Action::Forward(name) if *name == pool.value.name))
        };
        // Without routes the only pool is used by the default route, and several are an error of their own.
        for pool in self.pools.iter().filter(|pool| !self.routes.is_empty() && !used(pool)) {
            root.sheet
                .report(Severity::Warning, &pool.place, Words::new("is used by no route"));
        }
    }

    fn buffers(&self, root: &Written<'_>) {
        let Some(process) = self.process else { return };
        for draft in self.routes {
            let Some(buffer) = &draft.value.route.request_buffer else {
                continue;
            };
            let place = |key: &str| Place {
                path: format!("{}.{key}", draft.place.path),
                span: draft.place.span.clone(),
            };
            if buffer.max > process.temp_bytes.saturating_add(buffer.memory as u64) {
                let words = Words::new("is more than all temporary files may hold (`process.temp_bytes`)");
                root.sheet
                    .report(Severity::Warning, &place("request_buffer.max"), words);
            }
            if buffer.memory as u64 > process.buffer_memory {
                let words = Words::new("is more than all bodies may hold in memory (`process.buffer_memory`)");
                root.sheet
                    .report(Severity::Warning, &place("request_buffer.memory"), words);
            }
        }
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
pub(super) fn distinct_names(drafts: Vec<At<listener::Draft>>) -> Vec<Listener> {
    let mut names = HashSet::new();
    let distinct = |draft: At<listener::Draft>| {
        let mut listener = draft.value.listener;
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
