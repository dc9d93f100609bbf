//! What a configuration file means, and what is found in a bad one.

mod golden;
mod meaning;

use std::path::Path;

use super::*;

const PREAMBLE: &str = "[[listeners]]\naddress = \"127.0.0.1:8080\"\n[pools.superset]\nendpoints = [\"a:8088\"]\n";

fn parse(text: &str) -> Result<Loaded, Findings> {
    Config::parse(text, Path::new("/etc/sluicegate/superset.toml"))
}

/// A good configuration with something more in it.
fn with(more: &str) -> Loaded {
    parse(&format!("{PREAMBLE}{more}")).unwrap_or_else(|findings| panic!("{}", findings.render(false)))
}

/// The findings of a good configuration with something bad in it.
fn spoilt(more: &str) -> Findings {
    match parse(&format!("{PREAMBLE}{more}")) {
        Ok(loaded) => loaded.warnings,
        Err(findings) => findings,
    }
}
