//! Where records go: the sinks of `[access_log]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::collector::Collector;
use super::pool::UpstreamTls;
use super::secret::SecretSource;
use crate::lexicon::{RouteName, SinkName};

/// Default of [`Sink::queue_memory`].
pub const QUEUE_MEMORY: usize = 16 << 20;

/// One place that records go to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sink {
    /// Its name in metrics, events and the spool.
    pub name: SinkName,
    /// What it is.
    pub to: Destination,
    /// How a record looks there.
    pub format: LogFormat,
    /// Which records it gets.
    pub select: Select,
    /// How much of a client's address is told. Default: all.
    pub anonymise: Option<Anonymise>,
    /// Whether values of queries that look like e-mail addresses are replaced. Default true.
    pub redact_emails: bool,
    /// Records that may wait in memory. Default 8,192; beyond it they are dropped and counted.
    pub queue: usize,
    /// Bytes that records may take that wait in memory, but for the first 256. Default 16 MiB; beyond it they are dropped and
    /// counted.
    pub queue_memory: usize,
    /// How records travel over a network together.
    pub batch: Batch,
    /// Where they wait while the receiver is away. Default: in memory alone.
    pub spool: Option<Spool>,
}

/// What a sink is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// Standard output, one line each.
    Stdout,
    /// A file.
    File(LogFile),
    /// Syslog, RFC 5424.
    Syslog(Syslog),
    /// OpenTelemetry's protocol.
    Otlp(Otlp),
    /// The same for spans: of sampled exchanges alone, not as records.
    Traces(Otlp),
    /// Loki's push.
    Loki(Loki),
    /// Lines, or Elasticsearch's bulk, by POST.
    Http(HttpLines),
    /// A topic of Kafka.
    Kafka(Kafka),
}

impl Destination {
    /// Its word in the configuration, in the status and on a spool.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Otlp(_) | Self::Traces(_) => "otlp",
            Self::Loki(_) => "loki",
            Self::Http(_) => "http",
            Self::Kafka(_) => "kafka",
        }
    }

    /// The collector that it is sent to, where it is one.
    pub const fn collector(&self) -> Option<&Collector> {
        match self {
            Self::Otlp(otlp) | Self::Traces(otlp) => Some(&otlp.to),
            Self::Loki(loki) => Some(&loki.to),
            Self::Http(http) => Some(&http.to),
            Self::Stdout | Self::File(_) | Self::Syslog(_) | Self::Kafka(_) => None,
        }
    }

    /// The file that it is, where it is one.
    pub const fn file(&self) -> Option<&LogFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Stdout
            | Self::Syslog(_)
            | Self::Otlp(_)
            | Self::Traces(_)
            | Self::Loki(_)
            | Self::Http(_)
            | Self::Kafka(_) => None,
        }
    }

    /// Whether records leave the machine by it.
    pub const fn is_remote(&self) -> bool {
        !matches!(self, Self::Stdout | Self::File(_))
    }
}

/// A file and its rotation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFile {
    /// The file, reopened on SIGUSR1 and when it was moved away.
    pub path: PathBuf,
    /// Size in bytes at which it is rotated; 0 never. Default 100 MiB.
    pub rotate_size: u64,
    /// Age at which it is rotated. Default: never.
    pub rotate_every: Option<Duration>,
    /// Rotated files kept. Default 5; at most 1,000.
    pub rotate_keep: u32,
    /// Whether rotated files are compressed. Default false.
    pub gzip: bool,
}

/// How records look.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object a line. The default.
    Json,
    /// The same with OpenTelemetry's names.
    Otel,
    /// Apache's combined format.
    Combined,
    /// `key=value` pairs.
    Logfmt,
    /// A text with fields in it.
    Template(Vec<Piece>),
}

/// A piece of a template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    /// Text, as it is.
    Text(String),
    /// The field of that name.
    Field(&'static str),
}

/// Which records a sink gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Select {
    /// Statuses, as ranges with both ends; 0 for a client that was gone before. Default: all.
    pub statuses: Vec<(u16, u16)>,
    /// Routes. Default: all.
    pub routes: Vec<RouteName>,
    /// Shortest duration. Default 0.
    pub slower_than: Duration,
    /// Whether only what a rule of the shield or a limit spoke of. Default false.
    pub verdicts: bool,
    /// Of a million records that are neither errors nor slow, so many. Default: all.
    pub sample: u32,
    /// From when on a record is slow, which no sampling leaves out. Default 1 s.
    pub slow: Duration,
}

