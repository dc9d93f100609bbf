//! Tables of texts under names of the operator's choice: labels, attributes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::key::{Describe, Kind};
use super::sheet::{Words, Written};
use super::words::short_text;

/// Texts by name.
pub(super) struct Labels {
    /// Whether names are those of Prometheus' labels.
    strict: bool,
}

/// Texts by name; with `strict`, names are letters, digits and `_`.
pub(super) const fn labels(strict: bool) -> Labels {
    Labels { strict }
}

/// Most labels.
const MOST: usize = 30;

impl Describe for Labels {
    fn shape(&self) -> String {
        "table of names and texts".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "maxProperties": MOST, "additionalProperties": { "type": "string" } })
    }
}

impl Kind for Labels {
    type Value = BTreeMap<String, String>;

    fn read(&self, written: &Written<'_>) -> Option<Self::Value> {
        let Some(table) = written.value.as_table().filter(|table| table.len() <= MOST) else {
            written.wrong_type("a table of at most 30 names and texts");
            return None;
        };
        let mut read = Some(BTreeMap::new());
        for (key, value) in table {
            let below = written.below(key.get_ref(), value.span(), value.get_ref());
            let text = value.get_ref().as_str().ok_or_else(|| "is not a text".to_owned()).and_then(short_text);
            let one = match (self.name(key.get_ref()), text) {
                (true, Ok(text)) => Some((key.get_ref().to_string(), text)),
                (false, _) => {
                    below.error(Words::new("has a name that it cannot have").expected("letters, digits and `_`"));
                    None
                }
                (true, Err(problem)) => {
                    below.error(Words::new(problem).expected("a text"));
                    None
                }
            };
            read = read.zip(one).map(|(mut read, (name, text))| {
                read.insert(name, text);
                read
            });
        }
        read
    }
}

impl Labels {
    fn name(&self, text: &str) -> bool {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || (!self.strict && matches!(c, '.' | '-'));
        (1..=64).contains(&text.len()) && text.chars().all(good) && !text.starts_with(|c: char| c.is_ascii_digit())
    }
}
