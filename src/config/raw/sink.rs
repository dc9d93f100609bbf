//! `[[access_log.sinks]]` as written.

use std::time::Duration;

use super::super::findings::Severity;
use super::super::sink::{
    Anonymise, Batch, Destination, HttpLines, Kafka, LogFile, LogFormat, Loki, Otlp, Piece, Select, Sink, Spool, Syslog,
};
use super::key::{Entry, Key, May, Must, Or, Section, Table, section};
use super::kinds::{
    Bytes, Choice, File, Flag, GIB, HOUR, KIB, Lasting, MIB, MINUTE, PLACE, Parsed, TIB, Whole, bytes, choice, lasting,
    parsed, whole,
};
use super::receivers::{FILE, HTTP, KAFKA, LOKI, OTLP, SYSLOG, file, http, kafka, loki, otlp, syslog};
use super::shapes::{List, Sub, Switch, list, sub, switch, values};
use super::sheet::Words;
use super::words::{name, short_text};
use crate::lexicon::{RECORD_FIELDS, RouteName, SinkName};

section! {
    /// A place that records go to: one of `stdout`, `file`, `syslog`, `otlp`, `loki`, `http` and `kafka`. Any number of
    /// sinks, each with its own format and choice; a slow or dead one slows no other and no request.
    pub(super) SINK: SinkKeys {
        /// Its name in metrics, events and the spool.
        name: Parsed<String> = parsed("name", name), Must();
        /// Lines to standard output.
        stdout: Flag = Flag, Or("false");
        /// Lines to a file.
        file: Sub<LogFile> = sub(&FILE, file), May("none");
        /// Messages to a syslog server (RFC 5424).
        syslog: Sub<Syslog> = sub(&SYSLOG, syslog), May("none");
        /// Logs by OpenTelemetry's protocol, their attributes named by its semantic conventions.
        otlp: Sub<Otlp> = sub(&OTLP, otlp), May("none");
        /// Lines to Loki's push.
        loki: Sub<Loki> = sub(&LOKI, loki), May("none");
        /// Lines by POST, for Vector, Fluent Bit and others, or Elasticsearch's bulk.
        http: Sub<HttpLines> = sub(&HTTP, http), May("none");
        /// Messages to a topic of Kafka.
        kafka: Sub<Kafka> = sub(&KAFKA, kafka), May("none");
        /// `json`: one object a line. `otel`: the same with OpenTelemetry's names. `combined`: Apache's format.
        /// `logfmt`: `key=value` pairs.
        format: Choice<LogFormat> = choice(&FORMATS), Or("'json'");
        /// A line of your own instead: text with `{field}` for fields of the JSON format; `{{` is a brace.
        template: Parsed<Vec<Piece>> = parsed("text with {fields}", template), May("none");
        /// Which records it gets. All conditions that are written must hold.
        filter: Sub<Filter> = sub(&FILTER, filter), Or("{}");
        /// Share of the records that it gets. Errors and what is `slow` are always among them.
        sample: Parsed<u32> = parsed("percentage", share), Or("'100%'");
        /// Duration from which on an exchange is slow.
        slow: Lasting = lasting(1, HOUR), Or("'1s'");
        /// Whether only the beginning of a client's address is told.
        anonymise: Switch<Sub<Anonymise>> = switch(sub(&ANONYMISE, anonymise)), Or("false");
        /// Whether values of queries that look like e-mail addresses are replaced.
        redact_emails: Flag = Flag, Or("true");
        /// Records that may wait in memory; beyond it they are dropped and counted.
        queue: Whole<usize> = whole(16, 1_000_000), Or("8_192");
        /// Memory that what waits may take; beyond it records are dropped and counted. For standard output and files it is that
        /// of lines. Elsewhere the first 256 records are not counted, each of which can keep a whole request head; those behind
        /// them are copied and counted.
        queue_memory: Bytes<usize> = bytes(64 * KIB, 4 * GIB), Or("'16MiB'");
        /// How records travel over a network together.
        batch: Sub<Batch> = sub(&BATCH, batch), Or("{}");
        /// Files in which records wait for a receiver that is away.
        spool: Sub<Spool> = sub(&SPOOL, spool), May("they wait in memory alone");
    }
}

/// The words for formats.
pub(super) static FORMATS: [(&str, LogFormat); 4] = [
    ("json", LogFormat::Json),
    ("otel", LogFormat::Otel),
    ("combined", LogFormat::Combined),
    ("logfmt", LogFormat::Logfmt),
];

