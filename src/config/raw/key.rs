//! How a key is described, once for all uses.
//!
//! A [`Key`] holds name, documentation, [`Kind`] (what may be written, with range and unit) and presence (default,
//! optional or required). The reader, the JSON Schema, `explain` and the README's reference derive from it, so that
//! they cannot disagree: a default is written as TOML text and read like the user's own.
//!
//! To add a key: one line in its `section!`, one `table.get` where that section is resolved.

use std::ops::Range;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::super::findings::Severity;
use super::sheet::{Place, Words, Written};

/// What may be written for a key, as documentation sees it.
pub(crate) trait Describe: Sync {
    /// What to write, e.g. `duration`.
    fn shape(&self) -> String;

    /// What it must lie between, or choices; empty when everything of the shape goes.
    fn range(&self) -> String {
        String::new()
    }

    /// Its JSON Schema.
    fn schema(&self) -> Value;

    /// The keys below.
    fn below(&self) -> Option<Below> {
        None
    }
}

/// The keys below a key.
#[derive(Clone, Copy)]
pub(crate) struct Below {
    pub(crate) nesting: Nesting,
    pub(crate) section: &'static dyn Section,
}

/// How a table stands below a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Nesting {
    /// `[key]`.
    One,
    /// `[[key]]`.
    Many,
    /// `[key.NAME]`.
    Named,
}

/// What may be written for a key, as the reader sees it.
pub(crate) trait Kind: Describe {
    /// What it means.
    type Value;

    /// The meaning, or `None` with the reasons reported.
    fn read(&self, written: &Written<'_>) -> Option<Self::Value>;
}

/// One key of a section.
pub(crate) struct Key<K, P> {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static [&'static str],
    pub(crate) kind: K,
    pub(crate) presence: P,
}

/// What happens without the key.
pub(crate) trait Presence: Sync {
    /// What the reader gets for a value of type `V`.
    type Of<V>;

