//! What HTTP/3 and QUIC forbid gets the error that they state, and is never forwarded. What is allowed once and not a
//! thousand times stands in `http3_floods`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;
use sluicegate::h3::frame;
use tokio::net::UdpSocket;

use crate::rig::h3::quic;
use crate::rig::rough::{Fields, GOOD, Outcome, Rough, and, announced, closed, control, framed, head, outcome, post};
use crate::rig::{PATIENCE, Rig, Upstream, soon};

async fn rig() -> (Upstream, Rig) {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;
    (upstream, rig)
}

#[tokio::test]
async fn offences_end_the_connection_with_the_code_of_the_specification() {
    let (upstream, rig) = rig().await;
    let good = head(&GOOD);
    let push = |id: u8| framed(frame::CANCEL_PUSH, &[id]);
    let cases: Vec<(&str, Vec<u8>, Vec<u8>, u64)> = vec![
        ("DATA first", control(), framed(frame::DATA, b"x"), 0x105),
        ("SETTINGS on a request", control(), [good.clone(), framed(frame::SETTINGS, b"")].concat(), 0x105),
        ("GOAWAY on a request", control(), [good.clone(), framed(frame::GOAWAY, &[0])].concat(), 0x105),
        ("MAX_PUSH_ID on a request", control(), framed(frame::MAX_PUSH_ID, &[0]), 0x105),
        ("PUSH_PROMISE of a client", control(), framed(frame::PUSH_PROMISE, &[0, 0, 0]), 0x105),
        ("frame of HTTP/2", control(), framed(0x6, &[0; 8]), 0x105),
        ("HEADERS after trailers", control(), [head(&post(&[])), head(&[(b"x", b"y")]), good.clone()].concat(), 0x105),
        ("CANCEL_PUSH on a request", control(), [good.clone(), push(0)].concat(), 0x105),
        ("DATA after trailers", control(), [head(&post(&[])), head(&[(b"x", b"y")]), framed(0, b"x")].concat(), 0x105),
        ("PRIORITY of HTTP/2", control(), [good.clone(), framed(0x2, &[0; 5])].concat(), 0x105),
        ("WINDOW_UPDATE of HTTP/2", control(), [good.clone(), framed(0x8, &[0; 4])].concat(), 0x105),
        ("CONTINUATION of HTTP/2", control(), [good.clone(), framed(0x9, b"")].concat(), 0x105),
        ("HEADERS on the control stream", [control(), good.clone()].concat(), good.clone(), 0x105),
        ("PUSH_PROMISE on the control stream", [control(), framed(5, &[0, 0, 0])].concat(), good.clone(), 0x105),
        ("PING of HTTP/2 on the control stream", [control(), framed(6, &[0; 8])].concat(), good.clone(), 0x105),
        ("MAX_PUSH_ID that falls", [control(), framed(0xd, &[8]), framed(0xd, &[4])].concat(), good.clone(), 0x108),
        ("goodbye that rises", [control(), framed(7, &[0]), framed(7, &[4])].concat(), good.clone(), 0x108),
        ("goodbye with more than a number", [control(), framed(7, &[0, 0])].concat(), good.clone(), 0x106),
        ("goodbye without a number", [control(), framed(7, b"")].concat(), good.clone(), 0x106),
        ("unknown control frame too large", [control(), announced(0x21, 1 << 40)].concat(), good.clone(), 0x107),
        ("extended CONNECT by halves", [vec![0], framed(4, &[8, 2])].concat(), good.clone(), 0x109),
        ("datagrams by halves", [vec![0], framed(4, &[0x33, 2])].concat(), good.clone(), 0x109),
        ("end within a frame", control(), good[..good.len() - 1].to_vec(), 0x106),
        ("unknown frame too large", control(), announced(0x21, 1 << 40), 0x107),
        ("reference to a dynamic table", control(), framed(frame::HEADERS, &[2, 0, 0x80]), 0x200),
        ("broken Huffman code", control(), framed(frame::HEADERS, &[0, 0, 0x51, 0x82, 0xff, 0xff]), 0x200),
        ("index beyond the table", control(), framed(frame::HEADERS, &[0, 0, 0xff, 0x7f]), 0x200),
        ("no settings first", [vec![0], framed(frame::GOAWAY, &[0])].concat(), good.clone(), 0x10a),
        ("settings twice", [control(), framed(frame::SETTINGS, b"")].concat(), good.clone(), 0x105),
        ("DATA on the control stream", [control(), framed(frame::DATA, b"")].concat(), good.clone(), 0x105),
        ("setting twice", [vec![0], framed(frame::SETTINGS, &[6, 1, 6, 1])].concat(), good.clone(), 0x109),
        ("ENABLE_PUSH of HTTP/2", [vec![0], framed(4, &[2, 0])].concat(), good.clone(), 0x109),
        ("MAX_CONCURRENT_STREAMS of HTTP/2", [vec![0], framed(4, &[3, 1])].concat(), good.clone(), 0x109),
        ("INITIAL_WINDOW_SIZE of HTTP/2", [vec![0], framed(4, &[4, 1])].concat(), good.clone(), 0x109),
        ("MAX_FRAME_SIZE of HTTP/2", [vec![0], framed(4, &[5, 1])].concat(), good.clone(), 0x109),
        ("cut setting", [vec![0], framed(frame::SETTINGS, &[6])].concat(), good.clone(), 0x106),
        ("push never promised", [control(), push(0)].concat(), good.clone(), 0x108),
        ("push stream", vec![1, 0], good.clone(), 0x103),
        ("insert into a table of nothing", vec![2, 0xc0, 0], good.clone(), 0x201),
        ("capacity above what was offered", vec![2, 0x3f, 0x01], good.clone(), 0x201),
        ("duplicate of nothing", vec![2, 0x00], good.clone(), 0x201),
        ("feedback about nothing", vec![3, 0x80], good.clone(), 0x202),
        ("insertions counted that never were", vec![3, 0x01], good.clone(), 0x202),
        ("increment by nothing", vec![3, 0x00], good.clone(), 0x202),
        ("base below zero", control(), framed(frame::HEADERS, &[0, 0x80, 0xd1]), 0x200),
        ("post-base index", control(), framed(frame::HEADERS, &[0, 0, 0x10]), 0x200),
        ("section without a prefix", control(), framed(frame::HEADERS, &[0]), 0x200),
        ("line that ends within", control(), framed(frame::HEADERS, &[0, 0, 0x51, 0x05, b'a']), 0x200),
    ];
    let mut wrong = Vec::new();

    for (name, control, request, code) in &cases {
        let mut client = Rough::connect(&rig, control).await;
        let _answer = client.send(request, true).await;
        match tokio::time::timeout(PATIENCE, client.quic.closed()).await {
            Ok(ended) if closed(&ended) == *code => {}
            ended => wrong.push(format!("{name}: {ended:?} instead of {code:#x}")),
        }
    }

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(upstream.requests().iter().all(|request| request.target() == "/good"));
    let ended = rig.metric("sluicegate_quic_offences_total{listener=\"secure\",code=\"frame_unexpected\"}").await;
    assert!(ended >= 16.0, "{ended}");
}

