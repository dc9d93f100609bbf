//! Turns a record into a line.
//!
//! Floor 2. In: a [`Record`] on the access log's own thread. Out: one line of JSON (schema [`SCHEMA`], fields as in
//! [`FIELDS`], documented by [`reference`](fn@reference)), of Apache's `combined` format, or of those in [`named`], appended
//! to a buffer that is used again.
//! Whatever bytes a client sent, a line stays one line and JSON stays JSON. Deliberately absent: cookies,
//! `Authorization`, request and response fields other than those listed.

mod memo;
pub(super) mod named;
pub(super) mod stamp;
mod text;

use std::fmt::Write as _;

use super::record::{Kind, Record};
use super::redact::{Redactor, without_user};
use crate::config::sink::LogFormat;
use crate::head::HeaderValue;
use crate::lexicon::Protocol;
use memo::Memo;
use stamp::{Pattern, Stamp};
use text::{address, count, decimal, field, hex, inner, millis, quoted, string, word};

/// Version of the JSON line, its field `v`. Grows when a field changes its meaning or goes; new fields may come any time.
pub const SCHEMA: u32 = 1;

/// Fields of the JSON line in their order: name, name in the format `otel`, type, meaning. A field without a value is left
/// out.
#[rustfmt::skip] // a table
pub const FIELDS: &[(&str, &str, &str, &str)] = &[
    ("v", "sluicegate.schema", "number", "version of this schema, 1"),
    ("id", "log.record.uid", "string", "tells this record from all others of all processes; the same whenever it is sent again"),
    ("time", "timestamp", "string", "when the request head was complete; RFC 3339, UTC, microseconds"),
    ("kind", "sluicegate.kind", "string", "`exchange`, `tunnel_start` or `tunnel_end` (same `request_id`)"),
    ("request_id", "sluicegate.request_id", "string", "as sent to the endpoint and returned to the client"),
    ("traceparent", "sluicegate.traceparent", "string", "W3C trace context, as sent to the endpoint; where spans are exported and this trace is sampled, each attempt sends a span of its own below this one"),
    ("client", "client.address", "string", "client address, through trusted proxies"),
    ("client_port", "client.port", "number", "client port; absent when a forwarded chain did not tell it"),
    ("connection", "sluicegate.connection", "number", "the connection's number in this process"),
    ("listener", "sluicegate.listener", "string", "name of the listener"),
    ("protocol", "network.protocol.version", "string", "`h1`, `h2` or `h3`; with OpenTelemetry's names `1.1`, `2` or `3`"),
    ("tls", "tls.protocol.version", "string", "`TLSv1.2` or `TLSv1.3`; absent on plain connections"),
    ("ja4", "tls.client.ja4", "string", "JA4 fingerprint of the client's TLS"),
    ("method", "http.request.method", "string", "method"),
    ("host", "server.address", "string", "host as the client named it"),
    ("path", "url.original", "string", "path and query; secret query values are `***`"),
    ("status", "http.response.status_code", "number", "status sent; absent when the client was gone before"),
    ("bytes_in", "http.request.body.size", "number", "request body bytes received; for a tunnel, bytes from the client"),
    ("bytes_out", "http.response.body.size", "number", "response body bytes sent; for a tunnel, bytes to the client"),
    ("receive_ms", "sluicegate.receive_ms", "number", "receiving the request body before an endpoint was leased"),
    ("queue_ms", "sluicegate.queue_ms", "number", "waiting for a free endpoint"),
    ("connect_ms", "sluicegate.connect_ms", "number", "connecting, last attempt; 0 on a reused connection"),
    ("first_byte_ms", "sluicegate.first_byte_ms", "number", "from the request sent to the response head, last attempt"),
    ("total_ms", "sluicegate.total_ms", "number", "from the request head to the last byte of the response; for a tunnel, its life"),
    ("route", "http.route", "string", "name of the route"),
    ("pool", "sluicegate.pool", "string", "name of the pool"),
    ("endpoint", "sluicegate.endpoint", "string", "endpoint that answered, or was tried last"),
    ("attempts", "sluicegate.attempts", "array", "attempts that failed or whose answer was not taken, each `{\"endpoint\", \"cause\"}`; of more than 16 attempts the first and the last eight"),
    ("end", "sluicegate.end", "string", "end code of two letters: who (`-` nobody, `C` client, `U` upstream, `P` the proxy) and during what (`-` complete, `R` request, `Q` queue, `C` connect, `H` waiting for the head, `D` response data, `T` tunnel)"),
    ("fault", "error.type", "string", "reason code when the proxy itself answered or broke off"),
    ("clock", "sluicegate.clock", "string", "the time limit that ended it"),
    ("limits", "sluicegate.limits", "array", "limits that refused it, or would have, each `{\"limit\", \"observed\"}`"),
    ("verdicts", "sluicegate.verdicts", "array", "what rules of the shield said, each `{\"rule\", \"action\", \"mode\"}`; mode is `enforced` or `observed`"),
    ("user_agent", "user_agent.original", "string", "`User-Agent`"),
    ("referer", "http.request.header.referer", "string", "`Referer` without user information and fragment; secret query values are `***`"),
    ("messages_in", "sluicegate.messages_in", "number", "WebSocket messages from the client, on `tunnel_end`"),
    ("messages_out", "sluicegate.messages_out", "number", "WebSocket messages to the client, on `tunnel_end`"),
];

