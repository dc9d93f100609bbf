//! Request bodies: collected before an endpoint is asked, repeated if need be, bounded; or streamed where that is wanted.

use crate::rig::h2::{reply, request};
use crate::rig::upstream::named;
use crate::rig::{Rig, Upstream};

#[tokio::test]
async fn slow_upload_holds_no_endpoint() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut slow = rig.client().await;

    slow.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await;
    assert_eq!(rig.get("/other").await.status, 200);
    assert_eq!(upstream.requests().len(), 1);
    slow.send("def").await;

    assert_eq!(slow.response().await.status, 200);
    let seen = upstream.received(2).await;
    assert_eq!(seen[1].body, b"abcdef");
    assert_eq!(seen[1].head.get("content-length").as_deref(), Some("6"));
}

#[tokio::test]
async fn upload_beyond_its_memory_goes_through_a_file_unchanged() {
    let upstream = Upstream::answering(|request| named(&request.body.len().to_string())).await;
    let setup = Rig::setup().process("temp_dir = \"DIR\"").endpoint(&upstream);
    let rig = setup.rest("[[routes]]\npool = \"app\"\nrequest_buffer = { memory = \"1KiB\" }").start().await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|index| index.to_le_bytes()[index as usize % 3]).collect();
    let mut client = rig.client().await;

    client.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    client.send(&body).await;

    assert_eq!(client.response().await.text(), body.len().to_string());
    assert!(upstream.requests()[0].body == body);
    assert_eq!(rig.record("/upload").await["bytes_in"], body.len());
    rig.status_where("no file is left", |status| status["temp_bytes"] == 0).await;
}

#[tokio::test]
async fn upload_over_http2_arrives_unchanged() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let client = rig.h2().await;

    assert_eq!(client.post("/upload", b"content").await.status, 200);

    let seen = upstream.received(1).await;
    assert_eq!(seen[0].body, b"content");
    assert!(seen[0].head.get("transfer-encoding").is_none());
}

#[tokio::test]
async fn collected_body_is_sent_again_to_the_next_endpoint() {
    let dead = Upstream::nobody().await;
    let alive = Upstream::named("alive").await;
    let setup = Rig::setup().endpoint_at(dead, 1).endpoint(&alive);
    let rig = setup.rest("[[routes]]\npool = \"app\"\nrequest_buffer = { memory = \"1KiB\" }").start().await;
    let body = "x".repeat(50_000);

    for _ in 0..2 {
        let mut client = rig.client().await;
        client.send(format!("POST /again HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        assert_eq!(client.response().await.text(), "alive");
    }

    assert!(alive.requests().iter().all(|request| request.body == body.as_bytes()));
}

#[tokio::test]
async fn body_that_says_it_is_too_large_is_refused_before_it_is_sent() {
    let upstream = Upstream::named("a").await;
    let setup = Rig::setup().endpoint(&upstream);
    let rig = setup.rest("[[routes]]\npool = \"app\"\nmax_body = \"1KiB\"").start().await;
    let mut client = rig.client().await;

    client.send("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n").await;
    let response = client.response().await;

    assert_eq!(response.status, 413);
    let record = rig.record("/large").await;
    assert_eq!((&record["fault"], &record["end"]), (&"body_too_large".into(), &"CR".into()));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn body_that_turns_out_too_large_is_refused() {
    let upstream = Upstream::named("a").await;
    let setup = Rig::setup().endpoint(&upstream);
    let rig = setup.rest("[[routes]]\npool = \"app\"\nmax_body = \"1KiB\"").start().await;
    let mut client = rig.client().await;

    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    client
        .send(format!("POST /large HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"))
        .await;

    assert_eq!(client.response().await.status, 413);
    assert_eq!(upstream.connections(), 0);
    assert_eq!(rig.h2().await.post("/h2", &[b'x'; 2000]).await.status, 413);
}

#[tokio::test]
async fn client_that_asks_first_is_told_to_go_on() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("POST /ask HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.response_head().await.status, 100);
    client.send("abc").await;

    assert_eq!(client.response().await.status, 200);
    let seen = upstream.received(1).await;
    assert_eq!(seen[0].body, b"abc");
    assert!(seen[0].head.get("expect").is_none());
}

#[tokio::test]
async fn upload_streams_where_it_is_not_collected() {
    let upstream = Upstream::playing(|mut peer, _| async move {
        peer.head().await;
        let first = peer.exactly(3).await;
        assert_eq!(first, b"abc");
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        let second = peer.exactly(3).await;
        assert_eq!(second, b"def");
        peer.send("3\r\ndef\r\n0\r\n\r\n").await;
    })
    .await;
    let rest = "[[routes]]\npool = \"app\"\nrequest_buffer = false";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;
    let mut client = rig.client().await;

    client.send("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await;
    // The answer begins while the request is still on its way.
    assert_eq!(client.response_head().await.status, 200);
    assert_eq!(client.exactly(8).await, b"3\r\nabc\r\n");
    client.send("def").await;

    assert_eq!(client.exactly(13).await, b"3\r\ndef\r\n0\r\n\r\n");
}

#[tokio::test]
async fn client_that_goes_away_in_its_upload_costs_no_endpoint() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await;
    drop(client);

    let record = rig.record("/gone").await;
    assert_eq!((&record["fault"], &record["end"]), (&"client_gone".into(), &"CR".into()));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn chunked_upload_reaches_the_endpoint_with_its_length() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        .await;
    client.response().await;

    // Collected, so its length is known; WSGI applications like it better.
    let seen = upstream.received(1).await;
    assert_eq!(seen[0].body, b"abcde");
    assert_eq!(seen[0].head.get("content-length").as_deref(), Some("5"));
}

#[tokio::test]
async fn read_whose_end_comes_after_its_head_has_no_type_and_needs_none() {
    let upstream = Upstream::named("a").await;
    let rest = "[[routes]]\npool = \"app\"\ncontent_types = [\"application/json\"]";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;
    let client = rig.h2().await;
    let get = async |content: &'static [u8]| {
        let (response, mut stream) = client.start(request(http::Method::GET, "/x"), false).await;
        stream.send_data(bytes::Bytes::from_static(content), true).unwrap();
        reply(response).await
    };

    assert_eq!(get(b"").await.status, 200);
    assert_eq!(get(b"content").await.status, 415);
    assert_eq!(upstream.requests().len(), 1);
}
