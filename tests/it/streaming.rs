//! Responses pass as they come: never collected, never ahead of the client, with everything HTTP lets travel along.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use tokio::net::TcpSocket;

use crate::rig::h2::{reply, request};
use crate::rig::{Gate, Rig, Upstream, soon};

/// An endpoint that answers each request with `bytes`.
async fn answers(bytes: &'static [u8]) -> Upstream {
    Upstream::answering(move |_| bytes.to_vec()).await
}

#[tokio::test]
async fn first_bytes_arrive_before_the_last_are_made() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::playing(move |mut peer, _| {
        let gate = held.clone();
        async move {
            while peer.request().await.is_some() {
                let head = "HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n";
                peer.send(head.to_owned() + "5\r\nfirst\r\n").await;
                gate.pass().await;
                peer.send("4\r\nlast\r\n0\r\n\r\n").await;
            }
        }
    })
    .await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("GET /export HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.response_head().await;
    assert_eq!(client.exactly(10).await, b"5\r\nfirst\r\n");
    gate.let_pass(1);

    assert_eq!(client.exactly(14).await, b"4\r\nlast\r\n0\r\n\r\n");
    assert!(head.get("x-accel-buffering").is_none());
}

#[tokio::test]
async fn endpoint_is_held_back_by_a_client_that_does_not_read() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&sent);
    let upstream = Upstream::playing(move |mut peer, _| {
        let sent = std::sync::Arc::clone(&counted);
        async move {
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n").await;
            let block = vec![b'x'; 1 << 20];
            for _ in 0..100 {
                if peer.try_send(&block).await.is_err() {
                    return;
                }
                sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    })
    .await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let client = rig.h2().await;
    let (response, _stream) = client.start(request(Method::GET, "/large"), true).await;
    let response = soon("a response", response).await.unwrap();

    // The stream's window is closed; a few answers later nothing more has moved than buffers hold.
    for _ in 0..20 {
        rig.status().await;
    }

    assert!(sent.load(std::sync::atomic::Ordering::Relaxed) < 50, "100 MiB went into memory");
    let (_, mut stream) = response.into_parts();
    let mut received = 0;
    soon("the whole body", async {
        while let Some(piece) = stream.data().await {
            let piece = piece.unwrap();
            received += piece.len();
            stream.flow_control().release_capacity(piece.len()).unwrap();
        }
    })
    .await;
    assert_eq!(received, 104_857_600);
}

/// TLS takes a piece of an answer whole and passes it on as the socket has room: the answer is over when it has left.
#[tokio::test]
async fn last_bytes_of_an_answer_reach_a_slow_reader_under_tls() {
    const LENGTH: usize = 4_000_000;
    let upstream = Upstream::playing(|mut peer, _| async move {
        while peer.request().await.is_some() {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n")).await;
            peer.send(vec![b'x'; LENGTH]).await;
        }
    })
    .await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    // Which records are left when the last piece is written is chance: some of these clients have one.
    join_all((0..24).map(async |_| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let socket = soon("a connection", socket.connect(rig.secure)).await.unwrap();
        let mut client = rig.pki.over(socket, "http/1.1", false).await.unwrap();
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response_head().await.status, 200);
        for _ in 0..LENGTH / 40_000 {
            client.exactly(40_000).await;
            // The pace is the matter here.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }))
    .await;
}

#[tokio::test]
async fn early_hints_come_before_the_answer() {
    let upstream = answers(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let hints = client.response_head().await;

    assert_eq!(hints.status, 103);
    assert_eq!(hints.get("link").as_deref(), Some("</a.css>; rel=preload"));
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn clients_of_http_1_0_get_no_interim_answers() {
    let upstream = answers(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;

    // RFC 9110 §15.2
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn head_is_answered_with_the_length_and_without_the_content() {
    let upstream = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = client.response_head().await;
        assert_eq!((head.status, head.get("content-length").as_deref()), (200, Some("1234")));
    }
    let h2 = rig.h2().await;
    let (response, _) = h2.start(request(Method::HEAD, "/"), true).await;
    let answer = reply(response).await;

    assert_eq!(answer.get("content-length"), Some("1234"));
    assert!(answer.body.is_empty() && answer.broken.is_none());
}

#[tokio::test]
async fn trailers_travel_from_chunks_to_http2() {
    let upstream = answers(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    )
    .await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n").await;
    let over_h1 = client.response().await;
    let over_h2 = rig.h2().await.get("/").await;

    assert_eq!(over_h1.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert_eq!(over_h2.trailers.unwrap()["x-sum"], "7");
}

#[tokio::test]
async fn options_pass() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    for target in ["/path", "*"] {
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(client.response().await.status, 200);
    }

    let lines: Vec<String> = upstream.requests().iter().map(|request| request.head.line.clone()).collect();
    assert_eq!(lines, ["OPTIONS /path HTTP/1.1", "OPTIONS * HTTP/1.1"]);
}

#[tokio::test]
async fn answer_without_a_length_ends_with_its_connection() {
    let upstream = Upstream::playing(|mut peer, _| async move {
        peer.request().await;
        peer.send("HTTP/1.0 200 OK\r\n\r\nall there is").await;
    })
    .await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    let over_h1 = rig.get("/").await;
    let over_h2 = rig.h2().await.get("/").await;

    assert_eq!((over_h1.text().as_str(), over_h1.whole), ("all there is", true));
    assert_eq!(over_h1.get("transfer-encoding").as_deref(), Some("chunked"));
    assert_eq!(over_h2.body, b"all there is");
    assert!(over_h2.broken.is_none());
}

#[tokio::test]
async fn statuses_without_content_have_none() {
    for (bytes, status) in [
        (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], 204),
        (b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n", 304),
    ] {
        let upstream = answers(bytes).await;
        let rig = Rig::setup().endpoint(&upstream).start().await;
        let mut client = rig.client().await;

        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(client.response().await.status, status);
        }
        let answer = rig.h2().await.get("/").await;

        assert_eq!(answer.status.as_u16(), status);
        assert!(answer.body.is_empty() && answer.broken.is_none());
    }
}

#[tokio::test]
async fn client_that_goes_away_in_a_response_frees_the_endpoint() {
    let upstream = Upstream::playing(|mut peer, seen| async move {
        let request = peer.request().await.unwrap();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome").await;
        seen.note(request);
        peer.rest().await;
    })
    .await;
    let rig = Rig::setup().endpoint(&upstream).pool("max_in_flight = 1").start().await;
    let mut client = rig.client().await;
    client.send("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.response_head().await;

    drop(client);

    rig.status_where("the endpoint is free", |status| status["pools"][0]["endpoints"][0]["in_flight"] == 0).await;
    assert_eq!(rig.record("/gone").await["end"], "CD");
}
