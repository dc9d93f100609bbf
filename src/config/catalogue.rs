//! All keys, for people and editors.
//!
//! Floor 1, pure. In: the sections of `raw`. Out: JSON Schema, the explanation of one key, the README's reference.
//! Nothing is written twice: names, ranges, defaults and words come from where the reader takes them.

use std::fmt;

use serde_json::{Value, json};

use super::raw::key::{Absence, Below, Entry, Nesting, Section};
use super::raw::{ROOT, nearest, section_schema};

/// What one key is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// Its path; `NAME` stands for a name of the operator's choice.
    pub key: String,
    /// What it does.
    pub doc: String,
    /// What to write, e.g. `duration`.
    pub shape: String,
    /// What it must lie between; empty when everything of its shape goes.
    pub range: String,
    /// Its default as TOML, or in words what happens without it; `None` when it is required.
    pub default: Option<String>,
    /// Paths of the keys below it.
    pub below: Vec<String>,
}

/// There is no such key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no key `{key}`")]
pub struct UnknownKey {
    /// What was asked for.
    pub key: String,
    /// What may have been meant, best first.
    pub near: Vec<String>,
}

/// The JSON Schema of a configuration file (draft 2020-12).
pub fn schema() -> Value {
    let mut schema = section_schema(&ROOT);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        fields.insert("title".into(), json!("Sluicegate"));
    }
    schema
}

/// What a key is about. Its path may be written as in a finding (`pools.superset.health.interval`), with `NAME`, or be
/// shortened to its end as long as that is unambiguous (`health.interval`).
///
/// # Errors
/// No key has that path, or several end with it; then they are named.
pub fn explain(key: &str) -> Result<Explanation, UnknownKey> {
    let all = all();
    let wanted = segments(key);
    if let Some(row) = all.iter().find(|row| row.matches(&wanted)) {
        return Ok(row.clone());
    }
    let ending: Vec<&Explanation> = all.iter().filter(|row| row.ends_with(&wanted)).collect();
    if let [row] = ending.as_slice() {
        return Ok((*row).clone());
    }
    let near = if ending.is_empty() { near(&all, &wanted) } else { ending.iter().map(|row| row.key.clone()).collect() };
    Err(UnknownKey { key: key.to_owned(), near })
}

/// The reference of all keys as Markdown: a heading and a table for each section.
pub fn reference() -> String {
    let mut text = String::new();
    write_section(&mut text, "", "", &ROOT);
    text
}

impl Explanation {
    fn of(prefix: &str, entry: &dyn Entry) -> Self {
        let kind = entry.kind();
        Self {
            key: format!("{prefix}{}", entry.name()),
            doc: entry.doc(),
            shape: kind.shape(),
            range: kind.range(),
            default: match entry.absence() {
                Absence::Error => None,
                Absence::Default(text) => Some(text.replace('\'', "\"")),
                Absence::Means(text) => Some(text.to_owned()),
            },
            below: Vec::new(),
        }
    }

    fn matches(&self, wanted: &[&str]) -> bool {
        let own: Vec<&str> = self.key.split('.').collect();
        own.len() == wanted.len() && own.iter().zip(wanted).all(|(own, wanted)| own == wanted || *own == "NAME")
    }

    fn ends_with(&self, wanted: &[&str]) -> bool {
        let own: Vec<&str> = self.key.split('.').collect();
        !wanted.is_empty() && own.ends_with(wanted)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n\n{}\n", self.key, self.doc)?;
        writeln!(f, "  write    {}", self.shape)?;
        if !self.range.is_empty() {
            writeln!(f, "  range    {}", self.range)?;
        }
        match &self.default {
            Some(default) => writeln!(f, "  default  {default}")?,
            None => writeln!(f, "  required")?,
        }
        if !self.below.is_empty() {
            writeln!(f, "\n  keys below:")?;
        }
        self.below.iter().try_for_each(|key| writeln!(f, "    {key}"))
    }
}

