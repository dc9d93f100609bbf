//! A client of QUIC whose address changes loses nothing, whoever brings its datagrams to the worker that has it.

use bytes::{Buf as _, Bytes};
use http::{Method, StatusCode};

use crate::rig::h3::{reply, request};
use crate::rig::{H3, Rig, Upstream, field, soon};

const FORWARDED: &str = "sluicegate_quic_datagrams_forwarded_total{listener=\"secure\"}";

/// Moves a client to another port, as a NAT would.
fn moved(client: &H3) {
    let before = client.endpoint.local_addr().unwrap();
    client.endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    assert_ne!(client.endpoint.local_addr().unwrap(), before);
}

async fn four_workers(secure: &str, upstream: &Upstream) -> Rig {
    Rig::setup().process("workers = 4").secure(secure).endpoint(upstream).start().await
}

/// An endpoint with much to say, and what that is.
async fn talkative() -> (Upstream, Vec<u8>) {
    let body: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let answer =
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(), body.clone()].concat();
    (Upstream::answering(move |_| answer.clone()).await, body)
}

/// Downloads all of it, from nine ports one after the other.
async fn download_on_the_move(rig: &Rig, expected: &[u8]) {
    let mut client = rig.h3().await;
    let mut stream = client.start(request(Method::GET, "/download")).await;
    stream.finish().await.unwrap();
    soon("a head", stream.recv_response()).await.unwrap();
    let mut received = Vec::new();
    let mut moves = 0;

    while let Some(mut piece) = soon("a piece", stream.recv_data()).await.unwrap() {
        received.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        // Eight moves: by address the kernel sends at least one to another of four workers, but for once in 65,536.
        if received.len() > (moves + 1) * 900_000 && moves < 8 {
            moved(&client);
            moves += 1;
        }
    }

    assert!(received == expected, "{} of {}", received.len(), expected.len());
    assert_eq!(moves, 8);
    let record = rig.record("/download").await;
    assert_eq!((&record["client"], &record["end"]), (&"127.0.0.1".into(), &"--".into()));
}

#[tokio::test]
async fn kernel_brings_the_datagrams_of_a_client_that_changes_its_port_in_a_download_to_its_worker() {
    let (upstream, expected) = talkative().await;
    let rig = four_workers("http3 = true", &upstream).await;

    download_on_the_move(&rig, &expected).await;

    assert_eq!(rig.metric(FORWARDED).await, 0.0);
    assert_eq!(field(&rig.event("listening for HTTP/3").await, "steering"), "kernel");
    assert_eq!(rig.status().await["listeners"][1]["quic_steering"], "kernel");
    assert!(rig.status().await["listeners"][0]["quic_steering"].is_null(), "there is no QUIC on the plain listener");
}

#[tokio::test]
async fn without_the_kernel_workers_hand_over_what_belongs_to_others_and_the_download_loses_nothing() {
    let (upstream, expected) = talkative().await;
    let rig = four_workers("http3 = { kernel_steering = false }", &upstream).await;

    download_on_the_move(&rig, &expected).await;

    assert!(rig.metric(FORWARDED).await > 0.0);
    assert_eq!(field(&rig.event("listening for HTTP/3").await, "steering"), "process");
    assert_eq!(rig.status().await["listeners"][1]["quic_steering"], "process");
}

#[tokio::test]
async fn client_that_changes_its_port_in_an_upload_loses_nothing() {
    for secure in ["http3 = true", "http3 = { kernel_steering = false }"] {
        let upstream = Upstream::named("a").await;
        let rig = four_workers(secure, &upstream).await;
        let mut client = rig.h3().await;
        let before = client.endpoint.local_addr().unwrap().port();
        let body: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut stream = client.start(request(Method::POST, "/upload")).await;

        for piece in body.chunks(500_000) {
            soon("room for a piece", stream.send_data(Bytes::copy_from_slice(piece))).await.unwrap();
            moved(&client);
        }
        stream.finish().await.unwrap();

        assert_eq!(reply(&mut stream).await.unwrap().status, StatusCode::OK);
        assert!(upstream.received(1).await[0].body == body);
        let record = rig.record("/upload").await;
        assert_eq!(record["client_port"], before, "the record keeps the identity that the connection began with");
    }
}
