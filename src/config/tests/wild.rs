//! Whatever the text, reading it ends in a configuration or in findings that can be shown.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    match Config::parse_bytes(bytes, Path::new("x.toml")) {
        Ok(loaded) => {
            prop_assert!(!loaded.warnings.has_errors());
            prop_assert!(!loaded.config.listeners.is_empty() && !loaded.config.pools.is_empty());
            prop_assert!(!loaded.config.routes.is_empty());
            drop(loaded.warnings.render(true));
        }
        Err(findings) => {
            prop_assert!(findings.has_errors(), "refused without a reason");
            prop_assert!(!findings.to_string().contains("mistake of Sluicegate"), "{}", findings);
            prop_assert!(!findings.render(false).is_empty());
        }
    }
    Ok(())
}

/// Files from which mutants are made.
fn seeds() -> Vec<String> {
    let folders = ["config", "tests/golden/config"].map(|folder| std::fs::read_dir(repository(folder)).unwrap());
    let files = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let texts = files.filter(|file| file.extension().is_some_and(|end| end == "toml"));
    texts.map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

/// Values of every type, good and bad ones.
fn value() -> impl Strategy<Value = &'static str> {
    select(vec![
        "true",
        "false",
        "0",
        "-1",
        "1",
        "65536",
        "99999999999999999999",
        "0xff",
        "1.5",
        "nan",
        "1979-05-27",
        "''",
        "'1s'",
        "'5m'",
        "'1h'",
        "'64KiB'",
        "'superset'",
        "'/x'",
        "'/'",
        "'a:1'",
        "'127.0.0.1:1'",
        "'10.0.0.0/8'",
        "'é'",
        "[]",
        "{}",
        "['a:1', 'b:2']",
        "[200]",
        "[[]]",
        "[{}]",
        "{ a = 1 }",
        "{ file = 'x' }",
        "{ env = 'X' }",
        "'same'",
        "'GET'",
        "'http'",
        "'tcp'",
        "'websocket'",
        "{ to = '/' }",
        "{ status = 404 }",
        "'''\n'''",
        "{ x-a = 'b' }",
    ])
}

/// Paths of all keys, with names and headers as a file has them.
fn key() -> impl Strategy<Value = String> {
    let schema = schema();
    let mut paths = Vec::new();
    collect(&mut paths, "", &schema);
    select(paths)
}

fn collect(paths: &mut Vec<String>, path: &str, schema: &serde_json::Value) {
    let inner = schema["anyOf"].as_array().into_iter().flatten();
    inner.for_each(|schema| collect(paths, path, schema));
    if schema["items"].is_object() {
        collect(paths, path, &schema["items"]);
    }
    if schema["additionalProperties"].is_object() {
        collect(paths, &format!("{path}superset."), &schema["additionalProperties"]);
    }
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        paths.push(format!("{path}{key}"));
        collect(paths, &format!("{path}{key}."), schema);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&bytes)?;
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "([\\[\\]{}=.,\"'#\\n a-z0-9_é\u{7f}\u{2028}]|\\PC){0,200}") {
        survives(text.as_bytes())?;
    }

    #[test]
    fn mutants_of_good_files_are_read_without_a_panic(
        seed in select(seeds()),
        edits in prop::collection::vec((any::<Index>(), any::<Option<u8>>(), 0usize..20), 1..8),
    ) {
        let mut bytes = seed.into_bytes();
        for (at, byte, cut) in edits {
            let at = at.index(bytes.len() + 1);
            match byte {
                Some(byte) => bytes.insert(at, byte),
                None => drop(bytes.drain(at..(at + cut).min(bytes.len()))),
            }
        }
        survives(&bytes)?;
    }

    #[test]
    fn any_value_of_any_key_is_read_without_a_panic(
        pairs in prop::collection::btree_map(key(), value(), 1..12),
        tables in any::<bool>(),
    ) {
        let mut text = String::new();
        if tables {
            text.push_str("listeners = [{ address = '127.0.0.1:80' }]\npools.superset.endpoints = ['a:1']\n");
        }
        for (key, value) in pairs {
            match key.split_once('.') {
                // Lists of tables cannot be reached by dotted keys: give each pair a table of its own.
                Some((list @ ("listeners" | "routes"), rest)) => text = format!("{text}[[{list}]]\n{rest} = {value}\n"),
                Some((table, rest)) => text = format!("{table}.{rest} = {value}\n{text}"),
                None => text = format!("{key} = {value}\n{text}"),
            }
        }
        survives(text.as_bytes())?;
    }
}