/// The table of fields as Markdown, for the README.
pub fn reference() -> String {
    let mut text = String::from("| field | `otel` | type | meaning |\n| --- | --- | --- | --- |\n");
    for (name, otel, kind, meaning) in FIELDS {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "| `{name}` | `{otel}` | {kind} | {meaning} |");
    }
    text
}

/// Encodes records, one line each.
#[derive(Debug)]
pub struct Encoder {
    format: LogFormat,
    redactor: Redactor,
    stamp: Stamp,
    scratch: Vec<u8>,
    parts: named::Parts,
    /// How lines begin of records that have their id of this process.
    opening: (Option<u64>, Vec<u8>),
    agents: Memo,
    referers: Memo,
}

impl Encoder {
    /// An encoder.
    pub fn new(format: LogFormat, redactor: Redactor) -> Self {
        let pattern = if format == LogFormat::Combined { Pattern::Apache } else { Pattern::Rfc3339 };
        let stamp = Stamp::new(pattern);
        let (scratch, parts, opening) = (Vec::new(), named::Parts::default(), (None, Vec::new()));
        Self { format, redactor, stamp, scratch, parts, opening, agents: Memo::default(), referers: Memo::default() }
    }

    /// Appends `record` as one line to `out`. `combined` has no line for a tunnel's start.
    pub fn encode(&mut self, record: &Record, out: &mut Vec<u8>) {
        match &self.format {
            LogFormat::Json => self.json(record, out),
            LogFormat::Combined if record.kind == Kind::TunnelStart => {}
            LogFormat::Combined => self.combined(record, out),
            LogFormat::Otel => named::otel(record, &self.redactor, &mut self.stamp, &mut self.scratch, out),
            LogFormat::Logfmt => named::logfmt(record, &self.redactor, &mut self.stamp, &mut self.scratch, out),
            LogFormat::Template(pieces) => {
                self.parts.fill(record, &self.redactor, &mut self.stamp, &mut self.scratch);
                self.parts.write(pieces, out);
            }
        }
    }

