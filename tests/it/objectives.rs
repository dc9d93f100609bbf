//! What was promised of a pool: who spends its budget, and that the past outlives the process.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::{Gate, Rig, Setup, Upstream};

/// An endpoint that fails on `/fails`.
async fn moody() -> Upstream {
    Upstream::answering(|request| {
        let status = if request.target() == "/fails" { "500 Broken" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await
}

fn remembering(upstream: &Upstream, file: &std::path::Path) -> Setup {
    Rig::setup().process(&format!("objectives_file = \"{}\"", file.display())).endpoint(upstream)
}

async fn slo(rig: &Rig) -> Value {
    rig.status().await["pools"][0]["slo"].clone()
}

#[tokio::test]
async fn failures_spend_the_budget_and_the_endpoint_is_named() {
    let upstream = moody().await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    for path in ["/", "/", "/fails", "/"] {
        rig.get(path).await;
        rig.record(path).await;
    }

    let slo = slo(&rig).await;
    assert_eq!((&slo["counted"], &slo["availability"]["missed"]), (&json!(4), &json!(1)));
    assert_eq!(slo["availability"]["objective_percent"], 99.9);
    assert_eq!(slo["availability"]["kept_percent"], 75.0);
    assert_eq!(slo["availability"]["burn_rate"]["5m"], 250.0);
    assert_eq!(slo["spent_by"], json!({ "client": 0, "proxy": 0, "endpoint": 1, "zone": 0 }));
    assert_eq!(slo["endpoints"], json!([{ "name": upstream.address.to_string(), "failed": 1 }]));
    assert_eq!(slo["latency"]["missed"], 0);
    assert_eq!(slo["downtime"]["class"], "99.95%");
    assert_eq!(rig.metric(r#"sluicegate_slo_exchanges_total{pool="app",served="endpoint"}"#).await, 1.0);
    assert_eq!(rig.metric(r#"sluicegate_slo_spent_exchanges{pool="app",by="endpoint"}"#).await, 1.0);
    assert_eq!(rig.metric(r#"sluicegate_slo_burn_rate{pool="app",objective="availability",window="1h"}"#).await, 250.0);
}

#[tokio::test]
async fn late_answers_miss_the_objective_of_latency() {
    let gate = Gate::closed();
    let slow = Upstream::held("slow", &gate).await;
    let rig = Rig::setup().pool("objectives.latency_threshold = \"1ms\"").endpoint(&slow).start().await;

    let (_, ()) = tokio::join!(rig.get("/"), async {
        slow.received(1).await;
        // What is late cannot be made so by an event.
        tokio::time::sleep(Duration::from_millis(5)).await;
        gate.let_pass(1);
    });
    rig.record("/").await;

    let slo = slo(&rig).await;
    assert_eq!((&slo["latency"]["missed"], &slo["availability"]["missed"]), (&json!(1), &json!(0)));
    assert_eq!(slo["latency_threshold_seconds"], 0.001);
}

#[tokio::test]
async fn what_the_client_did_wrong_does_not_count() {
    let upstream = moody().await;
    let rig = Rig::setup()
        .endpoint(&upstream)
        .rest("[[routes]]\npath = \"/\"\npool = \"app\"\nmax_body = \"1KiB\"\n")
        .start()
        .await;
    let mut client = rig.client().await;

    client.send("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n").await;
    assert_eq!(client.response().await.status, 413);
    rig.record("/large").await;

    assert_eq!(slo(&rig).await["counted"], 0);
}

#[tokio::test]
async fn the_past_outlives_the_process() {
    let upstream = moody().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objectives");
    let mut first = remembering(&upstream, &file).start().await;
    for path in ["/", "/fails"] {
        first.get(path).await;
        first.record(path).await;
    }

    first.signal("TERM").await;
    assert!(first.ended().await.success());
    let second = remembering(&upstream, &file).start().await;
    second.get("/").await;
    second.record("/").await;

    let slo = slo(&second).await;
    assert_eq!((&slo["counted"], &slo["availability"]["missed"]), (&json!(3), &json!(1)));
    assert_eq!(slo["endpoints"][0]["failed"], 1);
}

#[tokio::test]
async fn a_past_that_cannot_be_read_is_told_of_and_begun_anew() {
    let upstream = moody().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objectives");
    std::fs::write(&file, "sluicegate-objectives 1 0000000000000000\n{\"app\":{}}\n").unwrap();

    let mut rig = remembering(&upstream, &file).start().await;

    rig.event("objectives not read, their past begins anew").await;
    assert_eq!(rig.get("/").await.status, 200);
    rig.record("/").await;
    assert_eq!(slo(&rig).await["counted"], 1);
    assert_eq!(rig.metric("sluicegate_objectives_file_errors_total").await, 1.0);
    rig.signal("TERM").await;
    rig.ended().await;
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"app\""));
}
