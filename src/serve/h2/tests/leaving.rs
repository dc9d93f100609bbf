//! Clients that go away: whatever was done for them is dropped at once.

use super::*;

#[tokio::test]
async fn reset_drops_the_handler_at_once() {
    let dropped = Arc::new(Notify::new());
    let started = Arc::new(Notify::new());
    let (bell, start) = (Arc::clone(&dropped), Arc::clone(&started));
    let (_rig, io) = Rig::start(listener(), move |_| {
        let (bell, start) = (Bell(Arc::clone(&bell)), Arc::clone(&start));
        async move {
            start.notify_one();
            std::future::pending::<()>().await;
            drop(bell);
            Answer::new(StatusCode::OK, Body::empty())
        }
    });
    let (mut send, _connection) = connect(io).await;

    let (_response, mut outgoing) = send.send_request(post("/"), false).unwrap();
    started.notified().await;
    outgoing.send_reset(Reason::CANCEL);

    timeout(Duration::from_secs(5), dropped.notified()).await.unwrap();
}

#[tokio::test]
async fn reset_in_the_middle_of_the_answer_drops_its_body() {
    let dropped = Arc::new(Notify::new());
    let bell = Arc::clone(&dropped);
    let (_rig, io) = Rig::start(listener(), move |_| {
        let bell = Bell(Arc::clone(&bell));
        async move {
            let (sender, receiver) = mpsc::channel(1);
            sender.try_send(Ok(Frame::Data(Bytes::from_static(b"x")))).unwrap();
            tokio::spawn(async move {
                sender.closed().await;
                drop(bell);
            });
            Answer::new(StatusCode::OK, Body::stream(Piped(receiver)))
        }
    });
    let (mut send, _connection) = connect(io).await;

    let (response, mut outgoing) = send.send_request(post("/"), false).unwrap();
    drop(response.await.unwrap());
    outgoing.send_reset(Reason::CANCEL);

    timeout(Duration::from_secs(5), dropped.notified()).await.unwrap();
}

#[tokio::test]
async fn reset_request_body_is_gone() {
    let (sender, mut seen) = mpsc::channel(1);
    let (_rig, io) = Rig::start(listener(), move |mut request: Request| {
        let sender = sender.clone();
        async move {
            // The handler is dropped with the reset; the body was handed on.
            tokio::spawn(async move {
                let error = loop {
                    match request.body.frame().await {
                        Some(Ok(_)) => {}
                        other => break other,
                    }
                };
                sender.send(matches!(error, Some(Err(BodyError::Gone(_))))).await.unwrap();
            });
            std::future::pending().await
        }
    });
    let (mut send, _connection) = connect(io).await;

    let (_response, mut outgoing) = send.send_request(post("/"), false).unwrap();
    outgoing.send_data(Bytes::from_static(b"part"), false).unwrap();
    tokio::task::yield_now().await;
    outgoing.send_reset(Reason::CANCEL);

    assert!(seen.recv().await.unwrap());
}

#[tokio::test]
async fn closed_connection_drops_every_handler() {
    let dropped = Arc::new(Notify::new());
    let started = Arc::new(Notify::new());
    let (bell, start) = (Arc::clone(&dropped), Arc::clone(&started));
    let (rig, io) = Rig::start(listener(), move |_| {
        let (bell, start) = (Bell(Arc::clone(&bell)), Arc::clone(&start));
        async move {
            start.notify_one();
            let _bell = bell;
            std::future::pending().await
        }
    });
    let (mut send, connection) = connect(io).await;
    let response = send.send_request(get("/"), true).unwrap();
    started.notified().await;

    connection.abort();
    drop((response, send));

    timeout(Duration::from_secs(5), dropped.notified()).await.unwrap();
    rig.ended().await;
}
