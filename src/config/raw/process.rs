//! `[process]`, `[clients]`, `[fault_pages]` as written.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use http::HeaderName;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::super::process::{Clients, FaultPages, Process};
use super::key::{Entry, Key, May, Or, Section, Table, section};
use super::kinds::{
    Bytes, File, Flag, HOUR, KIB, Lasting, PLACE, Parsed, TIB, WATCHED, Whole, bytes, lasting, network, parsed,
    socket_address, whole,
};
use super::secret::Secret;
use super::shapes::{List, list, values};
use super::sheet::Words;
use super::words::{header_name, name, short_text};
use crate::lexicon::ZoneName;

/// Where whoever starts the process says its zone, as Kubernetes' downward API does. Empty says nothing.
const ZONE: &str = "SLUICEGATE_ZONE";

/// The zone as written, else that of the environment.
fn zone(table: &Table<'_>) -> Option<Option<String>> {
    let written = table.get(&PROCESS.zone)?;
    let told = || std::env::var_os(ZONE).filter(|zone| !zone.is_empty());
    let (None, Some(told)) = (&written, told()) else { return Some(written) };
    let told = told.to_string_lossy();
    match name(&told) {
        Ok(zone) => Some(Some(zone)),
        Err(problem) => {
            let words = Words::new(format!("comes from the environment variable `{ZONE}`: {told:?} {problem}"));
            table.error(&PROCESS.zone, words.expected("name"));
            None
        }
    }
}

section! {
    /// The process as a whole: threads, bounds over all listeners, the drain.
    pub(super) PROCESS: ProcessKeys {
        /// Data-plane threads, each with its own listeners and upstream connections. Needs a restart.
        workers: Whole<usize> = whole(1, 256), May("the CPUs this process may use (its CPU set and cgroup quota)");
        /// Client connections over all listeners, or half of the open files that the process may have (RLIMIT_NOFILE)
        /// if that is less; beyond it new ones wait in the kernel's queue.
        max_connections: Whole<usize> = whole(1, 10_000_000), Or("20_000");
        /// Failure domain that the proxy runs in, such as an availability zone; endpoints of the same `zone` are preferred.
        zone: Parsed<String> = parsed("name", name), May("environment variable `SLUICEGATE_ZONE`, else none");
        /// Secret shared by all replicas of the fleet, from which the keys of session tickets derive, so that a
        /// client can resume its TLS session on any of them, and those of QUIC's Retry and reset tokens.
        fleet_secret: Secret = Secret, May("random at each start, so that sessions resume on this process only");
        /// How long `/ready` answers 503 after SIGTERM before connections are refused, so that load balancers notice.
        unready_for: Lasting = lasting(0, HOUR), Or("'0s'");
        /// Longest drain after SIGTERM; what is open then is cut.
        drain_timeout: Lasting = lasting(0, HOUR), Or("'30s'");
        /// Directory for request bodies beyond their memory bound.
        temp_dir: File = PLACE, May("the system's temporary directory");
        /// What request bodies may hold in temporary files, in sum. Beyond it: 503 `buffer_full`.
        temp_bytes: Bytes<u64> = bytes(0, 64 * TIB), Or("'4GiB'");
        /// What request bodies may hold in memory, in sum; beyond it they go to files at once.
        buffer_memory: Bytes<u64> = bytes(64 * KIB, TIB), Or("'256MiB'");
        /// Concurrent threads that write and read temporary files.
        file_threads: Whole<usize> = whole(1, 64), Or("4");
        /// Name servers to ask about endpoints, IP addresses with ports.
        nameservers: List<Parsed<SocketAddr>> =
            list(parsed("IP address with port", socket_address)), Or("[]");
        /// Which events are logged, as a `tracing` filter: `info`, `warn,sluicegate=debug`.
        log: Parsed<String> = parsed("tracing filter", filter), Or("'info'");
        /// Whether events are JSON lines rather than text.
        log_json: Flag = Flag, Or("false");
        /// Events that may wait for whoever reads standard error; beyond it they are dropped and counted. Needs a restart.
        log_queue: Whole<usize> = whole(16, 1_000_000), Or("4_096");
        /// Reload when the configuration or a file that it names changes. SIGHUP reloads in any case.
        watch_files: Flag = Flag, Or("true");
        /// File in which what was measured of pools' `objectives` outlives the process; written once a minute and at the
        /// end. Needs a restart.
        objectives_file: File = PLACE,
            May("`objectives` in the directory that systemd gives (`STATE_DIRECTORY`), else none: the past ends with the process");
    }
}

