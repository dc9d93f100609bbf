//! Whatever an endpoint answers, the client gets a clean 502 or a body that is visibly broken, and the connection to
//! that endpoint is not used again.

use crate::rig::h2::{request, try_reply};
use crate::rig::{Rig, Upstream};

/// An endpoint that answers its first connection with `bytes` and then closes it or not, and all others well.
async fn once(bytes: &'static [u8], closes: bool) -> Upstream {
    Upstream::playing(move |mut peer, seen| async move {
        while let Some(request) = peer.request().await {
            let hostile = peer.number == 0;
            seen.note(request);
            if hostile {
                drop(peer.try_send(bytes).await);
                if closes {
                    return;
                }
            } else if peer.try_send(crate::rig::upstream::named("good")).await.is_err() {
                return;
            }
        }
    })
    .await
}

const NO_RETRY: &str = "retry = { attempts = 0 }";

#[tokio::test]
async fn odd_heads_become_a_clean_502() {
    let cases: &[(&str, &[u8])] = &[
        ("no HTTP", b"hello\r\n\r\n"),
        ("status missing", b"HTTP/1.1\r\n\r\n"),
        ("status of two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
        ("status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
        ("status beyond 599", b"HTTP/1.1 999 OK\r\n\r\n"),
        ("version 2", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (
            "both framings",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        ("lengths differ", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        ("length is no number", b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc"),
        ("length list", b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd"),
        ("unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc"),
        (
            "coding twice",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("folded field", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        ("space before colon", b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
        ("nul in a value", b"HTTP/1.1 200 OK\r\nX: a\0\r\nContent-Length: 0\r\n\r\n"),
        ("carriage return in a value", b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n"),
        ("bare line feeds", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        (
            "switch nobody asked for",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-"),
    ];
    let mut wrong = Vec::new();

    for (name, bytes) in cases {
        let upstream = once(bytes, true).await;
        let rig = Rig::setup().process("workers = 1").endpoint(&upstream).pool(NO_RETRY).start().await;
        let mut client = rig.client().await;

        client.send("GET /odd HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let first = client.response().await;
        client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let second = client.response().await;
        let record = rig.record("/odd").await;

        let fault = record["fault"].as_str().unwrap_or_default();
        if first.status != 502 || !["upstream_malformed", "upstream_closed"].contains(&fault) {
            wrong.push(format!("{name}: {} {fault} {}", first.status, first.text()));
        }
        if second.text() != "good" {
            wrong.push(format!("{name}: then {} {}", second.status, second.text()));
        }
    }

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn response_head_beyond_its_bound_becomes_502() {
    let long: &'static [u8] = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000)).leak().as_bytes();
    let upstream = once(long, true).await;
    let rig = Rig::setup().endpoint(&upstream).pool(NO_RETRY).start().await;

    assert_eq!(rig.get("/long").await.status, 502);
    assert_eq!(rig.record("/long").await["fault"], "upstream_head");
}

#[tokio::test]
async fn broken_bodies_never_look_complete() {
    let cases: &[(&str, &[u8])] = &[
        ("length not reached", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
        ("chunks cut off", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        ("chunk cut off", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"),
        ("last chunk cut off", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
        ("bad chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n\r\n"),
        (
            "chunk longer than said",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\ndef\r\n0\r\n\r\n",
        ),
    ];
    let mut wrong = Vec::new();

    for (name, bytes) in cases {
        let upstream = once(bytes, true).await;
        let rig = Rig::setup().endpoint(&upstream).pool(NO_RETRY).start().await;

        let mut client = rig.client().await;
        client.send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let over_h1 = crate::rig::soon(name, client.try_response(true)).await;
        // Its own first connection, over HTTP/2.
        let upstream_h2 = once(bytes, true).await;
        let rig_h2 = Rig::setup().endpoint(&upstream_h2).pool(NO_RETRY).start().await;
        let (asking, _) = rig_h2.h2().await.start(request(http::Method::GET, "/broken"), true).await;
        let over_h2 = try_reply(asking).await;
        let record = rig.record("/broken").await;

        if over_h1.as_ref().is_some_and(|response| response.whole && response.status == 200) {
            wrong.push(format!("{name}: complete over HTTP/1: {over_h1:?}"));
        }
        if over_h2.as_ref().is_ok_and(|reply| reply.broken.is_none()) {
            wrong.push(format!("{name}: complete over HTTP/2: {over_h2:?}"));
        }
        if record["end"] != "UD" {
            wrong.push(format!("{name}: recorded as {record}"));
        }
    }

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn bytes_beyond_a_response_never_answer_the_next_request() {
    let cases: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ];

    for bytes in cases {
        let upstream = once(bytes, false).await;
        let rig = Rig::setup().process("workers = 1").endpoint(&upstream).start().await;
        let mut client = rig.client().await;

        client.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.response().await;
        client.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n").await;

        assert_eq!(client.response().await.text(), "good");
    }
}

#[tokio::test]
async fn answer_before_the_request_is_over_ends_the_upstream_connection() {
    // Answers on the head of an upload, as Superset does with one that it refuses.
    let upstream = Upstream::playing(|mut peer, _| async move {
        peer.head().await;
        drop(peer.try_send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await);
        peer.rest().await;
    })
    .await;
    let rest = "[[routes]]\npool = \"app\"\nrequest_buffer = false";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;
    let mut client = rig.client().await;

    client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc").await;

    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (401, "no"));
}
