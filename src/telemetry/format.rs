//! Turns a record into a line.
//!
//! Floor 2. In: a [`Record`] on the access log's own thread. Out: one line of JSON (schema [`SCHEMA`], fields as in
//! [`FIELDS`], documented by [`reference`](fn@reference)) or of Apache's `combined` format, appended to a buffer that is used again.
//! Whatever bytes a client sent, a line stays one line and JSON stays JSON. Deliberately absent: cookies,
//! `Authorization`, request and response fields other than those listed.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use super::record::{Kind, Record};
use super::redact::{Redactor, without_user};
use crate::config::process::LogFormat;
use crate::lexicon::Protocol;

/// Version of the JSON line, its field `v`. Grows when a field changes its meaning or goes; new fields may come any time.
pub const SCHEMA: u32 = 1;

/// Fields of the JSON line in their order: name, type, meaning. A field without a value is left out.
#[rustfmt::skip] // a table
pub const FIELDS: &[(&str, &str, &str)] = &[
    ("v", "number", "version of this schema, 1"),
    ("id", "string", "tells this record from all others of all processes; the same whenever it is sent again"),
    ("time", "string", "when the request head was complete; RFC 3339, UTC, microseconds"),
    ("kind", "string", "`exchange`, `tunnel_start` or `tunnel_end` (same `request_id`)"),
    ("request_id", "string", "as sent to the endpoint and returned to the client"),
    ("traceparent", "string", "W3C trace context, as sent to the endpoint"),
    ("client", "string", "client address, through trusted proxies"),
    ("client_port", "number", "client port; absent when a forwarded chain did not tell it"),
    ("connection", "number", "the connection's number in this process"),
    ("listener", "string", "name of the listener"),
    ("protocol", "string", "`h1` or `h2`"),
    ("tls", "string", "`TLSv1.2` or `TLSv1.3`; absent on plain connections"),
    ("ja4", "string", "JA4 fingerprint of the client's TLS"),
    ("method", "string", "method"),
    ("host", "string", "host as the client named it"),
    ("path", "string", "path and query; secret query values are `***`"),
    ("status", "number", "status sent; absent when the client was gone before"),
    ("bytes_in", "number", "request body bytes received; for a tunnel, bytes from the client"),
    ("bytes_out", "number", "response body bytes sent; for a tunnel, bytes to the client"),
    ("receive_ms", "number", "receiving the request body before an endpoint was leased"),
    ("queue_ms", "number", "waiting for a free endpoint"),
    ("connect_ms", "number", "connecting, last attempt; 0 on a reused connection"),
    ("first_byte_ms", "number", "from the request sent to the response head, last attempt"),
    ("total_ms", "number", "from the request head to the last byte of the response; for a tunnel, its life"),
    ("route", "string", "name of the route"),
    ("pool", "string", "name of the pool"),
    ("endpoint", "string", "endpoint that answered, or was tried last"),
    ("attempts", "array", "attempts that failed or whose answer was not taken, each `{\"endpoint\", \"cause\"}`; of more than 16 attempts the first and the last eight"),
    ("end", "string", "end code of two letters: who (`-` nobody, `C` client, `U` upstream, `P` the proxy) and during what (`-` complete, `R` request, `Q` queue, `C` connect, `H` waiting for the head, `D` response data, `T` tunnel)"),
    ("fault", "string", "reason code when the proxy itself answered or broke off"),
    ("clock", "string", "the time limit that ended it"),
    ("limits", "array", "limits that refused it, or would have, each `{\"limit\", \"observed\"}`"),
    ("verdicts", "array", "what rules of the shield said, each `{\"rule\", \"action\", \"mode\"}`; mode is `enforced` or `observed`"),
    ("user_agent", "string", "`User-Agent`"),
    ("referer", "string", "`Referer` without user information and fragment; secret query values are `***`"),
    ("messages_in", "number", "WebSocket messages from the client, on `tunnel_end`"),
    ("messages_out", "number", "WebSocket messages to the client, on `tunnel_end`"),
];

/// The table of fields as Markdown, for the README.
pub fn reference() -> String {
    let mut text = String::from("| field | type | meaning |\n| --- | --- | --- |\n");
    for (name, kind, meaning) in FIELDS {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "| `{name}` | {kind} | {meaning} |");
    }
    text
}

/// Encodes records, one line each.
#[derive(Debug)]
pub struct Encoder {
    format: LogFormat,
    redactor: Redactor,
    second: Option<u64>,
    /// The present second's text: formatted once a second, not once a record.
    stamp: String,
    scratch: Vec<u8>,
}

impl Encoder {
    /// An encoder.
    pub const fn new(format: LogFormat, redactor: Redactor) -> Self {
        Self { format, redactor, second: None, stamp: String::new(), scratch: Vec::new() }
    }

    /// Appends `record` as one line to `out`. `combined` has no line for a tunnel's start.
    pub fn encode(&mut self, record: &Record, out: &mut Vec<u8>) {
        match self.format {
            LogFormat::Json => self.json(record, out),
            LogFormat::Combined if record.kind == Kind::TunnelStart => {}
            LogFormat::Combined => self.combined(record, out),
        }
    }

