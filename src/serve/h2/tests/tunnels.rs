//! Tunnels by extended CONNECT (RFC 8441).

use super::*;

fn websocket(protocol: &'static str) -> HttpRequest<()> {
    let mut request = get("/ws");
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
    request
}

async fn echo_tunnel(request: Request) -> Answer {
    assert_eq!(request.upgrade, Some(Upgrade::ExtendedConnect));
    let mut answer = Answer::new(StatusCode::OK, Body::empty());
    answer.tunnel = Some(Box::new(|io| {
        Box::pin(async move {
            let (mut read, mut write) = tokio::io::split(io);
            drop(tokio::io::copy(&mut read, &mut write).await);
            drop(write.shutdown().await);
        })
    }));
    answer
}

#[tokio::test]
async fn tunnel_carries_bytes_and_half_close_both_ways() {
    let (_rig, io) = Rig::start(listener(), echo_tunnel);
    let (mut send, _connection) = connect(io).await;
    // Settings must arrive before an extended CONNECT may be sent.
    while !send.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }

    let (response, mut outgoing) = send.send_request(websocket("websocket"), false).unwrap();
    let answer = response.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("content-length"));
    let sending = async {
        let mut left = 300_000;
        while left > 0 {
            outgoing.reserve_capacity(left);
            let window = poll_fn(|cx| outgoing.poll_capacity(cx)).await.unwrap().unwrap();
            left -= window;
            outgoing.send_data(Bytes::from(vec![b'w'; window]), left == 0).unwrap();
        }
    };
    let ((), back) = tokio::join!(sending, content(answer.into_body()));

    assert_eq!(back.unwrap().0.len(), 300_000);
}

#[tokio::test]
async fn reset_of_a_tunnel_is_an_error_to_its_reader() {
    let (sender, mut seen) = mpsc::channel(1);
    let (_rig, io) = Rig::start(listener(), move |_| {
        let sender = sender.clone();
        async move {
            let mut answer = Answer::new(StatusCode::OK, Body::empty());
            answer.tunnel = Some(Box::new(move |mut io| {
                Box::pin(async move {
                    let error = io.read(&mut [0; 10]).await.unwrap_err();
                    sender.send(error.kind()).await.unwrap();
                })
            }));
            answer
        }
    });
    let (mut send, _connection) = connect(io).await;
    while !send.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }

    let (response, mut outgoing) = send.send_request(websocket("websocket"), false).unwrap();
    response.await.unwrap();
    outgoing.send_reset(Reason::CANCEL);

    assert_eq!(seen.recv().await, Some(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn unknown_protocol_is_refused_by_the_handler() {
    let (mut rig, io) = Rig::start(listener(), ok);
    let (mut send, _connection) = connect(io).await;
    while !send.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }

    let (response, _outgoing) = send.send_request(websocket("connect-udp"), false).unwrap();

    response.await.unwrap();
    assert_eq!(rig.refused.recv().await, Some(Refusal::UnknownProtocol));
}

#[tokio::test]
async fn refused_tunnel_is_an_ordinary_answer() {
    let (_rig, io) = Rig::start(listener(), |_| async { Answer::new(StatusCode::FORBIDDEN, Body::full("no")) });
    let (mut send, _connection) = connect(io).await;
    while !send.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }

    let (response, _outgoing) = send.send_request(websocket("websocket"), false).unwrap();
    let answer = response.await.unwrap();

    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(content(answer.into_body()).await.unwrap().0, b"no");
}