impl Default for Select {
    fn default() -> Self {
        Self {
            statuses: Vec::new(),
            routes: Vec::new(),
            slower_than: Duration::ZERO,
            verdicts: false,
            sample: 1_000_000,
            slow: Duration::from_secs(1),
        }
    }
}

/// Leading bits of addresses that are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Anonymise {
    /// Of an IPv4 address. Default 24.
    pub ipv4_prefix: u8,
    /// Of an IPv6 address. Default 48.
    pub ipv6_prefix: u8,
}

/// How records travel together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Batch {
    /// Most records. Default 1,000.
    pub records: usize,
    /// Most bytes. Default 1 MiB.
    pub bytes: usize,
    /// Longest wait of a record for others. Default 1 s.
    pub linger: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self { records: 1_000, bytes: 1 << 20, linger: Duration::from_secs(1) }
    }
}

/// Where records wait for a receiver that is away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spool {
    /// Directory; the sink has one of its name in it.
    pub dir: PathBuf,
    /// Most bytes; beyond it the oldest are dropped and counted. Default 1 GiB.
    pub size: u64,
    /// Bytes of each of its files. Default 8 MiB, and an eighth of `size` at most.
    pub segment: u64,
}

/// A syslog server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Syslog {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How it is reached.
    pub over: SyslogOver,
    /// Facility, 0 to 23. Default 16, `local0`.
    pub facility: u8,
    /// `APP-NAME`. Default `sluicegate`.
    pub app: String,
    /// Name of a structured element with the record's id. Default: none.
    pub id_element: Option<String>,
    /// Longest message; beyond it the text is cut. Default 8 KiB; over UDP at most 65,000 bytes.
    pub longest: usize,
    /// How long what was written may turn out to be lost with the connection, and is sent again. Default 5 s. Of what is in
    /// memory alone, eight batches' bytes are kept for that, and of a spool half.
    pub settle: Duration,
    /// Longest wait for a connection or for a write. Default 10 s.
    pub patience: Duration,
}

/// How a syslog server is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SyslogOver {
    /// A datagram for each message (RFC 5426).
    Udp,
    /// Counted octets (RFC 6587 §3.4.1).
    Tcp,
    /// The same over TLS (RFC 5425).
    Tls(Box<UpstreamTls>),
}

/// A receiver of OpenTelemetry's protocol.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Otlp {
    /// Where.
    pub to: Collector,
    /// Whether gRPC rather than HTTP is spoken. Default false.
    pub grpc: bool,
    /// Attributes of the resource beside ours. Default: none.
    pub resource: BTreeMap<String, String>,
}

/// A Loki.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loki {
    /// Where; the path of the push goes behind it.
    pub to: Collector,
    /// Labels of the stream. Default `{job="sluicegate"}`.
    pub labels: BTreeMap<String, String>,
    /// Whether the record's id goes along as structured metadata (Loki 2.9 and later). Default true.
    pub metadata: bool,
}

/// A receiver of lines.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpLines {
    /// Where, with the whole path.
    pub to: Collector,
    /// Whether it is Elasticsearch's `_bulk`, with the index or data stream of that name. Default: lines.
    pub bulk: Option<String>,
}

/// A topic of a Kafka cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kafka {
    /// Brokers, each a host and a port, that are asked for all others. At least one.
    pub brokers: Vec<(String, u16)>,
    /// The topic.
    pub topic: String,
    /// TLS to every broker. Default: none.
    pub tls: Option<Box<UpstreamTls>>,
    /// Who the proxy says it is. Default: nobody.
    pub sasl: Option<Sasl>,
    /// Whether batches are compressed with gzip. Default: yes.
    pub gzip: bool,
    /// Longest wait for a connection, and for an answer. Default 10 s.
    pub patience: Duration,
}

/// A user of a Kafka cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sasl {
    /// How the password is shown to be known.
    pub mechanism: Mechanism,
    /// The name.
    pub username: String,
    /// The password.
    pub password: SecretSource,
}

/// How a password is shown to be known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mechanism {
    /// By saying it (RFC 4616).
    Plain,
    /// SCRAM with SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}
