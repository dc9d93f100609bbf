//! What goes over the wire, read with other eyes.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::config::sink::{LogFormat, Syslog as To, SyslogOver};
use crate::head::HeaderValue;
use crate::telemetry::record::{End, Kind, RecordId, Stage, Traced, Who};
use crate::telemetry::samples;

fn machine() -> Machine {
    Machine { host: "proxy-1".into(), process: 42 }
}

/// A sink as a configuration has it.
fn sink(keys: &str) -> Sink {
    let text = format!(
        "[[listeners]]\naddress = '127.0.0.1:1'\n[pools.p]\nendpoints = ['127.0.0.1:1']\n\
         [[access_log.sinks]]\nname = 's'\n{keys}\n"
    );
    let config = Config::parse(&text, std::path::Path::new("a.toml")).unwrap_or_else(|f| panic!("{}", f.render(false)));
    config.config.access_log.sinks[0].clone()
}

fn packed(sink: &Sink, records: &[Record]) -> Vec<Entry> {
    let redactor = Redactor::new(&["token".to_owned(), "code".to_owned()]);
    let mut packer = Packer::new(sink, redactor, &machine());
    let mut entries = Vec::new();
    records.iter().for_each(|record| packer.pack(record, &mut entries));
    entries
}

fn records(count: usize) -> Vec<Record> {
    let mut id = RecordId::first();
    (0..count).map(|_| Record { id: id.take(), ..samples::exchange() }).collect()
}

#[test]
fn syslog_messages_are_as_rfc_5424_has_them() {
    let mut to = sink("syslog = { address = 'a:514', over = 'tcp', id_element = 'record@1' }\nformat = 'combined'");
    let mut record = records(1).remove(0);
    let ok = packed(&to, std::slice::from_ref(&record)).remove(0);
    let id = record.id;
    let text = String::from_utf8(ok.payload.to_vec()).unwrap();
    let expected = format!("<134>1 2026-11-22T21:38:13.007042Z proxy-1 sluicegate 42 exchange [record@1 id=\"{id}\"] ");
    let line = text.strip_prefix(&expected).unwrap_or_else(|| panic!("{text}\n{expected}"));
    assert!(line.starts_with("203.0.113.9 - - ["), "{text}");

    record.status = Some(503);
    if let Destination::Syslog(to) = &mut to.to {
        (to.id_element, to.longest) = (None, 100);
    }
    let failed = packed(&to, &[record]).remove(0);
    assert!(failed.payload.starts_with(b"<131>1 ") && failed.payload.len() == 100);
    let counted = Wrap::new(&to.to).body(&[failed.clone(), failed]);
    assert_eq!((counted.len(), &counted[..9]), (208, &b"100 <131>"[..]));
}

#[test]
fn a_host_without_a_name_is_a_dash() {
    let to = To {
        host: "a".into(),
        port: 1,
        over: SyslogOver::Udp,
        facility: 0,
        app: "app".into(),
        id_element: None,
        longest: 1_000,
        settle: Duration::ZERO,
        patience: Duration::ZERO,
    };
    let sink = samples::sink(Destination::Syslog(to));
    let mut packer = Packer::new(&sink, Redactor::default(), &Machine::default());

    let mut entries = Vec::new();
    packer.pack(&samples::exchange(), &mut entries);

    assert!(String::from_utf8_lossy(&entries[0].payload).contains("Z - app 0 exchange - {\"v\":1,"));
}

#[test]
fn otlp_is_what_others_decode() {
    let sink = sink("otlp = { to = { url = 'http://a' }, resource = { 'deployment.environment.name' = 'test' } }");
    let records = records(3);
    let entries = packed(&sink, &records);

    let body = Wrap::new(&sink.to).body(&entries);

    let request = ExportLogsServiceRequest::decode(body).unwrap();
    let [logs] = &request.resource_logs[..] else { panic!("{request:?}") };
    let value = |key: &str, all: &[opentelemetry_proto::tonic::common::v1::KeyValue]| {
        all.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone()?.value)
    };
    let text = |text: &str| Some(Any::StringValue(text.to_owned()));
    let resource = &logs.resource.as_ref().unwrap().attributes;
    assert_eq!(value("service.name", resource), text("sluicegate"));
    assert_eq!(value("deployment.environment.name", resource), text("test"));
    let scope = &logs.scope_logs[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "sluicegate");
    assert_eq!(scope.log_records.len(), 3);
    let log = &scope.log_records[1];
    assert_eq!(log.time_unix_nano, 1_795_383_493_007_042_999);
    assert_eq!((log.severity_number, log.trace_id.len(), log.span_id.len(), log.flags), (9, 16, 8, 1));
    assert_eq!(value("log.record.uid", &log.attributes), text(&records[1].id.to_string()));
    assert_eq!(value("http.response.status_code", &log.attributes), Some(Any::IntValue(200)));
    assert_eq!(value("network.protocol.version", &log.attributes), text("2"));
    assert_eq!(value("url.original", &log.attributes), text("/api/v1/chart/data?token=***&x=1"));
    assert!(log.attributes.iter().all(|pair| !pair.key.is_empty()));
}

