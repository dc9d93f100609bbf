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
