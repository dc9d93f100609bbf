//! Back-pressure: what is held for clients that read slowly or not at all is bounded.

use super::*;

/// A server of endless answers for 800 streams, the client's end, and what has been pulled of all.
fn endless() -> (Rig, DuplexStream, Arc<AtomicUsize>) {
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pulled);
    let mut listener = listener();
    listener.http2.max_streams = 800;
    let (rig, io) = Rig::start(listener, move |_| {
        let counter = Arc::clone(&counter);
        async move { Answer::new(StatusCode::OK, Body::stream(Endless(counter, 64 << 10))) }
    });
    (rig, io, pulled)
}

#[tokio::test]
async fn unread_request_body_stops_at_one_window() {
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let (_rig, io) = Rig::start(listener(), move |mut request: Request| {
        let held = Arc::clone(&held);
        async move {
            held.notified().await;
            let mut sum = 0;
            while let Some(frame) = request.body.frame().await {
                if let Frame::Data(data) = frame.unwrap() {
                    sum += data.len();
                }
            }
            Answer::new(StatusCode::OK, Body::full(sum.to_string()))
        }
    });
    let (mut send, _connection) = connect(io).await;
    let (response, mut outgoing) = send.send_request(post("/"), false).unwrap();

    // All that the windows allow goes out; then nothing more until somebody reads.
    let mut sent = 0;
    outgoing.reserve_capacity(1 << 20);
    while let Ok(Some(Ok(window))) = timeout(Duration::from_millis(200), poll_fn(|cx| outgoing.poll_capacity(cx))).await
    {
        outgoing.send_data(Bytes::from(vec![0; window]), false).unwrap();
        sent += window;
        outgoing.reserve_capacity((1 << 20) - sent);
    }
    assert!((65_535..=256 << 10).contains(&sent), "{sent}");

    release.notify_one();
    while sent < 1 << 20 {
        outgoing.reserve_capacity((1 << 20) - sent);
        let window = poll_fn(|cx| outgoing.poll_capacity(cx)).await.unwrap().unwrap();
        sent += window;
        outgoing.send_data(Bytes::from(vec![0; window]), sent == 1 << 20).unwrap();
    }
    let (sum, _) = content(response.await.unwrap().into_body()).await.unwrap();

    assert_eq!(sum, (1 << 20).to_string().as_bytes());
}

#[tokio::test]
async fn eight_hundred_closed_windows_pull_nothing_from_endpoints() {
    let (_rig, io, pulled) = endless();
    let (send, connection) = client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(io).await.unwrap();
    let _connection = tokio::spawn(connection);

    let mut send = send.ready().await.unwrap();
    let mut open = Vec::new();
    for _ in 0..800 {
        send = send.ready().await.unwrap();
        open.push(send.send_request(get("/"), true).unwrap().0);
    }
    for response in open.iter_mut() {
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    }

    assert_eq!(pulled.load(SeqCst), 0);
}

#[tokio::test]
async fn sum_over_all_streams_is_bounded_when_the_socket_is_not_read() {
    let (_rig, io, pulled) = endless();
    let mut raw = Raw::with_windows(io, (1 << 31) - 1).await;
    for n in 0..800 {
        raw.headers(1 + 2 * n, END_STREAM | END_HEADERS, &GET).await;
    }

    // Nothing is read from the socket: the streams come to rest at the bound.
    let mut last = usize::MAX;
    while last != pulled.load(SeqCst) {
        last = pulled.load(SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // One piece may go beyond for the stream that found the last room, and one pipe's content is on its way.
    assert!(last <= MAX_SEND_BUFFERED + (64 << 10) + (128 << 10), "{last}");
    assert!(last >= MAX_SEND_BUFFERED, "{last}");
}

#[tokio::test]
async fn one_byte_windows_hold_at_most_the_bound() {
    let (_rig, io, pulled) = endless();
    let mut raw = Raw::with_windows(io, 1).await;
    let (mut read, write) = tokio::io::split(raw.io);
    tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    raw.io = duplex(1).0;
    let mut writer = Raw2(write);
    for n in 0..800 {
        writer.headers(1 + 2 * n).await;
    }

    let mut last = usize::MAX;
    while last != pulled.load(SeqCst) {
        last = pulled.load(SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    assert!(last <= MAX_SEND_BUFFERED + (64 << 10), "{last}");
}
