//! Receivers that speak their own protocols get every record, also after they were away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::rig::peer::Request;
use crate::rig::{Rig, Upstream, field, soon};
use crate::sinks::{ask, sent, sink, told, with_sink};

/// What a receiver has: records by their ids.
type Held = Arc<Mutex<BTreeMap<String, Value>>>;

fn has(held: &Held) -> BTreeSet<String> {
    held.lock().unwrap().keys().cloned().collect()
}

fn json_answer(status: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    format!("{head}\r\n\r\n{body}").into_bytes()
}

/// What Loki does with a push: 204 for streams of labels with values of a time, a line and metadata; else 400.
fn loki(held: &Held, request: &Request) -> Vec<u8> {
    let taken = || {
        let push: Value = serde_json::from_slice(&request.body).ok()?;
        let right = request.head.line.starts_with("POST /loki/api/v1/push ")
            && request.head.get("content-type")? == "application/json"
            && request.head.get("x-scope-orgid")? == "tenant-1";
        let mut lines = Vec::new();
        for stream in push["streams"].as_array().filter(|_| right)? {
            stream["stream"].as_object().filter(|labels| !labels.is_empty())?;
            for value in stream["values"].as_array()? {
                value[0].as_str()?.parse::<u64>().ok()?;
                let id = value[2]["record_id"].as_str()?.to_owned();
                lines.push((id, serde_json::from_str(value[1].as_str()?).ok()?));
            }
        }
        Some(lines)
    };
    match taken() {
        Some(lines) => {
            held.lock().unwrap().extend(lines);
            b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
        }
        None => json_answer(400, &json!({ "error": "malformed" })),
    }
}

