//! The configuration as meant.
//!
//! Floor 1. A file is typed twice: `raw` is what was written, [`Config`] is what was meant, with every default filled
//! in and every value in its range. Nothing above this floor sees `raw`. In: TOML text. Out: a [`Config`] or
//! all findings at once. Deliberately absent: anything that opens a socket or reads a key file's content.

mod catalogue;
pub mod collector;
pub mod findings;
pub mod listener;
mod masked;
mod mode;
pub mod objectives;
pub mod otlp;
pub mod outline;
pub mod pool;
pub mod process;
pub mod quota;
mod raw;
pub mod recorder;
pub mod redis;
pub mod route;
pub mod secret;
pub mod shield;
pub mod sink;
pub mod units;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::lexicon::PoolName;

pub use catalogue::{Explanation, UnknownKey, explain, reference, schema};
pub use findings::{Finding, Findings, Severity};
pub use listener::Listener;
pub use mode::Mode;
pub use pool::Pool;
pub use process::{AccessLog, Admin, Clients, FaultPages, Process};
pub use recorder::Recorder;
pub use route::Route;
pub use secret::{Secret, SecretSource};
pub use shield::Shield;
pub use sink::Sink;

/// Longest configuration file; a mistaken path must not fill the memory.
const LONGEST: u64 = 4 << 20;

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process: workers, global bounds, drain.
    pub process: Process,
    /// What is believed about clients and what is told to endpoints about them.
    pub clients: Clients,
    /// Bound addresses. At least one.
    pub listeners: Vec<Arc<Listener>>,
    /// Sets of interchangeable endpoints. Names are unique.
    pub pools: Vec<Arc<Pool>>,
    /// Tried by specificity: longer host first, then longer path. The default route for `/` is added when a
    /// configuration has one pool and no routes.
    pub routes: Vec<Arc<Route>>,
    /// What is asked of requests first.
    pub shield: Shield,
    /// The operators' listener; `None` when switched off.
    pub admin: Option<Admin>,
    /// Where records go.
    pub access_log: AccessLog,
    /// What collectors are sent beside records.
    pub otlp: otlp::Exports,
    /// What of the exchanges is kept in memory.
    pub recorder: Recorder,
    /// Own pages for faults.
    pub fault_pages: FaultPages,
    /// How bans come about, grow and end.
    pub bans: quota::Bans,
    /// What clients may have over time and at once. Names are unique.
    pub limits: Vec<quota::Limit>,
    /// The guard of logins; `None` when switched off.
    pub login: Option<quota::Login>,
    /// Where proxies share what they count; `None` when they do not.
    pub redis: Option<redis::Redis>,
}

/// A configuration with what else its reading brought up.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was meant.
    pub config: Config,
    /// What is unsafe or without effect; never an error.
    pub warnings: Findings,
    /// The configuration file, then every file that it names and that is read: a change of one calls for a reload.
    pub files: Vec<PathBuf>,
    /// The keys as written.
    pub outline: outline::Outline,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// All findings of the file, at least one of them an error; or one that it cannot be read.
    pub fn load(file: &Path) -> Result<Loaded, Findings> {
        let unreadable = |problem: String| Findings::new(vec![Finding::whole_file(file, problem)]);
        let mut bytes = Vec::new();
        let read = std::fs::File::open(file).and_then(|opened| opened.take(LONGEST + 1).read_to_end(&mut bytes));
        match read {
            Ok(length) if length as u64 > LONGEST => Err(unreadable("is longer than 4 MiB".into())),
            Ok(_) => Self::parse_bytes(&bytes, file),
            Err(error) => Err(unreadable(format!("cannot be read: {error}"))),
        }
    }

    /// Reads a configuration from memory. Relative file names in it belong to the directory of `file`.
    ///
    /// # Errors
    /// All findings, at least one of them an error.
    pub fn parse(text: &str, file: &Path) -> Result<Loaded, Findings> {
        raw::resolve(text, file)
    }

    /// Reads a configuration from bytes that may not be UTF-8.
    ///
    /// # Errors
    /// All findings, at least one of them an error.
    pub fn parse_bytes(bytes: &[u8], file: &Path) -> Result<Loaded, Findings> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text.strip_prefix('\u{feff}').unwrap_or(text), file),
            Err(error) => {
                let problem = format!("is not UTF-8 from byte {}", error.valid_up_to());
                Err(Findings::new(vec![Finding::whole_file(file, problem)]))
            }
        }
    }

    /// The pool of that name.
    pub fn pool(&self, name: &PoolName) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| &pool.name == name)
    }
}

#[cfg(test)]
mod tests;
