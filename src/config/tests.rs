//! What a configuration file means, and what is found in a bad one.

mod found;
mod keys;
mod meant;
mod wild;

use super::*;

/// A good beginning, ended by an open `[pools.superset]`.
const PREAMBLE: &str = "[[listeners]]\naddress = \"127.0.0.1:8080\"\n[pools.superset]\nendpoints = [\"a:8088\"]\n";

fn parse(text: &str) -> Result<Loaded, Findings> {
    Config::parse(text, Path::new("/etc/sluicegate/superset.toml"))
}

/// A good configuration with something more in it.
fn with(more: &str) -> Loaded {
    parse(&format!("{PREAMBLE}{more}")).unwrap_or_else(|findings| panic!("{}", findings.render(false)))
}

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
