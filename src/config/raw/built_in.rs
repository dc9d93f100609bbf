//! Routes that are there without being written.
//!
//! With one pool and no routes: everything goes to the pool. For every application root: Superset's upload and import
//! paths, with a body limit that fits them, and `/version`, which shows the exact build to anybody, answered 404; for
//! hosts with routes of their own where these serve that path. A written route for the same path, and a written
//! `max_body`, always count more. Pure.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;

use super::super::route::{Action, HeaderEdits, NO_PAGES, Route, RouteRetry};
use super::kinds::MIB;
use super::route::{Draft, is_below};
use crate::head::HeaderValue;
use crate::lexicon::RouteName;

/// Superset's paths that take files; 200 MiB are twice its own limit for the content of a ZIP file.
const UPLOADS: [&str; 7] = [
    "/api/v1/assets/import",
    "/api/v1/chart/import",
    "/api/v1/dashboard/import",
    "/api/v1/database",
    "/api/v1/dataset/import",
    "/api/v1/saved_query/import",
    "/api/v1/theme/import",
];

/// Longest body on these paths.
const MAX_UPLOAD: u64 = 200 * MIB;

/// The written routes with what belongs to them.
pub(super) fn complete(written: &[Draft]) -> Vec<Route> {
    let rooted = |draft: &Draft| {
        let mut draft = draft.clone();
        draft.route.root = application_root(written, &draft);
        draft
    };
    let drafts: Vec<Draft> = written.iter().map(rooted).collect();
    let mut routes: Vec<Route> = drafts.iter().map(below_its_root).collect();
    for group in &groups(&drafts) {
        for root in group.roots() {
            routes.extend(UPLOADS.iter().filter_map(|upload| group.upload_route(root, upload)));
            routes.extend(group.version_route(&drafts, root));
        }
    }
    routes
}

/// Hosts that the same routes name, with these routes. What is added for them is added once.
struct Group<'a> {
    /// Empty for every host.
    hosts: Vec<String>,
    drafts: Vec<&'a Draft>,
}

fn groups(drafts: &[Draft]) -> Vec<Group<'_>> {
    let mut by_host: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate() {
        let every = draft.route.hosts.is_empty().then_some(None);
        for host in draft.route.hosts.iter().map(|host| Some(host.as_str())).chain(every) {
            by_host.entry(host).or_default().push(at);
        }
    }
    let mut by_routes: BTreeMap<Vec<usize>, Vec<String>> = BTreeMap::new();
    for (host, routes) in by_host {
        by_routes.entry(routes).or_default().extend(host.map(str::to_owned));
    }
    let group = |(routes, hosts): (Vec<usize>, Vec<String>)| {
        let drafts = routes.into_iter().filter_map(|at| drafts.get(at)).collect();
        Group { hosts, drafts }
    };
    by_routes.into_iter().map(group).collect()
}

impl<'a> Group<'a> {
    /// Where applications begin that these routes lead to.
    fn roots(&self) -> BTreeSet<&'a str> {
        self.drafts.iter().filter(|draft| forwards(draft)).map(|draft| draft.route.root.as_str()).collect()
    }

    /// The route among these that gets `path`, if it forwards.
    fn serving(&self, path: &str) -> Option<&'a Draft> {
        let serves = |draft: &&&Draft| match draft.route.exact {
            true => draft.route.path == path,
            false => is_below(path, &draft.route.path),
        };
        let serving = self.drafts.iter().filter(serves).max_by_key(|draft| draft.route.path.len())?;
        forwards(serving).then_some(serving)
    }

    /// The route of an upload path: a copy of the one that serves it, with a larger limit.
    fn upload_route(&self, root: &str, upload: &str) -> Option<Route> {
        let path = format!("{root}{upload}");
        let serving = self.serving(&path)?;
        if serving.has_max_body || serving.route.path == path {
            return None;
        }
        let written = below_its_root(serving);
        let content_types = match serving.has_content_types || !upload.ends_with("/import") {
            true => written.content_types.clone(),
            false => vec!["multipart/form-data".to_owned()],
        };
        let (name, hosts) = (self.named(&path), self.hosts.clone());
        Some(Route { name, hosts, path, max_body: MAX_UPLOAD, content_types, ..written })
    }

    fn version_route(&self, drafts: &[Draft], root: &str) -> Option<Route> {
        let path = format!("{root}/version");
        if drafts.iter().any(|draft| draft.route.path == path) {
            return None;
        }
        let serving = self.serving(&path)?;
        Some(Route {
            name: self.named(&path),
            hosts: self.hosts.clone(),
            path,
            action: Action::Answer {
                status: StatusCode::NOT_FOUND,
                body: String::new(),
                content_type: HeaderValue::from_static("text/plain; charset=utf-8"),
            },
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            websocket: None,
            strip_prefix: None,
            read_only_posts: Vec::new(),
            retry: RouteRetry { statuses: Vec::new(), assets: Vec::new(), asset_attempts: 0, hedge_percentile: None },
            ..serving.route.clone()
        })
    }

    /// The name that a written route would have without a `name`; written ones cannot be equal, for they have no `/`.
    fn named(&self, path: &str) -> RouteName {
        RouteName::new(&format!("{}{path}", self.hosts.join(",")))
    }
}