/// Every key, sections before what is in them.
fn all() -> Vec<Explanation> {
    let mut rows = Vec::new();
    collect(&mut rows, "", &ROOT);
    rows
}

fn collect(rows: &mut Vec<Explanation>, prefix: &str, section: &dyn Section) {
    for entry in section.entries() {
        let mut row = Explanation::of(prefix, entry);
        let mut inner = Vec::new();
        if let Some(Below { nesting, section }) = entry.kind().below() {
            let prefix = prefix_below(&row.key, nesting);
            row.below = section.entries().iter().map(|entry| format!("{prefix}{}", entry.name())).collect();
            collect(&mut inner, &prefix, section);
        }
        rows.push(row);
        rows.append(&mut inner);
    }
}

/// The path without the positions of a finding: `routes[0].path` is `routes.path`.
fn segments(key: &str) -> Vec<&str> {
    let bare = |segment: &'_ str| segment.find('[').unwrap_or(segment.len());
    let split = key.trim().split('.');
    split.filter_map(|segment| segment.get(..bare(segment))).filter(|segment| !segment.is_empty()).collect()
}

fn near(all: &[Explanation], wanted: &[&str]) -> Vec<String> {
    let wanted_path = wanted.join(".");
    let path = nearest(&wanted_path, all.iter().map(|row| row.key.as_str()));
    let last = wanted.last().copied().unwrap_or_default();
    let name = |row: &Explanation| row.key.rsplit('.').next().unwrap_or_default().to_owned();
    let names: Vec<String> = all.iter().map(name).collect();
    let close = nearest(last, names.iter().map(String::as_str));
    let same_name = all.iter().zip(&names).filter(|(_, name)| close == Some(name)).map(|(row, _)| row.key.as_str());
    let mut near: Vec<String> = Vec::new();
    for key in same_name.chain(path).take(8) {
        if !near.iter().any(|known| known == key) {
            near.push(key.to_owned());
        }
    }
    near
}

fn write_section(text: &mut String, path: &str, heading: &str, section: &dyn Section) {
    let rows: Vec<Explanation> = section.entries().iter().map(|entry| Explanation::of(path, *entry)).collect();
    if !heading.is_empty() {
        text.push_str(&format!("### `{heading}`\n\n{}\n\n", section.about()));
        text.push_str("| key | value | default | |\n| --- | --- | --- | --- |\n");
        for (row, entry) in rows.iter().zip(section.entries()) {
            text.push_str(&table_row(row, entry));
        }
        text.push('\n');
    }
    for (row, entry) in rows.iter().zip(section.entries()) {
        if let Some(Below { nesting, section }) = entry.kind().below() {
            let path = prefix_below(&row.key, nesting);
            let key = path.trim_end_matches('.');
            let heading = if nesting == Nesting::Many { format!("[[{key}]]") } else { format!("[{key}]") };
            write_section(text, &path, &heading, section);
        }
    }
}

/// How the paths of the keys below a key begin.
fn prefix_below(key: &str, nesting: Nesting) -> String {
    match nesting {
        Nesting::One | Nesting::Many => format!("{key}."),
        Nesting::Named => format!("{key}.NAME."),
    }
}

fn table_row(row: &Explanation, entry: &dyn Entry) -> String {
    let default = match entry.absence() {
        Absence::Error => "required".into(),
        Absence::Default("{}") => "see below".into(),
        Absence::Default(_) => format!("`{}`", row.default.as_deref().unwrap_or_default()),
        Absence::Means(text) => text.to_owned(),
    };
    let range = if row.range.is_empty() { String::new() } else { format!(", {}", row.range) };
    let value = format!("{}{range}", row.shape).replace('|', "\\|");
    format!("| `{}` | {value} | {} | {} |\n", entry.name(), default.replace('|', "\\|"), row.doc.replace('|', "\\|"))
}
