//! What a client may have over all its connections, how slowly it may read, and what becomes of one that floods.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{Method, Request};
use quinn::VarInt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::rig::h2::{reply, request, try_reply};
use crate::rig::h3::quic_with;
use crate::rig::rough::{GOOD, Rough, control, head};
use crate::rig::upstream::named;
use crate::rig::{Gate, H2, H3, Peer, Rig, Upstream, field, soon};

/// Asks and resets as soon as the endpoint has the request, `count` times.
async fn abandon(upstream: &Upstream, send: &mut SendRequest<Bytes>, count: usize) {
    for _ in 0..count {
        let before = upstream.requests().len();
        *send = soon("room for a stream", send.clone().ready()).await.unwrap();
        let (response, mut stream) = send.send_request(request(Method::GET, "/held"), true).unwrap();
        upstream.received(before + 1).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
    }
}

/// Answers at once, but on `/held` never.
async fn endpoint() -> Upstream {
    Upstream::playing(|mut peer, seen| async move {
        while let Some(request) = peer.request().await {
            let held = request.target() == "/held";
            seen.note(request);
            if held {
                peer.rest().await;
                return;
            }
            if peer.try_send(named("a")).await.is_err() {
                return;
            }
        }
    })
    .await
}

fn rapid_resets() -> &'static str {
    "sluicegate_verdicts_total{rule=\"shield.rapid_reset\",action=\"offence\",mode=\"enforced\"}"
}

#[tokio::test]
async fn streams_of_a_client_add_up_over_its_connections_and_protocols() {
    let gate = Gate::closed();
    let upstream = Upstream::held("a", &gate).await;
    let secure = "http3 = true\nmax_streams_per_client = 4";
    let rig = Rig::setup().secure(secure).endpoint(&upstream).start().await;
    let (one, two, mut three) = (rig.h2().await, rig.h2().await, rig.h3().await);

    let mut under_way = Vec::new();
    for (at, connection) in [&one, &one, &two].into_iter().enumerate() {
        under_way.push(connection.start(request(Method::GET, &format!("/{at}")), true).await.0);
        upstream.received(at + 1).await;
    }
    let mut over_h3 = three.start(crate::rig::h3::request(Method::GET, "/3")).await;
    over_h3.finish().await.unwrap();
    upstream.received(4).await;
    let refused = [one.get("/too-many-h2").await.status, two.get("/too-many").await.status];
    let refused_h3 = three.get("/too-many-h3").await;

    assert_eq!((refused, refused_h3.status), ([429.try_into().unwrap(); 2], 429.try_into().unwrap()));
    assert!(refused_h3.get("retry-after").is_some());
    for path in ["/too-many-h2", "/too-many", "/too-many-h3"] {
        let record = rig.record(path).await;
        assert_eq!((&record["fault"], &record["end"]), (&"too_many_streams".into(), &"PR".into()));
    }
    assert_eq!(rig.metric("sluicegate_faults_total{listener=\"secure\",code=\"too_many_streams\"}").await, 3.0);
    gate.let_pass(100);
    for response in under_way {
        assert_eq!(reply(response).await.status, 200);
    }
    assert_eq!(crate::rig::h3::reply(&mut over_h3).await.unwrap().status, 200);
    assert_eq!(one.get("/again").await.status, 200, "what has ended makes room");
}

#[tokio::test]
async fn resets_of_a_client_add_up_over_its_connections_to_a_ban() {
    let upstream = endpoint().await;
    let rig = Rig::setup()
        .secure("max_resets_per_client = 10")
        .rest("[shield]\nban_private = true\n[bans]\npoints = 5\n")
        .endpoint(&upstream)
        .start()
        .await;

    // No connection does what would be too much for one.
    let mut resets = 0;
    'banned: for connection in 0..10 {
        let mut send = rig.h2().await.ready().await;
        for _ in 0..3 {
            abandon(&upstream, &mut send, 1).await;
            resets += 1;
            let idle = |status: &serde_json::Value| status["pools"][0]["endpoints"][0]["in_flight"] == 0;
            rig.status_where("the proxy to let go of it", idle).await;
            if rig.status().await["bans"] == 1 {
                break 'banned;
            }
        }
        assert!(connection < 9, "never banned");
    }

    assert!(resets > 10, "{resets}");
    let event = rig.event("client banned").await;
    assert_eq!(field(&event, "cause"), "shield.rapid_reset");
    assert!(rig.metric(rapid_resets()).await >= 1.0);
    assert_eq!(rig.get("/").await.status, 403);
    assert_eq!(rig.status().await["bans"], 1);
}