section! {
    /// Which records a sink gets.
    FILTER: FilterKeys {
        /// Statuses: `404`, `5xx`, `400-499`; `none` for clients that were gone before.
        statuses: List<Parsed<(u16, u16)>> = list(parsed("status", status)).or_one(), Or("[]");
        /// Routes by name.
        routes: List<Parsed<String>> = list(parsed("name of a route", short_text)).or_one(), Or("[]");
        /// Shortest duration.
        slower_than: Lasting = lasting(0, HOUR), Or("'0s'");
        /// Whether only what a rule of the shield or a limit spoke of.
        verdicts: Flag = Flag, Or("false");
    }
}

/// What `filter` means.
pub(super) struct Filter {
    statuses: Vec<(u16, u16)>,
    routes: Vec<RouteName>,
    slower_than: Duration,
    verdicts: bool,
}

section! {
    /// What is told of a client's address.
    pub(super) ANONYMISE: AnonymiseKeys {
        /// Leading bits of an IPv4 address; the others become 0.
        ipv4_prefix: Whole<u8> = whole(0, 32), Or("24");
        /// Leading bits of an IPv6 address.
        ipv6_prefix: Whole<u8> = whole(0, 128), Or("48");
    }
}

section! {
    /// How records travel together.
    pub(super) BATCH: BatchKeys {
        /// Most records of a batch.
        records: Whole<usize> = whole(1, 100_000), Or("1_000");
        /// Most bytes of a batch.
        bytes: Bytes<usize> = bytes(4 * KIB, 16 * MIB), Or("'1MiB'");
        /// Longest wait of a record for others.
        linger: Lasting = lasting(1, MINUTE), Or("'1s'");
    }
}

section! {
    /// Where records wait for a receiver that is away, over restarts, too.
    SPOOL: SpoolKeys {
        /// Directory; the sink has one of its name in it.
        dir: File = PLACE, Must();
        /// Most bytes; beyond it the oldest records are dropped and counted.
        size: Bytes<u64> = bytes(64 * KIB, TIB), Or("'1GiB'");
        /// Bytes of each of its files, but an eighth of `size` at most: what is dropped at once, and what a power failure may
        /// take that the system had not written yet.
        segment: Bytes<u64> = bytes(8 * KIB, GIB), Or("'8MiB'");
    }
}

/// What one sink means.
pub(super) fn sink(table: &Table<'_>) -> Option<Sink> {
    let (named, destination) = (table.get(&SINK.name), destination(table));
    let (format, template) = (table.get(&SINK.format), table.get(&SINK.template));
    let (filter, sample, slow) = (table.get(&SINK.filter), table.get(&SINK.sample), table.get(&SINK.slow));
    let (anonymise, redact_emails) = (table.get(&SINK.anonymise), table.get(&SINK.redact_emails));
    let queue_memory = table.get(&SINK.queue_memory);
    let (queue, batch, spool) = (table.get(&SINK.queue), table.get(&SINK.batch), table.get(&SINK.spool));
    let to = destination?;
    if table.has(&SINK.format) && table.has(&SINK.template) {
        table.error(&SINK.template, Words::new("contradicts `format`").help("remove one of the two"));
        return None;
    }
    let format = template?.map_or(format?, LogFormat::Template);
    if matches!(to, Destination::Otlp(_)) {
        for (written, place) in [
            (table.has(&SINK.format), table.place(&SINK.format)),
            (table.has(&SINK.template), table.place(&SINK.template)),
        ] {
            if written {
                let words = Words::new("has no effect with `otlp`, which has attributes");
                table.written.sheet.report(Severity::Warning, &place, words);
            }
        }
    }
    if matches!(&to, Destination::Http(http) if http.bulk.is_some())
        && !matches!(format, LogFormat::Json | LogFormat::Otel)
    {
        table.error(&SINK.http, Words::new("with `bulk` takes objects").expected("format `json` or `otel`"));
        return None;
    }
    if !to.is_remote() {
        let words = || Words::new("has no effect on what stays on this machine");
        if table.has(&SINK.batch) {
            table.warn(&SINK.batch, words());
        }
        if table.has(&SINK.spool) {
            table.warn(&SINK.spool, words());
        }
    }
    let Filter { statuses, routes, slower_than, verdicts } = filter?;
    Some(Sink {
        name: SinkName::new(&named?),
        to,
        format,
        select: Select { statuses, routes, slower_than, verdicts, sample: sample?, slow: slow? },
        anonymise: anonymise?,
        redact_emails: redact_emails?,
        queue: queue?,
        queue_memory: queue_memory?,
        batch: batch?,
        spool: spool?,
    })
}

