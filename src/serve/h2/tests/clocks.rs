//! Clocks, and how connections end.

use super::*;

#[tokio::test(start_paused = true)]
async fn client_without_preface_is_dropped_after_the_head_clock() {
    let (rig, _io) = Rig::start(listener(), ok);
    let start = Instant::now();

    rig.ended().await;

    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_asked_to_leave_after_the_keep_alive_clock() {
    let (rig, io) = Rig::start(listener(), ok);
    let (mut send, connection) = connect(io).await;
    let answer = send.send_request(get("/"), true).unwrap().0.await.unwrap();
    content(answer.into_body()).await.unwrap();
    let start = Instant::now();

    rig.ended().await;

    assert!((75..=81).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    connection.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn client_that_opens_no_window_is_reset_after_the_write_clock() {
    let (_rig, io) = Rig::start(listener(), ok);
    let (send, connection) = client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(io).await.unwrap();
    let _connection = tokio::spawn(connection);
    let start = Instant::now();

    let answer = send.ready().await.unwrap().send_request(get("/"), true).unwrap().0.await.unwrap();
    let error = content(answer.into_body()).await.unwrap_err();

    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn socket_that_takes_nothing_is_cut_after_the_write_clock() {
    let pulled = Arc::new(AtomicUsize::new(0));
    let (rig, io) = Rig::start(listener(), move |_| {
        let pulled = Arc::clone(&pulled);
        async move { Answer::new(StatusCode::OK, Body::stream(Endless(pulled, 64 << 10))) }
    });
    let mut raw = Raw::with_windows(io, 1 << 30).await;
    raw.headers(1, END_STREAM | END_HEADERS, &GET).await;
    let start = Instant::now();

    rig.ended().await;

    assert!((60..=62).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

/// Reads 1 KiB a second until the connection ends; the content, and whether its end was told.
async fn sip(raw: &mut Raw) -> (usize, bool) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = raw.io.read(&mut piece).await {
        bytes.extend_from_slice(&piece[..length]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (mut content, mut ended, mut rest) = (0, false, &bytes[..]);
    while let [a, b, c, kind, flags, _, _, _, _, ..] = *rest {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind == DATA {
            (content, ended) = (content + length, flags & END_STREAM != 0);
        }
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    (content, ended)
}

#[tokio::test(start_paused = true)]
async fn what_tls_keeps_of_an_answer_reaches_a_slow_reader_before_the_connection_ends() {
    for close in [true, false] {
        let (near, far) = duplex(1024);
        let rig = Rig::over(Records::before(far), listener(), move |_| async move {
            let body = Body::full(vec![7; 200_000]);
            Answer { close, ..Answer::new(StatusCode::OK, body) }
        });
        let mut raw = Raw::with_windows(near, 1 << 30).await;
        raw.headers(1, END_STREAM | END_HEADERS, &GET).await;

        assert_eq!(sip(&mut raw).await, (200_000, true), "{close}");
        rig.ended().await;
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_takes_nothing_of_what_tls_keeps_is_cut_after_the_write_clock() {
    let (near, far) = duplex(1024);
    let mut listener = listener();
    // So that no other clock ends it.
    listener.clocks.keep_alive = Duration::from_secs(1000);
    let rig = Rig::over(Records::before(far), listener, |_| async {
        Answer::new(StatusCode::OK, Body::full(vec![7; 30_000]))
    });
    let mut raw = Raw::with_windows(near, 1 << 30).await;
    raw.headers(1, END_STREAM | END_HEADERS, &GET).await;
    let start = Instant::now();

    rig.ended().await;

    // A clock that began before the last of it had left has another turn.
    assert!((60..=122).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whole_answer_that_tls_keeps_is_sent_though_its_client_half_closes() {
    let (near, far) = duplex(1024);
    let _rig = Rig::over(Records::before(far), listener(), |_| async {
        Answer::new(StatusCode::OK, Body::full(vec![7; 30_000]))
    });
    let mut raw = Raw::with_windows(near, 1 << 30).await;
    raw.headers(1, END_STREAM | END_HEADERS, &GET).await;
    raw.next(HEADERS).await;

    raw.io.shutdown().await.unwrap();
    let (mut content, mut frames) = (0, 0);
    while content < 30_000 {
        content += raw.next(DATA).await.1.len();
        frames += 1;
    }

    assert_eq!((content, frames), (30_000, 2));
}

#[tokio::test(start_paused = true)]
async fn stalled_request_body_is_late() {
    let (_rig, io) = Rig::start(listener(), |mut request: Request| async move {
        let late = matches!(request.body.frame().await, Some(Err(BodyError::Late(Clock::BodyRead))));
        Answer::new(if late { StatusCode::REQUEST_TIMEOUT } else { StatusCode::OK }, Body::empty())
    });
    let (mut send, _connection) = connect(io).await;

    let (response, _outgoing) = send.send_request(post("/"), false).unwrap();

    assert_eq!(response.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn dead_client_with_an_open_stream_is_found_by_ping() {
    let (rig, io) = Rig::start(listener(), |_| std::future::pending());
    let mut raw = Raw::with_windows(io, 65_535).await;
    raw.headers(1, END_STREAM | END_HEADERS, &GET).await;

    // Never answers the PING.
    rig.ended().await;
}

#[tokio::test(start_paused = true)]
async fn quiet_client_that_answers_pings_keeps_its_stream() {
    let (_rig, io) = Rig::start(listener(), |request| async {
        tokio::time::sleep(Duration::from_secs(1000)).await;
        ok(request).await
    });
    let (mut send, _connection) = connect(io).await;

    let answer = send.send_request(get("/"), true).unwrap().0.await.unwrap();

    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn old_connection_is_asked_to_leave_and_finishes_its_streams() {
    let mut listener = listener();
    listener.max_connection_age = Duration::from_secs(50);
    let (rig, io) = Rig::start(listener, |request| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        ok(request).await
    });
    let (mut send, connection) = connect(io).await;

    let answer = send.send_request(get("/"), true).unwrap().0.await.unwrap();
    assert_eq!(content(answer.into_body()).await.unwrap().0, b"hello");

    rig.ended().await;
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn drain_finishes_open_streams_and_closes() {
    let (go, held) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (going, holding) = (Arc::clone(&go), Arc::clone(&held));
    let (rig, io) = Rig::start(listener(), move |request| {
        let (going, holding) = (Arc::clone(&going), Arc::clone(&holding));
        async move {
            holding.notify_one();
            going.notified().await;
            ok(request).await
        }
    });
    let (mut send, connection) = connect(io).await;
    let response = send.send_request(get("/"), true).unwrap().0;
    held.notified().await;

    rig.lifecycle.advance(Phase::Draining);
    go.notify_one();
    let answer = response.await.unwrap();

    assert_eq!(content(answer.into_body()).await.unwrap().0, b"hello");
    rig.ended().await;
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn end_of_the_process_cuts_open_streams() {
    let (rig, io) = Rig::start(listener(), |_| std::future::pending());
    let (mut send, _connection) = connect(io).await;
    let response = send.send_request(get("/"), true).unwrap().0;
    tokio::task::yield_now().await;

    rig.lifecycle.advance(Phase::Ending);

    assert!(response.await.is_err());
    rig.ended().await;
}

#[tokio::test]
async fn answer_may_close_the_connection_politely() {
    let (rig, io) = Rig::start(listener(), |request| async {
        let mut answer = ok(request).await;
        answer.close = true;
        answer
    });
    let (mut send, connection) = connect(io).await;

    let answer = send.send_request(get("/"), true).unwrap().0.await.unwrap();

    assert_eq!(content(answer.into_body()).await.unwrap().0, b"hello");
    rig.ended().await;
    connection.await.unwrap().unwrap();
}
