//! Every wait has a clock of its own, and the answer names the clock that ran out.

use crate::rig::{Gate, Rig, Upstream};

async fn silent() -> Upstream {
    Upstream::playing(|mut peer, seen| async move {
        if let Some(request) = peer.request().await {
            seen.note(request);
        }
        peer.rest().await;
    })
    .await
}

#[tokio::test]
async fn half_a_head_is_answered_408() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("timeouts = { head = \"150ms\" }").endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("GET /half HTTP/1.1\r\nHo").await;

    let response = client.response().await;
    assert_eq!(response.status, 408);
    assert!(client.rest().await.is_empty());
    assert_eq!(rig.record_where("a late client", |record| record["fault"] == "head_read").await["end"], "CR");
}

#[tokio::test]
async fn connection_that_sends_nothing_is_closed() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("timeouts = { head = \"150ms\" }").endpoint(&upstream).start().await;

    let mut client = rig.client().await;

    // An answer to nothing would be a surprise to a browser that connected ahead of need.
    drop(client.rest().await);
}

#[tokio::test]
async fn dripping_head_does_not_extend_its_clock() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("timeouts = { head = \"300ms\" }").endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("GET /drip HTTP/1.1\r\n").await;
    let dripping = async {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            pause.tick().await;
            if client.try_send("X: y\r\n").await.is_err() {
                return;
            }
        }
    };

    crate::rig::soon("the proxy to hang up", dripping).await;
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn body_that_pauses_is_answered_408_before_an_endpoint_is_asked() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("timeouts = { body_idle = \"150ms\" }").endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("POST /pause HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;

    let response = client.response().await;
    assert_eq!(response.status, 408);
    assert!(response.text().contains("body_read"), "{}", response.text());
    assert_eq!(rig.record("/pause").await["end"], "CR");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn idle_connection_is_closed_without_a_word() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("timeouts = { keep_alive = \"1s\" }").endpoint(&upstream).start().await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.response().await;

    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn endpoint_that_does_not_answer_is_a_504_that_names_the_clock() {
    let upstream = silent().await;
    let rest = "[[routes]]\npool = \"app\"\ntimeouts = { first_byte = \"150ms\" }";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;
    let mut client = rig.client().await;

    client.send("GET /silent HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n").await;
    let response = client.response().await;

    assert_eq!(response.status, 504);
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["code"], "first_byte");
    assert_eq!(body["request_id"].as_str().unwrap(), response.get("x-request-id").unwrap());
    assert_eq!(rig.record("/silent").await["fault"], "first_byte");
    let text = rig.admin("/metrics").await.text();
    assert!(text.contains("sluicegate_faults_total{listener=\"plain\",code=\"first_byte\"} 1"), "{text}");
}

#[tokio::test]
async fn endpoint_that_pauses_in_its_answer_breaks_it_visibly() {
    let upstream = Upstream::playing(|mut peer, _| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
        peer.rest().await;
    })
    .await;
    let rest = "[[routes]]\npool = \"app\"\ntimeouts = { between_bytes = \"150ms\" }";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;

    let response = rig.get("/pause").await;

    assert!(!response.whole);
    let record = rig.record("/pause").await;
    assert_eq!((&record["fault"], &record["end"]), (&"between_bytes".into(), &"UD".into()));
}

#[tokio::test]
async fn whole_exchange_has_a_clock_if_wanted() {
    let upstream = silent().await;
    let rest = "[[routes]]\npool = \"app\"\ntimeouts = { exchange = \"150ms\" }";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;

    assert_eq!(rig.get("/whole").await.status, 504);
    assert_eq!(rig.record("/whole").await["fault"], "exchange");
}

#[tokio::test]
async fn clock_of_the_whole_exchange_holds_before_anything_is_sent() {
    let gate = Gate::closed();
    let upstream = Upstream::held("a", &gate).await;
    let rest = "[[routes]]\npath = \"/short\"\npool = \"app\"\ntimeouts = { exchange = \"150ms\" }\n\
                [[routes]]\npool = \"app\"";
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 1").rest(rest).start().await;
    let mut first = rig.client().await;
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;

    let mut waiting = rig.client().await;
    waiting.send("POST /short/line HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(waiting.response().await.status, 504);
    let mut sending = rig.client().await;
    sending.send("POST /short/body HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh").await;
    assert_eq!(sending.response().await.status, 504);

    for path in ["/short/line", "/short/body"] {
        let record = rig.record(path).await;
        assert_eq!((&record["fault"], &record["end"]), (&"exchange".into(), &"PH".into()), "{path}");
    }
    gate.let_pass(2);
    assert_eq!(first.response().await.text(), "a");
    // Whoever stood in line would have had its turn before this one.
    first.send("GET /after HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(first.response().await.text(), "a");
    let asked: Vec<String> = upstream.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(asked, ["/", "/after"], "nobody works for who has had an answer");
}

#[tokio::test]
async fn tls_handshake_has_a_clock() {
    let upstream = Upstream::named("a").await;
    let setup = Rig::setup().secure("[listeners.tls]\nhandshake_timeout = \"150ms\"");
    let rig = setup.endpoint(&upstream).start().await;

    let mut client = crate::rig::Peer::connect(rig.secure).await;

    drop(client.rest().await);
    rig.status_where("nobody is connected", |status| {
        status["listeners"].as_array().unwrap().iter().all(|listener| listener["connections"] == 0)
    })
    .await;
}

#[tokio::test]
async fn idle_upstream_connection_is_not_used_beyond_its_age() {
    let upstream = Upstream::named("a").await;
    let setup = Rig::setup().process("workers = 1").endpoint(&upstream);
    let rig = setup.pool("timeouts = { idle = \"0s\" }").start().await;
    let mut client = rig.client().await;

    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.response().await;
    }

    assert_eq!(upstream.connections(), 3);
}
