//! `run --config FILE`: serve until told to end.

use std::path::Path;

use super::Exit;
use super::output::Output;
use crate::app::{self, Options};

/// Runs the proxy. Blocks until it has drained or failed.
pub(super) fn run(file: &Path, output: &mut Output) -> Exit {
    finish(app::run(Options { file: file.to_owned(), ready: None }), output)
}

/// Tells how a run ended.
pub(super) fn finish(ended: Result<(), app::Error>, output: &mut Output) -> Exit {
    match ended {
        Ok(()) => Exit::Done,
        Err(app::Error::Configuration(findings)) => {
            output.error(findings.render(false));
            Exit::Configuration
        }
        Err(error) => {
            let mut text = format!("sluicegate: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            output.error(text);
            Exit::Failed
        }
    }
}
