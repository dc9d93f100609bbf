//! HTTP/3 connections over time: cancelled, drained, reloaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{Method, StatusCode};
use sluicegate::h3::frame;

use crate::rig::h3::{reply, request};
use crate::rig::rough::{self, Outcome, Rough, framed};
use crate::rig::upstream::named;
use crate::rig::{Gate, H3, Rig, Upstream, soon};
use crate::websockets::echo;

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

async fn rig(upstream: &Upstream) -> Rig {
    Rig::setup().secure("http3 = true").endpoint(upstream).start().await
}

#[tokio::test]
async fn client_that_stops_a_request_frees_the_endpoint_at_once() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let rig = rig(&upstream).await;
    let mut client = rig.h3().await;
    let mut stream = client.start(request(Method::GET, "/stopped")).await;
    stream.finish().await.unwrap();
    upstream.received(1).await;

    stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);

    rig.status_where("the endpoint is free", |status| status["pools"][0]["endpoints"][0]["in_flight"] == 0).await;
    let end = rig.record("/stopped").await["end"].as_str().unwrap().to_owned();
    assert!(end.starts_with('C'), "{end}");
    // One for the script that was left alone.
    gate.let_pass(2);
    assert_eq!(client.get("/next").await.status, StatusCode::OK);
}

#[tokio::test]
async fn client_that_resets_its_upload_frees_what_it_took() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&upstream).await;
    let mut client = rig.h3().await;
    let mut head = request(Method::POST, "/reset");
    head.headers_mut().insert("expect", "100-continue".parse().unwrap());
    let mut stream = client.start(head).await;
    // Now the request has been taken up.
    assert_eq!(soon("an interim answer", stream.recv_response()).await.unwrap().status(), 100);
    stream.send_data(Bytes::from(vec![0; 100_000])).await.unwrap();

    stream.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED);

    let record = rig.record("/reset").await;
    assert!(record["end"].as_str().unwrap().starts_with('C'), "{record}");
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn answer_that_breaks_off_never_looks_complete() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::playing(move |mut peer, _| {
        let gate = held.clone();
        async move {
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
            gate.pass().await;
        }
    })
    .await;
    let rig = rig(&upstream).await;
    let mut client = rig.h3().await;
    let mut stream = client.start(request(Method::GET, "/torn")).await;
    stream.finish().await.unwrap();
    soon("a head", stream.recv_response()).await.unwrap();
    assert_eq!(soon("a piece", stream.recv_data()).await.unwrap().unwrap().remaining(), 5);

    gate.let_pass(1);

    let broken = format!("{:?}", soon("the end", stream.recv_data()).await.err().expect("a reset"));
    // RFC 9114 §8.1: H3_INTERNAL_ERROR.
    assert!(broken.contains("H3_INTERNAL_ERROR") || broken.contains("258"), "{broken}");
}

