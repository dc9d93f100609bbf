//! What a sink can be, as written: a file, a syslog server, receivers over HTTP, a topic of Kafka.

use super::super::collector::Collector;
use super::super::pool::UpstreamTls;
use super::super::sink::{HttpLines, Kafka, LogFile, Loki, Mechanism, Otlp, Sasl, Syslog, SyslogOver};
use super::collector::{COLLECTOR, collector};
use super::key::{Entry, Key, May, Must, Or, Section, Table, section};
use super::kinds::{
    Bytes, Choice, DAY, File, Flag, Lasting, MIB, MINUTE, PLACE, Parsed, SECOND, TIB, Whole, bytes, choice, lasting,
    parsed, whole,
};
use super::labels::{Labels, labels};
use super::pool::{TLS, tls};
use super::secret::Secret;
use super::shapes::{List, Sub, Switch, list, sub, switch, values};
use super::sheet::Words;
use super::words::{host_with_port, short_text};

section! {
    /// A file and its rotation.
    pub(super) FILE: FileKeys {
        /// The file. It is opened again on SIGUSR1, and when it was moved away.
        path: File = PLACE, Must();
        /// Size at which it is rotated; 0 never.
        rotate_size: Bytes<u64> = bytes(0, TIB), Or("'100MiB'");
        /// Age at which it is rotated.
        rotate_every: Lasting = lasting(SECOND, 366 * DAY), May("never");
        /// Rotated files kept.
        rotate_keep: Whole<u32> = whole(0, 1_000), Or("5");
        /// Whether rotated files are compressed.
        gzip: Flag = Flag, Or("false");
    }
}

section! {
    /// A syslog server.
    pub(super) SYSLOG: SyslogKeys {
        /// Where it is; 514 is usual for UDP and TCP, 6514 for TLS.
        address: Parsed<(String, u16)> = parsed("host:port", address), Must();
        /// `udp`: a datagram for each message, and nobody knows what arrives. `tcp`: counted octets (RFC 6587). `tls`: the
        /// same over TLS (RFC 5425).
        over: Choice<Over> = choice(&[("udp", Over::Udp), ("tcp", Over::Tcp), ("tls", Over::Tls)]), Or("'tls'");
        /// TLS, with a client certificate if the server wants one.
        tls: Sub<UpstreamTls> = sub(&TLS, tls), Or("{}");
        /// Facility; 16 is `local0`.
        facility: Whole<u8> = whole(0, 23), Or("16");
        /// What messages call the application: their `APP-NAME`.
        app: Parsed<String> = parsed("name", app), Or("'sluicegate'");
        /// Name of a structured element with the record's id, such as `record@` and your enterprise number.
        id_element: Parsed<String> = parsed("SD-ID", element), May("no element");
        /// Longest message; a longer one loses its end. Over UDP at most 65,000 bytes, and what the network takes may be less.
        longest: Bytes<usize> = bytes(480, MIB), Or("'8KiB'");
        /// Syslog acknowledges nothing: what was written less than this before a connection broke is sent again. Of what is
        /// not in a spool, eight batches' bytes are kept for that, and of a spool half; beyond them the oldest counts as there.
        settle: Lasting = lasting(0, 5 * MINUTE), Or("'5s'");
        /// Longest wait for a connection or a write.
        patience: Lasting = lasting(100, 5 * MINUTE), Or("'10s'");
    }
}

/// Longest message in a datagram: 65,507 bytes fit in one of IPv4, less what options of IP take.
const DATAGRAM: usize = 65_000;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Over {
    Udp,
    Tcp,
    Tls,
}

section! {
    /// A receiver of OpenTelemetry's protocol.
    pub(super) OTLP: OtlpKeys {
        /// Where; over HTTP `/v1/logs` goes behind the URL.
        to: Sub<Collector> = sub(&COLLECTOR, collector), Must();
        /// `http`: protobuf by POST. `grpc`: a call over HTTP/2.
        protocol: Choice<bool> = choice(&[("http", false), ("grpc", true)]), Or("'http'");
        /// Attributes of the resource, beside `service.name`.
        resource: Labels = labels(false), Or("{}");
    }
}