#[tokio::test]
async fn streams_that_a_connection_cannot_be_without_must_not_end_nor_come_twice() {
    let (_upstream, rig) = rig().await;

    for kind in 0..=3_u8 {
        if kind == 1 {
            continue;
        }
        let bytes = if kind == 0 { control() } else { vec![kind] };
        let mut twice = Rough::connect(&rig, &bytes).await;
        twice.tell(&bytes).await;
        let finished = Rough::connect(&rig, b"").await;
        let mut stream = finished.quic.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.finish().unwrap();
        let reset = Rough::connect(&rig, b"").await;
        let mut stream = reset.quic.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // Only once its type was heard does a reset mean anything.
        rig.status().await;
        tokio::task::yield_now().await;

        assert_eq!(twice.ended().await, 0x103, "stream {kind}");
        assert_eq!(finished.ended().await, 0x104, "stream {kind}");
        stream.reset(VarInt::from_u32(0)).unwrap();
    }
}

#[tokio::test]
async fn malformed_requests_are_reset_and_never_forwarded() {
    let (upstream, rig) = rig().await;
    type Case<'a> = (&'a str, Fields<'a>, Vec<u8>);
    let data = |bytes: &[u8]| framed(frame::DATA, bytes);
    let cases: Vec<Case<'_>> = vec![
        ("connection", and(&[(b"connection", b"close")]), vec![]),
        ("keep-alive", and(&[(b"keep-alive", b"1")]), vec![]),
        ("transfer-encoding", and(&[(b"transfer-encoding", b"chunked")]), vec![]),
        ("upgrade", and(&[(b"upgrade", b"websocket")]), vec![]),
        ("te other than trailers", and(&[(b"te", b"gzip")]), vec![]),
        ("upper case name", and(&[(b"X-Upper", b"a")]), vec![]),
        ("line feed in value", and(&[(b"x", b"a\nb")]), vec![]),
        ("carriage return in value", and(&[(b"x", b"a\rb")]), vec![]),
        ("nul in value", and(&[(b"x", b"a\0b")]), vec![]),
        ("space before value", and(&[(b"x", b" a")]), vec![]),
        ("space after value", and(&[(b"x", b"a ")]), vec![]),
        ("space in name", and(&[(b"x y", b"a")]), vec![]),
        ("empty name", and(&[(b"", b"a")]), vec![]),
        ("unknown pseudo field", and(&[(b":what", b"a")]), vec![]),
        ("pseudo field twice", and(&[(b":path", b"/again")]), vec![]),
        ("response pseudo field", and(&[(b":status", b"200")]), vec![]),
        ("protocol without connect", and(&[(b":protocol", b"websocket")]), vec![]),
        ("host differs from authority", and(&[(b"host", b"other")]), vec![]),
        ("host twice", and(&[(b"host", b"test"), (b"host", b"test")]), vec![]),
        ("length without a body", and(&[(b"content-length", b"5")]), vec![]),
        ("length below the body", post(&[(b"content-length", b"1")]), data(b"abc")),
        ("length above the body", post(&[(b"content-length", b"9")]), data(b"abc")),
        ("length is no number", post(&[(b"content-length", b"+3")]), data(b"abc")),
        ("lengths differ", post(&[(b"content-length", b"3"), (b"content-length", b"4")]), data(b"abc")),
        ("pseudo field in trailers", post(&[]), [data(b"abc"), head(&[(b":path", b"/")])].concat()),
        ("trailers too large", post(&[]), [data(b"abc"), announced(frame::HEADERS, 1 << 40)].concat()),
        ("proxy-connection", and(&[(b"proxy-connection", b"close")]), vec![]),
        ("delete in name", and(&[(b"x\x7f", b"a")]), vec![]),
        ("colon in name", and(&[(b"x:y", b"a")]), vec![]),
        ("authority twice", and(&[(b":authority", b"test")]), vec![]),
        ("authority empty", vec![GOOD[0], GOOD[1], (b":authority", b""), GOOD[3]], vec![]),
        ("neither authority nor host", vec![GOOD[0], GOOD[1], GOOD[3]], vec![]),
        ("host empty", vec![GOOD[0], GOOD[1], GOOD[3], (b"host", b"")], vec![]),
        ("authority with a path", vec![GOOD[0], GOOD[1], (b":authority", b"test/a"), GOOD[3]], vec![]),
        ("path without a slash", vec![GOOD[0], GOOD[1], GOOD[2], (b":path", b"good")], vec![]),
        ("star with GET", vec![GOOD[0], GOOD[1], GOOD[2], (b":path", b"*")], vec![]),
        ("method is no token", vec![(b":method", b"G ET"), GOOD[1], GOOD[2], GOOD[3]], vec![]),
        ("scheme is unknown", vec![GOOD[0], (b":scheme", b"ftp"), GOOD[2], GOOD[3]], vec![]),
        ("connect without an authority", vec![(b":method", b"CONNECT")], vec![]),
        ("connection field in trailers", post(&[]), [data(b"abc"), head(&[(b"connection", b"x")])].concat()),
        ("upper case in trailers", post(&[]), [data(b"abc"), head(&[(b"X-Sum", b"1")])].concat()),
        (
            "length above the body, with trailers",
            post(&[(b"content-length", b"9")]),
            [data(b"abc"), head(&[])].concat(),
        ),
        ("path missing", GOOD[..3].to_vec(), vec![]),
        ("path empty", vec![GOOD[0], GOOD[1], GOOD[2], (b":path", b"")], vec![]),
        ("path with a fragment", vec![GOOD[0], GOOD[1], GOOD[2], (b":path", b"/a#b")], vec![]),
        ("method missing", GOOD[1..].to_vec(), vec![]),
        ("scheme missing", vec![GOOD[0], GOOD[2], GOOD[3]], vec![]),
        ("user in authority", vec![GOOD[0], GOOD[1], (b":authority", b"u@test"), GOOD[3]], vec![]),
        ("pseudo field last", vec![GOOD[0], GOOD[1], GOOD[2], (b"x", b"a"), GOOD[3]], vec![]),
        ("connect with a path", vec![(b":method", b"CONNECT"), GOOD[1], GOOD[2], GOOD[3]], vec![]),
    ];
    let mut wrong = Vec::new();
    let mut client = Rough::connect(&rig, &control()).await;

    for (name, fields, more) in &cases {
        let outcome = client.ask(&[head(fields), more.clone()].concat(), true).await;
        // RFC 9114 §4.1.2
        if outcome != Outcome::Reset(0x10e) {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(client.ask(&framed(0x21, b"grease"), true).await, Outcome::Reset(0x10d), "ended without a head");
    assert_eq!(client.good().await, Outcome::Status(200), "the connection lives on");
    assert_eq!(upstream.requests().len(), 1, "{:?}", upstream.requests());
    rig.record_where("a record of a refused one", |record| record["fault"] == "malformed").await;
}

#[tokio::test]
async fn what_is_unknown_is_ignored_and_an_empty_frame_ends_a_body() {
    let (upstream, rig) = rig().await;
    let mut client = Rough::connect(&rig, &[control(), framed(0x21, b"grease"), framed(0xd, &[7])].concat()).await;
    client.tell(&[0x40, 0x54, 1, 2, 3]).await;
    let fields = post(&[(b"content-length", b"3")]);
    let grease = framed(0x1f * 7 + 0x21, b"whatever");

    let request =
        [grease.clone(), head(&fields), grease.clone(), framed(frame::DATA, b"abc"), grease, framed(frame::DATA, b"")];

    assert_eq!(client.ask(&request.concat(), true).await, Outcome::Status(200));
    assert_eq!(upstream.received(1).await[0].body, b"abc");
}

#[tokio::test]
async fn heads_beyond_their_bounds_are_answered_and_recorded() {
    let (_upstream, rig) = rig().await;
    let mut client = Rough::connect(&rig, &control()).await;
    let long = vec![b'a'; 70_000];
    let path = [b"/".as_slice(), &long[..40_000]].concat();
    let mut many = and(&[]);
    many.extend((0..200).map(|_| (b"x".as_slice(), b"y".as_slice())));

    assert_eq!(client.ask(&head(&and(&[(b"cookie", &long)])), true).await, Outcome::Status(431));
    assert_eq!(client.ask(&announced(frame::HEADERS, 1 << 40), false).await, Outcome::Status(431));
    assert_eq!(client.ask(&head(&many), true).await, Outcome::Status(431));
    let uri = vec![GOOD[0], GOOD[1], GOOD[2], (b":path".as_slice(), path.as_slice())];
    assert_eq!(client.ask(&head(&uri), true).await, Outcome::Status(414));
    // A static entry of 84 bytes in two: 120,000 bytes become five million.
    let unfolded = [&[0, 0][..], &[0xff, 0x16].repeat(60_000)].concat();
    assert_eq!(client.ask(&framed(frame::HEADERS, &unfolded), true).await, Outcome::Status(431));

    rig.record_where("its record", |record| record["status"] == 431 && record["protocol"] == "h3").await;
    assert_eq!(client.good().await, Outcome::Status(200));
}

#[tokio::test]
async fn head_that_does_not_come_in_time_is_408() {
    let upstream = Upstream::named("a").await;
    let secure = "http3 = true\ntimeouts = { head = \"300ms\", body_idle = \"300ms\" }";
    let rig = Rig::setup().secure(secure).endpoint(&upstream).start().await;
    let mut client = Rough::connect(&rig, &control()).await;
    let good = head(&GOOD);

    assert_eq!(client.ask(&good[..5], false).await, Outcome::Status(408));
    let slow = [head(&post(&[(b"content-length", b"10")])), framed(frame::DATA, b"some")].concat();
    assert_eq!(client.ask(&slow, false).await, Outcome::Status(408));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn address_is_proven_first_where_that_is_asked() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = { retry_above = 0 }").endpoint(&upstream).start().await;

    let mut client = Rough::connect(&rig, &control()).await;

    assert_eq!(client.good().await, Outcome::Status(200));
    assert_eq!(rig.metric("sluicegate_quic_retries_total{listener=\"secure\"}").await, 1.0);
}

#[tokio::test]
async fn caps_on_connections_hold_for_quic() {
    let upstream = Upstream::named("a").await;
    let secure = "http3 = true\nmax_connections_per_client = 2";
    let rig = Rig::setup().secure(secure).endpoint(&upstream).start().await;
    let mut first = Rough::connect(&rig, &control()).await;
    let mut second = Rough::connect(&rig, &control()).await;
    assert_eq!((first.good().await, second.good().await), (Outcome::Status(200), Outcome::Status(200)));

    let third = Rough::connect(&rig, &control()).await;

    assert_eq!(third.ended().await, 0x107);
    let refused = "sluicegate_connections_refused_total{listener=\"secure\",cause=\"client_full\"}";
    assert_eq!(rig.metric(refused).await, 1.0);
    first.quic.close(VarInt::from_u32(0x100), b"");
    rig.status_where("a free place", |status| status["listeners"][1]["connections"] == 1).await;
    assert_eq!(Rough::connect(&rig, &control()).await.good().await, Outcome::Status(200));
}

/// What comes back within a moment: absence cannot be awaited otherwise.
async fn answers(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    let mut buf = vec![0; 2000];
    while let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut buf)).await {
        answers.push(buf[..length].to_vec());
    }
    answers
}

