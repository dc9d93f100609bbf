//! Routes that are there without being written.
//!
//! With one pool and no routes: everything goes to the pool. For every application root (a forwarding route that no
//! other forwarding route of its hosts encloses): Superset's upload and import paths, with a body limit that fits
//! them, and `/version`, which shows the exact build to anybody, answered 404. A written route for the same path, and
//! a written `max_body`, always count more. Pure.

use http::{HeaderValue, StatusCode};

use super::super::route::{Action, HeaderEdits, Route};
use super::kinds::MIB;
use super::route::{Draft, is_below};
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
pub(super) fn complete(mut drafts: Vec<Draft>) -> Vec<Route> {
    let written = drafts.clone();
    let mut added = Vec::new();
    for root in roots(&written) {
        added.extend(UPLOADS.iter().filter_map(|upload| upload_route(&written, root, upload)));
        added.extend(version_route(&written, &root.route));
    }
    for draft in &mut drafts {
        let root = roots(&written).find(|root| encloses(root, draft) && root.route.path != "/");
        if let (Some(root), false) = (root, draft.has_read_only_posts) {
            draft
                .route
                .read_only_posts
                .iter_mut()
                .for_each(|post| post.insert_str(0, &root.route.path));
        }
    }
    let mut routes: Vec<Route> = drafts.into_iter().map(|draft| draft.route).collect();
    for route in added {
        // Names are unique: a written route may have taken the one that this one would have.
        if !routes.iter().any(|known| known.name == route.name) {
            routes.push(route);
        }
    }
    routes
}

/// Forwarding routes that no other forwarding route of the same hosts encloses.
fn roots(drafts: &[Draft]) -> impl Iterator<Item = &Draft> {
    let outermost = |draft: &&Draft| {
        forwards(draft)
            && !drafts
                .iter()
                .any(|other| encloses(other, draft) && other.route.path != draft.route.path)
    };
    drafts.iter().filter(outermost)
}

const fn forwards(draft: &Draft) -> bool {
    matches!(draft.route.action, Action::Forward(_)) && !draft.route.exact
}

fn encloses(outer: &Draft, inner: &Draft) -> bool {
    forwards(outer) && outer.route.hosts == inner.route.hosts && is_below(&inner.route.path, &outer.route.path)
}

/// The route of an upload path: a copy of the one that serves it, with a larger limit.
fn upload_route(drafts: &[Draft], root: &Draft, upload: &str) -> Option<Route> {
    let path = joined(&root.route.path, upload);
    let serves = |draft: &&Draft| {
        draft.route.hosts == root.route.hosts && !draft.route.exact && is_below(&path, &draft.route.path)
    };
    let serving = drafts
        .iter()
        .filter(serves)
        .max_by_key(|draft| draft.route.path.len())?;
    if serving.has_max_body || serving.route.path == path || !forwards(serving) {
        return None;
    }
    let name = named(&serving.route.hosts, &path);
    Some(Route {
        name,
        path,
        max_body: MAX_UPLOAD,
        ..serving.route.clone()
    })
}

fn version_route(drafts: &[Draft], root: &Route) -> Option<Route> {
    let path = joined(&root.path, "/version");
    if drafts.iter().any(|draft| draft.route.path == path) {
        return None;
    }
    Some(Route {
        name: named(&root.hosts, &path),
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
        ..root.clone()
    })
}

fn joined(root: &str, path: &str) -> String {
    format!("{}{path}", root.trim_end_matches('/'))
}

fn named(hosts: &[String], path: &str) -> RouteName {
    RouteName::new(&format!("{}{path}", hosts.join(",")))
}
