//! Values made of values: lists, tables, named tables, switches with settings.

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::json::section_schema;
use super::key::{Below, Describe, Kind, Nesting, Section, Table};
use super::sheet::{Place, Words, Written};

/// A value with its place, for checks that need both.
#[derive(Clone, Debug)]
pub(crate) struct At<V> {
    pub(crate) value: V,
    pub(crate) place: Place,
}

/// The values, if none is broken.
pub(crate) fn whole_list<V>(list: Vec<At<Option<V>>>) -> Option<Vec<V>> {
    list.into_iter().map(|at| at.value).collect()
}

/// Values without their places.
pub(crate) fn values<V>(list: Vec<At<V>>) -> Vec<V> {
    list.into_iter().map(|at| at.value).collect()
}

/// A list of values.
pub(crate) struct List<K> {
    each: K,
    min: usize,
    max: usize,
    /// Whether a single value may stand without brackets.
    lone: bool,
    /// How to write one, for tables.
    written: Option<&'static str>,
}

/// Any number of values up to 1,000.
pub(crate) const fn list<K>(each: K) -> List<K> {
    List { each, min: 0, max: 1_000, lone: false, written: None }
}

impl<K> List<K> {
    /// At least one.
    pub(crate) const fn some(mut self) -> Self {
        self.min = 1;
        self
    }

    /// A single value may stand without brackets.
    pub(crate) const fn or_one(mut self) -> Self {
        self.lone = true;
        self
    }

    /// A list of tables, each under its own `[[header]]`.
    pub(crate) const fn headed(mut self, header: &'static str) -> Self {
        self.written = Some(header);
        self
    }
}

impl<K: Describe> Describe for List<K> {
    fn shape(&self) -> String {
        match (self.lone, self.written) {
            (true, _) => format!("{}, or list", self.each.shape()),
            (false, Some(header)) => format!("`{header}`"),
            (false, None) => format!("list: {}", self.each.shape()),
        }
    }

    fn range(&self) -> String {
        self.each.range()
    }

    fn schema(&self) -> Value {
        let each = self.each.schema();
        let list = json!({ "type": "array", "items": each, "minItems": self.min, "maxItems": self.max });
        if self.lone { json!({ "anyOf": [each, list] }) } else { list }
    }

    fn below(&self) -> Option<Below> {
        self.each.below().map(|below| Below { nesting: Nesting::Many, ..below })
    }
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<At<K::Value>>;

    fn read(&self, written: &Written<'_>) -> Option<Self::Value> {
        let Some(array) = written.value.as_array() else {
            if self.lone {
                return self.each.read(written).map(|value| vec![At { value, place: written.place.clone() }]);
            }
            match self.written {
                Some(header) => written
                    .error(Words::new("must be a list of tables").help(format!("write `{header}` with two brackets"))),
                None => written.wrong_type(&format!("a list of {}", self.each.shape())),
            }
            return None;
        };
        let (problem, expected) = match array.len() {
            short if short < self.min => ("is empty", format!("at least {} of {}", self.min, self.each.shape())),
            long if long > self.max => ("is too long", format!("at most {} of {}", self.max, self.each.shape())),
            _ => ("", String::new()),
        };
        if !problem.is_empty() {
            written.error(Words::new(problem).expected(expected));
            return None;
        }
        let one = |(at, value): (usize, &Spanned<DeValue<'_>>)| {
            let written = written.below(&format!("[{at}]"), value.span(), value.get_ref());
            self.each.read(&written).map(|value| At { value, place: written.place })
        };
        // Every element is read before the first failure counts, so that all are reported.
        let read: Vec<_> = array.iter().enumerate().map(one).collect();
        read.into_iter().collect()
    }
}

/// A table with known keys.
pub(crate) struct Sub<T> {
    section: &'static dyn Section,
    resolve: fn(&Table<'_>) -> Option<T>,
}

/// A table of this section, and what it means.
pub(crate) const fn sub<T>(section: &'static dyn Section, resolve: fn(&Table<'_>) -> Option<T>) -> Sub<T> {
    Sub { section, resolve }
}

impl<T> Describe for Sub<T> {
    fn shape(&self) -> String {
        "table".into()
    }

    fn schema(&self) -> Value {
        section_schema(self.section)
    }

    fn below(&self) -> Option<Below> {
        Some(Below { nesting: Nesting::One, section: self.section })
    }
}

impl<T> Kind for Sub<T> {
    type Value = T;

    fn read(&self, written: &Written<'_>) -> Option<T> {
        (self.resolve)(&Table::open(written, self.section)?)
    }
}

