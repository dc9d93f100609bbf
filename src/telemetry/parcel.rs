//! Records as receivers want them.
//!
//! Floor 2, pure. In: a [`Record`] and what a sink is. Out: an [`Entry`], the record's own bytes, which can wait on a disk (of
//! a record whose trace is sampled, one for each span); and of many entries one body. What is the same for all of a body (the labels of Loki, the resource of OpenTelemetry) is
//! added when it is made, so that an entry that waited goes under the settings of the day.

mod kafka;
pub(super) mod otlp;
mod syslog;

use std::time::UNIX_EPOCH;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::format::Encoder;
use super::format::stamp::{Pattern, Stamp};
use super::record::Record;
use super::redact::Redactor;
use crate::config::sink::{Destination, Sink};
use otlp::{Otlp, Spans};
pub use syslog::Machine;
use syslog::Syslog;

/// A record, or a span of one, as one receiver wants it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// When the record's request came, in nanoseconds of Unix time.
    pub at: u64,
    /// Its bytes.
    pub payload: Bytes,
}

/// Makes entries of records.
#[derive(Debug)]
pub struct Packer {
    encoder: Encoder,
    style: Style,
    stamp: Stamp,
    line: Vec<u8>,
    whole: Vec<u8>,
}

/// Makes bodies of entries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wrap {
    /// Entries with a line end behind each.
    Lines,
    /// Entries as they are: each ends itself.
    Plain,
    /// Each with its length before it (RFC 6587 §3.4.1).
    Counted,
    /// OTLP's request; what comes before the records or spans is the resource.
    Otlp(Bytes),
    /// Loki's push; what comes before the values is the stream's labels.
    Loki(Bytes),
    /// A batch of Kafka's records.
    Kafka {
        /// Whether they are compressed.
        gzip: bool,
    },
}

#[derive(Debug)]
enum Style {
    Line,
    Syslog(Syslog),
    Otlp(Box<Otlp>),
    Spans(Box<Spans>),
    Loki { metadata: bool },
    Bulk { index: String },
    Kafka,
}

impl Packer {
    /// A packer for `sink`, run on `machine`.
    pub fn new(sink: &Sink, redactor: Redactor, machine: &Machine) -> Self {
        let style = match &sink.to {
            Destination::Stdout | Destination::File(_) => Style::Line,
            Destination::Syslog(syslog) => Style::Syslog(Syslog::new(syslog, machine)),
            Destination::Otlp(_) => Style::Otlp(Box::new(Otlp::new(redactor.clone()))),
            Destination::Traces(_) => Style::Spans(Box::new(Spans::new(redactor.clone()))),
            Destination::Loki(loki) => Style::Loki { metadata: loki.metadata },
            Destination::Http(http) => {
                http.bulk.as_ref().map_or(Style::Line, |index| Style::Bulk { index: index.clone() })
            }
            Destination::Kafka(_) => Style::Kafka,
        };
        Self {
            encoder: Encoder::new(sink.format.clone(), redactor),
            style,
            stamp: Stamp::new(Pattern::Rfc3339),
            line: Vec::new(),
            whole: Vec::new(),
        }
    }

