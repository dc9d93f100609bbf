//! Endpoints are taken out and brought back for good reasons, told in one event; never so many that nobody is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::rig::upstream::named;
use crate::rig::{Rig, Upstream, field};

const QUICK: &str =
    "health = { interval = \"100ms\", fast_interval = \"100ms\", jitter_percent = 0, rise = 2, fall = 2 }";

/// An endpoint whose `/health` answers as the switch says.
async fn switched(name: &'static str, well: &Arc<AtomicBool>) -> Upstream {
    let well = Arc::clone(well);
    Upstream::answering(move |request| match request.target() {
        "/health" if well.load(Ordering::Relaxed) => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK".to_vec(),
        "/health" => b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        _ => named(name),
    })
    .await
}

fn switch(well: bool) -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(well))
}

fn standing(status: &Value, endpoint: usize) -> &str {
    status["pools"][0]["endpoints"][endpoint]["standing"].as_str().unwrap()
}

fn exchanges(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| request.target() != "/health").count()
}

#[tokio::test]
async fn endpoint_that_fails_its_checks_goes_and_comes_back() {
    let (first, second) = (switch(true), switch(true));
    let upstreams = [switched("a", &first).await, switched("b", &second).await];
    let rig = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).pool(QUICK).start().await;
    rig.status_where("both up", |status| standing(status, 0) == "up" && standing(status, 1) == "up").await;

    second.store(false, Ordering::Relaxed);
    rig.status_where("the second down", |status| standing(status, 1) == "down").await;
    for _ in 0..4 {
        assert_eq!(rig.get("/").await.text(), "a");
    }
    let event = rig.event("endpoint down").await;
    assert_eq!(field(&event, "endpoint").as_str().unwrap(), upstreams[1].address.to_string());
    assert!(!field(&event, "reason").as_str().unwrap().is_empty());

    second.store(true, Ordering::Relaxed);
    rig.status_where("the second up again", |status| standing(status, 1) == "up").await;
    let answers = [rig.get("/").await.text(), rig.get("/").await.text()];
    assert!(answers.contains(&"b".to_owned()));
}

#[tokio::test]
async fn pool_is_not_emptied_when_all_fail_together() {
    let well = switch(true);
    let upstreams = [switched("a", &well).await, switched("b", &well).await];
    let rig = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).pool(QUICK).start().await;
    rig.status_where("both up", |status| standing(status, 0) == "up" && standing(status, 1) == "up").await;

    well.store(false, Ordering::Relaxed);
    rig.status_where("both down", |status| standing(status, 0) == "down" && standing(status, 1) == "down").await;

    for _ in 0..4 {
        assert_eq!(rig.get("/").await.status, 200);
    }
    assert_eq!((exchanges(&upstreams[0]), exchanges(&upstreams[1])), (2, 2));
    rig.event("too few endpoints up, all are used").await;
}

#[tokio::test]
async fn pool_without_panic_threshold_refuses_when_all_are_down() {
    let well = switch(false);
    let upstream = switched("a", &well).await;
    let rig = Rig::setup().endpoint(&upstream).pool(&format!("{QUICK}\npanic_threshold = 0")).start().await;
    rig.status_where("down", |status| standing(status, 0) == "down").await;

    let response = rig.get("/none").await;

    assert_eq!(response.status, 503);
    assert!(response.get("retry-after").is_some());
    let record = rig.record("/none").await;
    assert_eq!((&record["fault"], &record["end"]), (&"no_endpoint".into(), &"UQ".into()));
    assert_eq!(exchanges(&upstream), 0);
}

#[tokio::test]
async fn pool_may_use_all_endpoints_when_all_are_down() {
    let well = switch(false);
    let upstream = switched("a", &well).await;
    let lines = format!("{QUICK}\npanic_threshold = 0\nwhen_all_down = \"use-all\"");
    let rig = Rig::setup().endpoint(&upstream).pool(&lines).start().await;
    rig.status_where("down", |status| standing(status, 0) == "down").await;

    assert_eq!(rig.get("/").await.text(), "a");
}

#[tokio::test]
async fn checks_bring_back_the_cookies_that_an_endpoint_set() {
    let upstream = Upstream::answering(|request| match request.head.get("cookie") {
        None => b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1; Path=/; HttpOnly\r\nContent-Length: 2\r\n\r\nOK".to_vec(),
        Some(_) => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK".to_vec(),
    })
    .await;
    let _rig = Rig::setup().endpoint(&upstream).pool(QUICK).start().await;

    let checks = upstream.received(4).await;

    assert!(checks.iter().skip(1).all(|check| check.head.get("cookie").as_deref() == Some("session=1")));
}

#[tokio::test]
async fn endpoint_that_accepts_and_never_answers_is_not_alive() {
    // As Gunicorn while it starts or stops.
    let mute = Upstream::playing(|mut peer, _| async move { drop(peer.rest().await) }).await;
    let alive = switched("alive", &switch(true)).await;
    let health = "health = { interval = \"100ms\", fast_interval = \"100ms\", late_after = \"100ms\", timeout = \"200ms\", fall = 1 }";
    let rig = Rig::setup().endpoint(&mute).endpoint(&alive).pool(health).start().await;

    rig.status_where("one down, one up", |status| standing(status, 0) == "down" && standing(status, 1) == "up").await;

    assert_eq!(rig.get("/").await.text(), "alive");
}

#[tokio::test]
async fn tcp_check_takes_an_open_port_for_life_where_that_is_wanted() {
    let open = Upstream::playing(|mut peer, _| async move { drop(peer.rest().await) }).await;
    let closed = Upstream::nobody().await;
    let health = "health = { kind = \"tcp\", interval = \"100ms\", fast_interval = \"100ms\", rise = 1, fall = 1 }";
    let rig = Rig::setup().endpoint(&open).endpoint_at(closed, 1).pool(health).start().await;

    rig.status_where("one up, one down", |status| standing(status, 0) == "up" && standing(status, 1) == "down").await;
}

#[tokio::test]
async fn deep_check_degrades_but_does_not_eject() {
    let upstream = Upstream::answering(|request| match request.target() {
        "/health" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK".to_vec(),
        "/api/v1/me/" => b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => named("a"),
    })
    .await;
    let health = "health = { interval = \"100ms\", fast_interval = \"100ms\", deep = true }\npanic_threshold = 0";
    let rig = Rig::setup().endpoint(&upstream).pool(health).start().await;

    upstream.received(8).await;

    assert_ne!(standing(&rig.status().await, 0), "down");
    assert_eq!(rig.get("/").await.text(), "a");
}

#[tokio::test]
async fn readiness_is_told_to_load_balancers() {
    let upstream = switched("a", &switch(true)).await;
    let rig = Rig::setup().endpoint(&upstream).pool(QUICK).start().await;

    assert_eq!(rig.admin("/live").await.status, 200);
    rig.status_where("up", |status| standing(status, 0) == "up").await;
    assert_eq!(rig.admin("/ready").await.status, 200);
}
