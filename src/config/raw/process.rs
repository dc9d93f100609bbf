//! `[process]`, `[clients]`, `[admin]`, `[access_log]`, `[fault_pages]` as written.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use super::super::listener::{Certificate, ClientCertificates, Tls, TlsVersion};
use super::super::process::{AccessLog, Admin, AdminSocket, Clients, FaultPages, LogFormat, LogTarget, Process};
use super::super::secret::SecretSource;
use super::key::{Below, Describe, Entry, Key, Kind, May, Or, Section, Table, section};
use super::kinds::{
    Bytes, Choice, File, Flag, HOUR, KIB, Lasting, PLACE, Parsed, TIB, WATCHED, Whole, bytes, choice, lasting, network,
    parsed, socket_address, whole,
};
use super::shapes::{List, Sub, list, sub, values};
use super::sheet::{Words, Written};
use super::words::{header_name, host_name, name, short_text};
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
        /// Reload when the configuration or a file that it names changes. SIGHUP reloads in any case.
        watch_files: Flag = Flag, Or("true");
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
    let log_json = table.get(&PROCESS.log_json);
    let watch_files = table.get(&PROCESS.watch_files);
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
        watch_files: watch_files?,
    })
}

fn available_cpus() -> NonZeroUsize {
    let most = NonZeroUsize::MIN.saturating_add(255);
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).min(most)
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| format!("is no filter: {error}"))
}

/// Where a secret is: `{ file = "…" }` or `{ env = "…" }`.
pub(super) struct Secret;

section! {
    /// A secret's place. One of the two.
    SECRET: SecretKeys {
        /// File with the secret; a trailing line end is not part of it.
        file: File = WATCHED, May("none");
        /// Environment variable with the secret.
        env: Parsed<String> = parsed("name of an environment variable", variable), May("none");
    }
}

const PLACE_OF_SECRET: Sub<SecretSource> = sub(&SECRET, secret);

fn secret(table: &Table<'_>) -> Option<SecretSource> {
    match (table.get(&SECRET.file)?, table.get(&SECRET.env)?) {
        (Some(file), None) => Some(SecretSource::File(file)),
        (None, Some(name)) => Some(SecretSource::Env(name)),
        (None, None) | (Some(_), Some(_)) => {
            table.written.error(Words::new("needs one place").expected("{ file = \"...\" } or { env = \"...\" }"));
            None
        }
    }
}

fn variable(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = !text.is_empty() && text.len() <= 256 && text.chars().all(good);
    if named { Ok(text.to_owned()) } else { Err("is no name of a variable".into()) }
}

impl Describe for Secret {
    fn shape(&self) -> String {
        "{ file = \"...\" } or { env = \"...\" }".into()
    }

    fn schema(&self) -> Value {
        let one = |key: &str| json!({ "required": [key] });
        let mut schema = PLACE_OF_SECRET.schema();
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("oneOf".into(), json!([one("file"), one("env")]));
        }
        schema
    }

    fn below(&self) -> Option<Below> {
        PLACE_OF_SECRET.below()
    }
}

impl Kind for Secret {
    type Value = SecretSource;

    fn read(&self, written: &Written<'_>) -> Option<SecretSource> {
        if written.value.is_table() {
            return PLACE_OF_SECRET.read(written);
        }
        // Perhaps the secret itself: say what is wrong, but never show it.
        written.hide();
        let words = Words::new("must not hold a secret itself").expected(self.shape());
        written.error(words.help("configuration files are copied, shown and logged; name the secret's place"));
        None
    }
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
    /// The operators' listener: `/live`, `/ready`, `/metrics`, `/status`, and what an operator may change.
    pub(super) ADMIN: AdminKeys {
        /// Whether there is such a listener.
        enabled: Flag = Flag, Or("true");
        /// Bound address; port 0 picks a free one. Whoever reaches it may read, unless `guard_reads`: keep it on
        /// loopback or a private network. Needs a restart.
        address: Parsed<SocketAddr> = parsed("IP address with port", socket_address), Or("'127.0.0.1:9901'");
        /// Names, beside `localhost` and IP addresses, under which the listener may be asked, such as a service's.
        hosts: List<Parsed<String>> = list(parsed("host name", host_name)), Or("[]");
        /// Certificate chain for TLS at `address`, a PEM file with the leaf first. Between plain and TLS a restart is
        /// needed.
        certificate: File = WATCHED, May("none; it speaks plain HTTP");
        /// Key of `certificate`, a PEM file.
        key: File = WATCHED, May("none");
        /// PEM file of authorities: whoever connects must show a certificate that they signed, and may then change
        /// things without a token.
        client_authorities: File = WATCHED, May("nobody is asked for a certificate");
        /// Secret that a request which changes something carries as its Bearer token; 16 bytes or more.
        token: Secret = Secret, May("nothing can be changed over the network without a client certificate");
        /// Whether looking needs what a change needs: the token, a client certificate, or the socket. `/live` and
        /// `/ready` never do.
        guard_reads: Flag = Flag, Or("false");
        /// Unix socket that serves the same. Whoever may open it may change things, without a token. Needs a restart.
        socket: File = PLACE, May("none");
        /// File mode of `socket`. Needs a restart.
        socket_mode: Parsed<u32> = parsed("octal file mode", file_mode), Or("'0600'");
    }
}

