//! Spans of exchanges.
//!
//! Floor 2, pure. In: a record whose trace is sampled. Out: an encoded `Span` of kind SERVER for the exchange, and below it one
//! of kind CLIENT for each attempt on an endpoint, which is the one that the endpoint was told of. Names and attributes
//! are those of OpenTelemetry's semantic conventions for HTTP, the others have our prefix. Deliberately absent: anything that
//! a record does not tell.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message as _;

use super::super::Entry;
use super::{any, attribute, trace};
use crate::telemetry::format::named::{Value, semantic, visit};
use crate::telemetry::format::stamp::{Pattern, Stamp};
use crate::telemetry::record::{Attempt, Kind, Record, Who, span_of};
use crate::telemetry::recorder;
use crate::telemetry::redact::Redactor;

/// Methods that the conventions know; any other is `_OTHER`.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Bits of `Span.flags` beside those of the trace context: it is known whether the parent is of another process, and it is.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// The cause of an attempt that was as good as the other one, only later.
const BEATEN: &str = "hedge";

/// Makes spans.
#[derive(Debug)]
pub(in crate::telemetry::parcel) struct Spans {
    redactor: Redactor,
    stamp: Stamp,
    scratch: Vec<u8>,
}

impl Spans {
    pub(in crate::telemetry::parcel) const fn new(redactor: Redactor) -> Self {
        Self { redactor, stamp: Stamp::new(Pattern::Rfc3339), scratch: Vec::new() }
    }

    /// Appends the spans of `record`, if its trace is sampled.
    pub(in crate::telemetry::parcel) fn pack(&mut self, record: &Record, at: u64, to: &mut Vec<Entry>) {
        if record.spans() == 0 {
            return;
        }
        let Some((trace_id, span_id, flags)) = trace(record) else { return };
        let own = span_id.as_slice().try_into().map_or(0, u64::from_be_bytes);
        // Every span of a trace has the state that came with it.
        let state = record.traced.as_ref().and_then(|traced| traced.state.as_ref());
        let trace_state = state.map(|state| String::from_utf8_lossy(state.as_bytes()).into_owned()).unwrap_or_default();
        let base = Span { trace_id, trace_state, flags, ..Span::default() };
        let exchange = self.exchange(record, Span { span_id, ..base.clone() });
        let mut push = |span: Span| to.push(Entry { at, payload: Bytes::from(span.encode_to_vec()) });
        for (number, attempt) in record.attempts.numbered() {
            push(Span {
                span_id: span_of(own, number).to_be_bytes().to_vec(),
                parent_span_id: exchange.span_id.clone(),
                flags: flags | KNOWN,
                ..self.attempt(record, attempt, number, base.clone())
            });
        }
        push(exchange);
    }

    /// The span of the exchange itself.
    fn exchange(&mut self, record: &Record, span: Span) -> Span {
        let method = record.method.as_str();
        let mut attributes = Vec::with_capacity(40);
        visit(record, &self.redactor, &mut self.stamp, &mut self.scratch, &mut |name, value| match (name, &value) {
            // What a span has fields for, or the spans below it tell.
            ("v" | "id" | "time" | "traceparent" | "total_ms" | "attempts", _) => {}
            ("method", _) => put_method(method, &mut attributes),
            ("host", Value::Text(host)) => put_server(&String::from_utf8_lossy(host), &mut attributes),
            ("path", Value::Text(target)) => {
                let target = String::from_utf8_lossy(target);
                let (path, query) =
                    target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
                attributes.push(text("url.path", path));
                attributes.extend(query.map(|query| text("url.query", query)));
            }
            _ => attributes.push(attribute(semantic(name), any(name, &value, record))),
        });
        attributes.push(text("url.scheme", if record.tls.is_some() { "https" } else { "http" }));
        let failed = has_failed(record);
        if failed && record.fault.is_none() {
            let status = record.status.map_or_else(|| record.end.code().to_string(), |status| status.to_string());
            attributes.push(text("error.type", &status));
        }
        let parent = record.parent.map(|parent| parent.get().to_be_bytes().to_vec());
        let remote = if parent.is_some() { REMOTE } else { 0 };
        let (start, end) = times(record, Duration::ZERO, record.stages.total);
        Span {
            flags: span.flags | KNOWN | remote,
            parent_span_id: parent.unwrap_or_default(),
            name: name(method, record.route.as_ref().map(|route| route.as_str())),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes,
            status: failed.then(error),
            ..span
        }
    }