#[tokio::test]
async fn other_versions_are_told_ours_and_small_ones_nothing() {
    let (_upstream, rig) = rig().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(rig.secure).await.unwrap();
    let mut hello = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 9, 9, 9, 9];

    socket.send(&hello).await.unwrap();
    assert!(answers(&socket).await.is_empty(), "RFC 9000 §6.1: too small to be answered");
    hello.resize(1200, 0);
    socket.send(&hello).await.unwrap();

    let answers = answers(&socket).await;
    assert_eq!(answers.len(), 1);
    // RFC 9000 §17.2.1: ids swapped, then versions.
    assert_eq!(answers[0][1..5], [0; 4]);
    assert!(answers[0].len() < 100 && answers[0].ends_with(&[0, 0, 0, 1]), "{:x?}", answers[0]);
}

#[tokio::test]
async fn noise_is_not_answered_and_hurts_nobody() {
    let (_upstream, rig) = rig().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(rig.secure).await.unwrap();
    let mut seed = 1_u32;

    for length in [0, 1, 7, 20, 40, 1200, 1472] {
        for first in [0x00, 0x40, 0xc0, 0xe0, 0xff] {
            let mut noise: Vec<u8> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    seed.to_be_bytes()[0]
                })
                .collect();
            if let [byte, version @ ..] = noise.as_mut_slice() {
                *byte = first;
                // Our own version, so that it is not answered for being another.
                if let Some(version) = version.get_mut(..4) {
                    version.copy_from_slice(&[0, 0, 0, 1]);
                }
            }
            drop(socket.send(&noise).await);
        }
    }

    let answers = answers(&socket).await;
    let bytes: usize = answers.iter().map(Vec::len).sum();
    // RFC 9000 §8.1, §10.3.3: in all less than what came.
    assert!(bytes < 5 * 2740, "{bytes}");
    assert_eq!(Rough::connect(&rig, &control()).await.good().await, Outcome::Status(200));
}

