//! Lines as they are written.

use std::net::Ipv6Addr;
use std::time::{Duration, UNIX_EPOCH};

use http::{Method, Uri};
use proptest::prelude::*;

use super::*;
use crate::lexicon::EndpointName;
use crate::telemetry::record::{Attempt, End, Stage, Who};
use crate::telemetry::samples;

fn encoder(format: LogFormat) -> Encoder {
    Encoder::new(format, Redactor::new(&["token".to_owned(), "code".to_owned()]))
}

fn line(format: LogFormat, record: &Record) -> String {
    let mut out = Vec::new();
    encoder(format).encode(record, &mut out);
    String::from_utf8(out).unwrap()
}

fn json(record: &Record) -> serde_json::Value {
    serde_json::from_str(&line(LogFormat::Json, record)).unwrap()
}

#[test]
fn json_line_of_an_exchange() {
    let record = samples::exchange();

    let expected = concat!(
        r#"{"v":1,"id":"0000000000000000-0","time":"2026-11-22T21:38:13.007042Z","kind":"exchange","request_id":"0197-abc","#,
        r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","#,
        r#""client":"203.0.113.9","client_port":50123,"connection":CONN,"listener":"https","protocol":"h2","#,
        r#""tls":"TLSv1.3","ja4":"t13d1516h2_8daaf6152771_b186095e22b6","method":"POST","host":"bi.example.com","path":"/api/v1/chart/data?token=***&x=1","#,
        r#""status":200,"bytes_in":12,"bytes_out":34567,"receive_ms":0.007,"queue_ms":1.000,"connect_ms":0,"#,
        r#""first_byte_ms":81.002,"total_ms":1083.450,"route":"/","pool":"superset","endpoint":"10.0.0.2:8088","#,
        r#""attempts":[{"endpoint":"10.0.0.1:8088","cause":"connect"}],"end":"--","#,
        r#""limits":[{"limit":"api","observed":true}],"#,
        r#""verdicts":[{"rule":"seen","action":"deny","mode":"observed"}],"#,
        r#""user_agent":"Mozilla/5.0 \"x\"","referer":"https://bi.example.com/login?code=***"}"#,
        "\n",
    );
    assert_eq!(line(LogFormat::Json, &record), expected.replace("CONN", &record.connection.to_string()));
}

#[test]
fn combined_line_of_an_exchange() {
    assert_eq!(
        line(LogFormat::Combined, &samples::exchange()),
        "203.0.113.9 - - [22/Nov/2026:21:38:13 +0000] \"POST /api/v1/chart/data?token=***&x=1 HTTP/2.0\" 200 34567 \
         \"https://bi.example.com/login?code=***\" \"Mozilla/5.0 \\\"x\\\"\"\n"
    );
}

#[test]
fn fields_without_a_value_are_left_out() {
    let record = Record {
        traceparent: None,
        tls: None,
        host: None,
        status: None,
        route: None,
        pool: None,
        endpoint: None,
        attempts: Vec::new(),
        user_agent: None,
        referer: None,
        end: End { who: Who::Client, stage: Stage::Request },
        fault: Some("client_gone"),
        ..samples::exchange()
    };

    let json = json(&record);

    assert_eq!(json["end"], "CR");
    assert_eq!(json["fault"], "client_gone");
    for absent in ["traceparent", "tls", "host", "status", "route", "pool", "endpoint", "attempts", "user_agent"] {
        assert!(json.get(absent).is_none(), "{absent}");
    }
    assert!(line(LogFormat::Combined, &record).ends_with("HTTP/2.0\" 499 34567 \"-\" \"-\"\n"));
}

#[test]
fn every_field_of_a_line_is_documented_in_its_order() {
    let record =
        Record { kind: Kind::TunnelEnd, fault: Some("tunnel_idle"), messages: Some((3, 4)), ..samples::exchange() };
    let line = line(LogFormat::Json, &record);

    let mut at = 0;
    for (name, ..) in FIELDS {
        let found = line.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(found > at, "{name} is out of order");
        at = found;
    }
    assert_eq!(json(&record).as_object().unwrap().len(), FIELDS.len());
    assert_eq!(reference().lines().count(), FIELDS.len() + 2);
    assert_eq!(json(&record)["v"], SCHEMA);
}

#[test]
fn tunnel_has_two_json_lines_and_one_combined_line() {
    let start = Record { kind: Kind::TunnelStart, ..samples::exchange() };
    let end = Record { kind: Kind::TunnelEnd, messages: Some((3, 4)), ..samples::exchange() };

    assert_eq!(json(&start)["kind"], "tunnel_start");
    assert_eq!(json(&end)["messages_out"], 4);
    assert_eq!(line(LogFormat::Combined, &start), "");
    assert!(!line(LogFormat::Combined, &end).is_empty());
}

