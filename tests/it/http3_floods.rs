//! What is allowed once and not a thousand times: floods over HTTP/3 and QUIC cost neither memory nor an endpoint.
//!
//! How floods are bounded in CPU time: whatever a client can repeat at little cost to itself is counted, and the count ends
//! the connection. Frames and streams of unknown types and padding frames add up to a MiB without a request or content
//! in it (`serve::h3::tally`); packets that carry nothing to a MiB in five seconds on an idle connection; malformed
//! requests to `http3.max_error_resets`; requests that the client resets to four times that, or as many times those that
//! were answered. New connections are bounded by `http3.max_incoming`, `tls.max_handshakes`, Retry and the caps. Memory
//! and CPU time of the process are measured and printed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, VarInt};
use sluicegate::h3::frame;
use tokio::net::UdpSocket;

use crate::rig::h3::quic_with;
use crate::rig::rough::{GOOD, Outcome, Rough, and, announced, closed, control, framed, head, outcome};
use crate::rig::{Cost, Gate, Rig, Upstream, soon};

async fn rig() -> (Upstream, Rig) {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;
    (upstream, rig)
}

/// Memory that a crowd of hostile streams may take: what many of them would take if any was kept would be far more.
const ALLOWED: usize = 24 << 20;

/// CPU time that a crowd may take: of a debug build on a machine that is busy with other tests, many times what it does.
const CPU_ALLOWED: Duration = Duration::from_secs(10);

/// Says what `what` has cost since `before`, and that it was not too much.
#[track_caller]
fn assert_cheap(rig: &Rig, what: &str, before: Cost) {
    let now = rig.cost();
    let (memory, cpu) = (now.memory.saturating_sub(before.memory), now.cpu.saturating_sub(before.cpu));
    eprintln!("{what}: {} KiB, {} ms of CPU", memory >> 10, cpu.as_millis());
    assert!(memory < ALLOWED, "{what}: {memory} bytes");
    assert!(cpu < CPU_ALLOWED, "{what}: {cpu:?}");
}

#[tokio::test]
async fn announcements_cost_no_memory() {
    let (_upstream, rig) = rig().await;
    Rough::connect(&rig, &control()).await.good().await;
    let before = rig.cost();
    let mut clients = Vec::new();

    for _ in 0..10 {
        let mut client = Rough::connect(&rig, &control()).await;
        for _ in 0..100 {
            // Each announces a head of a terabyte, and sends what windows allow of it.
            let mut recv = client.send(&announced(frame::HEADERS, 1 << 40), false).await;
            drop(client.open.last_mut().unwrap().write(&[0; 60_000]).await);
            assert_eq!(outcome(&mut recv).await, Outcome::Status(431));
        }
        clients.push(client);
    }

    assert_cheap(&rig, "1,000 announcements", before);
}

#[tokio::test]
async fn heads_that_never_end_cost_what_was_sent() {
    let (_upstream, rig) = rig().await;
    Rough::connect(&rig, &control()).await.good().await;
    let before = rig.cost();
    let mut clients = Vec::new();

    for _ in 0..4 {
        let mut client = Rough::connect(&rig, &control()).await;
        for _ in 0..90 {
            client.send(&[announced(frame::HEADERS, 100_000), vec![0; 10]].concat(), false).await;
        }
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.good().await, Outcome::Status(200));
    }

    assert_cheap(&rig, "360 unfinished heads", before);
}

#[tokio::test]
async fn answers_that_nobody_reads_cost_a_window_each_connection() {
    let upstream = Upstream::playing(|mut peer, _| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await;
        let block = vec![b'x'; 1 << 20];
        while peer.try_send(&block).await.is_ok() {}
    })
    .await;
    let rig = Rig::setup().secure("http3 = { send_buffer = \"1MiB\" }").endpoint(&upstream).start().await;
    drop(rig.status().await);
    let before = rig.cost();
    let mut transport = quinn::TransportConfig::default();
    // Opens all windows and reads nothing.
    transport.stream_receive_window(VarInt::from_u32(1 << 30)).receive_window(VarInt::from_u32(1 << 30));
    let (endpoint, quic) = quic_with(rig.secure, rig.pki.client("h3", false), transport).await.unwrap();
    // And acknowledges nothing either, from now on.
    let mut client = Rough::over(endpoint, quic);
    client.tell(&control()).await;

    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(client.send(&head(&GOOD), true).await);
    }
    upstream.received(0).await;
    for _ in 0..20 {
        rig.status().await;
    }

    assert_cheap(&rig, "50 unread answers on a connection", before);
    client.quic.close(VarInt::from_u32(0x100), b"");
}

#[tokio::test]
async fn client_that_only_resets_is_sent_away_and_costs_no_endpoint() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::playing(move |mut peer, seen| {
        let gate = held.clone();
        async move {
            while let Some(request) = peer.request().await {
                seen.note(request);
                gate.pass().await;
            }
        }
    })
    .await;
    let rig = Rig::setup().secure("http3 = { max_error_resets = 20 }").endpoint(&upstream).start().await;
    let client = Rough::connect(&rig, &control()).await;
    let before = rig.cost();

    let flood = async {
        loop {
            let (mut send, mut recv) = client.quic.open_bi().await?;
            drop(send.write_all(&head(&GOOD)).await);
            drop(send.reset(VarInt::from_u32(0x10c)));
            drop(recv.stop(VarInt::from_u32(0x10c)));
        }
    };
    let error: Result<(), ConnectionError> = soon("the end of the flood", flood).await;

    assert_eq!(closed(&error.unwrap_err()), 0x107);
    rig.status_where("free endpoints", |status| status["pools"][0]["endpoints"][0]["in_flight"] == 0).await;
    assert_cheap(&rig, "a connection that only resets", before);
}

