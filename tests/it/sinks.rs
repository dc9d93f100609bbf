//! Records reach their sinks, whatever becomes of those meanwhile.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpListener;

use crate::rig::peer::Request;
use crate::rig::{Peer, Rig, Setup, Upstream, soon};

/// A proxy that writes records to its standard output, and to a sink `central` with these keys.
pub(crate) async fn with_sink(upstream: &Upstream, keys: &str) -> Rig {
    setup(upstream, keys).start().await
}

/// The same before its start. It reloads for each signal, and not for the file.
pub(crate) fn setup(upstream: &Upstream, keys: &str) -> Setup {
    let rest = format!("[access_log]\ntarget = \"stdout\"\n[[access_log.sinks]]\nname = \"central\"\n{keys}\n");
    Rig::setup().endpoint(upstream).process("watch_files = false").rest(&rest)
}

/// Keys of a sink that posts lines to `address` soon.
pub(super) fn lines_to(address: SocketAddr) -> String {
    format!("http = {{ to = {{ url = \"http://{address}/logs\" }} }}\nbatch = {{ linger = \"20ms\" }}\n")
}

/// With a spool in `folder`.
fn spooled(address: SocketAddr, folder: &TempDir, size: &str) -> String {
    let dir = folder.path().display();
    format!("{}spool = {{ dir = \"{dir}\", size = \"{size}\" }}\n", lines_to(address))
}

/// Asks `count` times on one connection.
pub(crate) async fn ask(rig: &Rig, path: &str, count: usize) {
    ask_by(&mut rig.client().await, path, count).await;
}

/// The same on one connection, whose records come in the order of its requests.
async fn ask_by(client: &mut Peer, path: &str, count: usize) {
    for _ in 0..count {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        client.response().await;
    }
}