#[tokio::test]
async fn endpoint_is_held_back_by_a_client_that_does_not_read() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let upstream = Upstream::playing(move |mut peer, _| {
        let sent = Arc::clone(&counted);
        async move {
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 52428800\r\n\r\n").await;
            let block = vec![b'x'; 1 << 20];
            for _ in 0..50 {
                if peer.try_send(&block).await.is_err() {
                    return;
                }
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    let rig = rig(&upstream).await;
    let mut client = rig.h3().await;
    let mut stream = client.start(request(Method::GET, "/large")).await;
    stream.finish().await.unwrap();
    soon("a head", stream.recv_response()).await.unwrap();

    for _ in 0..20 {
        rig.status().await;
    }

    assert!(sent.load(Ordering::Relaxed) < 30, "50 MiB went into memory");
    let mut received = 0;
    soon("the whole body", async {
        while let Some(piece) = stream.recv_data().await.unwrap() {
            received += piece.remaining();
        }
    })
    .await;
    assert_eq!(received, 52_428_800);
}

#[tokio::test]
async fn drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let mut rig = rig(&upstream).await;
    let mut client = rig.h3().await;
    let mut held = client.start(request(Method::GET, "/held")).await;
    held.finish().await.unwrap();
    upstream.received(1).await;
    let mut idle = rig.h3().await;
    let mut other = idle.start(request(Method::GET, "/other")).await;
    other.finish().await.unwrap();
    upstream.received(2).await;

    rig.signal("TERM").await;
    // Both steps of the goodbye are over once new streams are rejected, by the client's library or by the proxy.
    let refused = async {
        loop {
            let Ok(mut stream) = client.try_start(request(Method::GET, "/late")).await else { return };
            drop(stream.finish().await);
            match tokio::time::timeout(Duration::from_millis(100), stream.recv_response()).await {
                Ok(Err(error)) => {
                    let error = format!("{error:?}");
                    assert!(error.contains("REJECTED") || error.contains("267") || error.contains("0x10b"), "{error}");
                    return;
                }
                // Taken before the goodbye was final: to be finished as well.
                _ => gate.let_pass(1),
            }
        }
    };
    soon("requests to be rejected", refused).await;
    assert!(rig.runs());
    assert!(H3::connect(rig.secure, rig.pki.client("h3", false)).await.is_err(), "a new connection was taken");
    gate.let_pass(10);

    assert_eq!(reply(&mut held).await.unwrap().body, b"held");
    assert_eq!(reply(&mut other).await.unwrap().body, b"held");
    assert_eq!(rig.ended().await.code(), Some(0));
    assert_eq!(rig.record("/held").await["end"], "--");
    let error = format!("{:?}", client.ended().await);
    assert!(error.contains("H3_NO_ERROR") || error.contains("256") || error.contains("0x100"), "{error}");
}

/// The stream numbers in the goodbyes on a control stream, as far as it has come.
fn goodbyes(mut stream: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    if stream.is_empty() {
        return found;
    }
    assert_eq!(frame::take_integer(&mut stream), Some(0), "a control stream");
    while let (Some(kind), Some(length)) = (frame::take_integer(&mut stream), frame::take_integer(&mut stream)) {
        let Some((mut payload, rest)) = stream.split_at_checked(usize::try_from(length).unwrap()) else { break };
        stream = rest;
        if kind == frame::GOAWAY {
            found.push(frame::take_integer(&mut payload).unwrap());
        }
    }
    found
}

#[tokio::test]
async fn stream_that_the_goodbye_excludes_is_rejected_on_the_wire() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let mut rig = rig(&upstream).await;
    // A client that does not heed goodbyes.
    let mut client = Rough::connect(&rig, &rough::control()).await;
    let mut told = soon("a control stream", client.quic.accept_uni()).await.unwrap();
    let mut held = client.send(&rough::head(&rough::GOOD), true).await;
    upstream.received(1).await;

    rig.signal("TERM").await;
    let mut heard = Vec::new();
    while goodbyes(&heard).len() < 2 {
        let chunk = soon("two goodbyes", told.read_chunk(usize::MAX, true)).await.unwrap();
        heard.extend_from_slice(&chunk.expect("a control stream never ends").bytes);
    }
    let late = client.good().await;
    gate.let_pass(1);

    // RFC 9114 §5.2: first the largest number of a request stream, then that of the first one not taken.
    assert_eq!(goodbyes(&heard), [(1 << 62) - 4, 4]);
    assert_eq!(late, Outcome::Reset(0x10b), "H3_REQUEST_REJECTED");
    assert_eq!(rough::outcome(&mut held).await, Outcome::Status(200));
    assert_eq!(rig.ended().await.code(), Some(0));
    assert_eq!(upstream.requests().len(), 1, "what is rejected was not forwarded");
}

#[tokio::test]
async fn answers_over_tcp_take_the_alternative_back_in_a_drain() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let mut rig = rig(&upstream).await;
    let mut client = rig.secure_client().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;

    rig.signal("TERM").await;
    rig.event("phase entered").await;
    rig.status_where("the drain", |status| status["phase"] == "draining").await;
    gate.let_pass(1);

    assert_eq!(client.response().await.get("alt-svc").as_deref(), Some("clear"));
    drop(client);
    assert_eq!(rig.ended().await.code(), Some(0));
}

#[tokio::test]
async fn deadline_of_a_drain_is_hard() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let mut rig =
        Rig::setup().process("drain_timeout = \"500ms\"").secure("http3 = true").endpoint(&upstream).start().await;
    let mut client = rig.h3().await;
    let mut held = client.start(request(Method::GET, "/held")).await;
    held.finish().await.unwrap();
    upstream.received(1).await;

    rig.signal("TERM").await;

    assert!(reply(&mut held).await.is_err());
    rig.ended().await;
    assert!(rig.record("/held").await["end"].as_str().unwrap() != "--");
}

