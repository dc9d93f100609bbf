//! Clients that reset, abandon and flood, written by hand.

use super::*;

#[tokio::test]
async fn stream_reset_at_once_costs_no_handler() {
    let (count, does) = counting();
    let (_rig, mut io) = Rig::start(listener(), does);
    let mut bytes = Vec::new();
    for n in 0..10 {
        bytes.extend_from_slice(&frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * n, &GET));
        bytes.extend_from_slice(&frame(RST_STREAM, 0, 1 + 2 * n, &[0, 0, 0, 8]));
    }
    bytes.extend_from_slice(&frame(HEADERS, END_STREAM | END_HEADERS, 99, &GET));
    let settings = frame(SETTINGS, 0, 0, &[]);
    io.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &bytes].concat()).await.unwrap();
    let mut raw = Raw { io };

    assert_eq!(raw.next(HEADERS).await.0, 99);
    assert_eq!(count.load(SeqCst), 1);
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let (count, does) = counting();
    let (_rig, mut io) = Rig::start(listener(), does);
    let mut bytes = frame(SETTINGS, 0, 0, &[]);
    for n in 0..30 {
        bytes.extend_from_slice(&frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * n, &GET));
        bytes.extend_from_slice(&frame(RST_STREAM, 0, 1 + 2 * n, &[0, 0, 0, 8]));
    }
    io.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &bytes[..]].concat()).await.unwrap();
    let mut raw = Raw { io };

    assert_eq!(raw.next(GOAWAY).await.1[4..8], ENHANCE_YOUR_CALM);
    assert_eq!(count.load(SeqCst), 0);
}

#[tokio::test]
async fn many_malformed_streams_end_the_connection() {
    let mut listener = listener();
    listener.http2.max_error_resets = 5;
    let (_rig, io) = Rig::start(listener, ok);
    let mut raw = Raw::new(io).await;
    let block = [&GET[..], &field("x-a", b" 1")].concat();
    for n in 0..7 {
        raw.headers(1 + 2 * n, END_STREAM | END_HEADERS, &block).await;
    }

    assert_eq!(raw.next(GOAWAY).await.1[4..8], ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn client_that_abandons_most_of_its_streams_is_asked_to_leave() {
    let mut listener = listener();
    listener.http2.max_error_resets = 5;
    let (sender, mut begun) = mpsc::channel(1);
    let (_rig, io) = Rig::start(listener, move |_| {
        let sender = sender.clone();
        async move {
            sender.send(()).await.unwrap();
            std::future::pending().await
        }
    });
    let mut raw = Raw::new(io).await;
    for n in 0..6 {
        raw.headers(1 + 2 * n, END_STREAM | END_HEADERS, &GET).await;
        // Too late for what costs no endpoint.
        begun.recv().await.unwrap();
        raw.io.write_all(&frame(RST_STREAM, 0, 1 + 2 * n, &[0, 0, 0, 8])).await.unwrap();
    }

    assert_eq!(raw.next(GOAWAY).await.1[4..8], [0; 4]);
}

#[tokio::test]
async fn client_that_abandons_less_than_half_of_its_streams_stays() {
    let mut listener = listener();
    listener.http2.max_error_resets = 2;
    let (sender, mut begun) = mpsc::channel(1);
    let (_rig, io) = Rig::start(listener, move |request: Request| {
        let sender = sender.clone();
        async move {
            if request.head.method == Method::POST {
                sender.send(()).await.unwrap();
                std::future::pending::<()>().await;
            }
            ok(request).await
        }
    });
    let mut raw = Raw::new(io).await;
    for n in 0..8 {
        raw.headers(1 + 4 * n, END_STREAM | END_HEADERS, &GET).await;
        assert_eq!(raw.next(DATA).await.0, 1 + 4 * n);
        raw.headers(3 + 4 * n, END_STREAM | END_HEADERS, &POST).await;
        begun.recv().await.unwrap();
        raw.io.write_all(&frame(RST_STREAM, 0, 3 + 4 * n, &[0, 0, 0, 8])).await.unwrap();
    }
    raw.io.write_all(&frame(PING, 0, 0, &[1; 8])).await.unwrap();

    loop {
        match raw.frame().await.0 {
            PING => break,
            kind => assert_ne!(kind, GOAWAY),
        }
    }
}

#[tokio::test]
async fn flood_of_empty_data_ends_the_connection() {
    let (_rig, io) = Rig::start(listener(), |_| std::future::pending());
    let mut raw = Raw::new(io).await;
    raw.headers(1, END_HEADERS, &POST).await;
    for _ in 0..200 {
        drop(raw.io.write_all(&frame(DATA, 0, 1, &[])).await);
    }

    assert_eq!(raw.next(GOAWAY).await.1[4..8], ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn flood_of_small_data_ends_the_connection() {
    let (_rig, io) = Rig::start(listener(), |_| std::future::pending());
    let mut raw = Raw::new(io).await;
    raw.headers(1, END_HEADERS, &POST).await;
    for _ in 0..3000 {
        drop(raw.io.write_all(&frame(DATA, 0, 1, b"x")).await);
    }

    assert_eq!(raw.next(GOAWAY).await.1[4..8], ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn flood_of_continuations_ends_the_connection() {
    let (_rig, io) = Rig::start(listener(), ok);
    let mut raw = Raw::new(io).await;
    raw.headers(1, END_STREAM, &GET).await;
    for _ in 0..20 {
        drop(raw.io.write_all(&frame(CONTINUATION, 0, 1, &[])).await);
    }

    assert_eq!(raw.next(GOAWAY).await.1[4..8], ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn floods_of_ping_and_settings_end_the_connection() {
    for bytes in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let (_rig, io) = Rig::start(listener(), ok);
        let raw = Raw::new(io).await;
        let (mut read, mut write) = tokio::io::split(raw.io);
        let flood = bytes.repeat(1000);
        tokio::spawn(async move { while write.write_all(&flood).await.is_ok() {} });

        let mut all = Vec::new();
        timeout(Duration::from_secs(30), read.read_to_end(&mut all)).await.expect("server closes").unwrap();

        let goaway = all.windows(8).any(|window| window[..4] == [GOAWAY, 0, 0, 0]);
        assert!(goaway);
        assert_eq!(all[all.len() - 4..], ENHANCE_YOUR_CALM);
    }
}