    /// What the key means when it is not written.
    fn absent<K: Kind>(&self, kind: &K, key: &str, table: &Table<'_>) -> Option<Self::Of<K::Value>>;

    /// What it means when it is.
    fn present<V>(value: V) -> Self::Of<V>;

    /// For documentation.
    fn describe(&self) -> Absence;
}

/// What happens without a key, for documentation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Absence {
    /// It is an error.
    Error,
    /// This TOML text counts.
    Default(&'static str),
    /// This happens.
    Means(&'static str),
}

/// The default, as TOML text.
pub(crate) struct Or(pub(crate) &'static str);

/// Optional; the text says what its absence means.
pub(crate) struct May(pub(crate) &'static str);

/// Required.
pub(crate) struct Must();

impl Presence for Or {
    type Of<V> = V;

    fn absent<K: Kind>(&self, kind: &K, key: &str, table: &Table<'_>) -> Option<K::Value> {
        let default = DeValue::parse(self.0).ok()?;
        let mut written = table.written.below(key, table.written.place.span.clone(), default.get_ref());
        written.implied = true;
        kind.read(&written)
    }

    fn present<V>(value: V) -> V {
        value
    }

    fn describe(&self) -> Absence {
        Absence::Default(self.0)
    }
}

impl Presence for May {
    type Of<V> = Option<V>;

    fn absent<K: Kind>(&self, _: &K, _: &str, _: &Table<'_>) -> Option<Option<K::Value>> {
        Some(None)
    }

    fn present<V>(value: V) -> Option<V> {
        Some(value)
    }

    fn describe(&self) -> Absence {
        Absence::Means(self.0)
    }
}

impl Presence for Must {
    type Of<V> = V;

    fn absent<K: Kind>(&self, kind: &K, key: &str, table: &Table<'_>) -> Option<K::Value> {
        let missing = table.written.below(key, table.written.place.span.clone(), table.written.value);
        missing.error(Words::new("is missing").expected(kind.shape()));
        None
    }

    fn present<V>(value: V) -> V {
        value
    }

    fn describe(&self) -> Absence {
        Absence::Error
    }
}

/// A key as documentation sees it.
pub(crate) trait Entry: Sync {
    fn name(&self) -> &'static str;
    fn doc(&self) -> String;
    fn kind(&self) -> &dyn Describe;
    fn absence(&self) -> Absence;
}

impl<K: Describe, P: Presence> Entry for Key<K, P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> String {
        join(self.doc)
    }

    fn kind(&self) -> &dyn Describe {
        &self.kind
    }

    fn absence(&self) -> Absence {
        self.presence.describe()
    }
}

/// The keys of one table. Made by `section!`.
pub(crate) trait Section: Sync {
    /// What the table is for.
    fn about(&self) -> String;

    /// Its keys in the order of the documentation.
    fn entries(&self) -> Vec<&dyn Entry>;
}

/// Documentation lines as one text.
pub(crate) fn join(lines: &[&str]) -> String {
    let trimmed: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    trimmed.join(" ")
}

/// Declares the keys of a table: documentation, name, kind, presence.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $visibility:vis $section:ident: $keys:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $kind:ty = $value:expr, $presence:ident($($text:literal)?);
            )+
        }
    ) => {
        $visibility struct $keys {
            $($key: Key<$kind, $presence>,)+
        }

        $visibility static $section: $keys = $keys {
            $($key: Key {
                name: stringify!($key),
                doc: &[$($doc),+],
                kind: $value,
                presence: $presence($($text)?),
            },)+
        };

        impl Section for $keys {
            fn about(&self) -> String {
                $crate::config::raw::key::join(&[$($about),+])
            }

            fn entries(&self) -> Vec<&dyn Entry> {
                vec![$(&self.$key),+]
            }
        }
    };
}
pub(crate) use section;

/// A table in the file, its keys known to belong to a section.
pub(crate) struct Table<'a> {
    pub(crate) written: Written<'a>,
    keys: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// The table, with unknown keys reported; `None` if it is none.
    pub(crate) fn open(written: &Written<'a>, section: &dyn Section) -> Option<Self> {
        let Some(keys) = written.value.as_table() else {
            written.wrong_type("a table");
            return None;
        };
        let entries = section.entries();
        let names = || entries.iter().map(|entry| entry.name());
        for (key, value) in keys {
            let name = key.get_ref().as_ref();
            if !names().any(|known| known == name) {
                let all = names().collect::<Vec<_>>().join(", ");
                let words = Words::new("is an unknown key").help(format!("known here: {all}")).near(name, names());
                written.below(name, key.span(), value.get_ref()).error(words);
            }
        }
        Some(Self { written: written.clone(), keys })
    }

    /// The meaning of a key, its default if it is not written; `None` with the reasons reported.
    pub(crate) fn get<K: Kind, P: Presence>(&self, key: &Key<K, P>) -> Option<P::Of<K::Value>> {
        match self.find(key.name) {
            Some(written) => key.kind.read(&written).map(P::present),
            None => key.presence.absent(&key.kind, key.name, self),
        }
    }

    /// Whether a key is written.
    pub(crate) fn has<K, P>(&self, key: &Key<K, P>) -> bool {
        self.keys.contains_key(key.name)
    }

    /// Reports an error about a key.
    pub(crate) fn error<K, P>(&self, key: &Key<K, P>, words: Words) {
        self.written.sheet.report(Severity::Error, &self.place(key), words);
    }

    /// Reports something unsafe, or without effect.
    pub(crate) fn warn<K, P>(&self, key: &Key<K, P>, words: Words) {
        self.written.sheet.report(Severity::Warning, &self.place(key), words);
    }

    /// The place of a key's value, or of the table without it.
    pub(crate) fn place<K, P>(&self, key: &Key<K, P>) -> Place {
        let absent = || {
            let span: Range<usize> = self.written.place.span.clone();
            self.written.below(key.name, span, self.written.value)
        };
        self.find(key.name).unwrap_or_else(absent).place
    }

    fn find(&self, name: &str) -> Option<Written<'a>> {
        self.keys.get(name).map(|value| self.written.below(name, value.span(), value.get_ref()))
    }
}
