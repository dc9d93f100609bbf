//! WebSockets pass unchanged, over HTTP/1 and HTTP/2, and end politely.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use tokio_tungstenite::WebSocketStream;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message};

use crate::rig::h2::{reply, request};
use crate::rig::peer::Io;
use crate::rig::{Rig, Upstream, soon};

/// An endpoint that echoes messages.
pub(crate) async fn echo() -> Upstream {
    Upstream::playing(|mut peer, seen| async move {
        let Some(request) = peer.request().await else { return };
        let key = request.head.get("sec-websocket-key").unwrap_or_default();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        seen.note(request);
        peer.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ))
        .await;
        let role = tungstenite::protocol::Role::Server;
        let mut socket = WebSocketStream::from_raw_socket(peer.into_io(), role, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// A WebSocket on `path` over HTTP/1; what the proxy answered when there is none.
async fn open(rig: &Rig, path: &str, origin: Option<&str>) -> Result<WebSocketStream<Box<dyn Io>>, u16> {
    let io = rig.client().await.into_io();
    let mut head = tungstenite::client::IntoClientRequest::into_client_request(format!("ws://test{path}")).unwrap();
    if let Some(origin) = origin {
        head.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match soon("a WebSocket", tokio_tungstenite::client_async(head, io)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn next(socket: &mut WebSocketStream<Box<dyn Io>>) -> Message {
    soon("a message", socket.next()).await.expect("a message").expect("a good one")
}

#[tokio::test]
async fn messages_pass_both_ways_over_http1() {
    let upstream = echo().await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut socket = open(&rig, "/ws?token=SECRET", None).await.unwrap();

    for message in [Message::text("hello"), Message::binary(vec![7; 200_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await, message);
    }
    rig.status_where("a tunnel", |status| status["pools"][0]["endpoints"][0]["tunnels"] == 1).await;
    socket.close(None).await.unwrap();
    while socket.next().await.is_some_and(|message| message.is_ok()) {}

    let start = rig.record_where("its start", |record| record["kind"] == "tunnel_start").await;
    let end = rig.record_where("its end", |record| record["kind"] == "tunnel_end").await;
    assert_eq!((&start["status"], &start["path"]), (&101.into(), &"/ws?token=***".into()));
    assert_eq!(start["request_id"], end["request_id"]);
    assert_eq!((&end["messages_in"], &end["messages_out"]), (&2.into(), &2.into()));
    let head = &upstream.requests()[0].head;
    assert_eq!(head.get("upgrade").as_deref(), Some("websocket"));
    assert_eq!(head.get("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

/// A short masked text frame (RFC 6455 §5.2).
fn text_frame(text: &[u8]) -> Bytes {
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 1, 2, 3, 4];
    frame.extend(text.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame.into()
}

#[tokio::test]
async fn messages_pass_both_ways_over_http2() {
    let upstream = echo().await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let client = rig.h2().await;
    // The settings that allow it come first (RFC 8441 §3).
    client.get("/version").await;
    let mut head = request(Method::CONNECT, "/ws");
    head.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    head.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    assert!(client.ready().await.is_extended_connect_protocol_enabled());

    let (response, mut send) = client.start(head, false).await;
    let response = soon("the answer", response).await.unwrap();
    assert_eq!(response.status(), 200);
    send.send_data(text_frame(b"hello"), false).unwrap();
    let mut stream = response.into_body();
    let mut echoed = Vec::new();
    while echoed.len() < 7 {
        echoed.extend_from_slice(&soon("the echo", stream.data()).await.unwrap().unwrap());
    }

    assert_eq!(echoed, b"\x81\x05hello");
    let seen = upstream.requests();
    assert_eq!(seen[0].head.line, "GET /ws HTTP/1.1");
    assert!(seen[0].head.get("sec-websocket-key").is_some());
    let start = rig.record_where("its start", |record| record["kind"] == "tunnel_start").await;
    assert_eq!(start["protocol"], "h2");
}

#[tokio::test]
async fn tunnel_of_an_unknown_protocol_is_refused_with_a_record() {
    let upstream = echo().await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let client = rig.h2().await;
    client.get("/version").await;
    let mut head = request(Method::CONNECT, "/udp");
    head.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));
    assert!(client.ready().await.is_extended_connect_protocol_enabled());

    let (response, _send) = client.start(head, false).await;
    let answer = reply(response).await;

    assert_eq!(answer.status, 501);
    let record = rig.record("/udp").await;
    assert_eq!((&record["fault"], &record["status"]), (&"unknown_protocol".into(), &501.into()));
    let sample = "sluicegate_faults_total{listener=\"secure\",code=\"unknown_protocol\"}";
    assert_eq!(rig.metric(sample).await, 1.0);
}

#[tokio::test]
async fn origin_is_checked_where_that_is_wanted() {
    let upstream = echo().await;
    let rest = "[[routes]]\npool = \"app\"\nwebsocket = { origins = [\"same\", \"https://other.example.com\"] }";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;

    assert!(open(&rig, "/same", Some("http://test")).await.is_ok());
    assert!(open(&rig, "/listed", Some("https://other.example.com")).await.is_ok());
    assert_eq!(open(&rig, "/evil", Some("https://evil.example.com")).await.err(), Some(403));
    assert_eq!(open(&rig, "/none", None).await.err(), Some(403));

    assert_eq!(rig.record("/evil").await["fault"], "origin_refused");
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn route_may_take_no_tunnels() {
    let upstream = echo().await;
    let rest = "[[routes]]\npool = \"app\"\nwebsocket = false";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;

    assert_eq!(open(&rig, "/ws", None).await.err(), Some(403));
    assert_eq!(rig.record("/ws").await["fault"], "upgrade_refused");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn silent_close_is_a_401_and_not_the_endpoints_fault() {
    // As superset-websocket does with a bad token.
    let upstream = Upstream::playing(|mut peer, _| async move { drop(peer.request().await) }).await;
    let health = "health = { kind = \"tcp\", initially_up = true }";
    let rig = Rig::setup().endpoint(&upstream).pool(health).start().await;

    for _ in 0..5 {
        assert_eq!(open(&rig, "/ws", None).await.err(), Some(401));
    }

    assert_eq!(rig.record("/ws").await["fault"], "tunnel_refused");
    assert_ne!(rig.status().await["pools"][0]["endpoints"][0]["standing"], "down");
}

#[tokio::test]
async fn answer_other_than_a_switch_is_an_ordinary_response() {
    let upstream = Upstream::answering(|_| b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope".to_vec()).await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    assert_eq!(open(&rig, "/ws", None).await.err(), Some(404));

    let record = rig.record("/ws").await;
    assert_eq!((&record["kind"], &record["end"]), (&"exchange".into(), &"--".into()));
}

#[tokio::test]
async fn endpoint_that_does_not_prove_itself_is_refused() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n".to_vec()
    })
    .await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    assert_eq!(open(&rig, "/ws", None).await.err(), Some(502));
    assert_eq!(rig.record("/ws").await["fault"], "upstream_malformed");
}

#[tokio::test]
async fn silent_tunnel_is_ended() {
    let upstream = echo().await;
    let rest = "[[routes]]\npool = \"app\"\nwebsocket = { idle = \"1s\" }";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;
    let mut socket = open(&rig, "/ws", None).await.unwrap();

    while soon("the end", socket.next()).await.is_some_and(|message| message.is_ok()) {}

    rig.record_where("its end", |record| record["kind"] == "tunnel_end").await;
}

#[tokio::test]
async fn drain_says_goodbye_on_tunnels() {
    let upstream = echo().await;
    // Closes are spread over half of the deadline, so that clients do not come back all at once.
    let mut rig = Rig::setup().process("drain_timeout = \"2s\"").endpoint(&upstream).start().await;
    let mut socket = open(&rig, "/ws", None).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    next(&mut socket).await;

    rig.signal("TERM").await;

    let Message::Close(Some(close)) = next(&mut socket).await else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Restart);
    while soon("the end", socket.next()).await.is_some_and(|message| message.is_ok()) {}
    assert_eq!(rig.ended().await.code(), Some(0));
    rig.record_where("its end", |record| record["kind"] == "tunnel_end").await;
}

#[tokio::test]
async fn reload_cuts_no_tunnel() {
    let upstream = echo().await;
    let rig = Rig::setup().process("watch_files = false").endpoint(&upstream).start().await;
    let mut socket = open(&rig, "/ws", None).await.unwrap();
    let before = rig.status().await["generation"].as_u64().unwrap();

    rig.write_config(&rig.config().replace("weight = 1", "weight = 2"));
    rig.signal("HUP").await;
    rig.status_where("the next generation", |status| status["generation"].as_u64() == Some(before + 1)).await;
    socket.send(Message::text("still here")).await.unwrap();

    assert_eq!(next(&mut socket).await, Message::text("still here"));
}

#[tokio::test]
async fn tunnels_of_one_client_are_bounded() {
    let upstream = echo().await;
    let rig = Rig::setup().plain("max_tunnels_per_client = 1").endpoint(&upstream).start().await;

    let socket = open(&rig, "/ws", None).await.unwrap();
    assert_eq!(open(&rig, "/second", None).await.err(), Some(429));
    drop(socket);
    rig.record_where("its end", |record| record["kind"] == "tunnel_end").await;

    assert!(open(&rig, "/third", None).await.is_ok());
    assert_eq!(rig.record("/second").await["fault"], "too_many_tunnels");
}

#[tokio::test]
async fn tunnel_counts_as_load_for_least_connection() {
    let upstreams = [echo().await, echo().await];
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]);
    let rig = setup.pool("strategy = \"least-connection\"").start().await;

    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(open(&rig, "/ws", None).await.unwrap());
    }

    assert_eq!(upstreams.each_ref().map(|upstream| upstream.requests().len()), [2, 2]);
}