    /// Appends the entry for `record`, or those of its spans; nothing if its format has no line for it.
    pub fn pack(&mut self, record: &Record, to: &mut Vec<Entry>) {
        let since = record.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        match &mut self.style {
            Style::Otlp(otlp) => return to.push(Entry { at, payload: otlp.pack(record, at) }),
            Style::Spans(spans) => return spans.pack(record, at, to),
            Style::Line | Style::Syslog(_) | Style::Loki { .. } | Style::Bulk { .. } | Style::Kafka => {}
        }
        self.line.clear();
        self.encoder.encode(record, &mut self.line);
        let Some(line) = self.line.strip_suffix(b"\n") else { return };
        let out = &mut self.whole;
        out.clear();
        match &mut self.style {
            Style::Line | Style::Otlp(_) | Style::Spans(_) => out.extend_from_slice(line),
            Style::Syslog(syslog) => syslog.message(record, &mut self.stamp, line, out),
            Style::Loki { metadata } => {
                out.extend_from_slice(format!("[\"{at}\",").as_bytes());
                // What is no UTF-8 by now came in the format `combined`, which is ASCII, or in a template.
                put_json(&String::from_utf8_lossy(line), out);
                if *metadata {
                    out.extend_from_slice(format!(",{{\"record_id\":\"{}\"}}", record.id).as_bytes());
                }
                out.push(b']');
            }
            Style::Bulk { index } => {
                // Created, so that a record that comes twice is refused the second time.
                let id = record.id;
                let action = format!("{{\"create\":{{\"_index\":\"{index}\",\"_id\":\"{id}\"}}}}\n{{\"@timestamp\":\"");
                out.extend_from_slice(action.as_bytes());
                self.stamp.write(record.at, out);
                out.extend_from_slice(b"\",");
                out.extend_from_slice(line.get(1..).unwrap_or_default());
                out.push(b'\n');
            }
            Style::Kafka => kafka::message(&record.id.to_string(), line, out),
        }
        to.push(Entry { at, payload: Bytes::copy_from_slice(out) });
    }
}

impl Wrap {
    /// What `to` wants.
    pub fn new(to: &Destination) -> Self {
        match to {
            Destination::Stdout | Destination::File(_) => Self::Lines,
            Destination::Syslog(_) => Self::Counted,
            Destination::Otlp(otlp) => Self::Otlp(otlp::resource(&otlp.resource)),
            Destination::Traces(otlp) => Self::Otlp(otlp::instance(&otlp.resource)),
            Destination::Loki(loki) => {
                let labels = serde_json::to_vec(&loki.labels).unwrap_or_default();
                Self::Loki(Bytes::from(labels))
            }
            Destination::Http(http) if http.bulk.is_some() => Self::Plain,
            Destination::Http(_) => Self::Lines,
            Destination::Kafka(kafka) => Self::Kafka { gzip: kafka.gzip },
        }
    }

    /// One body of all entries.
    pub fn body(&self, entries: &[Entry]) -> Bytes {
        if let Self::Kafka { gzip } = self {
            return kafka::batch(entries, *gzip);
        }
        let size: usize = entries.iter().map(|entry| entry.payload.len() + 16).sum();
        let mut out = BytesMut::with_capacity(size + 128);
        match self {
            // A batch is whole by itself.
            Self::Kafka { .. } => {}
            Self::Plain => entries.iter().for_each(|entry| out.put_slice(&entry.payload)),
            Self::Lines => entries.iter().for_each(|entry| {
                out.put_slice(&entry.payload);
                out.put_u8(b'\n');
            }),
            Self::Counted => entries.iter().for_each(|entry| {
                out.put_slice(entry.payload.len().to_string().as_bytes());
                out.put_u8(b' ');
                out.put_slice(&entry.payload);
            }),
            Self::Otlp(resource) => otlp::request(resource, entries, &mut out),
            Self::Loki(labels) => {
                out.put_slice(b"{\"streams\":[{\"stream\":");
                out.put_slice(labels);
                out.put_slice(b",\"values\":[");
                for (at, entry) in entries.iter().enumerate() {
                    if at > 0 {
                        out.put_u8(b',');
                    }
                    out.put_slice(&entry.payload);
                }
                out.put_slice(b"]}]}");
            }
        }
        out.freeze()
    }
}

/// How many entries a sink of that kind makes of `record`, unless its format has none for it.
pub fn entries(to: &Destination, record: &Record) -> usize {
    if matches!(to, Destination::Traces(_)) { record.spans() } else { 1 }
}

/// Appends a JSON string.
fn put_json(text: &str, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    let _infallible = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests;
