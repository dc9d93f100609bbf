//! Secrets as written: where they are, never what they are.

use http::HeaderName;
use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::super::secret::SecretSource;
use super::key::{Below, Describe, Entry, Key, Kind, May, Nesting, Section, Table, section};
use super::kinds::{File, Parsed, WATCHED, parsed};
use super::shapes::{Sub, sub};
use super::sheet::{Words, Written};
use super::words::header_name;

/// Where a secret is: `{ file = "…" }` or `{ env = "…" }`.
pub(super) struct Secret;

section! {
    /// A secret's place. One of the two.
    SECRET: SecretKeys {
        /// File with the secret; a trailing line end is not part of it.
        file: File = WATCHED, May("none");
        /// Environment variable with the secret.
        env: Parsed<String> = parsed("name of an environment variable", variable), May("none");
    }
}

const PLACE_OF_SECRET: Sub<SecretSource> = sub(&SECRET, secret);

fn secret(table: &Table<'_>) -> Option<SecretSource> {
    match (table.get(&SECRET.file)?, table.get(&SECRET.env)?) {
        (Some(file), None) => Some(SecretSource::File(file)),
        (None, Some(name)) => Some(SecretSource::Env(name)),
        (None, None) | (Some(_), Some(_)) => {
            table.written.error(Words::new("needs one place").expected("{ file = \"...\" } or { env = \"...\" }"));
            None
        }
    }
}

fn variable(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = !text.is_empty() && text.len() <= 256 && text.chars().all(good);
    if named { Ok(text.to_owned()) } else { Err("is no name of a variable".into()) }
}

impl Describe for Secret {
    fn shape(&self) -> String {
        "{ file = \"...\" } or { env = \"...\" }".into()
    }

    fn schema(&self) -> Value {
        let one = |key: &str| json!({ "required": [key] });
        let mut schema = PLACE_OF_SECRET.schema();
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("oneOf".into(), json!([one("file"), one("env")]));
        }
        schema
    }

    fn below(&self) -> Option<Below> {
        PLACE_OF_SECRET.below()
    }
}

impl Kind for Secret {
    type Value = SecretSource;

    fn read(&self, written: &Written<'_>) -> Option<SecretSource> {
        if written.value.is_table() {
            return PLACE_OF_SECRET.read(written);
        }
        // Perhaps the secret itself: say what is wrong, but never show it.
        written.hide();
        let words = Words::new("must not hold a secret itself").expected(self.shape());
        written.error(words.help("configuration files are copied, shown and logged; name the secret's place"));
        None
    }
}

/// Header fields whose values are secrets: `NAME = { file = "..." }`.
pub(super) struct SecretFields;

impl Describe for SecretFields {
    fn shape(&self) -> String {
        "table: header field names with secrets".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "additionalProperties": Secret.schema() })
    }

    fn below(&self) -> Option<Below> {
        Secret.below().map(|below| Below { nesting: Nesting::Named, ..below })
    }
}

impl Kind for SecretFields {
    type Value = Vec<(HeaderName, SecretSource)>;

    fn read(&self, written: &Written<'_>) -> Option<Self::Value> {
        let Some(fields) = written.value.as_table() else {
            written.hide();
            written.error(Words::new("is no table").expected(self.shape()));
            return None;
        };
        let one = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let written = written.below(key.get_ref(), value.span(), value.get_ref());
            let source = Secret.read(&written);
            let name = header_name(key.get_ref());
            if let Err(problem) = &name {
                written.error(Words::new(problem.as_str()).expected("a name such as x-api-key"));
            }
            Some((name.ok()?, source?))
        };
        // Every field is read before the first failure counts.
        let read: Vec<_> = fields.iter().map(one).collect();
        read.into_iter().collect()
    }
}