/// What Elasticsearch does with a bulk: creates what is not there, and says of each what became of it; with `padding` bytes
/// more than it must, in full or as briefly as it was asked.
fn elasticsearch(held: &Held, request: &Request, padding: usize) -> Vec<u8> {
    let target = request.target().to_owned();
    if !target.starts_with("/_bulk") || request.head.get("content-type").unwrap() != "application/x-ndjson" {
        return json_answer(400, &json!({ "error": "not a bulk" }));
    }
    assert!(request.body.ends_with(b"\n"), "a bulk ends with a line end");
    let text = String::from_utf8(request.body.clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let brief = target.contains("filter_path=errors,items.*.status") && padding == 0;
    let (mut held, mut items) = (held.lock().unwrap(), Vec::new());
    for pair in lines.chunks(2) {
        let (id, index) = (pair[0]["create"]["_id"].as_str().unwrap(), &pair[0]["create"]["_index"]);
        assert!(pair[1]["@timestamp"].is_string() && index == "logs-superset", "{pair:?}");
        let status = if held.insert(id.to_owned(), pair[1].clone()).is_none() { 201 } else { 409 };
        items.push(if brief {
            json!({ "create": { "status": status } })
        } else {
            json!({ "create": { "_index": index, "_id": id, "status": status, "result": "x".repeat(padding) } })
        });
    }
    let errors = items.iter().any(|item| item["create"]["status"] != 201);
    json_answer(200, &json!({ "took": 1, "errors": errors, "items": items }))
}

/// Ten records before, forty while the receiver is away, ten after: all of them arrive, and nothing else.
async fn all_arrive(
    rig: &Rig,
    held: &Held,
    mut receiver: Upstream,
    again: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
) {
    let address = receiver.address.to_string();
    ask(rig, "/before", 10).await;
    sent(rig).await;
    drop(receiver);
    ask(rig, "/while", 40).await;
    rig.status_where("a failure", |status| sink(status)["state"] == "failing").await;
    receiver = Upstream::answering_at(&address, again).await.unwrap();
    ask(rig, "/after", 10).await;

    let all = told(rig, 60).await;
    let after = rig.status_long("60 records taken", |status| sink(status)["sent"] == 60).await;

    assert_eq!(has(held), all);
    assert_eq!(sink(&after)["dropped"], json!({}), "{after}");
    let paths: BTreeSet<String> =
        held.lock().unwrap().values().map(|record| record["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, ["/before", "/while", "/after"].map(str::to_owned).into());
    drop(receiver);
}

/// The end of the keys of a sink with a spool in the proxy's own folder.
const SPOOLED: &str = "batch = { linger = \"20ms\" }\nspool = { dir = \"DIR/spool\" }\n";

#[tokio::test]
async fn loki_gets_every_record_after_it_was_away() {
    let (upstream, held) = (Upstream::named("a").await, Held::default());
    let (one, two) = (Arc::clone(&held), Arc::clone(&held));
    let receiver = Upstream::answering(move |request| loki(&one, request)).await;
    let to = format!("{{ url = \"http://{}\", tenant = \"tenant-1\" }}", receiver.address);
    let rig = with_sink(&upstream, &format!("loki = {{ to = {to} }}\n{SPOOLED}")).await;

    all_arrive(&rig, &held, receiver, move |request| loki(&two, request)).await;
}

#[tokio::test]
async fn elasticsearch_has_every_record_once_after_it_was_away() {
    let (upstream, held) = (Upstream::named("a").await, Held::default());
    let (one, two) = (Arc::clone(&held), Arc::clone(&held));
    let receiver = Upstream::answering(move |request| elasticsearch(&one, request, 0)).await;
    let to = format!("{{ url = \"http://{}/_bulk\" }}", receiver.address);
    let rig = with_sink(&upstream, &format!("http = {{ to = {to}, bulk = \"logs-superset\" }}\n{SPOOLED}")).await;

    all_arrive(&rig, &held, receiver, move |request| elasticsearch(&two, request, 0)).await;
}

#[tokio::test]
async fn a_bulk_that_is_answered_at_length_is_taken() {
    let (upstream, held) = (Upstream::named("a").await, Held::default());
    let one = Arc::clone(&held);
    // More than a MiB for one batch.
    let receiver = Upstream::answering(move |request| elasticsearch(&one, request, 1_800)).await;
    let to = format!("{{ url = \"http://{}/_bulk\" }}", receiver.address);
    let batch = "batch = { linger = \"1m\", records = 600, bytes = \"16MiB\" }";
    let rig = with_sink(&upstream, &format!("http = {{ to = {to}, bulk = \"logs-superset\" }}\n{batch}")).await;

    ask(&rig, "/x", 600).await;

    let after = rig.status_long("600 records taken", |status| sink(status)["sent"] == 600).await;
    assert_eq!((sink(&after)["state"].as_str(), has(&held).len()), (Some("working"), 600), "{after}");
}

#[tokio::test]
async fn a_bulk_that_is_answered_by_something_else_comes_again() {
    let (upstream, held) = (Upstream::named("a").await, Held::default());
    let (one, asked) = (Arc::clone(&held), AtomicUsize::new(0));
    let receiver = Upstream::answering(move |request| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n<html>Log in</html>".to_vec(),
        1 => json_answer(200, &json!({ "status": "ok" })),
        _ => elasticsearch(&one, request, 0),
    })
    .await;
    let to = format!("{{ url = \"http://{}/_bulk\" }}", receiver.address);
    let rig = with_sink(&upstream, &format!("http = {{ to = {to}, bulk = \"logs-superset\" }}\n{SPOOLED}")).await;

    ask(&rig, "/x", 5).await;

    let after = rig.status_long("5 records taken", |status| sink(status)["sent"] == 5).await;
    assert_eq!((has(&held), &sink(&after)["retried"]), (told(&rig, 5).await, &json!(2)), "{after}");
    let event = rig.event("log sink failing, records wait").await;
    assert!(field(&event, "error").as_str().unwrap().contains("bulk"), "{event}");
}

#[tokio::test]
async fn a_collector_cannot_have_thrown_away_more_than_it_got() {
    let upstream = Upstream::named("a").await;
    let partial = ExportLogsPartialSuccess { rejected_log_records: i64::MAX, error_message: String::new() };
    let body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    let answer = [head, body].concat();
    let receiver = Upstream::answering(move |_| answer.clone()).await;
    let to = format!("{{ url = \"http://{}\" }}", receiver.address);
    let rig = with_sink(&upstream, &format!("otlp = {{ to = {to} }}\n{SPOOLED}")).await;

    ask(&rig, "/x", 3).await;

    let after = rig.status_where("3 records refused", |s| sink(s)["dropped"]["refused"].as_u64() >= Some(3)).await;
    assert_eq!((&sink(&after)["dropped"]["refused"], &sink(&after)["sent"]), (&json!(3), &json!(0)), "{after}");
}

/// The record of the next message.
async fn message(server: &UdpSocket) -> Value {
    let mut buffer = vec![0; 65_536];
    let length = soon("a datagram", server.recv(&mut buffer)).await.unwrap();
    let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
    // RFC 5424 §6: priority and version, time, host, application, process, message id, no element; the text is the rest.
    let parts: Vec<&str> = text.splitn(8, ' ').collect();
    assert!(parts[0] == "<134>1" && parts[3] == "sluicegate" && parts[5] == "exchange" && parts[6] == "-", "{text}");
    serde_json::from_str(parts[7]).unwrap()
}

#[tokio::test]
async fn syslog_by_datagrams_goes_on_when_the_server_is_back() {
    let upstream = Upstream::named("a").await;
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = server.local_addr().unwrap();
    let keys = format!("syslog = {{ address = \"{address}\", over = \"udp\" }}\nbatch = {{ linger = \"20ms\" }}");
    let rig = with_sink(&upstream, &keys).await;

    ask(&rig, "/before", 20).await;
    let mut ids = BTreeSet::new();
    while ids.len() < 20 {
        ids.insert(message(&server).await["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids, told(&rig, 20).await);

    drop(server);
    // Nobody is told of the first; of the second the kernel says that nobody took the first.
    let failing = async {
        while sink(&rig.status().await)["state"] != "failing" {
            ask(&rig, "/while", 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a failure", failing).await;
    let server = UdpSocket::bind(address).await.unwrap();
    ask(&rig, "/after", 20).await;

    let mut after = 0;
    while after < 20 {
        after += usize::from(message(&server).await["path"] == "/after");
    }
    sent(&rig).await;
}
