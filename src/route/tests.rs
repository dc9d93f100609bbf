//! Which route a request finds, against an obvious search.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::route::{Action, HeaderEdits, RouteClocks, RouteRetry};
use crate::lexicon::{PoolName, RouteName};

fn route(hosts: &[&str], path: &str, exact: bool) -> Arc<Route> {
    Arc::new(Route {
        name: RouteName::new(path),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        path: path.to_owned(),
        root: String::new(),
        exact,
        action: Action::Forward(PoolName::new("superset")),
        max_body: 0,
        request_buffer: None,
        shield: true,
        content_types: Vec::new(),
        clocks: RouteClocks { first_byte: Duration::ZERO, between_bytes: Duration::ZERO, exchange: None },
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        websocket: None,
        strip_prefix: None,
        read_only_posts: Vec::new(),
        limits: None,
        retry: RouteRetry { statuses: Vec::new(), assets: Vec::new(), asset_attempts: 0, hedge_percentile: None },
    })
}

fn table(routes: &[(&[&str], &str, bool)]) -> Table<usize> {
    Table::new(routes.iter().enumerate().map(|(index, (hosts, path, exact))| (route(hosts, path, *exact), index)))
}

#[test]
fn longest_prefix_on_segment_borders_wins() {
    let table = table(&[(&[], "/", false), (&[], "/ws", false), (&[], "/ws/deep/", false), (&[], "/ws", true)]);

    for (path, index) in
        [("/", 0), ("/wsx", 0), ("/ws/x", 1), ("/ws", 3), ("/ws/", 3), ("/ws/deep", 2), ("/ws/deep/x", 2), ("*", 0)]
    {
        assert_eq!(table.find("any", path), Some(&index), "{path}");
    }
}

#[test]
fn more_specific_hosts_come_first_and_fall_back() {
    let table = table(&[
        (&[], "/", false),
        (&["*.example.com"], "/", false),
        (&["*.bi.example.com"], "/", false),
        (&["bi.example.com", "[::1]"], "/api", false),
    ]);

    for (host, path, index) in [
        ("bi.example.com", "/api", 3),
        ("BI.Example.com.:8443", "/api", 3),
        ("[::1]", "/api", 3),
        ("[::1]:8443", "/api", 3),
        ("bi.example.com", "/", 1),
        ("a.bi.example.com", "/", 2),
        ("b.a.bi.example.com", "/", 2),
        ("example.com", "/", 0),
        (".example.com", "/", 0),
        ("badexample.com", "/", 0),
        ("", "/", 0),
    ] {
        assert_eq!(table.find(host, path), Some(&index), "{host}{path}");
    }
    assert_eq!(table.find(&"a.".repeat(40_000), "/"), Some(&0));
    assert_eq!(table.find(&"A".repeat(40_000), "/"), Some(&0));
}

#[test]
fn nothing_matches_where_no_route_is() {
    let table = table(&[(&["bi.example.com"], "/api", false), (&["bi.example.com"], "/x", true)]);

    assert_eq!(table.find("bi.example.com", "/"), None);
    assert_eq!(table.find("bi.example.com", "/x/y"), None);
    assert_eq!(table.find("other", "/api"), None);
}

#[test]
fn blocked_path_cannot_be_dodged_by_its_spelling() {
    let table = table(&[(&[], "/", false), (&[], "/version", true)]);

    for path in [
        "/version",
        "/version/",
        "//version",
        "/version//",
        "/%76ersion",
        "/%56ERSION/../version",
        "/x/../version",
        "/x/%2e%2E/version",
        "/./version/.",
        "/%2e/version",
        "/x%2f..%2fversion",
        "%2fversion",
        "/../../version",
        "/version%2f",
        "\\version",
        "/x/..\\version",
        "/x%5c..%5Cversion",
    ] {
        assert_eq!(table.find("bi", path), Some(&1), "{path}");
    }
    for path in
        ["/versions", "/Version", "/version/x", "/%2576ersion", "/version%00", "/.version", "/version..", "/x/version"]
    {
        assert_eq!(table.find("bi", path), Some(&0), "{path}");
    }
}

#[test]
fn paths_of_browsers_are_borrowed() {
    for (path, expected) in [
        ("/superset/dashboard/1/", "/superset/dashboard/1"),
        ("/static/assets/vendors.4f2e~1.js", "/static/assets/vendors.4f2e~1.js"),
        ("/", "/"),
        ("", "/"),
        ("*", "*"),
    ] {
        let canonical = canonical(path);
        assert_eq!(canonical, expected);
        assert!(path == "*" || matches!(canonical, std::borrow::Cow::Borrowed(_)));
    }
}

#[test]
fn escapes_beyond_ascii_have_one_spelling() {
    assert_eq!(canonical("/%c3%bc"), "/%C3%BC");
    assert_eq!(canonical("/ü"), "/%C3%BC");
    assert_eq!(canonical("/100%"), "/100%25");
    assert_eq!(canonical("/%%37%36"), "/%2576");
}

/// What the documentation says, without a thought for speed.
fn naive(routes: &[(Vec<String>, String, bool)], host: &str, path: &str) -> Option<usize> {
    let path = canonical(path);
    let host_rank = |hosts: &[String]| {
        if hosts.is_empty() {
            return Some(0);
        }
        hosts
            .iter()
            .filter_map(|pattern| match pattern.strip_prefix('*') {
                Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len()),
                None => (pattern == host).then_some(usize::MAX),
            })
            .max()
    };
    let path_rank = |pattern: &str, exact: bool| {
        let pattern = pattern.trim_end_matches('/');
        let whole = *path == *pattern || (pattern.is_empty() && *path == *"/");
        match (exact, whole) {
            (true, true) => Some(usize::MAX),
            (true, false) => None,
            (false, true) => Some(pattern.len()),
            (false, false) => path.starts_with(&format!("{pattern}/")).then_some(pattern.len()),
        }
    };
    let mut best: Option<((usize, usize), usize)> = None;
    for (index, (hosts, pattern, exact)) in routes.iter().enumerate() {
        if let (Some(by_host), Some(by_path)) = (host_rank(hosts), path_rank(pattern, *exact))
            && best.is_none_or(|(rank, _)| (by_host, by_path) > rank)
        {
            best = Some(((by_host, by_path), index));
        }
    }
    best.map(|(_, index)| index)
}

proptest! {
    #[test]
    fn table_agrees_with_the_naive_search(
        routes in prop::collection::vec(
            (prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}", 0..3), "(/[ab]{1,2}){0,3}/?", any::<bool>()), 0..30),
        host in "[ab](\\.[ab]){0,3}",
        path in "(/{1,2}([ab]{1,2}|\\.|\\.\\.|%61|%2f)){0,5}/?",
    ) {
        let routes: Vec<_> =
            routes.into_iter().map(|(hosts, path, exact)| (hosts, if path.is_empty() { "/".to_owned() } else { path }, exact)).collect();
        let table = Table::new(routes.iter().enumerate().map(|(index, (hosts, path, exact))| {
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            (route(&hosts, path, *exact), index)
        }));

        prop_assert_eq!(table.find(&host, &path).copied(), naive(&routes, &host, &path));
    }

    #[test]
    fn canonical_paths_are_idempotent_and_plain(path in "(/|\\.|\\\\|%2[eEfF5]|%5c|%61|%|a|ü|\\PC){0,20}") {
        let path = format!("/{path}");
        let once = canonical(&path).into_owned();

        prop_assert_eq!(&*canonical(&once), &*once);
        prop_assert!(once.starts_with('/') && !once.contains("//") && once.is_ascii());
        prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
    }
}
