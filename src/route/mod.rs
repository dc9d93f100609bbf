//! Finds the route of a request.
//!
//! Floor 2, pure. In: routes with whatever belongs to them, then a host and a path. Out: what belongs to the most
//! specific route. Called by `pipeline::steer`. A lookup is one hash of the host per label at most and one hash per
//! path segment that routes know, so its cost does not grow with the number of routes. It allocates only for paths that
//! no browser writes. Deliberately absent: methods, fields and regular expressions as conditions.
//!
//! # Specificity
//! An exact host comes before a wildcard, a longer wildcard before a shorter, any host last. Within a host an exact
//! path comes before a prefix, a longer prefix before a shorter. Where a host's routes have nothing for the path, the
//! next less specific host is asked. So a route for one host and `/` hides routes for any host below it.
//!
//! # Paths
//! Matching is done on [`canonical`](fn@canonical) paths. What is forwarded is the path as it came.

mod canonical;
mod hash;

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Route;

pub use canonical::canonical;

/// Routes, ready for lookups.
#[derive(Debug)]
pub struct Table<T> {
    payloads: Vec<T>,
    hosts: ByName<Tree>,
    /// By what follows `*.`.
    wildcards: ByName<Tree>,
    any: Tree,
}

/// The routes of one host by path segment. Node 0 is the root.
#[derive(Debug)]
struct Tree(Vec<Node>);

#[derive(Debug, Default)]
struct Node {
    /// Route for this very path.
    exact: Option<usize>,
    /// Route for this path and all below.
    prefix: Option<usize>,
    children: ByName<usize>,
}

/// Something for each of the configuration's hosts or segments.
type ByName<T> = HashMap<Box<str>, T, hash::Build>;

/// Longest host that is looked up among names; DNS allows 253 bytes.
const MAX_HOST: usize = 255;

impl<T> Table<T> {
    /// A table of `routes`. Of two with the same host and path, the first counts; the configuration refuses such pairs.
    pub fn new(routes: impl IntoIterator<Item = (Arc<Route>, T)>) -> Self {
        let (mut payloads, mut hosts) = (Vec::new(), ByName::<Tree>::default());
        let (mut wildcards, mut any) = (ByName::<Tree>::default(), Tree::default());
        for (route, payload) in routes {
            let index = payloads.len();
            payloads.push(payload);
            if route.hosts.is_empty() {
                any.insert(&route, index);
            }
            for host in &route.hosts {
                let host = host.to_ascii_lowercase();
                let tree = match host.strip_prefix("*.") {
                    Some(suffix) => wildcards.entry(suffix.into()).or_default(),
                    None => hosts.entry(bare(&host).into()).or_default(),
                };
                tree.insert(&route, index);
            }
        }
        Self { payloads, hosts, wildcards, any }
    }

    /// What belongs to the route of `path` on `host`. A port, a final dot and upper case in the host do not matter.
    pub fn find(&self, host: &str, path: &str) -> Option<&T> {
        let path = canonical(path);
        let mut lower = [0; MAX_HOST];
        let index = self.named(bare(host), &mut lower, &path).or_else(|| self.any.find(&path))?;
        self.payloads.get(index)
    }

    /// Whether any route is for `host`.
    pub fn knows(&self, host: &str) -> bool {
        if self.any.0.iter().any(|node| node.exact.is_some() || node.prefix.is_some()) {
            return true;
        }
        let host = bare(host).to_ascii_lowercase();
        let suffixes =
            host.char_indices().filter(|(_, c)| *c == '.').filter_map(|(at, _)| host.get(at.checked_add(1)?..));
        self.hosts.contains_key(host.as_str()) || suffixes.into_iter().any(|suffix| self.wildcards.contains_key(suffix))
    }

    fn named(&self, host: &str, lower: &mut [u8; MAX_HOST], path: &str) -> Option<usize> {
        if self.hosts.is_empty() && self.wildcards.is_empty() {
            return None;
        }
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let lower = lower.get_mut(..host.len())?;
            lower.copy_from_slice(host.as_bytes());
            lower.make_ascii_lowercase();
            std::str::from_utf8(lower).ok()?
        } else {
            host
        };
        if let Some(index) = self.hosts.get(host).and_then(|tree| tree.find(path)) {
            return Some(index);
        }
        if self.wildcards.is_empty() || host.len() > MAX_HOST {
            return None;
        }
        let mut rest = host;
        while let Some((label, suffix)) = rest.split_once('.') {
            // `*` stands for one label or more, and an empty one is none.
            if (!label.is_empty() || rest.len() < host.len())
                && let Some(index) = self.wildcards.get(suffix).and_then(|tree| tree.find(path))
            {
                return Some(index);
            }
            rest = suffix;
        }
        None
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self(vec![Node::default()])
    }
}

impl Tree {
    fn insert(&mut self, route: &Route, index: usize) {
        let path = canonical(&route.path);
        let mut at = 0;
        for segment in segments(&path) {
            let next = self.0.len();
            let Some(node) = self.0.get_mut(at) else { return };
            at = *node.children.entry(segment.into()).or_insert(next);
            if at == next {
                self.0.push(Node::default());
            }
        }
        if let Some(node) = self.0.get_mut(at) {
            let slot = if route.exact { &mut node.exact } else { &mut node.prefix };
            slot.get_or_insert(index);
        }
    }

    fn find(&self, path: &str) -> Option<usize> {
        let mut node = self.0.first()?;
        let mut found = node.prefix;
        for segment in segments(path) {
            match node.children.get(segment).and_then(|next| self.0.get(*next)) {
                Some(next) => node = next,
                None => return found,
            }
            found = node.prefix.or(found);
        }
        node.exact.or(found)
    }
}

/// The segments of a canonical path; none for `/`.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    // A loop over the bytes: segments are shorter than what a search of many bytes at a time costs to begin.
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let end = text.bytes().position(|byte| byte == b'/');
            let (segment, after) = end.and_then(|end| text.split_at_checked(end)).unwrap_or((text, ""));
            rest = end.and_then(|_| after.get(1..));
            if !segment.is_empty() {
                return Some(segment);
            }
        }
    })
}

/// The host without port and final dot.
fn bare(host: &str) -> &str {
    let colon = host.bytes().rposition(|byte| byte == b':');
    let name = match colon.and_then(|at| host.split_at_checked(at)) {
        // In `[::1]` the last colon lies within the brackets.
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests;
