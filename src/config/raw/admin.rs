//! `[admin]` as written.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::listener::{Certificate, ClientCertificates, Tls, TlsVersion};
use super::super::process::{Admin, AdminSocket};
use super::key::{Entry, Key, May, Or, Section, Table, section};
use super::kinds::{File, Flag, PLACE, Parsed, WATCHED, Whole, parsed, socket_address, whole};
use super::secret::Secret;
use super::shapes::{List, list, values};
use super::sheet::Words;
use super::words::host_name;

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
        /// Connections at once, at `address` and at `socket` each; more wait until one ends. Needs a restart.
        max_connections: Whole<usize> = whole(4, 10_000), Or("64");
        /// Live streams at once: dashboards that are watched, and records that are followed. Beyond it: 503.
        max_streams: Whole<usize> = whole(1, 10_000), Or("32");
    }
}

/// What `[admin]` means.
pub(super) fn admin(table: &Table<'_>) -> Option<Option<Admin>> {
    let (enabled, address) = (table.get(&ADMIN.enabled), table.get(&ADMIN.address));
    let (hosts, token) = (table.get(&ADMIN.hosts).map(values), table.get(&ADMIN.token));
    let (socket, mode) = (table.get(&ADMIN.socket), table.get(&ADMIN.socket_mode));
    let guard_reads = table.get(&ADMIN.guard_reads);
    let (max_connections, max_streams) = (table.get(&ADMIN.max_connections), table.get(&ADMIN.max_streams));
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
    if max_streams.zip(max_connections).is_some_and(|(streams, connections)| streams >= connections) {
        let words = Words::new("lets those who watch take every connection").expected("less than `max_connections`");
        let key = if table.has(&ADMIN.max_streams) { &ADMIN.max_streams } else { &ADMIN.max_connections };
        table.warn(key, words.help("probes of health and scrapes would have to wait"));
    }
    let (path, mode) = (socket?, mode?);
    let socket = path.map(|path| AdminSocket { path, mode });
    let (tls, guard_reads) = (tls?, guard_reads?);
    let admin = Admin {
        address: address?,
        hosts: hosts?,
        token: token?,
        tls,
        guard_reads,
        socket,
        max_connections: max_connections?,
        max_streams: max_streams?,
    };
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