/// Tables under names of the operator's choice.
pub(crate) struct Named<T> {
    header: &'static str,
    section: &'static dyn Section,
    name: fn(&str) -> Result<(), String>,
    resolve: fn(&str, &Table<'_>) -> Option<T>,
}

/// Tables of this section by name.
pub(crate) const fn named<T>(
    header: &'static str,
    section: &'static dyn Section,
    name: fn(&str) -> Result<(), String>,
    resolve: fn(&str, &Table<'_>) -> Option<T>,
) -> Named<T> {
    Named { header, section, name, resolve }
}

impl<T> Describe for Named<T> {
    fn shape(&self) -> String {
        format!("`{}`", self.header)
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "minProperties": 1, "additionalProperties": section_schema(self.section) })
    }

    fn below(&self) -> Option<Below> {
        Some(Below { nesting: Nesting::Named, section: self.section })
    }
}

impl<T> Kind for Named<T> {
    type Value = Vec<At<Option<T>>>;

    fn read(&self, written: &Written<'_>) -> Option<Self::Value> {
        let Some(tables) = written.value.as_table() else {
            written.wrong_type(&self.shape());
            return None;
        };
        if tables.is_empty() {
            written.error(Words::new("is empty").expected(self.shape()));
            return None;
        }
        let mut in_order: Vec<_> = tables.iter().collect();
        in_order.sort_by_key(|(key, _)| key.span().start);
        let one = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let name = key.get_ref().as_ref();
            let named = (self.name)(name);
            if let Err(problem) = &named {
                let words = Words::new(problem.as_str()).expected("letters, digits, `-`, `_` and `.`, at most 64");
                written.below(name, key.span(), value.get_ref()).error(words);
            }
            let written = written.below(name, value.span(), value.get_ref());
            let meant = Table::open(&written, self.section).and_then(|table| (self.resolve)(name, &table));
            At { value: named.ok().and(meant), place: written.place }
        };
        Some(in_order.into_iter().map(one).collect())
    }
}

/// A value that counts as `None` when it is broken, so that checks across values still see the others.
pub(crate) struct Loose<K>(K);

/// The same value, if it is good.
pub(crate) const fn loose<K>(each: K) -> Loose<K> {
    Loose(each)
}

impl<K: Describe> Describe for Loose<K> {
    fn shape(&self) -> String {
        self.0.shape()
    }

    fn schema(&self) -> Value {
        self.0.schema()
    }

    fn below(&self) -> Option<Below> {
        self.0.below()
    }
}

impl<K: Kind> Kind for Loose<K> {
    type Value = Option<K::Value>;

    fn read(&self, written: &Written<'_>) -> Option<Self::Value> {
        Some(self.0.read(written))
    }
}

/// `false` for none, `true` for the defaults, or settings.
pub(crate) struct Switch<K> {
    settings: K,
}

/// `false`, `true` or settings.
pub(crate) const fn switch<K>(settings: K) -> Switch<K> {
    Switch { settings }
}

impl<K: Describe> Describe for Switch<K> {
    fn shape(&self) -> String {
        format!("false, true, or {}", self.settings.shape())
    }

    fn range(&self) -> String {
        self.settings.range()
    }

    fn schema(&self) -> Value {
        json!({ "anyOf": [{ "type": "boolean" }, self.settings.schema()] })
    }

    fn below(&self) -> Option<Below> {
        self.settings.below()
    }
}

impl<T> Kind for Switch<Sub<T>> {
    type Value = Option<T>;

    fn read(&self, written: &Written<'_>) -> Option<Option<T>> {
        match written.value {
            DeValue::Boolean(false) => Some(None),
            DeValue::Boolean(true) => {
                let empty = DeValue::Table(DeTable::new());
                let mut defaults: Written<'_> = written.clone();
                (defaults.value, defaults.implied) = (&empty, true);
                self.settings.read(&defaults).map(Some)
            }
            DeValue::Table(_) => self.settings.read(written).map(Some),
            DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
                written.wrong_type(&self.shape());
                None
            }
        }
    }
}

/// A text for the common case, or a table for all settings.
pub(crate) struct Brief<K, S> {
    text: K,
    table: S,
}

/// A text or a table, both with the same meaning.
pub(crate) const fn brief<K, S>(text: K, table: S) -> Brief<K, S> {
    Brief { text, table }
}

impl<K: Describe, S: Describe> Describe for Brief<K, S> {
    fn shape(&self) -> String {
        format!("{}, or {}", self.text.shape(), self.table.shape())
    }

    fn schema(&self) -> Value {
        json!({ "anyOf": [self.text.schema(), self.table.schema()] })
    }

    fn below(&self) -> Option<Below> {
        self.table.below()
    }
}

impl<K: Kind, S: Kind<Value = K::Value>> Kind for Brief<K, S> {
    type Value = K::Value;

    fn read(&self, written: &Written<'_>) -> Option<K::Value> {
        match written.value {
            DeValue::String(_) => self.text.read(written),
            DeValue::Table(_) => self.table.read(written),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                written.wrong_type(&self.shape());
                None
            }
        }
    }
}
