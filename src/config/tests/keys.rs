//! Schema, explanations and reference.

use super::*;
use crate::config::raw::ROOT;
use crate::config::raw::key::{Below, Section};

/// Calls `look` with every section.
fn every_section(section: &'static dyn Section, look: &mut dyn FnMut(&'static dyn Section)) {
    look(section);
    for entry in section.entries() {
        if let Some(Below { section, .. }) = entry.kind().below() {
            every_section(section, look);
        }
    }
}

#[test]
fn every_key_is_documented_in_whole_sentences() {
    let mut poor = Vec::new();
    every_section(&ROOT, &mut |section| {
        let docs = section.entries().into_iter().map(|entry| format!("{}: {}", entry.name(), entry.doc()));
        poor.extend(docs.filter(|doc| !doc.ends_with('.') || doc.len() < 20));
    });

    assert!(poor.is_empty(), "{poor:#?}");
}

#[test]
fn the_schema_knows_every_key_and_default() {
    let schema = schema();
    let pool = &schema["properties"]["pools"]["additionalProperties"]["properties"];

    assert_eq!(schema["required"], serde_json::json!(["listeners", "pools"]));
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(pool["timeouts"]["properties"]["idle"]["default"], "1.5s");
    assert_eq!(pool["max_in_flight"]["maximum"], 100_000);
    let health = &pool["health"]["anyOf"][1]["properties"];
    assert_eq!(health["statuses"]["default"], serde_json::json!([200]));
    assert!(health["interval"]["description"].as_str().unwrap().contains("Range: 100ms to 1h."));
}

#[test]
fn a_key_is_explained_by_its_whole_or_shortened_path() {
    let whole = explain("pools.superset.health.interval").unwrap();
    let placeholder = explain("pools.NAME.health.interval").unwrap();
    let short = explain("health.interval").unwrap();
    let found = explain("routes[2].timeouts.first_byte").unwrap();
    let section = explain("pools.superset.queue").unwrap();

    assert_eq!((&whole, &whole), (&placeholder, &short));
    assert_eq!((whole.default.as_deref(), whole.range.as_str()), (Some("\"5s\""), "100ms to 1h"));
    assert_eq!(found.key, "routes.timeouts.first_byte");
    assert_eq!(
        section.below,
        [
            "pools.NAME.queue.length",
            "pools.NAME.queue.per_client",
            "pools.NAME.queue.timeout",
            "pools.NAME.queue.express",
            "pools.NAME.queue.express_length"
        ]
    );
    assert!(whole.to_string().contains("default  \"5s\""));
}

#[test]
fn an_unknown_key_is_answered_with_what_may_be_meant() {
    let near = |key: &str| explain(key).unwrap_err().near;

    assert_eq!(near("intervall"), ["pools.NAME.health.interval", "otlp.metrics.interval", "redis.interval"]);
    assert_eq!(
        near("max_connections"),
        ["listeners.max_connections", "process.max_connections", "admin.max_connections"]
    );
    assert!(near("pools.superset.healt.interval").contains(&"pools.NAME.health.interval".to_owned()));
    assert!(near("").is_empty() && near("...").is_empty() && near("qqqqqq").is_empty());
}

#[test]
fn the_reference_names_every_key_with_its_default() {
    let reference = reference();

    every_section(&ROOT, &mut |section| {
        for entry in section.entries().iter().filter(|_| !std::ptr::addr_eq(section, &raw const ROOT)) {
            assert!(reference.contains(&format!("\n| `{}` |", entry.name())), "{}", entry.name());
        }
    });
    assert!(reference.contains("### `[[listeners]]`"));
    assert!(reference.contains("### `[pools.NAME.health.deep]`"));
    assert!(reference.contains("### `[[listeners.tls.certificates]]`"));
    assert!(reference.contains("| `first_byte` | duration, 100ms to 1d | `\"300s\"` |"));
}