#[tokio::test]
async fn who_leaves_pages_half_loaded_and_reads_others_floods_nobody() {
    let upstream = endpoint().await;
    let rig = Rig::setup().secure("max_resets_per_client = 10").endpoint(&upstream).start().await;
    let h2 = rig.h2().await;
    let mut send = h2.ready().await;

    for _ in 0..10 {
        for _ in 0..4 {
            assert_eq!(h2.get("/superset/dashboard/1/").await.status, 200);
        }
        abandon(&upstream, &mut send, 3).await;
    }

    assert_eq!(h2.get("/").await.status, 200, "on the same connection");
    assert_eq!(rig.metric(rapid_resets()).await, 0.0);
}

#[tokio::test]
async fn rapid_reset_over_http3_is_an_offence_of_its_own() {
    let upstream = endpoint().await;
    let rig = Rig::setup()
        .secure("http3 = { max_error_resets = 20 }")
        .rest("[shield]\nban_private = true\n[bans]\npoints = 5\n")
        .endpoint(&upstream)
        .start()
        .await;
    let client = Rough::connect(&rig, &control()).await;

    let flood = async {
        loop {
            let Ok((mut send, mut recv)) = client.quic.open_bi().await else { return };
            drop(send.write_all(&head(&GOOD)).await);
            drop(send.reset(VarInt::from_u32(0x10c)));
            drop(recv.stop(VarInt::from_u32(0x10c)));
        }
    };
    soon("the end of the flood", flood).await;

    let event = rig.event("client banned").await;
    assert_eq!(field(&event, "cause"), "shield.rapid_reset");
    assert!(rig.metric(rapid_resets()).await >= 1.0);
    assert_eq!(rig.get("/").await.status, 403);
}

#[tokio::test]
async fn flood_over_http2_is_an_offence() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup()
        .endpoint(&upstream)
        .secure("http2 = { max_error_resets = 3 }")
        .rest("[shield]\nban_private = true\n[bans]\npoints = 5\n")
        .start()
        .await;
    let h2 = rig.h2().await;

    let mut sender = h2.ready().await;
    for _ in 0..8 {
        let mut odd = request(Method::GET, "/x");
        odd.headers_mut().insert("x", http::HeaderValue::from_static(" a"));
        match sender.send_request(odd, true) {
            Ok((response, _)) => drop(try_reply(response).await),
            Err(_) => break,
        }
        match sender.clone().ready().await {
            Ok(ready) => sender = ready,
            Err(_) => break,
        }
    }

    let event = rig.event("client banned").await;
    assert_eq!(field(&event, "cause"), "shield.flood");
    assert_eq!(rig.get("/").await.status, 403);
}

/// An answer of so many MB, as an export may be.
async fn export(megabytes: usize) -> Upstream {
    Upstream::playing(move |mut peer, seen| async move {
        while let Some(request) = peer.request().await {
            seen.note(request);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {megabytes}000000\r\n\r\n");
            let mut sent = peer.try_send(head).await;
            let block = vec![b'x'; 1_000_000];
            for _ in 0..megabytes {
                sent = sent.and(peer.try_send(&block).await);
            }
            if sent.is_err() {
                return;
            }
        }
    })
    .await
}

/// A connection that the kernel takes little for.
async fn narrow(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

/// The address of a relay that takes 40 kB every 50 ms from the other end, once it has taken `fast` bytes.
async fn slow_path(to: SocketAddr, mut fast: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from_server, mut to_server) = narrow(to).await.into_split();
        let (mut from_client, mut to_client) = client.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let mut piece = vec![0; 40_000];
        while let Ok(length @ 1..) = from_server.read(&mut piece).await {
            if to_client.write_all(&piece[..length]).await.is_err() {
                return;
            }
            if fast == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            fast = fast.saturating_sub(length);
        }
    });
    address
}

