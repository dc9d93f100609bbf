//! Formats that are made of named values: OpenTelemetry's names, `logfmt`, templates.
//!
//! Floor 2, pure. [`visit`] goes through a record's values in the order of [`FIELDS`]; a format says how each is written.

use std::ops::Range;
use std::time::Duration;

use super::stamp::Stamp;
use super::text::{address, decimal, display, lasting, string};
use super::{FIELDS, SCHEMA};
use crate::config::sink::Piece;
use crate::lexicon::Protocol;
use crate::telemetry::record::{Record, Verdict};
use crate::telemetry::redact::{Redactor, without_user};

/// A value of a record.
pub(in crate::telemetry) enum Value<'a> {
    /// Text as it came, or ours.
    Text(&'a [u8]),
    /// A count.
    Number(u64),
    /// A duration, told in milliseconds.
    Millis(Duration),
    /// Several texts.
    Words(&'a [String]),
}

/// Shows every value that `record` has, under the name that the JSON format gives it.
pub(in crate::telemetry) fn visit(
    record: &Record,
    redactor: &Redactor,
    stamp: &mut Stamp,
    scratch: &mut Vec<u8>,
    see: &mut dyn FnMut(&'static str, Value<'_>),
) {
    let mut made = |scratch: &mut Vec<u8>, name, make: &mut dyn FnMut(&mut Vec<u8>)| {
        scratch.clear();
        make(scratch);
        see(name, Value::Text(scratch));
    };
    made(scratch, "v", &mut |out| decimal(SCHEMA.into(), out));
    made(scratch, "id", &mut |out| display(record.id, out));
    made(scratch, "time", &mut |out| stamp.write(record.at, out));
    see("kind", Value::Text(record.kind.as_str().as_bytes()));
    see("request_id", Value::Text(record.request_id.as_bytes()));
    if let Some(trace) = &record.traceparent {
        see("traceparent", Value::Text(trace.as_bytes()));
    }
    scratch.clear();
    address(redactor.client(record.client.ip()), scratch);
    see("client", Value::Text(scratch));
    if record.client.port() != 0 {
        see("client_port", Value::Number(record.client.port().into()));
    }
    scratch.clear();
    display(record.connection, scratch);
    see("connection", Value::Text(scratch));
    see("listener", Value::Text(record.listener.as_str().as_bytes()));
    see("protocol", Value::Text(record.protocol.as_str().as_bytes()));
    let mut text = |name, value: Option<&[u8]>| value.map_or((), |value| see(name, Value::Text(value)));
    text("tls", record.tls.map(str::as_bytes));
    text("ja4", record.ja4.as_ref().map(|print| print.as_str().as_bytes()));
    text("method", Some(record.method.as_str().as_bytes()));
    text("host", record.host.as_ref().map(|host| without_user(host.as_bytes())));
    scratch.clear();
    redactor.target(record.target.path(), record.target.query(), scratch);
    text("path", Some(scratch));
    numbers(record, see);
    let mut text = |name, value: Option<&[u8]>| value.map_or((), |value| see(name, Value::Text(value)));
    text("route", record.route.as_ref().map(|route| route.as_str().as_bytes()));
    text("pool", record.pool.as_ref().map(|pool| pool.as_str().as_bytes()));
    text("endpoint", record.endpoint.as_ref().map(|endpoint| endpoint.as_str().as_bytes()));
    let failed = record.attempts.iter().filter_map(|attempt| Some(format!("{}={}", attempt.endpoint, attempt.cause?)));
    let failed: Vec<String> = failed.collect();
    if !failed.is_empty() {
        see("attempts", Value::Words(&failed));
    }
    scratch.clear();
    see("end", Value::Text(record.end.code().as_bytes()));
    if let Some(fault) = record.fault {
        see("fault", Value::Text(fault.as_bytes()));
    }
    if let Some(clock) = record.clock {
        see("clock", Value::Text(clock.as_str().as_bytes()));
    }
    if !record.limits.is_empty() {
        let mode = |observed: bool| if observed { "observed" } else { "enforced" };
        let limits = record.limits.iter().map(|(limit, observed)| format!("{limit}={}", mode(*observed)));
        see("limits", Value::Words(&limits.collect::<Vec<_>>()));
    }
    if !record.verdicts.is_empty() {
        let word = |verdict: &Verdict| {
            let mode = if verdict.observed { ":observed" } else { "" };
            format!("{}={}{mode}", verdict.rule, verdict.action)
        };
        see("verdicts", Value::Words(&record.verdicts.iter().map(word).collect::<Vec<_>>()));
    }
    if let Some(agent) = &record.user_agent {
        see("user_agent", Value::Text(agent.as_bytes()));
    }
    if let Some(referer) = &record.referer {
        scratch.clear();
        redactor.referer(referer.as_bytes(), scratch);
        see("referer", Value::Text(scratch));
    }
    if let Some((from_client, to_client)) = record.messages {
        see("messages_in", Value::Number(from_client));
        see("messages_out", Value::Number(to_client));
    }
}

fn numbers(record: &Record, see: &mut dyn FnMut(&'static str, Value<'_>)) {
    if let Some(status) = record.status {
        see("status", Value::Number(status.into()));
    }
    see("bytes_in", Value::Number(record.bytes_in));
    see("bytes_out", Value::Number(record.bytes_out));
    see("receive_ms", Value::Millis(record.stages.receive));
    see("queue_ms", Value::Millis(record.stages.queue));
    see("connect_ms", Value::Millis(record.stages.connect));
    see("first_byte_ms", Value::Millis(record.stages.first_byte));
    see("total_ms", Value::Millis(record.stages.total));
}

/// The name that OpenTelemetry's conventions give a field.
pub(in crate::telemetry) fn semantic(name: &str) -> &'static str {
    FIELDS.iter().find(|(own, ..)| *own == name).map_or("", |(_, semantic, ..)| *semantic)
}

