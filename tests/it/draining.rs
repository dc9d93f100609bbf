//! Told to end, the proxy ends politely: what is under way is finished, what is idle is closed, nothing new is taken.

use tokio::net::TcpStream;

use crate::rig::upstream::named;
use crate::rig::{Gate, Peer, Rig, Upstream, soon};

async fn gated(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::playing(move |mut peer, seen| {
        let gate = gate.clone();
        async move {
            while let Some(request) = peer.request().await {
                seen.note(request);
                gate.pass().await;
                drop(peer.try_send(named("held")).await);
            }
        }
    })
    .await
}

/// A connection on which a request was answered, and which is idle since. Its end tells that the drain has begun.
async fn served(rig: &Rig) -> Peer {
    let mut client = rig.client().await;
    client.send("GET /version HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.response().await;
    client
}

#[tokio::test]
async fn idle_process_ends_at_once_and_well() {
    let upstream = Upstream::named("a").await;
    let mut rig = Rig::setup().endpoint(&upstream).start().await;
    let mut idle = rig.client().await;
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.response().await;

    rig.signal("TERM").await;

    assert!(idle.rest().await.is_empty());
    assert_eq!(rig.ended().await.code(), Some(0));
}

#[tokio::test]
async fn interrupt_drains_as_well() {
    let upstream = Upstream::named("a").await;
    let mut rig = Rig::setup().endpoint(&upstream).start().await;

    rig.signal("INT").await;

    assert_eq!(rig.ended().await.code(), Some(0));
}

#[tokio::test]
async fn exchange_under_way_is_finished_and_its_connection_closed() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let mut rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;
    let mut idle = served(&rig).await;

    rig.signal("TERM").await;
    // Once the idle one is closed, the drain has begun.
    drop(idle.rest().await);
    // Each worker closes its own socket.
    let refused = async { while TcpStream::connect(rig.plain).await.is_ok() {} };
    soon("new connections to be refused", refused).await;
    assert!(rig.runs());
    gate.let_pass(1);

    let response = client.response().await;
    assert_eq!(response.text(), "held");
    assert_eq!(response.get("connection").as_deref(), Some("close"));
    assert!(client.rest().await.is_empty());
    assert_eq!(rig.ended().await.code(), Some(0));
    assert_eq!(rig.record("/held").await["end"], "--");
}

#[tokio::test]
async fn stream_under_way_is_finished() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let mut rig = Rig::setup().endpoint(&upstream).start().await;
    let client = rig.h2().await;
    let mut idle = served(&rig).await;

    let asking = client.get("/held");
    let ending = async {
        upstream.received(1).await;
        rig.signal("TERM").await;
        drop(idle.rest().await);
        gate.let_pass(1);
    };
    let (answer, ()) = futures_util::future::join(asking, ending).await;

    assert_eq!(answer.body, b"held");
    drop(client);
    assert_eq!(rig.ended().await.code(), Some(0));
}

#[tokio::test]
async fn connection_accepted_before_the_drain_has_its_first_request_answered() {
    let upstream = Upstream::named("a").await;
    let mut rig = Rig::setup().process("workers = 1").endpoint(&upstream).start().await;
    let mut fresh = rig.client().await;
    let mut idle = served(&rig).await;

    rig.signal("TERM").await;
    drop(idle.rest().await);
    fresh.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;

    let response = fresh.response().await;
    assert_eq!((response.text().as_str(), response.get("connection").as_deref()), ("a", Some("close")));
    assert!(fresh.rest().await.is_empty());
    assert_eq!(rig.ended().await.code(), Some(0));
}

#[tokio::test]
async fn second_signal_ends_it_now() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let mut rig = Rig::setup().process("drain_timeout = \"10m\"").endpoint(&upstream).start().await;
    let mut client = rig.client().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;
    let mut idle = served(&rig).await;

    rig.signal("TERM").await;
    drop(idle.rest().await);
    assert!(rig.runs());
    rig.signal("TERM").await;

    rig.ended().await;
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn drain_has_a_deadline() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let mut rig = Rig::setup().process("drain_timeout = \"300ms\"").endpoint(&upstream).start().await;
    let mut client = rig.client().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;

    rig.signal("TERM").await;

    rig.ended().await;
    let record = rig.record("/held").await;
    assert_ne!(record["end"], "--");
}

#[tokio::test]
async fn load_balancers_hear_of_it_before_anybody_is_refused() {
    let upstream = Upstream::named("a").await;
    let mut rig = Rig::setup().process("unready_for = \"10m\"").endpoint(&upstream).start().await;
    assert_eq!(rig.admin("/ready").await.status, 200);

    rig.signal("TERM").await;
    rig.status_where("unready", |status| status["phase"] == "unready").await;

    assert_eq!(rig.admin("/ready").await.status, 503);
    assert_eq!(rig.admin("/live").await.status, 200);
    assert_eq!(rig.get("/").await.text(), "a");
    assert!(rig.runs());
}
