//! Finds what serves a host and a path.
//!
//! Floor 2, pure. Hosts: the exact name first, then the longest `*.` suffix, then any. Within a host: an exact path
//! first, then the longest prefix on segment borders. A look-up costs a few hash probes, one for each label of the host
//! and each segment of the path, however many routes there are. Matching looks at the path as the endpoint would read
//! it ([`canonical`]), so that a fixed answer for `/version` cannot be dodged by `//version`; what is forwarded stays
//! as it came. Deliberately absent: what a route does.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Route;

/// Routes by host and path.
#[derive(Debug)]
pub struct Table<T> {
    exact: HashMap<String, Paths<T>>,
    /// By what follows `*`, e.g. `.example.com`.
    wildcard: HashMap<String, Paths<T>>,
    any: Paths<T>,
}

#[derive(Debug)]
struct Paths<T> {
    exact: HashMap<String, T>,
    /// By prefix without its last `/`; the root is empty.
    prefix: HashMap<String, T>,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefix: HashMap::new() }
    }
}

impl<T: Clone> Table<T> {
    /// A table of `routes`. Of two routes for the same host and path the first one counts.
    pub fn new(routes: impl IntoIterator<Item = (Arc<Route>, T)>) -> Self {
        let mut table = Self { exact: HashMap::new(), wildcard: HashMap::new(), any: Paths::default() };
        for (route, served) in routes {
            if route.hosts.is_empty() {
                table.any.add(&route, &served);
            }
            for host in &route.hosts {
                let paths = match host.strip_prefix('*') {
                    Some(suffix) => table.wildcard.entry(suffix.to_ascii_lowercase()).or_default(),
                    None => table.exact.entry(host.to_ascii_lowercase()).or_default(),
                };
                paths.add(&route, &served);
            }
        }
        table
    }

    /// What serves `path` of `host`, the latter in lower case and without a port.
    pub fn find(&self, host: &str, path: &str) -> Option<&T> {
        let path = canonical(path);
        if let Some(found) = self.exact.get(host).and_then(|paths| paths.find(&path)) {
            return Some(found);
        }
        if !self.wildcard.is_empty() {
            // The longest suffix is the most specific one.
            for (dot, _) in host.match_indices('.') {
                let paths = host.get(dot..).filter(|_| dot > 0).and_then(|suffix| self.wildcard.get(suffix));
                if let Some(found) = paths.and_then(|paths| paths.find(&path)) {
                    return Some(found);
                }
            }
        }
        self.any.find(&path)
    }
}

impl<T: Clone> Paths<T> {
    fn add(&mut self, route: &Route, served: &T) {
        let path = canonical(&route.path);
        let (kind, key) =
            if route.exact { (&mut self.exact, &*path) } else { (&mut self.prefix, path.trim_end_matches('/')) };
        kind.entry(key.to_owned()).or_insert_with(|| served.clone());
    }

    fn find(&self, path: &str) -> Option<&T> {
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(path)
        {
            return Some(found);
        }
        let mut prefix = path.trim_end_matches('/');
        loop {
            if let Some(found) = self.prefix.get(prefix) {
                return Some(found);
            }
            prefix = prefix.get(..prefix.rfind('/')?)?;
        }
    }
}

/// Segments of a path that are looked at; what lies deeper cannot have a route of its own.
const MAX_SEGMENTS: usize = 64;

/// The path as an endpoint may read it: percent-encoding undone once, empty and dot segments resolved. Borrowed when
/// nothing of that is in it.
pub fn canonical(path: &str) -> Cow<'_, str> {
    let plain = !path.contains('%') && !path.contains("//") && !path.contains("/.") && !path.contains('\\');
    if plain && path.matches('/').take(MAX_SEGMENTS + 1).count() <= MAX_SEGMENTS {
        return Cow::Borrowed(path);
    }
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment if segments.len() < MAX_SEGMENTS => segments.push(segment),
            _ => break,
        }
    }
    let mut canonical = String::with_capacity(decoded.len());
    for segment in &segments {
        canonical.push('/');
        canonical.push_str(segment);
    }
    if canonical.is_empty() || decoded.ends_with('/') {
        canonical.push('/');
    }
    Cow::Owned(canonical)
}

#[cfg(test)]
mod tests;