/// The sink of traces that a configuration has.
fn traces() -> Sink {
    let text = "[[listeners]]\naddress = '127.0.0.1:1'\n[pools.p]\nendpoints = ['127.0.0.1:1']\n\
                [otlp.traces]\nto = { url = 'http://a' }\nresource = { 'service.instance.id' = 'one' }\n";
    let config = Config::parse(text, std::path::Path::new("a.toml")).unwrap_or_else(|f| panic!("{}", f.render(false)));
    config.config.otlp.traces.unwrap().sink
}

/// The spans of `record` as a collector has them, that of the exchange last.
fn spans(record: Record) -> Vec<Span> {
    let sink = traces();
    let body = Wrap::new(&sink.to).body(&packed(&sink, &[record]));
    let mut request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut resource = request.resource_spans.remove(0);
    let resource_attributes = resource.resource.unwrap().attributes;
    let instances: Vec<_> = resource_attributes.iter().filter(|pair| pair.key == "service.instance.id").collect();
    let value = Some(Any::StringValue("one".to_owned()));
    assert!(matches!(&instances[..], [one] if one.value.as_ref().unwrap().value == value), "{instances:?}");
    resource.scope_spans.remove(0).spans
}

fn text(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key == key)?;
    match found.value.clone()?.value? {
        Any::StringValue(text) => Some(text),
        Any::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn spans_are_what_others_decode() {
    let state = Some(HeaderValue::from_static("vendor=x"));
    let asked = Some((true, Uri::from_static("/chart/data?token=s3cr3t&x=1")));
    let traced = Some(Box::new(Traced { state, asked }));
    let record = Record { parent: std::num::NonZeroU64::new(7), traced, ..samples::exchange() };
    assert_eq!(entries(&traces().to, &record), 3);

    let all = spans(record);

    let [failed, answered, exchange] = &all[..] else { panic!("{all:?}") };
    assert_eq!((exchange.kind, failed.kind, answered.kind), (2, 3, 3));
    assert_eq!(exchange.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(exchange.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!((&exchange.parent_span_id[..], exchange.flags), (&7_u64.to_be_bytes()[..], 0x301));
    assert_eq!((&failed.parent_span_id, failed.flags), (&exchange.span_id, 0x101));
    assert_eq!(exchange.start_time_unix_nano, 1_795_383_493_007_042_999);
    assert_eq!(exchange.end_time_unix_nano - exchange.start_time_unix_nano, 1_083_450_000);
    assert_eq!(answered.start_time_unix_nano - exchange.start_time_unix_nano, 1_600_000);
    assert_eq!(answered.end_time_unix_nano - answered.start_time_unix_nano, 81_002_000);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/api/v1/chart/data"),
        ("url.query", "token=***&x=1"),
        ("url.scheme", "https"),
        ("http.route", "/"),
        ("server.address", "bi.example.com"),
        ("client.address", "203.0.113.9"),
        ("network.protocol.version", "2"),
        ("http.response.status_code", "200"),
        ("sluicegate.request_id", "0197-abc"),
    ] {
        assert_eq!(text(exchange, key).as_deref(), Some(value), "{key}");
    }
    assert!(exchange.attributes.iter().all(|pair| !pair.key.is_empty()), "{exchange:?}");
    assert_eq!((text(failed, "error.type"), text(failed, "http.request.resend_count")), (Some("connect".into()), None));
    assert_eq!(
        (text(answered, "server.address"), text(answered, "server.port")),
        (Some("10.0.0.2".into()), Some("8088".into()))
    );
    // What the endpoint was asked for, which a route may have changed, with what is secret in it left out.
    let asked = "https://10.0.0.2:8088/chart/data?token=***&x=1";
    assert_eq!(text(answered, "url.full").as_deref(), Some(asked));
    assert!(all.iter().all(|span| span.trace_state == "vendor=x"), "{all:?}");
    assert_eq!((text(answered, "http.request.resend_count"), answered.status.is_none()), (Some("1".into()), true));
}

#[test]
fn only_sampled_exchanges_and_ended_tunnels_have_spans() {
    let of = |kind, flags: &str| {
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let record = Record { kind, traceparent: Some(parent.parse().unwrap()), ..samples::exchange() };
        let made = packed(&traces(), std::slice::from_ref(&record)).len();
        assert_eq!(made, entries(&traces().to, &record));
        made
    };

    assert_eq!(of(Kind::Exchange, "01"), 3);
    assert_eq!(of(Kind::Exchange, "00"), 0);
    assert_eq!((of(Kind::TunnelStart, "01"), of(Kind::TunnelEnd, "01")), (0, 3));
}

#[test]
fn names_and_hosts_of_spans_are_as_the_conventions_have_them() {
    let exchange = |record: Record| spans(record).pop().unwrap();
    let odd = exchange(Record {
        method: http::Method::from_bytes(b"PROPFIND").unwrap(),
        host: Some(HeaderValue::from_static("[::1]:8443")),
        status: Some(502),
        end: End { who: Who::Proxy, stage: Stage::Connect },
        fault: Some("connect"),
        ..samples::exchange()
    });
    assert_eq!((odd.name.as_str(), text(&odd, "http.request.method").unwrap().as_str()), ("HTTP /", "_OTHER"));
    assert_eq!(text(&odd, "http.request.method_original").as_deref(), Some("PROPFIND"));
    assert_eq!((text(&odd, "server.address"), text(&odd, "server.port")), (Some("::1".into()), Some("8443".into())));
    assert_eq!((odd.status.as_ref().unwrap().code, text(&odd, "error.type")), (2, Some("connect".into())));

    let cut = End { who: Who::Proxy, stage: Stage::Tunnel };
    let tunnel =
        |kind| exchange(Record { kind, status: Some(101), end: cut, fault: Some("drained"), ..samples::exchange() });
    assert!(tunnel(Kind::TunnelEnd).status.is_none());
    assert!(tunnel(Kind::Exchange).status.is_some());
}

#[test]
fn loki_gets_one_stream_with_ids_as_metadata() {
    let sink = sink("loki = { to = { url = 'http://a' }, labels = { job = 'x', env = 'y' } }\nformat = 'logfmt'");
    let records = records(2);

    let body = Wrap::new(&sink.to).body(&packed(&sink, &records));

    let push: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(push["streams"][0]["stream"], json!({ "job": "x", "env": "y" }));
    let values = push["streams"][0]["values"].as_array().unwrap();
    assert_eq!(values.len(), 2);
    assert_eq!(values[0][0], "1795383493007042999");
    assert!(values[0][1].as_str().unwrap().contains(" status=200 "), "{values:?}");
    assert_eq!(values[1][2]["record_id"], records[1].id.to_string());
}

#[test]
fn kafka_gets_one_batch_with_ids_as_keys() {
    let sink = sink("kafka = { brokers = 'a:9092', topic = 'logs', gzip = false }\ntemplate = '{status}'");
    let records = records(2);

    let body = Wrap::new(&sink.to).body(&packed(&sink, &records));

    // The lengths are varints, of twice what they say.
    let id = records[1].id.to_string();
    let last = [&[2 * u8::try_from(id.len()).unwrap()][..], id.as_bytes(), b"\x06200\x00"].concat();
    assert!(body.ends_with(&last), "{body:?}");
    assert_eq!(&body[57..61], b"\x00\x00\x00\x02");
}

#[test]
fn a_bulk_creates_each_record_under_its_id() {
    let sink = sink("http = { to = { url = 'http://a/_bulk' }, bulk = 'logs-superset' }");
    let records = records(2);

    let body = Wrap::new(&sink.to).body(&packed(&sink, &records));

    let lines: Vec<Value> = body.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[2], json!({ "create": { "_index": "logs-superset", "_id": records[1].id.to_string() } }));
    assert_eq!(lines[3]["@timestamp"], lines[3]["time"]);
    assert!(body.ends_with(b"}\n"));
}

#[test]
fn formats_that_have_names_have_them_all() {
    let record = &records(1)[0];
    let line = |format: LogFormat| {
        let mut out = Vec::new();
        Encoder::new(format, Redactor::new(&["token".to_owned()])).encode(record, &mut out);
        String::from_utf8(out).unwrap()
    };

    let otel: BTreeMap<String, Value> = serde_json::from_str(&line(LogFormat::Otel)).unwrap();
    assert_eq!(otel["http.response.status_code"], 200);
    assert_eq!(otel["sluicegate.attempts"], json!(["10.0.0.1:8088=connect"]));
    assert_eq!((&otel["network.protocol.version"], &otel["sluicegate.schema"]), (&json!("2"), &json!(1)));
    let logfmt = line(LogFormat::Logfmt);
    assert!(logfmt.starts_with("v=1 id=") && logfmt.ends_with('\n') && logfmt.lines().count() == 1, "{logfmt}");
    assert!(logfmt.contains(" user_agent=\"Mozilla/5.0 \\\"x\\\"\" ") && logfmt.contains(" total_ms=1083.450 "));
    let template = sink("stdout = true\ntemplate = '{client} {{{status}}} {fault} {path} {user_agent}'").format;
    assert_eq!(line(template), "203.0.113.9 {200} - /api/v1/chart/data?token=***&x=1 Mozilla/5.0 \\\"x\\\"\n");
}