section! {
    /// A Loki.
    pub(super) LOKI: LokiKeys {
        /// Where; `/loki/api/v1/push` goes behind the URL.
        to: Sub<Collector> = sub(&COLLECTOR, collector), Must();
        /// Labels of the stream.
        labels: Labels = labels(true), Or("{ job = 'sluicegate' }");
        /// Whether the record's id goes along as structured metadata, which Loki 2.9 and later take.
        metadata: Flag = Flag, Or("true");
    }
}

section! {
    /// A receiver of lines.
    pub(super) HTTP: HttpKeys {
        /// Where, with the whole path.
        to: Sub<Collector> = sub(&COLLECTOR, collector), Must();
        /// Index or data stream of Elasticsearch or OpenSearch; the URL is then that of its `_bulk`. Each record is created
        /// under its id, so that none is there twice. A `filter_path` in the URL must leave `errors` in the answer, by which it
        /// is known that records are there.
        bulk: Parsed<String> = parsed("name of an index", index), May("JSON lines");
    }
}

section! {
    /// A topic of a Kafka cluster. Keys of messages are the records' ids. Batches go to the topic's partitions in turn, and
    /// are delivered when all replicas that are in step have them.
    pub(super) KAFKA: KafkaKeys {
        /// Some brokers of the cluster; they name the others.
        brokers: List<Parsed<(String, u16)>> = list(parsed("host:port", address)).some().or_one(), Must();
        /// The topic. It is created if the cluster does so by itself.
        topic: Parsed<String> = parsed("name of a topic", topic), Must();
        /// TLS to every broker, with a client certificate if they want one.
        tls: Switch<Sub<UpstreamTls>> = switch(sub(&TLS, tls)), Or("false");
        /// Who the proxy says it is.
        sasl: Sub<Sasl> = sub(&SASL, sasl), May("nobody");
        /// Whether batches are compressed with gzip. Brokers take 1 MiB of what was compressed, unless told otherwise
        /// (`message.max.bytes`); a batch that is refused for its size goes in halves.
        gzip: Flag = Flag, Or("true");
        /// Longest wait for a connection, and for an answer.
        patience: Lasting = lasting(100, 5 * MINUTE), Or("'10s'");
    }
}

section! {
    /// A user of a Kafka cluster.
    SASL: SaslKeys {
        /// How the password is shown to be known. `plain` says it, for which `tls` is meant.
        mechanism: Choice<Mechanism> = choice(&[
            ("plain", Mechanism::Plain), ("scram-sha-256", Mechanism::ScramSha256),
            ("scram-sha-512", Mechanism::ScramSha512),
        ]), Must();
        /// The user's name.
        username: Parsed<String> = parsed("user name", short_text), Must();
        /// The password.
        password: Secret = Secret, Must();
    }
}

pub(super) fn file(table: &Table<'_>) -> Option<LogFile> {
    let (path, rotate_size) = (table.get(&FILE.path), table.get(&FILE.rotate_size));
    let (rotate_every, rotate_keep) = (table.get(&FILE.rotate_every), table.get(&FILE.rotate_keep));
    let gzip = table.get(&FILE.gzip);
    Some(LogFile {
        path: path?,
        rotate_size: rotate_size?,
        rotate_every: rotate_every?,
        rotate_keep: rotate_keep?,
        gzip: gzip?,
    })
}

pub(super) fn syslog(table: &Table<'_>) -> Option<Syslog> {
    let (address, over, tls) = (table.get(&SYSLOG.address), table.get(&SYSLOG.over), table.get(&SYSLOG.tls));
    let (facility, app) = (table.get(&SYSLOG.facility), table.get(&SYSLOG.app));
    let (id_element, longest) = (table.get(&SYSLOG.id_element), table.get(&SYSLOG.longest));
    let (settle, patience) = (table.get(&SYSLOG.settle), table.get(&SYSLOG.patience));
    let over = over?;
    if over != Over::Tls && table.has(&SYSLOG.tls) {
        table.warn(&SYSLOG.tls, Words::new("has no effect without `over = \"tls\"`"));
    }
    if over == Over::Udp && longest.is_some_and(|longest| longest > DATAGRAM) {
        table.error(&SYSLOG.longest, Words::new("is more than a datagram takes").expected("at most 65,000 bytes"));
        return None;
    }
    let (host, port) = address?;
    Some(Syslog {
        host,
        port,
        over: match over {
            Over::Udp => SyslogOver::Udp,
            Over::Tcp => SyslogOver::Tcp,
            Over::Tls => SyslogOver::Tls(Box::new(tls?)),
        },
        facility: facility?,
        app: app?,
        id_element: id_element?,
        longest: longest?,
        settle: settle?,
        patience: patience?,
    })
}

