//! What is wrong, or unwise, in a configuration.
//!
//! Floor 1. Collected while `raw` reads a file, all of them before anything is reported. Each [`Finding`] carries its
//! place and its source line, so that it can be shown when the text is gone. Secrets in the source line are masked
//! before a finding is made. Deliberately absent: printing and exit codes (`cli` does both).

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted, but something in it is unsafe or without effect.
    Warning,
}

impl Severity {
    /// The word used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong or unwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Error or warning.
    pub severity: Severity,
    /// The file it is in.
    pub file: PathBuf,
    /// Line from 1; 0 when it concerns the file as a whole.
    pub line: usize,
    /// Column from 1, in characters; 0 when it concerns the file as a whole.
    pub column: usize,
    /// Path of the key, e.g. `pools.superset.health.interval`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, e.g. `is out of range`.
    pub problem: String,
    /// What was found there, as written; `None` when something is missing, or must not be shown.
    pub found: Option<String>,
    /// What would be right, e.g. `a duration from 1s to 5m`; empty if `problem` says all.
    pub expected: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line as written, secrets masked.
    excerpt: String,
    /// The place within the line, in bytes.
    within: Range<usize>,
}

impl Finding {
    /// A finding about a place in a text. `mask` lists the byte ranges that must not be shown.
    pub(super) fn at(file: &Path, text: &str, span: &Range<usize>, mask: &[Range<usize>]) -> Self {
        let start = floor_boundary(text, span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| start + at);
        let hide = |(at, c): (usize, char)| {
            let hidden = mask.iter().any(|range| range.contains(&(line_start + at)));
            std::iter::repeat_n(if hidden { '*' } else { c }, if hidden { c.len_utf8() } else { 1 })
        };
        let line = text.get(line_start..line_end).unwrap_or_default();
        let end = floor_boundary(text, span.end.min(line_end)).max(start);
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text.get(line_start..start).unwrap_or_default().chars().count() + 1,
            key: String::new(),
            problem: String::new(),
            found: None,
            expected: String::new(),
            help: None,
            excerpt: line.char_indices().flat_map(hide).collect::<String>().trim_end_matches('\r').to_owned(),
            within: start - line_start..end - line_start,
        }
    }

    /// A finding about a file as a whole.
    pub(super) fn whole_file(file: &Path, problem: String) -> Self {
        let mut finding = Self::at(file, "", &(0..0), &[]);
        (finding.line, finding.column, finding.problem) = (0, 0, problem);
        finding
    }

    /// The finding with its source line and a caret under the place.
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.headline());
        let file = self.file.to_string_lossy();
        // Control characters would shift the caret or worse; the excerpt keeps its byte positions.
        let excerpt: String = self.excerpt.chars().flat_map(visible).collect();
        let within = floor_boundary(&excerpt, self.within.start)..floor_boundary(&excerpt, self.within.end);
        let label = (!self.expected.is_empty()).then(|| format!("expected {}", self.expected));
        let mark = AnnotationKind::Primary.span(within).label(label);
        let help = self.help.as_deref().map(|help| Level::HELP.message(help));
        let group = if self.line == 0 {
            let expected =
                (!self.expected.is_empty()).then(|| Level::NOTE.message(format!("expected {}", self.expected)));
            title.elements(expected).elements(help)
        } else {
            let snippet = Snippet::source(excerpt).path(&*file).line_start(self.line).annotation(mark);
            title.element(snippet).elements(help)
        };
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    fn headline(&self) -> String {
        let place = match (self.line, self.key.is_empty()) {
            (0, true) => format!("{} ", self.file.display()),
            (0, false) => format!("{}: `{}` ", self.file.display(), self.key),
            (_, true) => String::new(),
            (_, false) => format!("`{}` ", self.key),
        };
        place + &self.problem
    }
}

/// One line: `file:line:column: severity: key problem, found …, expected …`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line != 0 {
            write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        }
        write!(f, "{}: {}", self.severity.as_str(), self.headline())?;
        if let Some(found) = &self.found {
            write!(f, ", found {found}")?;
        }
        if !self.expected.is_empty() {
            write!(f, ", expected {}", self.expected)?;
        }
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

/// Findings in the order of the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Sorts by place, and drops what is said twice.
    pub(super) fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| (finding.line, finding.column, finding.severity));
        findings.dedup();
        Self(findings)
    }

    /// Each of them, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All of them with their source lines, a blank line between two.
    pub fn render(&self, colour: bool) -> String {
        let rendered: Vec<String> = self.0.iter().map(|finding| finding.render(colour)).collect();
        rendered.join("\n\n")
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// One line each.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.0.iter().enumerate() {
            write!(f, "{}{finding}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

/// The character itself, or one `?` per byte for what a terminal might obey.
fn visible(c: char) -> std::iter::RepeatN<char> {
    let hidden = c.is_control() && c != '\t';
    std::iter::repeat_n(if hidden { '?' } else { c }, if hidden { c.len_utf8() } else { 1 })
}

/// The character boundary at or before a byte.
fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}
