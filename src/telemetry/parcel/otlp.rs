//! Log records of OpenTelemetry's protocol.
//!
//! Floor 2, pure. An entry is one encoded `LogRecord`; a request puts resource and scope around many, without decoding
//! them again.

use std::collections::BTreeMap;

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

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Trace, span and flags of the record's `traceparent`.
fn trace(record: &Record) -> Option<(Vec<u8>, Vec<u8>, u32)> {
    let text = record.traceparent.as_ref()?.to_str().ok()?;
    let mut parts = text.split('-').skip(1);
    let (trace, span, flags) = (hex(parts.next()?)?, hex(parts.next()?)?, hex(parts.next()?)?);
    (trace.len() == 16 && span.len() == 8).then(|| (trace, span, flags.first().copied().unwrap_or_default().into()))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(byte).collect()
}

/// What comes before the records of a request: the resource, then the scope.
pub(super) fn resource(attributes: &BTreeMap<String, String>) -> Bytes {
    let mut all = vec![attribute("service.name", Any::StringValue("sluicegate".to_owned()))];
    let own = |(key, value): (&String, &String)| attribute(key, Any::StringValue(value.clone()));
    all.retain(|_| !attributes.contains_key("service.name"));
    all.extend(attributes.iter().map(own));
    let resource = Resource { attributes: all, ..Resource::default() };
    Bytes::from(resource.encode_to_vec())
}

/// `ExportLogsServiceRequest { resource_logs: [{ resource, scope_logs: [{ scope, log_records }] }] }`.
pub(super) fn request(resource: &[u8], entries: &[Entry], out: &mut BytesMut) {
    let scope = InstrumentationScope {
        name: "sluicegate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope = scope.encode_to_vec();
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