/// What `[admin]` means.
pub(super) fn admin(table: &Table<'_>) -> Option<Option<Admin>> {
    let (enabled, address) = (table.get(&ADMIN.enabled), table.get(&ADMIN.address));
    let (hosts, token) = (table.get(&ADMIN.hosts).map(values), table.get(&ADMIN.token));
    let (socket, mode) = (table.get(&ADMIN.socket), table.get(&ADMIN.socket_mode));
    let guard_reads = table.get(&ADMIN.guard_reads);
    let tls = admin_tls(table);
    let (encrypted, by_certificate) = match &tls {
        Some(Some(tls)) => (true, tls.client_certificates.is_some()),
        _ => (false, false),
    };
    if let (Some(true), Some(address)) = (enabled, address)
        && !address.ip().is_loopback()
    {
        if guard_reads != Some(true) && !by_certificate {
            let words = Words::new("shows everything to whoever reaches it").expected("a loopback address");
            table.warn(&ADMIN.address, words.help("let a firewall or network policy admit only your monitoring"));
        }
        if token.as_ref().is_some_and(Option::is_some) && !encrypted {
            let words = Words::new("crosses the network unencrypted")
                .expected("a loopback `address`, a `certificate`, or `socket`");
            table.warn(&ADMIN.token, words);
        }
    }
    if mode.is_some_and(|mode| mode & 0o002 != 0) {
        let words = Words::new("lets every user of this machine take endpoints out").expected("0600 or 0660");
        table.warn(&ADMIN.socket_mode, words);
    }
    if table.has(&ADMIN.socket_mode) && !table.has(&ADMIN.socket) {
        table.warn(&ADMIN.socket_mode, Words::new("has no effect without `socket`"));
    }
    if guard_reads == Some(true) && matches!(token, Some(None)) && !by_certificate {
        let words = Words::new("leaves nobody who could look at `address`").expected("`token` or `client_authorities`");
        table.warn(&ADMIN.guard_reads, words);
    }
    let (path, mode) = (socket?, mode?);
    let socket = path.map(|path| AdminSocket { path, mode });
    let (tls, guard_reads) = (tls?, guard_reads?);
    let admin = Admin { address: address?, hosts: hosts?, token: token?, tls, guard_reads, socket };
    Some(enabled?.then_some(admin))
}

/// TLS of the admin listener.
fn admin_tls(table: &Table<'_>) -> Option<Option<Tls>> {
    let (certificate, key) = (table.get(&ADMIN.certificate), table.get(&ADMIN.key));
    let authorities = table.get(&ADMIN.client_authorities);
    let certificate = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Certificate { certificate, key },
        (None, None) if table.has(&ADMIN.client_authorities) => {
            let words = Words::new("needs TLS, and the admin listener is plain").expected("`certificate` and `key`");
            table.error(&ADMIN.client_authorities, words);
            return None;
        }
        (None, None) => return Some(None),
        (Some(_), None) => {
            table.error(&ADMIN.certificate, Words::new("has no `key`").help("name the key's PEM file in `key`"));
            return None;
        }
        (None, Some(_)) => {
            table.error(&ADMIN.key, Words::new("has no `certificate`").help("name its PEM file in `certificate`"));
            return None;
        }
    };
    Some(Some(Tls {
        certificates: vec![certificate],
        min_version: TlsVersion::V1_2,
        client_certificates: authorities?.map(|authorities| ClientCertificates { authorities, required: true }),
        handshake_timeout: Duration::from_secs(10),
        max_handshakes: usize::from(u16::MAX),
    }))
}

/// `0660`
fn file_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777 && text.len() >= 3);
    mode.ok_or_else(|| "is no file mode such as 0660".into())
}

section! {
    /// Where the records of exchanges and tunnels go, one line each.
    pub(super) ACCESS_LOG: AccessLogKeys {
        /// `stdout`, or `off`. With `path`, leave it out.
        target: Choice<LogTarget> = choice(&[("stdout", LogTarget::Stdout), ("off", LogTarget::Off)]), Or("'stdout'");
        /// File to write instead. It is opened again on SIGUSR1, and when it was moved away.
        path: File = PLACE, May("none");
        /// `json`: one object a line. `combined`: Apache's format.
        format: Choice<LogFormat> =
            choice(&[("json", LogFormat::Json), ("combined", LogFormat::Combined)]), Or("'json'");
        /// Size at which a file is rotated; 0 never.
        rotate_size: Bytes<u64> = bytes(0, TIB), Or("'100MiB'");
        /// Rotated files kept.
        rotate_keep: Whole<u32> = whole(0, 1_000), Or("5");
        /// Records that may wait for the writer, per worker; beyond it they are dropped and counted.
        queue: Whole<usize> = whole(16, 1_000_000), Or("8_192");
    }
}

/// What `[access_log]` means.
pub(super) fn access_log(table: &Table<'_>) -> Option<AccessLog> {
    let target = table.get(&ACCESS_LOG.target);
    let path = table.get(&ACCESS_LOG.path);
    let format = table.get(&ACCESS_LOG.format);
    let rotate_size = table.get(&ACCESS_LOG.rotate_size);
    let rotate_keep = table.get(&ACCESS_LOG.rotate_keep);
    let queue = table.get(&ACCESS_LOG.queue);
    if table.has(&ACCESS_LOG.path) && table.has(&ACCESS_LOG.target) {
        table.error(&ACCESS_LOG.target, Words::new("contradicts `path`").help("remove one of the two"));
    }
    if !table.has(&ACCESS_LOG.path) && table.has(&ACCESS_LOG.rotate_size) {
        table.warn(&ACCESS_LOG.rotate_size, Words::new("has no effect without `path`"));
    }
    let path: Option<PathBuf> = path?;
    Some(AccessLog {
        target: path.map_or(target?, LogTarget::File),
        format: format?,
        rotate_size: rotate_size?,
        rotate_keep: rotate_keep?,
        queue: queue?,
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