#[test]
fn mapped_ipv6_client_is_written_as_ipv4() {
    let record =
        Record { client: (Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0xcb00, 0x7109]), 0).into(), ..samples::exchange() };

    assert_eq!(json(&record)["client"], "203.0.113.9");
    assert!(json(&record).get("client_port").is_none());
}

#[test]
fn bytes_that_are_not_utf8_are_read_as_latin_1() {
    let record = Record { user_agent: Some(HeaderValue::from_bytes(b"caf\xe9\x9b").unwrap()), ..samples::exchange() };

    assert_eq!(json(&record)["user_agent"], "caf\u{e9}\u{9b}");
    assert!(line(LogFormat::Json, &record).contains("caf\u{e9}\\u009b"));
    assert!(line(LogFormat::Combined, &record).contains(r"caf\xe9\x9b"));
}

#[test]
fn user_information_in_a_host_is_left_out() {
    let record = Record { host: Some(HeaderValue::from_static("u:p@bi.example.com")), ..samples::exchange() };

    assert_eq!(json(&record)["host"], "bi.example.com");
}

#[test]
fn stamp_follows_the_second() {
    let mut encoder = encoder(LogFormat::Json);
    let mut out = Vec::new();
    for (second, micros) in [(59, 999_999), (60, 0), (59, 1)] {
        let at = UNIX_EPOCH + Duration::new(second, micros * 1_000);
        encoder.encode(&Record { at, ..samples::exchange() }, &mut out);
    }

    let stamps: Vec<String> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["time"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(stamps, ["1970-01-01T00:00:59.999999Z", "1970-01-01T00:01:00.000000Z", "1970-01-01T00:00:59.000001Z"]);
}

fn value() -> impl Strategy<Value = HeaderValue> {
    proptest::collection::vec(prop_oneof![Just(b'\t'), 0x20u8..0x7f, 0x80u8..=0xff], 0..40)
        .prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap())
}

proptest! {
    #[test]
    fn any_record_is_one_line_of_json_without_secrets(
        agent in value(),
        host in value(),
        referer in value(),
        id in value(),
        path in "/[!-~]{0,30}",
        endpoint in "\\PC{0,20}",
        micros in any::<u64>(),
        method in "[A-Z!#$%&'*+.^_`|~-]{1,12}",
    ) {
        let target = format!("{}?a=1&ToK%65n=S3CR3T&b=2", path.replace(['?', '#'], "/"));
        let Ok(target) = target.parse::<Uri>() else { return Ok(()) };
        let mut with_secret = b"https://u:S3CR3T@h/x?code=S3CR3T&r=".to_vec();
        with_secret.extend_from_slice(referer.as_bytes());
        let record = Record {
            user_agent: Some(agent.clone()),
            host: Some(host),
            referer: Some(HeaderValue::from_bytes(&with_secret).unwrap()),
            request_id: id,
            target,
            attempts: vec![Attempt { endpoint: EndpointName::new(&endpoint), cause: "connect" }; 2],
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            stages: crate::telemetry::Stages { total: Duration::from_micros(micros), ..Default::default() },
            ..samples::exchange()
        };

        let text = line(LogFormat::Json, &record);
        prop_assert!(text.ends_with('\n') && text.lines().count() == 1);
        let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        prop_assert!(!text.trim_end().contains(breaks), "{text}");
        prop_assert!(!text.contains("S3CR3T"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        if let Ok(agent) = std::str::from_utf8(agent.as_bytes()) {
            prop_assert_eq!(json["user_agent"].as_str(), Some(agent));
        }
        prop_assert_eq!(json["attempts"][1]["endpoint"].as_str(), Some(endpoint.as_str()));

        let text = line(LogFormat::Combined, &record);
        prop_assert!(text.is_ascii() && text.lines().count() == 1 && !text.contains("S3CR3T"), "{text}");
    }
}

#[test]
fn fields_have_the_names_of_the_lexicon() {
    let names: Vec<&str> = FIELDS.iter().map(|(name, ..)| *name).collect();

    assert_eq!(names, crate::lexicon::RECORD_FIELDS);
    let semantic: std::collections::BTreeSet<&str> = FIELDS.iter().map(|(_, semantic, ..)| *semantic).collect();
    assert_eq!(semantic.len(), FIELDS.len());
}
