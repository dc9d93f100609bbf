//! When every endpoint is full, requests wait in one bounded line, in their order; beyond it they are told to come back.

use crate::rig::upstream::named;
use crate::rig::{Gate, Rig, Upstream};

/// An endpoint that answers each request with its target once the gate lets it.
async fn gated(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::playing(move |mut peer, seen| {
        let gate = gate.clone();
        async move {
            while let Some(request) = peer.request().await {
                let answer = named(request.target());
                seen.note(request);
                gate.pass().await;
                if peer.try_send(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn waiting(status: &serde_json::Value) -> u64 {
    status["pools"][0]["queue_length"].as_u64().unwrap()
}

#[tokio::test]
async fn requests_beyond_the_cap_wait_and_are_served_in_their_order() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 1").start().await;
    let mut clients = Vec::new();

    for index in 0..4_u64 {
        let mut client = rig.client().await;
        client.send(format!("GET /{index} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        clients.push(client);
        if index == 0 {
            upstream.received(1).await;
        } else {
            rig.status_where("one more in the line", |status| waiting(status) == index).await;
        }
    }
    for (index, client) in clients.iter_mut().enumerate() {
        gate.let_pass(1);
        assert_eq!(client.response().await.text(), format!("/{index}"));
    }

    let order: Vec<String> = upstream.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(order, ["/0", "/1", "/2", "/3"]);
    assert!(rig.record("/3").await["queue_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn burst_of_checks_or_logins_from_one_address_waits_like_any_other() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 1").start().await;
    let mut clients = Vec::new();

    for index in 0..40_u64 {
        let mut client = rig.client().await;
        client.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
        rig.status_where("one more in the line", |status| index == 0 || waiting(status) == index).await;
    }
    gate.let_pass(40);

    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
}

#[tokio::test]
async fn full_line_is_answered_503_with_a_time_to_come_back() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 1\nqueue = { length = 1 }").start().await;
    let mut first = rig.client().await;
    first.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;
    let mut second = rig.client().await;
    second.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n").await;
    rig.status_where("the second in the line", |status| waiting(status) == 1).await;

    let refused = rig.get("/third").await;

    assert_eq!(refused.status, 503);
    assert!(refused.get("retry-after").is_some());
    let record = rig.record("/third").await;
    assert_eq!((&record["fault"], &record["end"]), (&"queue_full".into(), &"PQ".into()));
    gate.let_pass(2);
    assert_eq!(first.response().await.status, 200);
    assert_eq!(second.response().await.status, 200);
}

#[tokio::test]
async fn waiting_ends_with_the_patience_of_the_line() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 1\nqueue = { timeout = \"100ms\" }").start().await;
    let mut first = rig.client().await;
    first.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;

    let refused = rig.get("/late").await;

    assert_eq!(refused.status, 503);
    assert!(refused.get("retry-after").is_some());
    assert_eq!(rig.record("/late").await["fault"], "queue_timeout");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn client_that_leaves_the_line_leaves_no_gap() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 1").start().await;
    let mut first = rig.client().await;
    first.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;
    let mut leaving = rig.client().await;
    leaving.send("GET /leaving HTTP/1.1\r\nHost: a\r\n\r\n").await;
    rig.status_where("one in the line", |status| waiting(status) == 1).await;
    let mut staying = rig.client().await;
    staying.send("GET /staying HTTP/1.1\r\nHost: a\r\n\r\n").await;
    rig.status_where("two in the line", |status| waiting(status) == 2).await;

    drop(leaving);
    rig.status_where("one in the line", |status| waiting(status) == 1).await;
    gate.let_pass(2);

    assert_eq!(first.response().await.text(), "/first");
    assert_eq!(staying.response().await.text(), "/staying");
    assert_eq!(rig.record("/leaving").await["end"], "CQ");
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn streams_share_the_cap_with_connections() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 2").start().await;
    let client = rig.h2().await;

    let asking = futures_util::future::join_all((0..6).map(|_| client.get("/")));
    let watching = async {
        let status = rig.status_where("four in the line", |status| waiting(status) == 4).await;
        let in_flight = status["pools"][0]["endpoints"][0]["in_flight"].clone();
        gate.let_pass(6);
        in_flight
    };
    let (answers, in_flight) = futures_util::future::join(asking, watching).await;

    assert_eq!(in_flight, 2);
    assert!(answers.iter().all(|answer| answer.status == 200));
}

#[tokio::test]
async fn client_that_goes_away_frees_its_endpoint() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 1").start().await;
    let freed = |status: &serde_json::Value| status["pools"][0]["endpoints"][0]["in_flight"] == 0;

    let mut h1 = rig.client().await;
    h1.send("GET /h1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;
    drop(h1);
    rig.status_where("the endpoint is free", freed).await;

    let h2 = rig.h2().await;
    let (response, mut stream) = h2.start(crate::rig::h2::request(http::Method::GET, "/h2"), true).await;
    upstream.received(2).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    rig.status_where("the endpoint is free", freed).await;

    assert_eq!(rig.record("/h1").await["end"], "CH");
    let record = rig.record("/h2").await;
    assert_eq!(record["end"], "CH");
    assert!(record["status"].is_null());
}

/// A connection that says it is of the client at `address`.
async fn asks(rig: &Rig, path: &str, address: &str) -> crate::rig::Peer {
    let mut client = rig.client().await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n")).await;
    client
}

const BEHIND_A_PROXY: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

#[tokio::test]
async fn clients_that_wait_are_served_in_turn() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = Rig::setup().clients(BEHIND_A_PROXY).endpoint(&upstream).pool("max_in_flight = 1").start().await;
    let mut clients = vec![asks(&rig, "/chart/0", "10.0.0.1").await];
    upstream.received(1).await;
    for (index, (path, address)) in
        [("/chart/1", "10.0.0.1"), ("/chart/2", "10.0.0.1"), ("/chart/3", "10.0.0.1"), ("/other", "10.0.0.2")]
            .into_iter()
            .enumerate()
    {
        clients.push(asks(&rig, path, address).await);
        rig.status_where("one more in the line", |status| waiting(status) == index as u64 + 1).await;
    }

    gate.let_pass(5);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }

    let order: Vec<String> = upstream.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(order, ["/chart/0", "/chart/1", "/other", "/chart/2", "/chart/3"]);
    assert_eq!(rig.metric("sluicegate_queue_waits_total{pool=\"app\",lane=\"main\",ending=\"served\"}").await, 4.0);
}

#[tokio::test]
async fn login_waits_in_a_lane_of_its_own() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 1\nqueue = { length = 2 }").start().await;
    let mut clients = vec![asks(&rig, "/first", "-").await];
    upstream.received(1).await;
    for (index, path) in ["/query/1", "/query/2", "/login/"].into_iter().enumerate() {
        clients.push(asks(&rig, path, "-").await);
        rig.status_where("one more in the line", |status| waiting(status) == index as u64 + 1).await;
    }

    assert_eq!(rig.get("/query/3").await.status, 503, "the main lane is full");
    gate.let_pass(4);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }

    let order: Vec<String> = upstream.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(order, ["/first", "/login/", "/query/1", "/query/2"]);
}

#[tokio::test]
async fn one_client_cannot_fill_the_line() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let pool = "max_in_flight = 1\nqueue = { length = 3, per_client = 1 }";
    let rig = Rig::setup().clients(BEHIND_A_PROXY).endpoint(&upstream).pool(pool).start().await;
    let mut clients = vec![asks(&rig, "/0", "10.0.0.1").await];
    upstream.received(1).await;
    clients.push(asks(&rig, "/1", "10.0.0.1").await);
    rig.status_where("one in the line", |status| waiting(status) == 1).await;

    let mut refused = asks(&rig, "/2", "10.0.0.1").await;
    let answer = refused.response().await;
    assert_eq!((answer.status, answer.get("retry-after").is_some()), (503, true));
    assert_eq!(rig.record("/2").await["fault"], "queue_client_full");
    clients.push(asks(&rig, "/3", "10.0.0.2").await);
    rig.status_where("the other client waits", |status| waiting(status) == 2).await;

    gate.let_pass(3);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
}
