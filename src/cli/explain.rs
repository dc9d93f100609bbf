//! `explain KEY`, `schema`, `version`: what this build knows about itself.

use super::Exit;
use super::output::Output;
use crate::config::{self, Explanation};

/// Says what a key does; without one, the reference of all keys.
pub(super) fn run(key: Option<&str>, output: &mut Output) -> Exit {
    let Some(key) = key else {
        output.text(config::reference());
        return Exit::Done;
    };
    match config::explain(key) {
        Ok(explanation) => {
            output.text(describe(&explanation));
            Exit::Done
        }
        Err(unknown) => {
            output.error(&unknown);
            if !unknown.near.is_empty() {
                output.error(format_args!("did you mean {}?", unknown.near.join(", ")));
            }
            Exit::Usage
        }
    }
}

/// Prints the JSON Schema of the configuration.
pub(super) fn schema(output: &mut Output) -> Exit {
    output.line(format_args!("{:#}", config::schema()));
    Exit::Done
}

/// Prints the version.
pub(super) fn version(output: &mut Output) -> Exit {
    output.line(concat!("sluicegate ", env!("CARGO_PKG_VERSION")));
    Exit::Done
}

fn describe(explanation: &Explanation) -> String {
    let mut text = format!("{}\n\n  {}\n\n", explanation.key, explanation.doc.trim().replace('\n', "\n  "));
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<9} {value}\n"));
        }
    };
    row("write", &explanation.shape);
    row("range", &explanation.range);
    row("default", explanation.default.as_deref().unwrap_or("none, it must be given"));
    for key in &explanation.below {
        row("has", key);
    }
    text
}
