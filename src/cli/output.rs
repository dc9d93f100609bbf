//! Standard output and error of a command.
//!
//! A closed pipe (`sluicegate schema | head`) is the reader's wish and no error: writing goes on into nothing.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

/// Writes lines for people and programs.
#[derive(Debug)]
pub(crate) struct Output {
    closed: bool,
}

impl Output {
    pub(crate) const fn new() -> Self {
        Self { closed: false }
    }

    /// A line on standard output.
    pub(crate) fn line(&mut self, line: impl fmt::Display) {
        self.text(format_args!("{line}\n"));
    }

    /// Text on standard output, as it is, at once.
    pub(crate) fn text(&mut self, text: impl fmt::Display) {
        if !self.closed {
            let mut stdout = io::stdout().lock();
            self.closed = write!(stdout, "{text}").and_then(|()| stdout.flush()).is_err();
        }
    }

    /// A line on standard error.
    pub(crate) fn error(&self, line: impl fmt::Display) {
        // Nobody is left to tell.
        drop(writeln!(io::stderr().lock(), "{line}"));
    }

    /// Whether anybody still reads standard output.
    pub(crate) const fn is_open(&self) -> bool {
        !self.closed
    }

    /// Whether standard output shows colours and can be drawn over.
    pub(crate) fn is_terminal(&self) -> bool {
        !self.closed && io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Whether standard output wants colours (<https://no-color.org>).
    pub(crate) fn is_colourful(&self) -> bool {
        self.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }
}

/// Text of clients as a terminal may see it: whatever could drive the terminal is replaced.
pub(crate) fn visible(text: &str) -> String {
    let hides = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hides(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
