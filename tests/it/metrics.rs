//! What a scrape gets.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::rig::{Peer, Response, Rig, Upstream};

/// `/metrics` as a scraper that takes `accept` gets it.
async fn scrape(rig: &Rig, accept: &str) -> Response {
    let mut client = Peer::connect(rig.admin).await;
    let head = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n", rig.admin);
    client.send(head).await;
    client.response().await
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_a_scrape() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    rig.get("/").await;
    rig.record("/").await;
    let text = scrape(&rig, "*/*").await;

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's package prometheus");
    promtool.stdin.take().unwrap().write_all(&text.body).await.unwrap();
    let output = promtool.wait_with_output().await.unwrap();

    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[tokio::test]
async fn whoever_takes_open_metrics_gets_it_with_the_traces_that_are_recorded() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().clients("trusted_proxies = [\"127.0.0.1\"]").endpoint(&upstream).start().await;
    let mut client = rig.client().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: a\r\n\
             traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
        )
        .await;
    client.response().await;
    rig.record("/").await;

    let open = scrape(&rig, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await;
    let plain = scrape(&rig, "text/plain").await;

    assert_eq!(open.get("content-type").as_deref(), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let open = open.text();
    let told: Vec<&str> = open.lines().filter(|line| line.contains("0af7651916cd43dd8448eb211c80319c")).collect();
    assert!(matches!(told.as_slice(), [line] if line.contains("stage=\"total\"} 1 # {trace_id=")), "{told:?}");
    assert_eq!(plain.get("content-type").as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!plain.text().contains("0af7651916cd43dd8448eb211c80319c"));
}

#[tokio::test]
async fn workers_and_the_process_show_what_they_carry() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut open = rig.client().await;
    open.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    open.response().await;

    let mut sums = [0.0; 3];
    for worker in 0..2 {
        for (sum, name) in sums.iter_mut().zip(["busy_seconds_total", "connections_open", "tasks"]) {
            *sum += rig.metric(&format!("sluicegate_worker_{name}{{worker=\"{worker}\"}}")).await;
        }
    }

    let [busy, connections, tasks] = sums;
    assert!(busy > 0.0 && tasks >= 3.0, "{busy} {tasks}");
    assert_eq!(connections, 1.0);
    assert!(rig.metric("process_open_fds").await > 5.0);
    assert!(rig.metric("process_resident_memory_bytes").await > 1_000_000.0);
    assert!(rig.metric("process_max_fds").await >= rig.metric("sluicegate_connections_max").await);
    assert_eq!(rig.metric("sluicegate_config_reload_failed").await, 0.0);
}

#[tokio::test]
async fn a_reload_that_fails_shows_until_one_goes_well() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let good = rig.config();

    rig.write_config("nonsense");
    rig.event("configuration not loaded, the old generation stays").await;
    assert_eq!(rig.metric("sluicegate_config_reload_failed").await, 1.0);
    rig.write_config(&good);
    rig.event("configuration loaded").await;

    assert_eq!(rig.metric("sluicegate_config_reload_failed").await, 0.0);
    assert!(rig.metric("sluicegate_config_loaded_seconds").await > 1_700_000_000.0);
}

#[tokio::test]
async fn nothing_that_a_client_says_is_a_label() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client
        .send(
            "MARKERMETHOD /markerpath?markerquery=1 HTTP/1.1\r\nHost: markerhost\r\nUser-Agent: markeragent\r\n\
             Referer: https://markerreferer/\r\nX-Request-Id: markerid\r\nX-Marker: markerfield\r\n\r\n",
        )
        .await;
    client.response().await;
    rig.record_where("the record", |record| record["host"] == "markerhost").await;

    for form in ["text/plain", "application/openmetrics-text"] {
        let text = scrape(&rig, form).await.text().to_lowercase();
        assert!(!text.contains("marker"), "{text}");
    }
}