/// The one place that is written.
fn destination(table: &Table<'_>) -> Option<Destination> {
    let stdout = table.get(&SINK.stdout);
    let (file, syslog) = (table.get(&SINK.file), table.get(&SINK.syslog));
    let (otlp, loki, http) = (table.get(&SINK.otlp), table.get(&SINK.loki), table.get(&SINK.http));
    let kafka = table.get(&SINK.kafka);
    let found = [
        stdout?.then_some(Destination::Stdout),
        file?.map(Destination::File),
        syslog?.map(Destination::Syslog),
        otlp?.map(Destination::Otlp),
        loki?.map(Destination::Loki),
        http?.map(Destination::Http),
        kafka?.map(Destination::Kafka),
    ];
    let mut found = found.into_iter().flatten();
    match (found.next(), found.next()) {
        (Some(only), None) => Some(only),
        (None, _) | (Some(_), Some(_)) => {
            let expected = "one of `stdout`, `file`, `syslog`, `otlp`, `loki`, `http`, `kafka`";
            table.written.error(Words::new("needs one place").expected(expected));
            None
        }
    }
}

fn filter(table: &Table<'_>) -> Option<Filter> {
    let (statuses, routes) = (table.get(&FILTER.statuses).map(values), table.get(&FILTER.routes).map(values));
    let (slower_than, verdicts) = (table.get(&FILTER.slower_than), table.get(&FILTER.verdicts));
    let routes = routes?.iter().map(|route| RouteName::new(route)).collect();
    Some(Filter { statuses: statuses?, routes, slower_than: slower_than?, verdicts: verdicts? })
}

pub(super) fn anonymise(table: &Table<'_>) -> Option<Anonymise> {
    let (ipv4_prefix, ipv6_prefix) = (table.get(&ANONYMISE.ipv4_prefix), table.get(&ANONYMISE.ipv6_prefix));
    Some(Anonymise { ipv4_prefix: ipv4_prefix?, ipv6_prefix: ipv6_prefix? })
}

pub(super) fn batch(table: &Table<'_>) -> Option<Batch> {
    let (records, bytes, linger) = (table.get(&BATCH.records), table.get(&BATCH.bytes), table.get(&BATCH.linger));
    Some(Batch { records: records?, bytes: bytes?, linger: linger? })
}

fn spool(table: &Table<'_>) -> Option<Spool> {
    let (dir, size, segment) = (table.get(&SPOOL.dir), table.get(&SPOOL.size), table.get(&SPOOL.segment));
    let size = size?;
    Some(Spool { dir: dir?, size, segment: segment?.min(size / 8) })
}

/// `404`, `5xx`, `400-499`, `none`.
fn status(text: &str) -> Result<(u16, u16), String> {
    let wrong = || "is no status such as 404, 5xx or 400-499".to_owned();
    let number = |text: &str| text.parse::<u16>().ok().filter(|status| (100..1000).contains(status));
    if text == "none" {
        return Ok((0, 0));
    }
    if let Some(class) = text.strip_suffix("xx") {
        let class = class.parse::<u16>().ok().filter(|class| (1..=9).contains(class)).ok_or_else(wrong)?;
        return Ok((class * 100, class * 100 + 99));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = number(first.trim()).zip(number(last.trim())).filter(|(first, last)| first <= last);
    range.ok_or_else(wrong)
}

/// A percentage, in millionths.
pub(super) fn share(text: &str) -> Result<u32, String> {
    let wrong = || "is no percentage such as 10% or 0.5%".to_owned();
    let number = text.strip_suffix('%').ok_or_else(wrong)?.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || fraction.len() > 4 || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let millionths = format!("{whole}{fraction:0<4}").parse::<u32>().ok().filter(|share| *share <= 1_000_000);
    millionths.ok_or_else(wrong)
}

/// Text with `{field}`, `{{` and `}}`.
fn template(text: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    if text.len() > 4_096 || text.contains(['\n', '\r']) {
        return Err("is longer than 4,096 bytes or has several lines".into());
    }
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            plain.push_str(from.get(..1).unwrap_or_default());
            rest = after;
            continue;
        }
        let (name, after) = from.strip_prefix('{').and_then(|from| from.split_once('}')).ok_or("has a lone brace")?;
        let field = RECORD_FIELDS.iter().find(|known| **known == name);
        let field = field.ok_or_else(|| format!("names `{name}`, which is no field"))?;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Field(field));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    if pieces.is_empty() { Err("is empty".into()) } else { Ok(pieces) }
}
