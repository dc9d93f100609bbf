//! A closed loop over HTTP/3, on the h3 crate: `h3load ADDRESS REQUESTS CONNECTIONS STREAMS [IDLE_SECONDS [PATH]]`.
//!
//! Asks `https://localhost` of ADDRESS for PATH with a browser's fields, trusts any certificate, fails unless every answer
//! is 200, and prints how many bytes of bodies came, and p50, p99 and p99.9 in milliseconds. With no requests it opens the
//! connections and holds them for IDLE_SECONDS.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a load generator that cannot go on panics"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Buf as _;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;

mod browser;
use browser::{FIELDS, trusting};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [to, requests, connections, streams, rest @ ..] = arguments.as_slice() else {
        // `cargo bench` comes by without arguments.
        return println!("h3load ADDRESS REQUESTS CONNECTIONS STREAMS [IDLE_SECONDS [PATH]]");
    };
    let idle = rest.first().map_or(0, |seconds| seconds.parse().unwrap());
    let path = rest.get(1).map_or("/api/v1/chart/data?form_data=%7B%22slice_id%22%3A64%7D", String::as_str);
    let url = format!("https://localhost{path}").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (to, connections, streams) = (to.parse().unwrap(), connections.parse().unwrap(), streams.parse().unwrap());
    runtime.block_on(load(to, url, requests.parse().unwrap(), connections, streams, Duration::from_secs(idle)));
}

async fn load(to: SocketAddr, url: http::Uri, requests: usize, connections: usize, streams: usize, idle: Duration) {
    let tls = trusting(default_provider(), b"h3");
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(None);
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();

    let (asked, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(Vec::with_capacity(requests))));
    let bytes = Arc::new(AtomicUsize::new(0));
    let mut loops = tokio::task::JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..connections {
        let connection = endpoint.connect_with(config.clone(), to, "localhost").unwrap().await.unwrap();
        let connection = h3_quinn::Connection::new(connection);
        // nginx 1.31 takes a stream that ends with a frame of a reserved type (RFC 9114 §7.2.8) for one broken off.
        let (mut driver, send) =
            h3::client::builder().send_grease(false).build::<_, _, bytes::Bytes>(connection).await.unwrap();
        tokio::spawn(async move { drop(std::future::poll_fn(|cx| driver.poll_close(cx)).await) });
        for _ in 0..streams {
            let (mut send, url) = (send.clone(), url.clone());
            let (asked, done, bytes) = (Arc::clone(&asked), Arc::clone(&done), Arc::clone(&bytes));
            loops.spawn(async move {
                while asked.fetch_add(1, Ordering::Relaxed) < requests {
                    let began = Instant::now();
                    let mut request = http::Request::get(url.clone());
                    for (name, value) in FIELDS {
                        request = request.header(name, value);
                    }
                    let mut stream = send.send_request(request.body(()).unwrap()).await.unwrap();
                    stream.finish().await.unwrap();
                    let response = stream.recv_response().await.unwrap();
                    assert_eq!(response.status(), 200);
                    while let Some(piece) = stream.recv_data().await.unwrap() {
                        assert!(piece.has_remaining());
                        bytes.fetch_add(piece.remaining(), Ordering::Relaxed);
                    }
                    done.lock().unwrap().push(began.elapsed());
                }
            });
        }
        open.push(send);
    }
    while let Some(ended) = loops.join_next().await {
        ended.unwrap();
    }
    if idle > Duration::ZERO {
        println!("{connections} open");
        tokio::time::sleep(idle).await;
    }
    let mut times = done.lock().unwrap().clone();
    times.sort();
    if !times.is_empty() {
        let at = |share: usize| times[(times.len() * share / 1000).min(times.len() - 1)].as_secs_f64() * 1e3;
        println!(
            "{} requests, {} bytes, p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms",
            times.len(),
            bytes.load(Ordering::Relaxed),
            at(500),
            at(990),
            at(999)
        );
    }
}