/// A written route. The default `read_only_posts` and assets are Superset's, so they begin with its application root.
fn below_its_root(draft: &Draft) -> Route {
    let mut route = draft.route.clone();
    if !draft.has_read_only_posts {
        route.read_only_posts.iter_mut().for_each(|post| post.insert_str(0, &route.root));
    }
    if !draft.has_assets {
        route.retry.assets.iter_mut().for_each(|path| path.insert_str(0, &route.root));
    }
    route
}

/// Where the application begins that a route belongs to. Of the forwarding routes around it, from the outside in, the
/// first begins one, and so does each below it that leads to another pool, unless what it adds to the path is a service
/// of Superset's: `/ws` below `/analytics` is no application by itself, `/analytics` below `/` is one.
fn application_root(drafts: &[Draft], draft: &Draft) -> String {
    let around: Vec<(usize, &Draft)> =
        drafts.iter().filter_map(|outer| Some((precedence(outer, draft)?, outer))).collect();
    // Where a route of a nearer host begins, no route of a wider one gets anything.
    let is_reached = |(rank, outer): &(usize, &Draft)| {
        !around.iter().any(|(other, nearer)| other > rank && is_below(&outer.route.path, &nearer.route.path))
    };
    let mut around: Vec<&Draft> = around
        .iter()
        .filter(|outer| is_reached(outer))
        .map(|(_, outer)| *outer)
        .filter(|outer| forwards(outer))
        .collect();
    around.sort_by_key(|outer| outer.route.path.len());
    let mut found: Option<(&str, &Draft)> = None;
    for outer in around {
        let path = outer.route.path.trim_end_matches('/');
        let (root, same) = found.map_or(("", false), |(root, begun)| (root, leads_alike(begun, outer)));
        let below = path.strip_prefix(root).unwrap_or(path);
        let first = below.split('/').nth(1).unwrap_or_default();
        if found.is_none() || (!same && !NO_PAGES.contains(&first)) {
            found = Some((if NO_PAGES.contains(&first) { root } else { path }, outer));
        }
    }
    found.map_or_else(String::new, |(root, _)| root.to_owned())
}

fn leads_alike(one: &Draft, other: &Draft) -> bool {
    matches!((&one.route.action, &other.route.action), (Action::Forward(one), Action::Forward(other)) if one == other)
}

const fn forwards(draft: &Draft) -> bool {
    matches!(draft.route.action, Action::Forward(_)) && !draft.route.exact
}

/// Whether a route would get the requests of another one if that were not there, for one of its hosts at least: the greater
/// the answer, the earlier it is asked, as `route` does.
fn precedence(outer: &Draft, inner: &Draft) -> Option<usize> {
    if outer.route.exact || !is_below(&inner.route.path, &outer.route.path) {
        return None;
    }
    let of_pair = |wide: &str, narrow: &str| match wide.strip_prefix('*') {
        _ if wide == narrow => Some(usize::MAX),
        Some(suffix) if narrow.ends_with(suffix) => Some(suffix.len()),
        _ => None,
    };
    let hosts = &outer.route.hosts;
    let every = hosts.is_empty().then_some(0);
    let pairs = hosts.iter().flat_map(|wide| inner.route.hosts.iter().filter_map(move |narrow| of_pair(wide, narrow)));
    pairs.max().or(every)
}
