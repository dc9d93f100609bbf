//! The file being read, and values in it with their places.
//!
//! A [`Sheet`] is one file during its reading: its text, and what reading it has brought up so far. A [`Written`] is a
//! value with its key path and place. Deliberately absent: knowledge of any key.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::super::findings::{Finding, Severity};
use super::super::masked::{userinfo, value_without_userinfo, without_userinfo};

/// Most findings reported of one file; the rest would not be read.
const MOST: usize = 100;

/// One file during its reading.
pub(crate) struct Sheet<'a> {
    text: &'a str,
    file: &'a Path,
    /// Names of the pools as written, so that a route can be checked before, and even if not, they resolve.
    pub(crate) pools: Vec<String>,
    /// Names of the limits, likewise, for rules.
    pub(crate) limits: Vec<String>,
    /// Byte ranges that must not be shown.
    mask: RefCell<Vec<Range<usize>>>,
    findings: RefCell<Vec<(Severity, Place, Words)>>,
    files: RefCell<Vec<PathBuf>>,
}

impl<'a> Sheet<'a> {
    pub(crate) fn new(text: &'a str, file: &'a Path, pools: Vec<String>, limits: Vec<String>) -> Self {
        let (mask, findings) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        Self { text, file, pools, limits, mask, findings, files: RefCell::new(Vec::new()) }
    }

    /// A file name as meant: relative ones belong to the configuration's directory.
    pub(crate) fn resolve(&self, name: &str) -> PathBuf {
        self.file.parent().map_or_else(|| PathBuf::from(name), |directory| directory.join(name))
    }

    /// Notes a file that the configuration depends on.
    pub(crate) fn watch(&self, file: &Path) {
        let mut files = self.files.borrow_mut();
        if !files.iter().any(|known| known == file) {
            files.push(file.to_owned());
        }
    }

    /// What was found, and the files to watch. Findings are made only now that all secrets are known.
    pub(crate) fn into_results(self) -> (Vec<Finding>, Vec<PathBuf>) {
        let mut mask = self.mask.into_inner();
        mask.extend(userinfo(self.text));
        let finding = |(severity, place, words): (Severity, Place, Words)| {
            let mut finding = match place.span.end {
                // Only the file as a whole has no place: something is missing from it.
                0 => Finding::whole_file(self.file, String::new()),
                _ => Finding::at(self.file, self.text, &place.span, &mask),
            };
            finding.severity = severity;
            finding.key = place.path;
            finding.problem = without_userinfo(&words.problem);
            finding.found = words.found.as_deref().map(without_userinfo);
            finding.expected = words.expected;
            finding.help = words.help.as_deref().map(without_userinfo);
            finding
        };
        (self.findings.into_inner().into_iter().map(finding).collect(), self.files.into_inner())
    }

    pub(crate) fn report(&self, severity: Severity, place: &Place, words: Words) {
        let mut findings = self.findings.borrow_mut();
        if findings.len() < MOST {
            findings.push((severity, place.clone(), words));
        }
    }
}

/// Where a value stands, and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Path of the key; empty for the whole file.
    pub(crate) path: String,
    /// Bytes in the file.
    pub(crate) span: Range<usize>,
}

/// What a finding says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    problem: String,
    found: Option<String>,
    expected: String,
    help: Option<String>,
}

impl Words {
    /// What is wrong, to follow the key: `is out of range`.
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), ..Self::default() }
    }

    /// What was found there.
    pub(crate) fn found(self, found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), ..self }
    }

    /// What would be right, to follow `expected`.
    pub(crate) fn expected(self, expected: impl Into<String>) -> Self {
        Self { expected: expected.into(), ..self }
    }

    /// What to do about it.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// `did you mean`, if one of the names is close to what was written.
    pub(crate) fn near<'n>(self, written: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        match nearest(written, names) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// The name that was probably meant.
pub(crate) fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let written = written.to_ascii_lowercase().replace('-', "_");
    let likeness = |name: &str| strsim::jaro_winkler(&written, &name.to_ascii_lowercase().replace('-', "_"));
    let scored = names.into_iter().map(|name| (likeness(name), name));
    let best = scored.filter(|&(score, _)| score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, name)| name)
}

/// A value in the file.
#[derive(Clone)]
pub(crate) struct Written<'a> {
    pub(crate) value: &'a DeValue<'a>,
    pub(crate) place: Place,
    pub(crate) sheet: &'a Sheet<'a>,
    /// Whether this is a default, whose places are those of the table that lacks it.
    pub(crate) implied: bool,
}

impl<'a> Written<'a> {
    /// A value below this one.
    pub(crate) fn below(&self, name: &str, span: Range<usize>, value: &'a DeValue<'a>) -> Self {
        let joint = if self.place.path.is_empty() || name.starts_with('[') { "" } else { "." };
        let path = format!("{}{joint}{name}", self.place.path);
        let span = if self.implied { self.place.span.clone() } else { span };
        Self { value, place: Place { path, span }, sheet: self.sheet, implied: self.implied }
    }

    pub(crate) fn error(&self, words: Words) {
        self.sheet.report(Severity::Error, &self.place, words);
    }

    /// An error about the value itself: what it is will be shown.
    pub(crate) fn refuse(&self, problem: &str, expected: impl Into<String>) {
        self.error(Words::new(problem).expected(expected).found(self.found()));
    }

    /// An error about the kind of value.
    pub(crate) fn wrong_type(&self, expected: &str) {
        self.refuse(&format!("cannot be {}", self.article()), expected);
    }

    /// The value in short.
    pub(crate) fn found(&self) -> String {
        let short = |text: &str| text.chars().take(60).collect::<String>();
        match self.value {
            // Before it is cut: half a password is too much, too.
            DeValue::String(text) => format!("{:?}", short(&value_without_userinfo(text))),
            DeValue::Integer(number) => short(number.as_str()),
            DeValue::Float(number) => short(number.as_str()),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(value) => value.to_string(),
            DeValue::Array(_) | DeValue::Table(_) => self.article().to_owned(),
        }
    }

    const fn article(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        }
    }

    /// An integer of any radix, if it is one that fits.
    pub(crate) fn integer(&self) -> Option<i128> {
        let number = self.value.as_integer()?;
        i128::from_str_radix(number.as_str(), number.radix()).ok()
    }

    /// The whole value must not be shown by any finding from now on.
    pub(crate) fn hide(&self) {
        if !self.implied {
            self.sheet.mask.borrow_mut().push(self.place.span.clone());
        }
    }
}
