//! Ordinary exchanges: fields, bodies and trailers both ways, interim answers, and handlers that go wrong.

use super::*;

#[tokio::test]
async fn answer_has_length_and_date_and_no_connection_fields() {
    let (_rig, io) = Rig::start(listener(), |request: Request| async move {
        assert_eq!(request.head.headers["host"], "superset.example");
        assert_eq!(request.head.uri.path(), "/a");
        let mut answer = ok(request).await;
        for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"] {
            answer.head.headers.insert(name, HeaderValue::from_static("x-hop"));
        }
        answer.head.headers.insert("x-hop", HeaderValue::from_static("1"));
        answer
    });
    let (mut send, _connection) = connect(io).await;

    let (head, body) = send.send_request(get("/a"), true).unwrap().0.await.unwrap().into_parts();

    let mut names: Vec<_> = head.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "date"]);
    assert_eq!(content(body).await.unwrap().0, b"hello");
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let (_rig, io) = Rig::start(listener(), |request: Request| async move {
        assert_eq!(request.body.remaining(), None);
        Answer::new(StatusCode::OK, request.body)
    });
    let (mut send, _connection) = connect(io).await;

    let (response, mut outgoing) = send.send_request(post("/echo"), false).unwrap();
    outgoing.send_data(Bytes::from(vec![b'x'; 100_000]), false).unwrap();
    let mut trailers = Fields::new();
    trailers.insert("x-checksum", HeaderValue::from_static("abc"));
    outgoing.send_trailers(trailers.into()).unwrap();
    let (all, trailers) = content(response.await.unwrap().into_body()).await.unwrap();

    assert_eq!(all.len(), 100_000);
    assert_eq!(trailers.unwrap()["x-checksum"], "abc");
}

#[tokio::test]
async fn known_length_is_told_to_the_handler() {
    let (_rig, io) = Rig::start(listener(), |request: Request| async move {
        assert_eq!(request.body.remaining(), Some(5));
        Answer::new(StatusCode::OK, request.body)
    });
    let (mut send, _connection) = connect(io).await;
    let mut request = post("/echo");
    request.headers_mut().insert("content-length", http::HeaderValue::from_static("5"));

    let (response, mut outgoing) = send.send_request(request, false).unwrap();
    outgoing.send_data(Bytes::from_static(b"12345"), true).unwrap();
    let response = response.await.unwrap();

    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(content(response.into_body()).await.unwrap().0, b"12345");
}

#[tokio::test]
async fn head_204_and_304_have_no_content() {
    let (_rig, io) = Rig::start(listener(), |request: Request| async move {
        let status = request.head.uri.path().trim_start_matches('/').parse().unwrap();
        let mut answer = Answer::new(status, Body::full("unsent"));
        answer.head.headers.insert("content-length", HeaderValue::from_static("6"));
        answer
    });
    let (mut send, _connection) = connect(io).await;
    for (method, path, length) in [("HEAD", "/200", true), ("GET", "/204", false), ("GET", "/304", true)] {
        let mut request = get(path);
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();

        let response = send.send_request(request, true).unwrap().0.await.unwrap();

        assert!(response.body().is_end_stream(), "{path}");
        assert_eq!(response.headers().contains_key("content-length"), length, "{path}");
    }
}

#[tokio::test]
async fn interim_responses_come_before_the_answer() {
    let (_rig, io) = Rig::start(listener(), |request: Request| async move {
        let mut hints = Fields::new();
        hints.insert("link", HeaderValue::from_static("</a.css>; rel=preload"));
        request.interim.push(StatusCode::EARLY_HINTS, hints);
        request.interim.push(StatusCode::SWITCHING_PROTOCOLS, Fields::new());
        tokio::task::yield_now().await;
        ok(request).await
    });
    let (mut send, _connection) = connect(io).await;

    let mut response = send.send_request(get("/"), true).unwrap().0;
    let hints = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
    let answer = response.await.unwrap();

    assert_eq!(hints.status(), StatusCode::EARLY_HINTS);
    assert_eq!(hints.headers()["link"], "</a.css>; rel=preload");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn expected_content_is_asked_for_when_it_is_pulled() {
    let (_rig, io) = Rig::start(listener(), |mut request: Request| async move {
        assert!(matches!(request.body.frame().await, Some(Ok(Frame::Data(_)))));
        ok(request).await
    });
    let (mut send, _connection) = connect(io).await;
    let mut request = post("/");
    request.headers_mut().insert("expect", http::HeaderValue::from_static("100-continue"));

    let (mut response, mut outgoing) = send.send_request(request, false).unwrap();
    let interim = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
    outgoing.send_data(Bytes::from_static(b"now"), true).unwrap();

    assert_eq!(interim.status(), StatusCode::CONTINUE);
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn early_answer_resets_the_rest_of_the_request_with_no_error() {
    let (_rig, io) = Rig::start(listener(), ok);
    let (mut send, _connection) = connect(io).await;

    let (response, mut outgoing) = send.send_request(post("/"), false).unwrap();
    let answer = response.await.unwrap();
    assert_eq!(content(answer.into_body()).await.unwrap().0, b"hello");
    let reason = poll_fn(|cx| outgoing.poll_reset(cx)).await.unwrap();

    assert_eq!(reason, Reason::NO_ERROR);
}

#[tokio::test]
async fn broken_body_is_a_stream_error_and_never_an_end() {
    let (_rig, io) = Rig::start(listener(), |_| async {
        let (sender, receiver) = mpsc::channel(4);
        sender.try_send(Ok(Frame::Data(Bytes::from_static(b"half")))).unwrap();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            sender.send(Err(BodyError::Gone(None))).await.unwrap();
        });
        Answer::new(StatusCode::OK, Body::stream(Piped(receiver)))
    });
    let (mut send, _connection) = connect(io).await;

    let answer = send.send_request(get("/"), true).unwrap().0.await;
    let error = match answer {
        Ok(answer) => content(answer.into_body()).await.unwrap_err(),
        Err(error) => error,
    };

    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn panic_of_one_handler_leaves_other_streams_alone() {
    let (_rig, io) = Rig::start(listener(), |request: Request| async move {
        assert_ne!(request.head.uri.path(), "/panic", "as the test wants");
        ok(request).await
    });
    let (mut send, _connection) = connect(io).await;

    let error = send.send_request(get("/panic"), true).unwrap().0.await.unwrap_err();
    let answer = send.send_request(get("/"), true).unwrap().0.await.unwrap();

    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    assert_eq!(answer.status(), StatusCode::OK);
}