pub(super) fn otlp(table: &Table<'_>) -> Option<Otlp> {
    let (to, grpc, resource) = (table.get(&OTLP.to), table.get(&OTLP.protocol), table.get(&OTLP.resource));
    if grpc == Some(true) && to.as_ref().is_some_and(|to| to.url.path() != "/") {
        table.error(&OTLP.to, Words::new("has a path, and gRPC's paths are its own").expected("host and port alone"));
        return None;
    }
    Some(Otlp { to: to?, grpc: grpc?, resource: resource? })
}

pub(super) fn loki(table: &Table<'_>) -> Option<Loki> {
    let (to, labels, metadata) = (table.get(&LOKI.to), table.get(&LOKI.labels), table.get(&LOKI.metadata));
    Some(Loki { to: to?, labels: labels?, metadata: metadata? })
}

pub(super) fn http(table: &Table<'_>) -> Option<HttpLines> {
    let (to, bulk) = (table.get(&HTTP.to), table.get(&HTTP.bulk));
    Some(HttpLines { to: to?, bulk: bulk? })
}

pub(super) fn kafka(table: &Table<'_>) -> Option<Kafka> {
    let (brokers, topic) = (table.get(&KAFKA.brokers).map(values), table.get(&KAFKA.topic));
    let (tls, sasl) = (table.get(&KAFKA.tls), table.get(&KAFKA.sasl));
    let (gzip, patience) = (table.get(&KAFKA.gzip), table.get(&KAFKA.patience));
    let said = matches!(&sasl, Some(Some(Sasl { mechanism: Mechanism::Plain, .. })));
    if said && matches!(tls, Some(None)) {
        table.warn(&KAFKA.sasl, Words::new("crosses the network unencrypted").expected("`tls`, or SCRAM"));
    }
    Some(Kafka {
        brokers: brokers?,
        topic: topic?,
        tls: tls?.map(Box::new),
        sasl: sasl?,
        gzip: gzip?,
        patience: patience?,
    })
}

fn sasl(table: &Table<'_>) -> Option<Sasl> {
    let (mechanism, username) = (table.get(&SASL.mechanism), table.get(&SASL.username));
    let password = table.get(&SASL.password);
    Some(Sasl { mechanism: mechanism?, username: username?, password: password? })
}

/// What Kafka allows: 1 to 249 letters, digits, `.`, `_` and `-`, but not `.` or `..`.
fn topic(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = (1..=249).contains(&text.len()) && text.bytes().all(good) && !matches!(text, "." | "..");
    if good { Ok(text.to_owned()) } else { Err("is no name of a topic".into()) }
}

fn address(text: &str) -> Result<(String, u16), String> {
    host_with_port(text).ok_or_else(|| "is no host with a port".into())
}

/// RFC 5424 §6: 1 to 48 visible characters.
fn app(text: &str) -> Result<String, String> {
    let good = (1..=48).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err("is not 1 to 48 visible characters".into()) }
}

/// RFC 5424 §6.3.2: 1 to 32 visible characters but `=`, `]` and `"`.
fn element(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"');
    let good = (1..=32).contains(&text.len()) && text.bytes().all(good);
    if good { Ok(text.to_owned()) } else { Err("is no SD-ID".into()) }
}

fn index(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let good = (1..=255).contains(&text.len()) && text.bytes().all(good) && !text.starts_with(['-', '_', '.']);
    if good { Ok(text.to_owned()) } else { Err("is no name of an index".into()) }
}