    /// The span of an attempt, from the endpoint's lease to the head of its response: what follows goes at the client's pace
    /// and is the exchange's.
    fn attempt(&mut self, record: &Record, attempt: &Attempt, number: u32, span: Span) -> Span {
        let mut attributes = asked(record, attempt, number);
        if let Some((tls, target)) = record.traced.as_ref().and_then(|traced| traced.asked.as_ref()) {
            self.scratch.clear();
            self.scratch.extend_from_slice(if *tls { b"https://" } else { b"http://" });
            self.scratch.extend_from_slice(attempt.endpoint.as_str().as_bytes());
            self.redactor.target(target.path(), target.query(), &mut self.scratch);
            attributes.push(text("url.full", &String::from_utf8_lossy(&self.scratch)));
        }
        let wrong = attributes.iter().any(|pair| pair.key == "error.type");
        let (start, end) = times(record, attempt.began + attempt.queued, attempt.connect + attempt.waited);
        Span {
            name: name(record.method.as_str(), None),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes,
            status: wrong.then(error),
            ..span
        }
    }
}

/// Whether the exchange itself went wrong, not just the client's request (conventions for HTTP spans: a SERVER's 4xx is no
/// error). A tunnel that we end, as it was idle or the process ends, has not.
fn has_failed(record: &Record) -> bool {
    let ours = record.kind == Kind::TunnelEnd && record.end.who == Who::Proxy;
    !ours && recorder::Kind::of(record, Duration::MAX) == recorder::Kind::Error
}

/// What an attempt was, and what came of it.
fn asked(record: &Record, attempt: &Attempt, number: u32) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(16);
    put_method(record.method.as_str(), &mut attributes);
    put_server(attempt.endpoint.as_str(), &mut attributes);
    // Endpoints are spoken to in HTTP/1.1 alone.
    attributes.push(text("network.protocol.version", "1.1"));
    attributes.push(text("sluicegate.endpoint", attempt.endpoint.as_str()));
    attributes.extend(record.pool.as_ref().map(|pool| text("sluicegate.pool", pool.as_str())));
    attributes.push(text("sluicegate.attempt.why", attempt.why.as_str()));
    attributes.push(text("sluicegate.attempt.choice", attempt.choice.as_str()));
    attributes.push(text("sluicegate.attempt.connection", attempt.link.as_str()));
    attributes.extend(attempt.clock.map(|clock| text("sluicegate.clock", clock.as_str())));
    attributes.push(attribute("sluicegate.queue_ms", millis(attempt.queued)));
    attributes.push(attribute("sluicegate.connect_ms", millis(attempt.connect)));
    attributes.push(attribute("sluicegate.first_byte_ms", millis(attempt.waited)));
    if number > 1 {
        attributes.push(attribute("http.request.resend_count", Any::IntValue(i64::from(number) - 1)));
    }
    if let Some(status) = attempt.status {
        attributes.push(attribute("http.response.status_code", Any::IntValue(status.into())));
    }
    let beaten = attempt.cause == Some(BEATEN);
    // A CLIENT's 4xx is an error to the conventions.
    let status = attempt.status.filter(|status| *status >= 400).map(|status| status.to_string());
    let wrong = status.or_else(|| attempt.cause.filter(|_| !beaten).map(str::to_owned));
    attributes.extend(wrong.as_ref().map(|wrong| text("error.type", wrong)));
    attributes.extend(attempt.cause.map(|cause| text("sluicegate.attempt.not_taken", cause)));
    attributes
}

/// `GET /route`; what no convention knows is `HTTP`, as a client may write anything there.
fn name(method: &str, route: Option<&str>) -> String {
    let method = if METHODS.contains(&method) { method } else { "HTTP" };
    route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
}

fn put_method(method: &str, to: &mut Vec<KeyValue>) {
    if METHODS.contains(&method) {
        to.push(text("http.request.method", method));
    } else {
        to.push(text("http.request.method", "_OTHER"));
        to.push(text("http.request.method_original", method));
    }
}

/// `server.address` and `server.port` of a host with a port or without; an IPv6 address loses its brackets.
fn put_server(host: &str, to: &mut Vec<KeyValue>) {
    let (address, port) = match host.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
            (address, port.parse::<u16>().ok())
        }
        _ => (host, None),
    };
    to.push(text("server.address", address.trim_start_matches('[').trim_end_matches(']')));
    to.extend(port.map(|port| attribute("server.port", Any::IntValue(port.into()))));
}

/// From so long after the request's head on for so long, in nanoseconds of Unix time.
fn times(record: &Record, after: Duration, lasting: Duration) -> (u64, u64) {
    let start = record.at.duration_since(UNIX_EPOCH).unwrap_or_default() + after;
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    (nanos(start), nanos(start + lasting))
}

fn millis(lasting: Duration) -> Any {
    Any::DoubleValue(lasting.as_secs_f64() * 1_000.0)
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Any::StringValue(value.to_owned()))
}

fn error() -> Status {
    Status { code: StatusCode::Error.into(), ..Status::default() }
}