/// What `[process]` means.
pub(super) fn process(table: &Table<'_>) -> Option<Process> {
    let workers = table.get(&PROCESS.workers);
    let max_connections = table.get(&PROCESS.max_connections);
    let zone = zone(table);
    let fleet_secret = table.get(&PROCESS.fleet_secret);
    let unready_for = table.get(&PROCESS.unready_for);
    let drain_timeout = table.get(&PROCESS.drain_timeout);
    let temp_dir = table.get(&PROCESS.temp_dir);
    let temp_bytes = table.get(&PROCESS.temp_bytes);
    let buffer_memory = table.get(&PROCESS.buffer_memory);
    let file_threads = table.get(&PROCESS.file_threads);
    let nameservers = table.get(&PROCESS.nameservers).map(values);
    let log = table.get(&PROCESS.log);
    let (log_json, log_queue) = (table.get(&PROCESS.log_json), table.get(&PROCESS.log_queue));
    let watch_files = table.get(&PROCESS.watch_files);
    let objectives_file = table.get(&PROCESS.objectives_file);
    if drain_timeout.is_some_and(|timeout| timeout.as_millis() < 5_000) {
        let words = Words::new("cuts what is under way when the process ends").expected("5s or more");
        table.warn(&PROCESS.drain_timeout, words.help("Superset's pages and queries often take seconds"));
    }
    Some(Process {
        workers: workers?.and_then(NonZeroUsize::new).unwrap_or_else(available_cpus),
        max_connections: max_connections?,
        zone: zone?.map(|zone| ZoneName::new(&zone)),
        fleet_secret: fleet_secret?,
        unready_for: unready_for?,
        drain_timeout: drain_timeout?,
        temp_dir: temp_dir?.unwrap_or_else(std::env::temp_dir),
        temp_bytes: temp_bytes?,
        buffer_memory: buffer_memory?,
        file_threads: file_threads?,
        nameservers: nameservers?,
        log: log?,
        log_json: log_json?,
        log_queue: log_queue?,
        watch_files: watch_files?,
        objectives_file: objectives_file?.or_else(|| Some(state_directory()?.join("objectives"))),
    })
}

/// The first of the directories that systemd gives for what outlives the process.
fn state_directory() -> Option<PathBuf> {
    let all = std::env::var_os("STATE_DIRECTORY")?;
    std::env::split_paths(&all).next().filter(|first| first.is_absolute())
}

fn available_cpus() -> NonZeroUsize {
    let most = NonZeroUsize::MIN.saturating_add(255);
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).min(most)
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| format!("is no filter: {error}"))
}

section! {
    /// What is believed about clients, and what Superset is told about them.
    pub(super) CLIENTS: ClientsKeys {
        /// Networks of proxies in front of this one, whose `X-Forwarded-For`, request id and `traceparent` are
        /// believed. From elsewhere they are replaced.
        trusted_proxies: List<Parsed<IpNet>> = list(parsed("network", network)), Or("[]");
        /// Also send RFC 7239 `Forwarded`. Superset does not read it.
        forwarded: Flag = Flag, Or("false");
        /// Request fields removed before anything is forwarded, beside the forwarded family, which is always
        /// replaced: names by which an application might believe who the user is.
        strip: List<Parsed<HeaderName>> =
            list(parsed("header field name", header_name)),
            Or("['x-proxy-remote-user', 'x-remote-user', 'remote-user', 'x-script-name', \
                'x-forwarded-user', 'x-client-certificate-subject']");
        /// Query keys whose values never reach a record.
        secret_query_keys: List<Parsed<String>> =
            list(parsed("query key", short_text)),
            Or("['token', 'access_token', 'refresh_token', 'id_token', 'guest_token', 'csrf_token', 'code', \
                'state', 'password', 'secret', 'api_key', 'signature', 'session']");
        /// Leading bits of an IPv6 address that tell clients apart; a household has a /64.
        ipv6_prefix: Whole<u8> = whole(32, 128), Or("64");
        /// Client addresses tracked at once for the caps per client; beyond it the idle ones are forgotten.
        max_tracked: Whole<usize> = whole(1_000, 10_000_000), Or("100_000");
    }
}

/// What `[clients]` means.
pub(super) fn clients(table: &Table<'_>) -> Option<Clients> {
    let trusted_proxies = table.get(&CLIENTS.trusted_proxies).map(values);
    let forwarded = table.get(&CLIENTS.forwarded);
    let strip = table.get(&CLIENTS.strip).map(values);
    let secret_query_keys = table.get(&CLIENTS.secret_query_keys).map(values);
    let ipv6_prefix = table.get(&CLIENTS.ipv6_prefix);
    let max_tracked = table.get(&CLIENTS.max_tracked);
    if trusted_proxies.iter().flatten().any(|network: &IpNet| network.prefix_len() == 0) {
        let words = Words::new("believes everybody: any client can claim any address");
        table.warn(&CLIENTS.trusted_proxies, words.expected("the networks of your own proxies"));
    }
    Some(Clients {
        trusted_proxies: trusted_proxies?,
        forwarded: forwarded?,
        strip: strip?,
        secret_query_keys: secret_query_keys?,
        ipv6_prefix: ipv6_prefix?,
        max_tracked: max_tracked?,
    })
}

section! {
    /// Own pages for the answers that the proxy itself gives. `{status}`, `{reason}`, `{code}` and `{request_id}` are
    /// replaced in them.
    pub(super) FAULT_PAGES: FaultPagesKeys {
        /// HTML file for browsers.
        html: File = WATCHED, May("a short page");
        /// JSON file for programs.
        json: File = WATCHED, May("a short object");
    }
}

/// What `[fault_pages]` means.
pub(super) fn fault_pages(table: &Table<'_>) -> Option<FaultPages> {
    let (html, json) = (table.get(&FAULT_PAGES.html), table.get(&FAULT_PAGES.json));
    Some(FaultPages { html: html?, json: json? })
}