/// Reads some 20 kB at a time until `enough` bytes or the end have come; how many there were.
async fn sip(client: &mut Peer, enough: usize) -> usize {
    let mut read = 0;
    while read < enough {
        let Some(piece) = client.piece(20_000).await else { break };
        read += piece.len();
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    read
}

const CLOCKS: &str = "timeouts = { write_idle = \"2s\" }";

#[tokio::test]
async fn who_reads_more_slowly_than_he_must_is_cut_and_the_record_says_so() {
    let upstream = export(40).await;
    let strict = format!("{CLOCKS}\nlimits = {{ min_response_rate = \"1MiB\" }}");
    let rig = Rig::setup().plain(&strict).endpoint(&upstream).start().await;
    let mut client = Peer::new(narrow(rig.plain).await, 0);
    client.send("GET /export.csv HTTP/1.1\r\nHost: test\r\n\r\n").await;

    let mut read = 0;
    while read < 40_000_000 {
        match tokio::time::timeout(Duration::from_secs(30), sip(&mut client, 400_000)).await.unwrap() {
            400_000.. => read += 400_000,
            _ => break,
        }
    }

    assert!(read < 40_000_000);
    let record = rig.record("/export.csv").await;
    assert_eq!((&record["fault"], &record["end"], &record["status"]), (&"slow_read".into(), &"CD".into(), &200.into()));
    assert_eq!(rig.metric("sluicegate_faults_total{listener=\"plain\",code=\"slow_read\"}").await, 1.0);
}

#[tokio::test]
async fn slow_but_honest_download_is_not_cut() {
    let upstream = export(2).await;
    let rig = Rig::setup().plain(CLOCKS).endpoint(&upstream).start().await;
    let mut client = Peer::new(narrow(rig.plain).await, 0);
    client.send("GET /export.csv HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let head = client.response_head().await;

    // Three times as long as it may take nothing, with pauses.
    let since = tokio::time::Instant::now();
    let mut read = 0;
    while read < 2_000_000 {
        let sipped = sip(&mut client, 200_000).await;
        if sipped == 0 {
            break;
        }
        read += sipped;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    assert_eq!((head.status, read), (200, 2_000_000));
    assert!(since.elapsed() > Duration::from_secs(6), "it was slow");
    let record = rig.record("/export.csv").await;
    assert_eq!((&record["end"], record.get("fault")), (&"--".into(), None));
}

/// Reads `fast` bytes as fast as it can, then 20 kB every 25 ms for `rest`; whether the other end has kept up.
async fn tire(mut client: Peer, fast: usize, rest: Duration) -> bool {
    let mut read = 0;
    while read < fast {
        match soon("a piece", client.piece(200_000)).await {
            Some(piece) => read += piece.len(),
            None => return false,
        }
    }
    let until = tokio::time::Instant::now() + rest;
    while tokio::time::Instant::now() < until {
        if soon("a piece", client.piece(20_000)).await.is_none() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    true
}

#[tokio::test]
async fn client_that_read_fast_and_then_slowly_and_steadily_is_not_cut() {
    let upstream = export(200).await;
    // In this time the client takes less than what the kernel waits for before it tells of room.
    let clocks = "timeouts = { write_idle = \"1200ms\" }\nlimits = { min_response_rate = \"100KiB\" }";
    let rig = Rig::setup().plain(clocks).secure(clocks).endpoint(&upstream).start().await;
    let mut plain = Peer::new(narrow(rig.plain).await, 0);
    let mut secure = rig.pki.over(narrow(rig.secure).await, "http/1.1", false).await.unwrap();
    for client in [&mut plain, &mut secure] {
        client.send("GET /export.csv HTTP/1.1\r\nHost: test\r\n\r\n").await;
    }

    let h2 = wide(&rig, slow_path(rig.secure, 20_000_000).await).await;
    let (response, _) = h2.start(request(Method::GET, "/over-h2"), true).await;
    let mut body = soon("a head", response).await.unwrap().into_body();

    let rest = Duration::from_secs(8);
    let over_h2 = async {
        let until = tokio::time::Instant::now() + rest;
        while let Ok(piece) = tokio::time::timeout_at(until, body.data()).await {
            let Some(Ok(piece)) = piece else { return false };
            drop(body.flow_control().release_capacity(piece.len()));
        }
        true
    };
    let kept = tokio::join!(tire(plain, 20_000_000, rest), tire(secure, 20_000_000, rest), over_h2);

    assert_eq!(kept, (true, true, true));
    assert_eq!(rig.metric("sluicegate_faults_total{listener=\"plain\",code=\"client_write\"}").await, 0.0);
}

/// Opens its window for a little, again and again, until the stream ends; whether that was before its end.
async fn trickle(mut body: RecvStream, each: usize, pause: Duration) -> bool {
    let mut owed = 0;
    loop {
        match tokio::time::timeout(pause, body.data()).await {
            Ok(Some(Ok(piece))) => owed += piece.len(),
            Ok(Some(Err(_))) => return true,
            Ok(None) => return false,
            Err(_) => {}
        }
        let part = owed.min(each);
        owed -= part;
        drop(body.flow_control().release_capacity(part));
        tokio::time::sleep(pause).await;
    }
}

#[tokio::test]
async fn window_that_opens_by_a_little_now_and_then_keeps_no_stream_open() {
    let upstream = export(40).await;
    let secure = "http3 = true\ntimeouts = { write_idle = \"500ms\" }\nlimits = { min_response_rate = \"100KiB\" }";
    let rig = Rig::setup().secure(secure).endpoint(&upstream).start().await;

    let h2 = rig.h2().await;
    let (response, _) = h2.start(request(Method::GET, "/over-h2"), true).await;
    let body = soon("a head", response).await.unwrap().into_body();
    assert!(soon("the end of the stream", trickle(body, 500, Duration::from_millis(20))).await);
    let record = rig.record("/over-h2").await;
    assert_eq!((&record["fault"], &record["end"]), (&"slow_read".into(), &"CD".into()));

    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(4_096)).receive_window(VarInt::from_u32(1 << 20));
    let (endpoint, quic) = quic_with(rig.secure, rig.pki.client("h3", false), transport).await.unwrap();
    let mut h3 = H3::over(endpoint, quic).await;
    let mut stream = h3.start(crate::rig::h3::request(Method::GET, "/over-h3")).await;
    stream.finish().await.unwrap();
    soon("a head", stream.recv_response()).await.unwrap();
    let reading = async {
        while let Ok(Some(_)) = stream.recv_data().await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    soon("the end of the stream", reading).await;
    let record = rig.record("/over-h3").await;
    assert_eq!((&record["fault"], &record["end"]), (&"slow_read".into(), &"CD".into()));
    assert_eq!(rig.metric("sluicegate_faults_total{listener=\"secure\",code=\"slow_read\"}").await, 2.0);
}

#[tokio::test]
async fn client_that_reads_nothing_at_all_is_cut_and_the_record_says_so() {
    let upstream = export(40).await;
    let secure = "timeouts = { write_idle = \"500ms\" }";
    let rig = Rig::setup().plain(secure).secure(secure).endpoint(&upstream).start().await;

    let mut h1 = rig.client().await;
    h1.send("GET /over-h1 HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let h2 = rig.h2().await;
    let (response, _stream) = h2.start(request(Method::GET, "/over-h2"), true).await;
    let _body = soon("a head", response).await.unwrap().into_body();

    for path in ["/over-h1", "/over-h2"] {
        let record = rig.record(path).await;
        assert_eq!((&record["fault"], &record["end"]), (&"client_write".into(), &"CD".into()), "{path}");
    }
}

/// HTTP/2 whose windows hold nothing back, to `at`.
async fn wide(rig: &Rig, at: SocketAddr) -> H2 {
    let peer = rig.pki.connect(at, "h2", false).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let (send, connection) = soon("HTTP/2", builder.handshake::<_, Bytes>(peer.into_io())).await.unwrap();
    tokio::spawn(connection);
    H2::with(send)
}

#[tokio::test]
async fn many_streams_on_one_slow_connection_are_no_slow_readers() {
    let upstream = export(40).await;
    let secure = "timeouts = { write_idle = \"2s\" }\nlimits = { min_response_rate = \"100KiB\" }";
    let rig = Rig::setup().secure(secure).endpoint(&upstream).pool("max_in_flight = 100").start().await;
    // All windows are wide open; the connection itself is read slowly.
    let h2 = wide(&rig, slow_path(rig.secure, 0).await).await;

    let streams = (0..20).map(|at| {
        let asked: Request<()> = request(Method::GET, &format!("/{at}"));
        async {
            let (response, _) = h2.start(asked, true).await;
            let mut body = soon("a head", response).await.unwrap().into_body();
            let until = tokio::time::Instant::now() + Duration::from_secs(7);
            while let Ok(piece) = tokio::time::timeout_at(until, body.data()).await {
                let piece = piece.expect("not its end").expect("not cut");
                drop(body.flow_control().release_capacity(piece.len()));
            }
        }
    });
    join_all(streams).await;

    assert_eq!(rig.metric("sluicegate_faults_total{listener=\"secure\",code=\"slow_read\"}").await, 0.0);
}
