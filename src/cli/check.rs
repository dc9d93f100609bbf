//! `check FILE`: everything that is wrong or unwise in a configuration.

use std::path::Path;

use super::Exit;
use super::output::Output;
use crate::config::{Config, Loaded, Severity};

/// Reads the configuration, shows all findings, and sums it up.
pub(super) fn run(file: &Path, output: &mut Output) -> Exit {
    let colour = output.is_colourful();
    match Config::load(file) {
        Ok(loaded) => {
            for warning in loaded.warnings.iter() {
                output.line(format_args!("{}\n", warning.render(colour)));
            }
            output.line(format_args!("{}: {}", file.display(), summary(&loaded)));
            Exit::Done
        }
        Err(findings) => {
            output.line(format_args!("{}\n", findings.render(colour)));
            let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
            output.line(format_args!("{}: refused, {}", file.display(), count(errors, "error")));
            Exit::Configuration
        }
    }
}

fn summary(Loaded { config, warnings, .. }: &Loaded) -> String {
    let endpoints = config.pools.iter().map(|pool| pool.endpoints.len()).sum();
    let parts = [
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.pools.len(), "pool"),
        count(endpoints, "endpoint"),
    ];
    let warned = if warnings.is_empty() { String::new() } else { format!(", {}", count(warnings.len(), "warning")) };
    format!("ok{warned} ({})", parts.join(", "))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