#[tokio::test]
async fn reload_and_new_certificate_touch_no_connection_and_are_seen_by_new_ones() {
    let gate = Gate::closed();
    let upstream = gated(&gate).await;
    let mut rig = rig(&upstream).await;
    let mut client = rig.h3().await;
    let mut held = client.start(request(Method::GET, "/held")).await;
    held.finish().await.unwrap();
    // And one that is still being sent.
    let mut upload = client.start(request(Method::POST, "/upload")).await;
    upload.send_data(Bytes::from(vec![1; 100_000])).await.unwrap();
    upstream.received(1).await;

    // Another certificate and another setting.
    let next = crate::rig::Pki::new();
    next.write(rig.directory.path());
    rig.write_config(&rig.config().replace("http3 = true", "http3 = { advertised_port = 444 }"));
    rig.event("configuration loaded").await;
    let old = std::mem::replace(&mut rig.pki, next);
    // Trusted only if it shows the new one; both files may not have been seen in one reload.
    let mut new = soon("the new certificate over QUIC", async {
        loop {
            if let Ok(client) = H3::connect(rig.secure, rig.pki.client("h3", false)).await {
                return client;
            }
        }
    })
    .await;
    gate.let_pass(10);
    upload.send_data(Bytes::from(vec![2; 100_000])).await.unwrap();
    upload.finish().await.unwrap();

    assert_eq!(reply(&mut held).await.unwrap().body, b"held");
    assert_eq!(reply(&mut upload).await.unwrap().body, b"held");
    assert!(upstream.requests().iter().any(|request| request.body == [[1; 100_000], [2; 100_000]].concat()));
    assert_eq!(client.get("/after").await.body, b"held");
    assert_eq!(new.get("/new").await.body, b"held");
    assert_eq!(rig.h2().await.get("/version").await.get("alt-svc"), Some("h3=\":444\"; ma=86400"));
    assert!(H3::connect(rig.secure, old.client("h3", false)).await.is_err(), "the old authority still vouches");
}

/// The request for a WebSocket (RFC 9220 §3).
fn websocket() -> Vec<u8> {
    let mut section = bytes::BytesMut::new();
    sluicegate::h3::qpack::begin(&mut section);
    for (name, value) in [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "test"),
        (":path", "/ws"),
        ("sec-websocket-version", "13"),
        ("origin", "https://test"),
    ] {
        sluicegate::h3::qpack::put_line(&mut section, name, value.as_bytes(), false);
    }
    framed(frame::HEADERS, &section)
}

/// A masked Close (RFC 6455 §5.5.1).
const CLOSE: [u8; 8] = [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2];

#[tokio::test]
async fn websocket_passes_both_ways() {
    let upstream = echo().await;
    let rig = rig(&upstream).await;
    let (_endpoint, quic) = crate::rig::h3::quic(rig.secure, rig.pki.client("h3", false)).await.unwrap();
    let (mut send, mut recv) = quic.open_bi().await.unwrap();

    send.write_all(&websocket()).await.unwrap();
    // A short masked text frame, "hi" (RFC 6455 §5.2).
    let text = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
    send.write_all(&framed(frame::DATA, &text)).await.unwrap();
    send.write_all(&framed(frame::DATA, &CLOSE)).await.unwrap();
    send.finish().unwrap();
    let answer = soon("the end of the tunnel", recv.read_to_end(10_000)).await.unwrap();

    let echoed = [0x81, 2, b'h', b'i'];
    assert!(answer.windows(4).any(|window| window == echoed), "{answer:x?}");
    let end = rig.record_where("its end", |record| record["kind"] == "tunnel_end").await;
    assert_eq!((&end["messages_in"], &end["messages_out"]), (&1.into(), &1.into()));
    assert_eq!(upstream.requests()[0].head.get("upgrade").as_deref(), Some("websocket"));
}

#[tokio::test]
async fn websocket_that_is_read_below_the_least_rate_of_responses_stays_open() {
    let upstream = echo().await;
    let secure = "http3 = true\ntimeouts = { write_idle = \"500ms\" }\nlimits = { min_response_rate = \"1MiB\" }";
    let rig = Rig::setup().secure(secure).endpoint(&upstream).start().await;
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(quinn::VarInt::from_u32(4_096));
    let tls = rig.pki.client("h3", false);
    let (_endpoint, quic) = crate::rig::h3::quic_with(rig.secure, tls, transport).await.unwrap();
    let (mut send, mut recv) = quic.open_bi().await.unwrap();
    // One message of 60,000 bytes under the mask 0.
    let message = [&[0x82, 0xfe][..], &60_000_u16.to_be_bytes(), &[0; 4], &[7; 60_000]].concat();

    send.write_all(&websocket()).await.unwrap();
    send.write_all(&framed(frame::DATA, &message)).await.unwrap();
    // Three spans of the clock and more, far below the rate.
    let since = tokio::time::Instant::now();
    let mut sevens = 0;
    while sevens < 60_000 {
        let piece = soon("a piece", recv.read_chunk(4_096, true)).await.unwrap().expect("an open tunnel");
        sevens += piece.bytes.iter().filter(|byte| **byte == 7).count();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    send.write_all(&framed(frame::DATA, &CLOSE)).await.unwrap();
    send.finish().unwrap();
    soon("the end of the tunnel", recv.read_to_end(1_000)).await.unwrap();

    assert!(since.elapsed() > Duration::from_millis(1_400), "it was slow: {:?}", since.elapsed());
    let end = rig.record_where("its end", |record| record["kind"] == "tunnel_end").await;
    assert_eq!((&end["messages_out"], &end["fault"]), (&1.into(), &serde_json::Value::Null));
}