#[tokio::test]
async fn flood_of_what_means_nothing_ends_the_connection() {
    let (_upstream, rig) = rig().await;
    let mut client = Rough::connect(&rig, &control()).await;
    let grease = framed(0x21, &[0; 10_000]);
    let before = rig.cost();

    let mut stream = client.open.pop().unwrap();
    let mut taken = 0;
    while taken < 400 && stream.write_all(&grease).await.is_ok() {
        taken += 1;
    }

    assert_eq!(client.ended().await, 0x107);
    assert!(taken < 400, "4 MB were read before anybody minded");
    assert_cheap(&rig, "a connection of unknown frames", before);
}

#[tokio::test]
async fn flood_of_streams_that_mean_nothing_ends_the_connection() {
    let (_upstream, rig) = rig().await;
    let client = Rough::connect(&rig, &control()).await;
    let before = rig.cost();

    let flood = async {
        loop {
            let mut stream = client.quic.open_uni().await?;
            drop(stream.write_all(&[0x21]).await);
            drop(stream.finish());
        }
    };
    let error: Result<(), ConnectionError> = soon("the end of the flood", flood).await;

    assert_eq!(closed(&error.unwrap_err()), 0x107);
    assert_cheap(&rig, "a connection of unknown streams", before);
}

#[tokio::test]
async fn flood_of_malformed_requests_ends_the_connection() {
    let (upstream, rig) = rig().await;
    let client = Rough::connect(&rig, &control()).await;
    let bad = head(&and(&[(b"connection", b"close")]));
    let mut kept = Vec::new();
    let before = rig.cost();

    let flood = async {
        loop {
            let (mut send, recv) = client.quic.open_bi().await?;
            drop(send.write_all(&bad).await);
            drop(send.finish());
            // Kept, since it would be stopped otherwise, and count as given up.
            kept.push(recv);
        }
    };
    let error: Result<(), ConnectionError> = soon("the end of the flood", flood).await;

    assert_eq!(closed(&error.unwrap_err()), 0x107);
    assert!(upstream.requests().is_empty());
    assert_cheap(&rig, "a connection of malformed requests", before);
}

#[tokio::test]
async fn sections_that_unfold_to_much_stop_at_the_bound() {
    let (_upstream, rig) = rig().await;
    let mut client = Rough::connect(&rig, &control()).await;
    client.good().await;
    // A static entry of 84 bytes in two: 120,000 bytes would become five million.
    let bomb = framed(frame::HEADERS, &[&[0, 0][..], &[0xff, 0x16].repeat(60_000)].concat());
    let before = rig.cost();

    for _ in 0..50 {
        assert_eq!(client.ask(&bomb, true).await, Outcome::Status(431));
    }

    assert_cheap(&rig, "50 sections that would unfold to 5 MB", before);
}

#[tokio::test]
async fn idle_connections_take_little() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true\nmax_connections_per_client = 1000").endpoint(&upstream).start().await;
    Rough::connect(&rig, &control()).await.good().await;
    let before = rig.cost();
    let mut idle = Vec::new();

    for _ in 0..200 {
        idle.push(Rough::connect(&rig, &control()).await);
    }
    // Behind all of them.
    assert_eq!(idle.last_mut().unwrap().good().await, Outcome::Status(200));

    assert_cheap(&rig, "200 idle connections", before);
    drop(idle);
}

/// Says hello so many times and hears no answer, as if each came from an address that was made up.
async fn hellos(rig: &Rig, times: usize) {
    let (front, back) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let (to, proxy) = (front.local_addr().unwrap(), rig.secure);
    let carrying = tokio::spawn(async move {
        let mut buf = [0; 2000];
        while let Ok((length, _)) = front.recv_from(&mut buf).await {
            drop(back.send_to(&buf[..length], proxy).await);
        }
    });
    let mut tls = rig.pki.client("h3", false);
    tls.resumption = rustls::client::Resumption::disabled();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    for _ in 0..times {
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let connecting = endpoint.connect_with(config.clone(), to, "localhost").unwrap();
        // The first datagrams leave at once.
        assert!(tokio::time::timeout(Duration::from_millis(5), connecting).await.is_err());
    }
    carrying.abort();
}

#[tokio::test]
async fn hellos_from_nowhere_cost_a_handshake_each_and_next_to_nothing_once_addresses_must_be_proven() {
    let upstream = Upstream::named("a").await;
    let (asked, unasked) = ("http3 = { retry_above = 0 }", "http3 = true");
    let mut spent = Vec::new();

    for (what, secure) in [("200 hellos", unasked), ("200 hellos that must prove their address", asked)] {
        let rig = Rig::setup().secure(secure).endpoint(&upstream).start().await;
        Rough::connect(&rig, &control()).await.good().await;
        let before = rig.cost();
        hellos(&rig, 200).await;
        // One more that stays is served behind all of them.
        assert_eq!(Rough::connect(&rig, &control()).await.good().await, Outcome::Status(200));
        assert_cheap(&rig, what, before);
        spent.push(rig.cost().cpu.saturating_sub(before.cpu));
    }

    assert!(spent[1] < spent[0], "{spent:?}");
}