    fn json(&mut self, record: &Record, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"v":1,"id":""#);
        display(record.id, out);
        out.extend_from_slice(br#"","time":""#);
        let micros = self.tick(record.at);
        out.extend_from_slice(self.stamp.as_bytes());
        out.push(b'.');
        decimal(micros.into(), 6, out);
        out.extend_from_slice(br#"Z","kind":""#);
        out.extend_from_slice(match record.kind {
            Kind::Exchange => b"exchange",
            Kind::TunnelStart => b"tunnel_start",
            Kind::TunnelEnd => b"tunnel_end",
        });
        out.push(b'"');
        field(out, "request_id", record.request_id.as_bytes());
        optional(out, "traceparent", record.traceparent.as_ref());
        key(out, "client");
        out.push(b'"');
        address(record.client.ip(), out);
        out.push(b'"');
        if record.client.port() != 0 {
            count(out, "client_port", u64::from(record.client.port()));
        }
        key(out, "connection");
        display(record.connection, out);
        field(out, "listener", record.listener.as_str().as_bytes());
        field(out, "protocol", record.protocol.as_str().as_bytes());
        if let Some(tls) = record.tls {
            field(out, "tls", tls.as_bytes());
        }
        if let Some(fingerprint) = &record.ja4 {
            field(out, "ja4", fingerprint.as_str().as_bytes());
        }
        field(out, "method", record.method.as_str().as_bytes());
        if let Some(host) = &record.host {
            field(out, "host", without_user(host.as_bytes()));
        }
        self.scratch.clear();
        self.redactor.target(record.target.path(), record.target.query(), &mut self.scratch);
        field(out, "path", &self.scratch);
        if let Some(status) = record.status {
            count(out, "status", u64::from(status));
        }
        count(out, "bytes_in", record.bytes_in);
        count(out, "bytes_out", record.bytes_out);
        millis(out, "receive_ms", record.stages.receive);
        millis(out, "queue_ms", record.stages.queue);
        millis(out, "connect_ms", record.stages.connect);
        millis(out, "first_byte_ms", record.stages.first_byte);
        millis(out, "total_ms", record.stages.total);
        self.json_path_taken(record, out);
        if let Some(agent) = &record.user_agent {
            field(out, "user_agent", agent.as_bytes());
        }
        if let Some(referer) = &record.referer {
            self.scratch.clear();
            self.redactor.referer(referer.as_bytes(), &mut self.scratch);
            field(out, "referer", &self.scratch);
        }
        if let Some((from_client, to_client)) = record.messages {
            count(out, "messages_in", from_client);
            count(out, "messages_out", to_client);
        }
        out.extend_from_slice(b"}\n");
    }

    /// Route, pool, endpoints, end.
    fn json_path_taken(&self, record: &Record, out: &mut Vec<u8>) {
        if let Some(route) = &record.route {
            field(out, "route", route.as_str().as_bytes());
        }
        if let Some(pool) = &record.pool {
            field(out, "pool", pool.as_str().as_bytes());
        }
        if let Some(endpoint) = &record.endpoint {
            field(out, "endpoint", endpoint.as_str().as_bytes());
        }
        let mut failed = false;
        for attempt in record.attempts.iter() {
            let Some(cause) = attempt.cause else { continue };
            out.extend_from_slice(if failed { br#",{"endpoint":"# } else { br#","attempts":[{"endpoint":"# });
            string(attempt.endpoint.as_str().as_bytes(), out);
            field(out, "cause", cause.as_bytes());
            out.push(b'}');
            failed = true;
        }
        if failed {
            out.push(b']');
        }
        key(out, "end");
        out.push(b'"');
        for letter in record.end.code() {
            escaped(letter, out);
        }
        out.push(b'"');
        if let Some(fault) = record.fault {
            field(out, "fault", fault.as_bytes());
        }
        if let Some(clock) = record.clock {
            field(out, "clock", clock.as_str().as_bytes());
        }
        for (index, (limit, observed)) in record.limits.iter().enumerate() {
            out.extend_from_slice(if index == 0 { br#","limits":[{"limit":"# } else { br#",{"limit":"# });
            string(limit.as_str().as_bytes(), out);
            out.extend_from_slice(if *observed { br#","observed":true}"# } else { br#","observed":false}"# });
        }
        if !record.limits.is_empty() {
            out.push(b']');
        }
        for (index, verdict) in record.verdicts.iter().enumerate() {
            out.extend_from_slice(if index == 0 { br#","verdicts":[{"rule":"# } else { br#",{"rule":"# });
            string(verdict.rule.as_str().as_bytes(), out);
            field(out, "action", verdict.action.as_bytes());
            field(out, "mode", if verdict.observed { b"observed" } else { b"enforced" });
            out.push(b'}');
        }
        if !record.verdicts.is_empty() {
            out.push(b']');
        }
    }

    /// `%h - - [%t] "%r" %>s %b "%{Referer}i" "%{User-agent}i"`.
    fn combined(&mut self, record: &Record, out: &mut Vec<u8>) {
        self.tick(record.at);
        address(record.client.ip(), out);
        out.extend_from_slice(b" - - [");
        out.extend_from_slice(self.stamp.as_bytes());
        out.extend_from_slice(b"] \"");
        out.extend_from_slice(record.method.as_str().as_bytes());
        out.push(b' ');
        self.scratch.clear();
        self.redactor.target(record.target.path(), record.target.query(), &mut self.scratch);
        quoted(&self.scratch, out);
        out.extend_from_slice(match record.protocol {
            Protocol::Http1 => b" HTTP/1.1\" ",
            Protocol::Http2 => b" HTTP/2.0\" ",
            Protocol::Http3 => b" HTTP/3.0\" ",
        });
        match record.status {
            Some(status) => decimal(status.into(), 3, out),
            // nginx' word for "the client was gone", which log readers know.
            None => out.extend_from_slice(b"499"),
        }
        out.push(b' ');
        decimal(record.bytes_out, 1, out);
        out.extend_from_slice(b" \"");
        self.scratch.clear();
        match &record.referer {
            Some(referer) => self.redactor.referer(referer.as_bytes(), &mut self.scratch),
            None => self.scratch.push(b'-'),
        }
        quoted(&self.scratch, out);
        out.extend_from_slice(b"\" \"");
        quoted(record.user_agent.as_ref().map_or(b"-", HeaderValue::as_bytes), out);
        out.extend_from_slice(b"\"\n");
    }

    /// Brings the stamp up to `at`; gives the microseconds beyond it.
    fn tick(&mut self, at: SystemTime) -> u32 {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            let stamp = i64::try_from(since.as_secs())
                .ok()
                .and_then(|second| jiff::Timestamp::from_second(second).ok())
                .unwrap_or(jiff::Timestamp::MAX);
            self.stamp.clear();
            // Writing to a String cannot fail, and both patterns are constant.
            let _infallible = match self.format {
                LogFormat::Json => write!(self.stamp, "{}", stamp.strftime("%Y-%m-%dT%H:%M:%S")),
                LogFormat::Combined => write!(self.stamp, "{}", stamp.strftime("%d/%b/%Y:%H:%M:%S +0000")),
            };
        }
        since.subsec_micros()
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(out, name);
    string(value, out);
}

fn optional(out: &mut Vec<u8>, name: &str, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        field(out, name, value.as_bytes());
    }
}

fn count(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    decimal(value, 1, out);
}

/// Milliseconds with microseconds as the fraction.
fn millis(out: &mut Vec<u8>, name: &str, value: Duration) {
    key(out, name);
    if value.is_zero() {
        out.push(b'0');
    } else {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        decimal(micros / 1_000, 1, out);
        out.push(b'.');
        decimal(micros % 1_000, 3, out);
    }
}

/// Appends a number of at least `digits` digits. A dozen of them in each line make `fmt` show in a profile.
fn decimal(mut value: u64, digits: usize, out: &mut Vec<u8>) {
    let start = out.len();
    while value > 0 || out.len() < start + digits {
        let digit = u8::try_from(value % 10).unwrap_or_default();
        out.push(b'0' + digit);
        value /= 10;
    }
    if let Some(written) = out.get_mut(start..) {
        written.reverse();
    }
}

/// Appends an address; IPv4 in IPv6 becomes IPv4.
fn address(address: IpAddr, out: &mut Vec<u8>) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                decimal(octet.into(), 1, out);
            }
        }
        IpAddr::V6(address) => display(address, out),
    }
}

fn display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _infallible = std::io::Write::write_fmt(out, format_args!("{value}"));
}

/// Appends a JSON string (RFC 8259 §7). Bytes that are not UTF-8 are taken as ISO-8859-1, as RFC 9110 §5.5 says that
/// old fields are. All control characters and line separators are escaped: a line stays a line, also for readers
/// that break lines as Unicode does, and a terminal is not driven.
fn string(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    // To the end, whatever is found: without an early way out the compiler checks sixteen bytes at a time.
    let special = |byte: u8| !matches!(byte, b' '..=b'~') | (byte == b'"') | (byte == b'\\');
    if !value.iter().fold(false, |any, byte| any | special(*byte)) {
        out.extend_from_slice(value);
    } else if let Ok(text) = std::str::from_utf8(value) {
        text.chars().for_each(|character| escaped(character, out));
    } else {
        value.iter().for_each(|byte| escaped(char::from(*byte), out));
    }
    out.push(b'"');
}

fn escaped(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
            display(format_args!("\\u{:04x}", u32::from(character)), out);
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Appends text for between quotes in `combined`: what is not printable ASCII becomes `\xHH`, as Apache does.
fn quoted(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => display(format_args!("\\x{byte:02x}"), out),
        }
    }
}

#[cfg(test)]
mod tests;
