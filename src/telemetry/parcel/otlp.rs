//! Log records and spans of OpenTelemetry's protocol.
//!
//! Floor 2, pure. An entry is one encoded `LogRecord` or `Span`; a request puts resource and scope around many, without
//! decoding them again.

mod spans;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::{BufMut as _, Bytes, BytesMut};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::{Entry, syslog};
use crate::telemetry::format::named::{Value, semantic, version, visit};
use crate::telemetry::format::stamp::{Pattern, Stamp};
use crate::telemetry::record::Record;
use crate::telemetry::redact::Redactor;
pub(super) use spans::Spans;

/// Makes log records.
#[derive(Debug)]
pub(super) struct Otlp {
    redactor: Redactor,
    stamp: Stamp,
    scratch: Vec<u8>,
}

impl Otlp {
    pub(super) const fn new(redactor: Redactor) -> Self {
        Self { redactor, stamp: Stamp::new(Pattern::Rfc3339), scratch: Vec::new() }
    }

    pub(super) fn pack(&mut self, record: &Record, at: u64) -> Bytes {
        let mut attributes = Vec::with_capacity(32);
        let mut path = String::new();
        visit(record, &self.redactor, &mut self.stamp, &mut self.scratch, &mut |name, value| {
            if name == "path"
                && let Value::Text(text) = value
            {
                path = String::from_utf8_lossy(text).into_owned();
            }
            // When it was, and in which trace, has fields of its own.
            if !matches!(name, "time" | "traceparent") {
                attributes.push(attribute(semantic(name), any(name, &value, record)));
            }
        });
        let status = record.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let (trace_id, span_id, flags) = trace(record).unwrap_or_default();
        let (severity_number, severity_text) = match syslog::severity(record) {
            // SEVERITY_NUMBER_ERROR, _WARN, _INFO.
            3 => (17, "ERROR"),
            4 => (13, "WARN"),
            _ => (9, "INFO"),
        };
        let log = LogRecord {
            time_unix_nano: at,
            severity_number,
            severity_text: severity_text.to_owned(),
            body: Some(AnyValue { value: Some(Any::StringValue(format!("{} {path} {status}", record.method))) }),
            attributes,
            flags,
            trace_id,
            span_id,
            event_name: "sluicegate.exchange".to_owned(),
            ..LogRecord::default()
        };
        Bytes::from(log.encode_to_vec())
    }
}

fn any(name: &str, value: &Value<'_>, record: &Record) -> Any {
    let text = |bytes: &[u8]| Any::StringValue(String::from_utf8_lossy(bytes).into_owned());
    match (name, value) {
        ("protocol", _) => text(version(record.protocol).as_bytes()),
        (_, Value::Text(bytes)) => text(bytes),
        (_, Value::Number(number)) => Any::IntValue(i64::try_from(*number).unwrap_or(i64::MAX)),
        (_, Value::Millis(lasting)) => Any::DoubleValue(lasting.as_secs_f64() * 1_000.0),
        (_, Value::Words(words)) => {
            let values = words.iter().map(|word| AnyValue { value: Some(text(word.as_bytes())) });
            Any::ArrayValue(ArrayValue { values: values.collect() })
        }
    }
}

pub(in crate::telemetry) fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Trace, span and flags of the record's `traceparent`.
fn trace(record: &Record) -> Option<(Vec<u8>, Vec<u8>, u32)> {
    let text = record.traceparent.as_ref()?.to_str().ok()?;
    let mut parts = text.split('-').skip(1);
    let (trace, span, flags) = (hex(parts.next()?)?, hex(parts.next()?)?, hex(parts.next()?)?);
    (trace.len() == 16 && span.len() == 8).then(|| (trace, span, flags.first().copied().unwrap_or_default().into()))
}

/// The bytes that hexadecimal digits stand for.
pub(in crate::telemetry) fn hex(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The resource of log records. They may come from a spool, and so from another process: nothing here tells of this one.
pub(super) fn resource(attributes: &BTreeMap<String, String>) -> Bytes {
    with_attributes(&[("service.name", "sluicegate")], attributes)
}

/// The resource of what this process tells of itself.
pub(in crate::telemetry) fn instance(attributes: &BTreeMap<String, String>) -> Bytes {
    let version = env!("CARGO_PKG_VERSION");
    let ours = [("service.name", "sluicegate"), ("service.version", version), ("service.instance.id", instance_id())];
    with_attributes(&ours, attributes)
}

/// Our attributes, and those of the configuration, which take the place of ours.
fn with_attributes(ours: &[(&str, &str)], theirs: &BTreeMap<String, String>) -> Bytes {
    let text = |key: &str, value: &str| attribute(key, Any::StringValue(value.to_owned()));
    let ours = ours.iter().filter(|(key, _)| !theirs.contains_key(*key)).map(|(key, value)| text(key, value));
    let attributes = ours.chain(theirs.iter().map(|(key, value)| text(key, value))).collect();
    Bytes::from(Resource { attributes, ..Resource::default() }.encode_to_vec())
}

/// Tells this process from all others: a random UUID (RFC 9562 §5.4), as the conventions want it.
fn instance_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let random = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let digits = format!("{random:032x}");
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
    })
}

/// The scope of everything.
pub(in crate::telemetry) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "sluicegate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// `ExportLogsServiceRequest { resource_logs: [{ resource, scope_logs: [{ scope, log_records }] }] }`, and with spans in it
/// `ExportTraceServiceRequest`, whose fields have the same numbers.
pub(super) fn request(resource: &[u8], entries: &[Entry], out: &mut BytesMut) {
    let scope = scope().encode_to_vec();
    let records: usize = entries.iter().map(|entry| field(entry.payload.len())).sum();
    let scope_logs = field(scope.len()) + records;
    put(1, field(resource.len()) + field(scope_logs), out);
    put(1, resource.len(), out);
    out.put_slice(resource);
    put(2, scope_logs, out);
    put(1, scope.len(), out);
    out.put_slice(&scope);
    for entry in entries {
        put(2, entry.payload.len(), out);
        out.put_slice(&entry.payload);
    }
}

/// Bytes of a field with a value of `length`; its number takes one byte.
const fn field(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

fn put(number: u32, length: usize, out: &mut BytesMut) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}