/// The ids of the records that standard output has once it has `count`.
pub(crate) async fn told(rig: &Rig, count: usize) -> BTreeSet<String> {
    let records = soon("the records", rig.records.find_many(count, |record| record["kind"] == "exchange")).await;
    records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the receiver has all of these records; they are all that it has.
pub(super) async fn arrived(receiver: &Upstream, all: &BTreeSet<String>) {
    let waiting = async {
        while !ids(&receiver.requests()).is_superset(all) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("every record", waiting).await;
    assert_eq!(ids(&receiver.requests()), *all);
}

/// The ids of the records that came in requests.
pub(super) fn ids(requests: &[Request]) -> BTreeSet<String> {
    let lines = requests.iter().flat_map(|request| request.body.split(|byte| *byte == b'\n'));
    let records = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    records.map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}

/// The sink in a status.
pub(crate) fn sink(status: &Value) -> &Value {
    status["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == "central").unwrap()
}

/// Waits until the sink has nothing left.
pub(super) async fn sent(rig: &Rig) -> Value {
    let status = rig
        .status_long("everything sent", |status| {
            let sink = sink(status);
            sink["queue"] == 0 && sink["spool_records"] == 0 && sink["state"] == "working"
        })
        .await;
    sink(&status).clone()
}

#[tokio::test]
async fn every_record_is_there_after_the_receiver_was_away() {
    let (upstream, folder) = (Upstream::named("a").await, tempfile::tempdir().unwrap());
    let receiver = Upstream::named("r").await;
    let address = receiver.address;
    let rig = with_sink(&upstream, &spooled(address, &folder, "1MiB")).await;

    ask(&rig, "/before", 10).await;
    receiver.received(1).await;
    sent(&rig).await;
    let mut got = ids(&receiver.requests());
    drop(receiver);
    ask(&rig, "/while", 100).await;
    let status = rig.status_where("the spool", |status| sink(status)["spool_records"] == 100).await;
    assert_eq!(sink(&status)["state"], "failing", "{status}");
    assert!(sink(&status)["last_error"].is_string() && sink(&status)["spool_bytes"].as_u64().unwrap() > 0, "{status}");
    rig.event("log sink failing, records wait").await;
    let receiver = Upstream::named_at(&address.to_string(), "r").await.unwrap();
    let after = sent(&rig).await;
    ask(&rig, "/after", 10).await;

    let all = told(&rig, 120).await;
    soon("the last record", async {
        while !got.is_superset(&all) {
            got.extend(ids(&receiver.requests()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(got, all);
    assert_eq!(after["dropped"], serde_json::json!({}), "{after}");
    rig.event("log sink recovered").await;
    assert!(rig.metric("sluicegate_access_log_write_errors_total{sink=\"central\"}").await >= 1.0);
}

#[tokio::test]
async fn what_is_spooled_survives_a_kill() {
    let (upstream, folder) = (Upstream::named("a").await, tempfile::tempdir().unwrap());
    let address = Upstream::nobody().await;
    let keys = spooled(address, &folder, "1MiB");
    let mut first = with_sink(&upstream, &keys).await;
    ask(&first, "/lost", 80).await;
    first.status_where("the spool", |status| sink(status)["spool_records"] == 80).await;
    let all = told(&first, 80).await;
    first.signal("KILL").await;
    first.ended().await;

    let receiver = Upstream::named_at(&address.to_string(), "r").await.unwrap();
    let second = with_sink(&upstream, &keys).await;

    arrived(&receiver, &all).await;
    sent(&second).await;
}

#[tokio::test]
async fn a_full_spool_drops_the_oldest_and_counts_them() {
    let (upstream, folder) = (Upstream::named("a").await, tempfile::tempdir().unwrap());
    let address = Upstream::nobody().await;
    let rig = with_sink(&upstream, &spooled(address, &folder, "64KiB")).await;

    for part in 1..=6 {
        ask(&rig, "/full", 50).await;
        // Each part is on disk before the next, so that what goes is the oldest.
        let stored = |sink: &Value| {
            let dropped = sink["dropped"]["spool_full"].as_u64().unwrap_or(0);
            sink["spool_records"].as_u64().unwrap() + dropped
        };
        rig.status_where("a part on disk", |status| stored(sink(status)) == part * 50).await;
    }
    let all: Vec<Value> = soon("the records", rig.records.find_many(300, |record| record["path"] == "/full")).await;
    let receiver = Upstream::named_at(&address.to_string(), "r").await.unwrap();
    let after = sent(&rig).await;

    let dropped = after["dropped"]["spool_full"].as_u64().unwrap();
    let (got, id) = (ids(&receiver.requests()), |record: &Value| record["id"].as_str().unwrap().to_owned());
    assert!(dropped > 0 && got.len() as u64 == 300 - dropped, "{dropped} dropped, {} there", got.len());
    assert!(all.iter().rev().take(20).all(|newest| got.contains(&id(newest))));
    let sample = "sluicegate_access_log_records_dropped_total{sink=\"central\",cause=\"spool_full\"}";
    assert_eq!(rig.metric(sample).await, dropped as f64);
    let event = rig.event("records lost").await;
    assert_eq!(crate::rig::field(&event, "cause"), "spool_full");
}

#[tokio::test]
async fn a_process_that_ends_sends_what_waits_or_stores_it() {
    let (upstream, folder) = (Upstream::named("a").await, tempfile::tempdir().unwrap());
    let receiver = Upstream::named("r").await;
    let address = receiver.address;
    let keys = spooled(address, &folder, "1MiB").replace("20ms", "1m");
    let mut first = with_sink(&upstream, &keys).await;
    ask(&first, "/x", 20).await;
    assert!(receiver.requests().is_empty());
    first.signal("TERM").await;
    first.ended().await;
    assert_eq!(ids(&receiver.requests()), told(&first, 20).await);

    drop(receiver);
    let mut second = with_sink(&upstream, &keys).await;
    ask(&second, "/y", 20).await;
    second.signal("TERM").await;
    second.ended().await;
    let receiver = Upstream::named_at(&address.to_string(), "r").await.unwrap();
    let third = with_sink(&upstream, &keys).await;

    arrived(&receiver, &told(&second, 20).await).await;
    sent(&third).await;
}

#[tokio::test]
async fn a_reload_keeps_what_waits_for_a_sink_that_did_not_change() {
    let upstream = Upstream::named("a").await;
    let address = Upstream::nobody().await;
    let rig = with_sink(&upstream, &lines_to(address)).await;
    ask(&rig, "/x", 30).await;
    rig.status_where("the queue", |status| sink(status)["queue"] == 30).await;

    rig.write_config(&rig.config().replace("log_json = true", "log_json = true\nunready_for = \"1ms\""));
    rig.signal("HUP").await;
    rig.status_where("the reload", |status| status["generation"] == 2).await;
    let receiver = Upstream::named_at(&address.to_string(), "r").await.unwrap();

    arrived(&receiver, &told(&rig, 30).await).await;
}

#[tokio::test]
async fn a_receiver_that_is_busy_is_asked_again_and_a_refused_record_goes_alone() {
    let upstream = Upstream::named("a").await;
    let busy = std::sync::atomic::AtomicUsize::new(0);
    let receiver = Upstream::answering(move |request| {
        let body = String::from_utf8_lossy(&request.body);
        let status = match busy.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => "503 Busy\r\nRetry-After: 0",
            _ if body.contains("/poison") => "400 Bad",
            _ => "204 Fine",
        };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let keys = lines_to(receiver.address).replace("20ms", "500ms");
    let rig = with_sink(&upstream, &keys).await;

    ask(&rig, "/good", 5).await;
    ask(&rig, "/poison", 1).await;
    ask(&rig, "/good", 5).await;

    let after = rig.status_long("10 taken and 1 refused", |s| sink(s)["sent"] == 10 && sink(s)["queue"] == 0).await;
    assert_eq!(sink(&after)["dropped"], serde_json::json!({ "refused": 1 }), "{after}");
}

#[tokio::test]
async fn sinks_have_formats_filters_and_samples_of_their_own() {
    let upstream = Upstream::answering(|request| {
        let status = if request.target().contains("bad") { "500 Bad" } else { "200 Fine" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let rest = "[[access_log.sinks]]\nname = \"errors\"\nfile = { path = \"DIR/errors\" }\nformat = \"combined\"\n\
                filter = { statuses = \"5xx\" }\nanonymise = true\n\
                [[access_log.sinks]]\nname = \"sample\"\nfile = { path = \"DIR/sample\" }\nformat = \"logfmt\"\n\
                sample = \"0%\"\nslow = \"1h\"\n\
                [[access_log.sinks]]\nname = \"own\"\nfile = { path = \"DIR/own\" }\ntemplate = \"{status} {path}\"\n\
                filter = { routes = \"/\" }\n";
    let mut rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;

    let mut client = rig.client().await;
    ask_by(&mut client, "/good?mail=me%40example.com", 3).await;
    ask_by(&mut client, "/bad", 2).await;
    rig.signal("TERM").await;
    rig.ended().await;

    let text = |name: &str| std::fs::read_to_string(rig.directory.path().join(name)).unwrap();
    let (errors, sample) = (text("errors"), text("sample"));
    assert!(errors.lines().count() == 2 && errors.lines().all(|l| l.starts_with("127.0.0.0 - - [")), "{errors}");
    assert!(sample.lines().count() == 2 && sample.lines().all(|l| l.contains(" status=500 ")), "{sample}");
    let expected = "200 /good?mail=***\n".repeat(3) + &"500 /bad\n".repeat(2);
    assert_eq!(text("own"), expected);
    assert!(rig.records.all().is_empty());
}

/// Reads messages with their lengths before them.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> Option<Value> {
    let mut length = 0;
    loop {
        match stream.read_u8().await.ok()? {
            b' ' => break,
            digit => length = length * 10 + usize::from(digit - b'0'),
        }
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await.ok()?;
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("<134>1 2"), "{text}");
    serde_json::from_str(text.splitn(8, ' ').nth(7).unwrap()).ok()
}

#[tokio::test]
async fn syslog_that_died_before_it_read_gets_the_messages_again() {
    let upstream = Upstream::named("a").await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let keys = format!("syslog = {{ address = \"{address}\", over = \"tcp\" }}\nbatch = {{ linger = \"20ms\" }}");
    let rig = with_sink(&upstream, &keys).await;

    ask(&rig, "/x", 40).await;
    let (mut first, _) = soon("a connection", server.accept()).await.unwrap();
    soon("the first message", message(&mut first)).await.unwrap();
    // The others are in the buffers of a server that is gone.
    drop(first);
    let (mut second, _) = soon("another connection", server.accept()).await.unwrap();

    let all = told(&rig, 40).await;
    let mut got = BTreeSet::new();
    while got != all {
        let record = soon("all messages", message(&mut second)).await.unwrap();
        got.insert(record["id"].as_str().unwrap().to_owned());
    }
}

#[tokio::test]
async fn syslog_over_tls_shows_a_certificate() {
    let upstream = Upstream::named("a").await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let tls = "authorities = \"DIR/ca.pem\", certificate = \"DIR/leaf.pem\", key = \"DIR/leaf.key\"";
    let keys = format!("syslog = {{ address = \"{address}\", tls = {{ {tls} }} }}\nbatch = {{ linger = \"20ms\" }}");
    let rig = with_sink(&upstream, &keys).await;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(rig.pki.server_that_asks()));

    ask(&rig, "/x", 3).await;
    let (stream, _) = soon("a connection", server.accept()).await.unwrap();
    let mut stream = soon("a handshake", acceptor.accept(stream)).await.unwrap();

    assert_eq!(stream.get_ref().1.peer_certificates().unwrap().len(), 1);
    for _ in 0..3 {
        assert_eq!(soon("a message", message(&mut stream)).await.unwrap()["path"], "/x");
    }
}

#[tokio::test]
async fn a_sink_without_its_secret_is_told_at_the_start_and_refused_at_a_reload() {
    let upstream = Upstream::named("a").await;
    let gossip = |request: &Request| {
        let body = format!("you said {:?}", request.head.get("x-api-key"));
        format!("HTTP/1.1 503 No\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let receiver = Upstream::answering(gossip).await;
    let address = receiver.address;
    let keys = format!(
        "http = {{ to = {{ url = \"http://{address}/\", headers = {{ x-api-key = {{ file = \"DIR/key\" }} }} }} }}"
    );
    let rig = setup(&upstream, &keys).file("key", "S3CR3T-KEY\n").start().await;
    ask(&rig, "/x", 1).await;
    let status = rig.status_where("a failure", |status| sink(status)["state"] == "failing").await;
    assert!(status.to_string().contains("you said") && !status.to_string().contains("S3CR3T"), "{status}");

    std::fs::remove_file(rig.directory.path().join("key")).unwrap();
    rig.signal("HUP").await;

    let event = rig.event("configuration not loaded, the old generation stays").await;
    let error = crate::rig::field(&event, "error").as_str().unwrap().to_owned();
    assert!(error.contains("log sink central") && error.contains("x-api-key"), "{error}");
}
