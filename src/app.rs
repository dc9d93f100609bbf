//! Runs the proxy.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::{Config, Findings};
use crate::lexicon::ListenerName;

/// How to run.
pub struct Options {
    /// Where the configuration comes from.
    pub config: ConfigFrom,
    /// Called once everything is bound and served.
    pub ready: Option<Ready>,
}

/// Hears what was bound.
pub type Ready = Box<dyn FnOnce(&Bound) + Send>;

/// Where the configuration comes from.
#[derive(Debug)]
pub enum ConfigFrom {
    /// A file, read again on reload.
    File(PathBuf),
    /// As given; there is nothing to reload.
    Built(Box<Config>),
}

/// What was bound.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    /// Listeners with their addresses, ports filled in.
    pub listeners: Vec<(ListenerName, SocketAddr)>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
}

/// Why the proxy did not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration was refused.
    #[error("configuration refused")]
    Configuration(Findings),
    /// Not in this build.
    #[error("not in this build")]
    Absent,
}

/// Runs until drained.
///
/// # Errors
/// See [`Error`].
pub fn run(options: Options) -> Result<(), Error> {
    drop(options);
    Err(Error::Absent)
}
