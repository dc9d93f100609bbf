//! The keys of a file as written, so that two generations can be compared.
//!
//! Floor 1. In: TOML text. Out: an [`Outline`], and what is different between two. Members of lists of tables go by
//! their `name` where they have one, else by their place. Values are shown where they can be no secret: numbers,
//! switches, durations and sizes; of anything else only that it changed.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::units::{ByteSize, Span};

/// Keys and values of a configuration file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline(BTreeMap<String, Value>);

impl Outline {
    /// Of a text; empty when it is no TOML, which others tell.
    pub(super) fn of(text: &str) -> Self {
        let mut keys = BTreeMap::new();
        if let Ok(table) = text.parse::<Table>() {
            collect("", &table, &mut keys);
        }
        Self(keys)
    }

    /// What is different from `before`, one line for each key, in the order of their names.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = BTreeMap::new();
        for (key, value) in &self.0 {
            match before.0.get(key) {
                None => changes.insert(
                    key,
                    match shown(value) {
                        Some(value) => format!("{key} added: {value}"),
                        None => format!("{key} added"),
                    },
                ),
                Some(earlier) if earlier != value => changes.insert(
                    key,
                    match (shown(earlier), shown(value)) {
                        (Some(earlier), Some(value)) => format!("{key}: {earlier} → {value}"),
                        _ => format!("{key} changed"),
                    },
                ),
                Some(_) => None,
            };
        }
        for key in before.0.keys().filter(|key| !self.0.contains_key(*key)) {
            changes.insert(key, format!("{key} removed"));
        }
        changes.into_values().collect()
    }
}

fn collect(path: &str, table: &Table, keys: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(table) => collect(&path, table, keys),
            Value::Array(members) if !members.is_empty() && members.iter().all(Value::is_table) => {
                for (index, member) in members.iter().filter_map(Value::as_table).enumerate() {
                    let name = member.get("name").and_then(Value::as_str);
                    let name = name.map_or_else(|| (index + 1).to_string(), str::to_owned);
                    collect(&format!("{path}[{name}]"), member, keys);
                }
            }
            leaf => {
                keys.insert(path, leaf.clone());
            }
        }
    }
}

/// A value that can be no secret.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(switch) => Some(switch.to_string()),
        Value::String(text) if text.parse::<Span>().is_ok() || text.parse::<ByteSize>().is_ok() => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_changes_is_told_by_key_and_secrets_are_not() {
        let before = Outline::of(
            "[pools.a]\nendpoints = [\"x:1\"]\n[pools.a.health]\ninterval = \"2s\"\n[redis]\npassword = \"one\"\n\
             [[listeners]]\nname = \"https\"\nmax_connections = 10\n",
        );
        let after = Outline::of(
            "[pools.a]\nendpoints = [\"x:1\", \"y:1\"]\n[pools.a.health]\ninterval = \"5s\"\n[redis]\n\
             password = \"two\"\n[[listeners]]\nname = \"https\"\n[process]\nworkers = 2\n",
        );

        assert_eq!(
            after.changes_since(&before),
            [
                "listeners[https].max_connections removed",
                "pools.a.endpoints changed",
                "pools.a.health.interval: 2s → 5s",
                "process.workers added: 2",
                "redis.password changed",
            ]
        );
        assert!(after.changes_since(&after).is_empty());
    }
}