    fn json(&mut self, record: &Record, out: &mut Vec<u8>) {
        let (process, number) = record.id.parts();
        if self.opening.0 != Some(process) {
            self.opening.1.clear();
            self.opening.1.extend_from_slice(br#"{"v":1,"id":""#);
            hex(process, &mut self.opening.1);
            self.opening.1.push(b'-');
            self.opening.0 = Some(process);
        }
        out.extend_from_slice(&self.opening.1);
        decimal(number, out);
        out.extend_from_slice(br#"","time":""#);
        self.stamp.write(record.at, out);
        out.push(b'"');
        word!(out, "kind", record.kind.as_str().as_bytes());
        field!(out, "request_id", record.request_id.as_bytes());
        if let Some(trace) = &record.traceparent {
            // Always written by us, in digits and hyphens.
            word!(out, "traceparent", trace.as_bytes());
        }
        out.extend_from_slice(br#","client":""#);
        address(self.redactor.client(record.client.ip()), out);
        out.push(b'"');
        if record.client.port() != 0 {
            count!(out, "client_port", u64::from(record.client.port()));
        }
        count!(out, "connection", record.connection.number());
        field!(out, "listener", record.listener.as_str().as_bytes());
        word!(out, "protocol", record.protocol.as_str().as_bytes());
        if let Some(tls) = record.tls {
            word!(out, "tls", tls.as_bytes());
        }
        if let Some(fingerprint) = &record.ja4 {
            field!(out, "ja4", fingerprint.as_str().as_bytes());
        }
        // A token (RFC 9110 §9.1), in which neither quotes nor backslashes are.
        word!(out, "method", record.method.as_str().as_bytes());
        if let Some(host) = &record.host {
            field!(out, "host", without_user(host.as_bytes()));
        }
        self.scratch.clear();
        self.redactor.target(record.target.path(), record.target.query(), &mut self.scratch);
        field!(out, "path", &self.scratch);
        if let Some(status) = record.status {
            count!(out, "status", u64::from(status));
        }
        count!(out, "bytes_in", record.bytes_in);
        count!(out, "bytes_out", record.bytes_out);
        millis!(out, "receive_ms", record.stages.receive);
        millis!(out, "queue_ms", record.stages.queue);
        millis!(out, "connect_ms", record.stages.connect);
        millis!(out, "first_byte_ms", record.stages.first_byte);
        millis!(out, "total_ms", record.stages.total);
        path_taken(record, out);
        if let Some(agent) = &record.user_agent {
            out.extend_from_slice(br#","user_agent":""#);
            self.agents.append(agent.as_bytes(), out, inner);
            out.push(b'"');
        }
        if let Some(referer) = &record.referer {
            out.extend_from_slice(br#","referer":""#);
            let (redactor, scratch) = (&self.redactor, &mut self.scratch);
            self.referers.append(referer.as_bytes(), out, |referer, out| {
                scratch.clear();
                redactor.referer(referer, scratch);
                inner(scratch, out);
            });
            out.push(b'"');
        }
        if let Some((from_client, to_client)) = record.messages {
            count!(out, "messages_in", from_client);
            count!(out, "messages_out", to_client);
        }
        out.extend_from_slice(b"}\n");
    }

    /// `%h - - [%t] "%r" %>s %b "%{Referer}i" "%{User-agent}i"`.
    fn combined(&mut self, record: &Record, out: &mut Vec<u8>) {
        address(self.redactor.client(record.client.ip()), out);
        out.extend_from_slice(b" - - [");
        self.stamp.write(record.at, out);
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
            Some(status) => decimal(status.into(), out),
            // nginx' word for "the client was gone", which log readers know.
            None => out.extend_from_slice(b"499"),
        }
        out.push(b' ');
        decimal(record.bytes_out, out);
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
}

/// Route, pool, endpoints, end, as JSON.
fn path_taken(record: &Record, out: &mut Vec<u8>) {
    if let Some(route) = &record.route {
        field!(out, "route", route.as_str().as_bytes());
    }
    if let Some(pool) = &record.pool {
        field!(out, "pool", pool.as_str().as_bytes());
    }
    if let Some(endpoint) = &record.endpoint {
        field!(out, "endpoint", endpoint.as_str().as_bytes());
    }
    let failed = || record.attempts.iter().filter_map(|attempt| Some((&attempt.endpoint, attempt.cause?)));
    for (index, (endpoint, cause)) in failed().enumerate() {
        out.extend_from_slice(if index == 0 { br#","attempts":[{"endpoint":"# } else { br#",{"endpoint":"# });
        string(endpoint.as_str().as_bytes(), out);
        word!(out, "cause", cause.as_bytes());
        out.push(b'}');
    }
    if failed().next().is_some() {
        out.push(b']');
    }
    word!(out, "end", record.end.code().as_bytes());
    if let Some(fault) = record.fault {
        word!(out, "fault", fault.as_bytes());
    }
    if let Some(clock) = record.clock {
        word!(out, "clock", clock.as_str().as_bytes());
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
        word!(out, "action", verdict.action.as_bytes());
        word!(out, "mode", if verdict.observed { &b"observed"[..] } else { b"enforced" });
        out.push(b'}');
    }
    if !record.verdicts.is_empty() {
        out.push(b']');
    }
}

#[cfg(test)]
mod tests;