/// What OpenTelemetry calls the protocol's version.
pub(in crate::telemetry) const fn version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "1.1",
        Protocol::Http2 => "2",
        Protocol::Http3 => "3",
    }
}

/// One JSON object a line, its names OpenTelemetry's.
pub(super) fn otel(record: &Record, redactor: &Redactor, stamp: &mut Stamp, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    let mut first = true;
    visit(record, redactor, stamp, scratch, &mut |name, value| {
        out.push(if std::mem::take(&mut first) { b'{' } else { b',' });
        string(semantic(name).as_bytes(), out);
        out.push(b':');
        match (name, value) {
            ("v" | "connection", Value::Text(text)) => out.extend_from_slice(text),
            ("protocol", _) => string(version(record.protocol).as_bytes(), out),
            (_, Value::Text(text)) => string(text, out),
            (_, Value::Words(words)) => {
                for (at, word) in words.iter().enumerate() {
                    out.push(if at == 0 { b'[' } else { b',' });
                    string(word.as_bytes(), out);
                }
                out.push(b']');
            }
            (_, value) => plain(&value, out),
        }
    });
    out.extend_from_slice(b"}\n");
}

/// `key=value` pairs.
pub(super) fn logfmt(
    record: &Record,
    redactor: &Redactor,
    stamp: &mut Stamp,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    let mut first = true;
    visit(record, redactor, stamp, scratch, &mut |name, value| {
        if !std::mem::take(&mut first) {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        let start = out.len();
        plain(&value, out);
        let bare = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
        let written = out.get(start..).unwrap_or_default();
        if written.is_empty() || !written.iter().all(bare) {
            let written = out.split_off(start);
            string(&written, out);
        }
    });
    out.push(b'\n');
}

/// A value without quotes.
fn plain(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => out.extend_from_slice(text),
        Value::Number(number) => decimal(*number, out),
        Value::Millis(value) => lasting(*value, out),
        Value::Words(words) => {
            for (at, word) in words.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(word.as_bytes());
            }
        }
    }
}

/// A record's values as text, for a template.
#[derive(Debug, Default)]
pub(super) struct Parts {
    text: Vec<u8>,
    places: Vec<(&'static str, Range<usize>)>,
}

impl Parts {
    pub(super) fn fill(&mut self, record: &Record, redactor: &Redactor, stamp: &mut Stamp, scratch: &mut Vec<u8>) {
        self.text.clear();
        self.places.clear();
        let (text, places) = (&mut self.text, &mut self.places);
        visit(record, redactor, stamp, scratch, &mut |name, value| {
            let start = text.len();
            plain(&value, text);
            places.push((name, start..text.len()));
        });
    }

    /// Appends the template as a line; `-` stands for what a record does not have. What a client sent is escaped as in JSON,
    /// but without quotes.
    pub(super) fn write(&self, pieces: &[Piece], out: &mut Vec<u8>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Field(name) => {
                    let place = self.places.iter().find(|(known, _)| known == name);
                    let value = place.and_then(|(_, place)| self.text.get(place.clone())).unwrap_or(b"-");
                    let start = out.len();
                    string(value, out);
                    out.pop();
                    out.remove(start);
                }
            }
        }
        out.push(b'\n');
    }
}
