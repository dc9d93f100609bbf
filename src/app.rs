//! Builds, runs, reloads and ends the whole; readable from top to bottom.
//!
//! Floor 7, the composition root. [`run`] reads the configuration, binds every address, starts the workers, and then
//! stays on the control runtime: checks, names, watched files, signals, the admin listener. Deliberately absent: the
//! data plane, which lives in the workers and asks for nothing here.

mod admin;
mod background;
mod bound;
mod discover;
mod end;
mod generations;
mod observe;
mod reload;
mod service;
mod sinks;
mod start;
mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Findings;
use crate::config::secret::SecretError;
use crate::control::transport::TransportError;
use crate::lexicon::{ListenerName, SinkName};
use crate::snapshot::{BuildError, Live};
use crate::telemetry::metrics::Metrics;
use crate::tls;

/// What to run.
pub struct Options {
    /// The configuration file.
    pub file: PathBuf,
    /// Called once everything is bound and running.
    pub ready: Option<Box<dyn FnOnce(Running) + Send>>,
}

/// What is running, for who embeds it.
#[derive(Clone, Debug)]
pub struct Running {
    /// Bound addresses.
    pub listeners: Vec<(ListenerName, SocketAddr)>,
    /// The admin listener's address.
    pub admin: Option<SocketAddr>,
    /// The snapshot in use.
    pub live: Arc<Live>,
    /// All metrics.
    pub metrics: Metrics,
}

/// Why a run ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration was refused.
    #[error("configuration refused: {0}")]
    Configuration(Findings),
    /// The configuration names something that cannot be used.
    #[error("{}", all(.0))]
    Build(Vec<BuildError>),
    /// A certificate, a key or a client authority cannot be used.
    #[error("{}", all(.0))]
    Tls(Vec<tls::LoadError>),
    /// A secret cannot be read.
    #[error("{what}")]
    Secret {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// A log sink names a file or a secret that cannot be used.
    #[error("log sink {sink}")]
    Sink {
        /// Which one.
        sink: SinkName,
        /// Why.
        #[source]
        source: Box<TransportError>,
    },
    /// A collector of traces or metrics needs a file or a secret that cannot be used.
    #[error("otlp.{signal}")]
    Export {
        /// `traces` or `metrics`.
        signal: &'static str,
        /// Why.
        #[source]
        source: Box<TransportError>,
    },
    /// The admin token is too short to be one, or has bytes that no request can carry.
    #[error("admin token must be {least} or more visible ASCII characters")]
    Token {
        /// Shortest length.
        least: usize,
    },
    /// An address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A UDP port cannot be bound.
    #[error("cannot listen on {address} for UDP, which HTTP/3 needs (`http3 = false` does without)")]
    BindUdp {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A Unix socket cannot be bound.
    #[error("cannot listen on {}", path.display())]
    BindPath {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No keys for QUIC.
    #[error("QUIC")]
    Quic(#[source] crate::serve::quic::NoKeys),
    /// Events cannot be written.
    #[error("events")]
    Events(#[source] crate::telemetry::events::InstallError),
    /// The system gives no thread, no runtime or no signal handler.
    #[error("{what}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A background task without which nothing works has ended.
    #[error("{0} has ended")]
    Task(&'static str),
}

fn all<E: std::error::Error>(errors: &[E]) -> String {
    let mut text = String::new();
    for error in errors {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&crate::telemetry::events::Chain(error).to_string());
    }
    text
}

/// Runs until it is told to end or cannot go on. Blocks.
///
/// # Errors
/// Everything that keeps it from starting; after that only the end of an indispensable task.
pub fn run(options: Options) -> Result<(), Error> {
    // Where the kernel gives huge pages unasked, each 4 KiB that is touched takes 2 MiB, zeroed first: twice the memory,
    // and no less CPU time (benches/README.md). A kernel that knows no such wish has none to give.
    let _without = rustix::thread::disable_transparent_huge_pages(true);
    start::run(options)
}