#[tokio::test]
async fn unproven_address_gets_no_more_than_three_times_what_it_sent() {
    let (_upstream, rig) = rig().await;
    // A relay that lets hellos pass and no answer: as if the client's address were forged.
    let (front, back) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    back.connect(rig.secure).await.unwrap();
    let to: SocketAddr = front.local_addr().unwrap();
    let connecting = tokio::spawn({
        let tls = rig.pki.client("h3", false);
        async move { tokio::time::timeout(Duration::from_secs(5), quic(to, tls)).await }
    });

    let mut sent = 0;
    let mut buf = vec![0; 2000];
    // The hello and what belongs to it; not its repetitions.
    while sent < 2400 {
        let (length, _) = soon("a hello", front.recv_from(&mut buf)).await.unwrap();
        back.send(&buf[..length]).await.unwrap();
        sent += length;
    }
    connecting.abort();
    // The server repeats itself as well; three times what was sent is all that there ever is.
    let mut received = 0;
    while let Ok(Ok(length)) = tokio::time::timeout(Duration::from_secs(2), back.recv(&mut buf)).await {
        received += length;
    }

    assert!(received > 0 && received <= 3 * sent, "{received} for {sent}");
}

#[tokio::test]
async fn streams_that_end_before_they_say_what_they_are_are_tolerated() {
    let (_upstream, rig) = rig().await;
    let mut client = Rough::connect(&rig, &control()).await;

    // RFC 9114 §6.2: closed, or reset, within the type.
    for bytes in [&b""[..], &[0x40]] {
        let mut stream = client.quic.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.finish().unwrap();
        let mut stream = client.quic.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.reset(VarInt::from_u32(0x10c)).unwrap();
    }

    assert_eq!(client.good().await, Outcome::Status(200));
}

