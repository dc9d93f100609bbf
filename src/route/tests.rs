use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::Config;

/// A table whose values are the routes' names.
fn table(routes: &[(&str, &str, bool)]) -> Table<String> {
    let mut text = String::from("[[listeners]]\naddress = \"127.0.0.1:0\"\n[pools.p]\nendpoints = [\"127.0.0.1:1\"]\n");
    for (at, (host, path, exact)) in routes.iter().enumerate() {
        text.push_str(&format!("[[routes]]\nname = \"r{at}\"\npath = \"{path}\"\nexact = {exact}\npool = \"p\"\n"));
        if !host.is_empty() {
            text.push_str(&format!("host = \"{host}\"\n"));
        }
    }
    let config = Config::parse(&text, Path::new("t.toml")).unwrap_or_else(|bad| panic!("{}", bad.render(false))).config;
    let written = config.routes.iter().filter(|route| route.name.as_str().starts_with('r'));
    Table::new(written.map(|route| (Arc::clone(route), route.name.to_string())))
}

#[test]
fn most_specific_route_wins() {
    let table = table(&[
        ("", "/", false),
        ("", "/api", false),
        ("", "/api/v1/me", true),
        ("bi.example.com", "/", false),
        ("*.example.com", "/", false),
        ("*.eu.example.com", "/ws", false),
    ]);
    let find = |host, path| table.find(host, path).map(String::as_str);

    assert_eq!(find("other", "/x"), Some("r0"));
    assert_eq!(find("other", "/apix"), Some("r0"), "prefixes end on segment borders");
    assert_eq!(find("other", "/api"), Some("r1"));
    assert_eq!(find("other", "/api/"), Some("r1"));
    assert_eq!(find("other", "/api/v1/me"), Some("r2"));
    assert_eq!(find("other", "/api/v1/me/x"), Some("r1"));
    assert_eq!(find("bi.example.com", "/api"), Some("r3"), "the host counts before the path");
    assert_eq!(find("a.b.example.com", "/"), Some("r4"));
    assert_eq!(find("a.eu.example.com", "/ws/1"), Some("r5"));
    assert_eq!(find("a.eu.example.com", "/x"), Some("r4"));
    assert_eq!(find("example.com", "/x"), Some("r0"), "a wildcard wants a label");
}

#[test]
fn fixed_answer_cannot_be_dodged() {
    let table = table(&[("", "/", false), ("", "/version", false)]);

    for path in ["/version", "/version/", "//version", "/%76ersion", "/x/../version", "/./version", "/x/%2e%2e/version",
        "/version%2fx", "/%2fversion", "\\version", "/x/..\\version"]
    {
        assert_eq!(table.find("h", path).map(String::as_str), Some("r1"), "{path}");
    }
    assert_eq!(table.find("h", "/versions").map(String::as_str), Some("r0"));
}

#[test]
fn ordinary_path_is_not_copied() {
    assert!(matches!(canonical("/superset/dashboard/1/"), Cow::Borrowed(_)));
}

proptest! {
    #[test]
    fn canonical_is_settled_and_absolute(path in "(/[a-z.%/\\\\]{0,6}){0,8}") {
        let once = canonical(&path).into_owned();
        prop_assert!(path.is_empty() || once.starts_with('/'));
        if !once.contains('%') {
            prop_assert_eq!(canonical(&once).into_owned(), once);
        }
    }

    #[test]
    fn finds_what_a_walk_over_all_routes_finds(
        paths in prop::collection::btree_set("(/[ab]{1,2}){0,3}", 1..20),
        asked in "(/[ab]{1,2}){0,4}/?",
    ) {
        let paths: Vec<String> = paths.into_iter().map(|path| if path.is_empty() { "/".into() } else { path }).collect();
        let routes: Vec<(&str, &str, bool)> = paths.iter().map(|path| ("", path.as_str(), false)).collect();
        let table = table(&routes);
        let longest = paths
            .iter()
            .enumerate()
            .filter(|(_, path)| {
                let prefix = path.trim_end_matches('/');
                asked.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
            .max_by_key(|(_, path)| path.trim_end_matches('/').len())
            .map(|(at, _)| format!("r{at}"));
        prop_assert_eq!(table.find("h", if asked.is_empty() { "/" } else { &asked }).cloned(), longest);
    }
}
