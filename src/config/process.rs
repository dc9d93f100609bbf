//! Sections about the process as a whole: `[process]`, `[clients]`, `[admin]`, `[access_log]`, `[fault_pages]`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::listener::Tls;
pub use super::secret::SecretSource;
use super::sink::Sink;
use crate::lexicon::ZoneName;

/// `[process]`.
#[derive(Clone, Debug)]
pub struct Process {
    /// Data-plane threads. Default: the CPUs this process may use (its CPU set and cgroup quota). 1 to 256. Needs restart.
    pub workers: NonZeroUsize,
    /// Client connections over all listeners, or half of the open files that the process may have if that is less; beyond
    /// it new ones wait in the kernel's queue. Default 20,000.
    pub max_connections: usize,
    /// Failure domain that this process runs in. Default: what the environment variable `SLUICEGATE_ZONE` says, else
    /// none.
    pub zone: Option<ZoneName>,
    /// Secret shared by all replicas of the fleet, from which the keys of tickets and tokens derive. Default: random at start.
    pub fleet_secret: Option<SecretSource>,
    /// How long `/ready` answers 503 before connections are refused, so that load balancers notice. Default 0 s.
    pub unready_for: Duration,
    /// Longest drain after SIGTERM; what is open then is cut. Default 30 s, at most 1 h.
    pub drain_timeout: Duration,
    /// Directory for request bodies beyond their memory bound. Default: the system's temporary directory.
    pub temp_dir: PathBuf,
    /// Bytes that request bodies may hold in temporary files, in sum. Default 4 GiB. Beyond it: 503 `buffer_full`.
    pub temp_bytes: u64,
    /// Bytes that request bodies may hold in memory, in sum. Default 256 MiB; beyond it bodies go to files at once.
    pub buffer_memory: u64,
    /// Concurrent threads that write and read temporary files. Default 4.
    pub file_threads: usize,
    /// Name servers for discovery and endpoints' names. Default: none, those of `/etc/resolv.conf`.
    pub nameservers: Vec<SocketAddr>,
    /// Tracing filter of events, e.g. `info` or `sluicegate=debug`. Default `info`.
    pub log: String,
    /// Whether events are JSON lines or text. Default text.
    pub log_json: bool,
    /// Events that may wait for standard error; beyond it they are dropped and counted. Default 4,096. Needs restart.
    pub log_queue: usize,
    /// Reload when the configuration or a file it names changes. Default true.
    pub watch_files: bool,
    /// Where what was measured of objectives outlives the process. Default: `objectives` in the directory that systemd
    /// gives, else none. Needs restart.
    pub objectives_file: Option<PathBuf>,
}

/// `[clients]`.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Networks whose `X-Forwarded-For` (and request id, `traceparent`) is believed. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Also send RFC 7239 `Forwarded`. Default false.
    pub forwarded: bool,
    /// Request fields removed before anything is forwarded, beside the forwarded family which is always replaced.
    /// Default: identity fields such as `x-proxy-remote-user`, `x-remote-user`, `remote-user`, `x-script-name`,
    /// `x-forwarded-user`, `x-client-certificate-subject`.
    pub strip: Vec<HeaderName>,
    /// Query keys whose values never reach a record. Default: `token`, `access_token`, `code`, `state`, `password`, …
    pub secret_query_keys: Vec<String>,
    /// Bits of an IPv6 address that tell clients apart (a household has a /64). Default 64.
    pub ipv6_prefix: u8,
    /// Client addresses tracked at once for per-client caps. Default 100,000; beyond it the idle ones are forgotten.
    pub max_tracked: usize,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Bound address. Default `127.0.0.1:9901`; port 0 picks a free one. Needs restart.
    pub address: SocketAddr,
    /// Names, beside `localhost` and IP addresses, under which it may be asked. Default: none.
    pub hosts: Vec<String>,
    /// Bearer token of requests that change something. Default: none, so that nothing is changed over the network.
    pub token: Option<SecretSource>,
    /// TLS at the address. Default: none. Whoever shows a certificate that its authorities vouch for may change things.
    pub tls: Option<Tls>,
    /// Whether looking needs what a change needs. Default false.
    pub guard_reads: bool,
    /// A Unix socket beside the address. Default: none. Needs restart.
    pub socket: Option<AdminSocket>,
    /// Connections at once, at the address and at the socket each; more wait. Default 64. Needs restart.
    pub max_connections: usize,
    /// Live streams at once, over both: dashboards that are watched, records that are followed. Default 32; beyond it: 503.
    pub max_streams: usize,
}

/// `admin.socket`: whoever may open it may change things, without a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminSocket {
    /// Where it lies.
    pub path: PathBuf,
    /// Its file mode. Default 0600: the user that the process runs as, and root.
    pub mode: u32,
}

/// `[access_log]`.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where records go. Default: JSON lines to standard output.
    pub sinks: Vec<Sink>,
    /// Records waiting in each worker; beyond it records are dropped and counted. Default 8,192. Needs restart.
    pub queue: usize,
}

/// `[fault_pages]`: own pages, read when a snapshot is built. `{status}`, `{reason}`, `{code}`, `{request_id}` are
/// replaced.
#[derive(Clone, Debug, Default)]
pub struct FaultPages {
    /// An HTML page for every fault.
    pub html: Option<PathBuf>,
    /// A JSON body for every fault.
    pub json: Option<PathBuf>,
}