#[tokio::test]
async fn answer_that_needs_no_more_of_the_request_stops_it_without_an_error() {
    let upstream = Upstream::named("a").await;
    let small = "[[routes]]\npool = \"app\"\nmax_body = \"1KiB\"";
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).rest(small).start().await;
    let mut client = Rough::connect(&rig, &control()).await;

    let mut answer = client.send(&head(&post(&[(b"content-length", b"2000")])), false).await;
    let stopped = client.open.last_mut().unwrap().stopped();

    assert_eq!(outcome(&mut answer).await, Outcome::Status(413));
    // RFC 9114 §4.1: H3_NO_ERROR.
    assert_eq!(soon("the request to be stopped", stopped).await.unwrap(), Some(VarInt::from_u32(0x100)));
    assert_eq!(client.good().await, Outcome::Status(200));
}

#[tokio::test]
async fn session_is_resumed_without_early_data_which_could_be_replayed() {
    let (_upstream, rig) = rig().await;
    let mut tls = rig.pki.client("h3", false);
    tls.enable_early_data = true;
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connecting = || endpoint.connect_with(config.clone(), rig.secure, "localhost").unwrap();
    let mut first = Rough::over(endpoint.clone(), soon("a handshake", connecting()).await.unwrap());
    first.tell(&control()).await;
    assert_eq!(first.good().await, Outcome::Status(200));

    let again = connecting().into_0rtt().err().expect("the ticket allows no early data");
    soon("a handshake", again).await.unwrap();

    let resumed = "sluicegate_tls_handshakes_total{listener=\"secure\",version=\"TLSv1.3\",resumed=\"yes\"}";
    soon("a resumption", async { while rig.metric(resumed).await < 1.0 {} }).await;
}
