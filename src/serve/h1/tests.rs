//! Behaviour of a connection, over an in-memory stream.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::body::{BodyError, Frame, Source};
use crate::config::Config;
use crate::lexicon::{ConnectionId, Protocol};
use crate::lifecycle::Lifecycle;
use crate::net::io::ClientIo;

/// Answers by path; tells refusals by their status.
#[derive(Clone)]
struct Echo;

impl Handler for Echo {
    fn handle(&self, mut request: Request) -> Answering {
        Box::pin(async move {
            match request.head.uri.path() {
                "/hang" => std::future::pending().await,
                // Answers with the request's own body, before that has come to its end.
                "/echo" => Answer::new(StatusCode::OK, request.body),
                "/torn" => Answer::new(StatusCode::OK, Body::stream(Torn(false))),
                "/early" => Answer::new(StatusCode::FORBIDDEN, Body::full("no")),
                "/hints" => {
                    request.interim.push(StatusCode::EARLY_HINTS, Fields::new());
                    tokio::task::yield_now().await;
                    Answer::new(StatusCode::OK, Body::full("hinted"))
                }
                _ => {
                    let mut text = Vec::new();
                    while let Some(frame) = request.body.frame().await {
                        match frame {
                            Ok(Frame::Data(content)) => text.extend_from_slice(&content),
                            Ok(Frame::Trailers(_)) => text.extend_from_slice(b"+trailers"),
                            Err(error) => return Answer::new(StatusCode::BAD_REQUEST, Body::full(error.to_string())),
                        }
                    }
                    Answer::new(StatusCode::OK, Body::full(text))
                }
            }
        })
    }

    fn refuse(&self, refused: Refused) -> Answer {
        let status = match refused.refusal {
            Refusal::UriTooLong => StatusCode::URI_TOO_LONG,
            Refusal::Late(_) => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        };
        Answer::new(status, Body::full("refused"))
    }
}

/// Content of unknown length that breaks off.
struct Torn(bool);

impl Source for Torn {
    fn poll_frame(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        let first = !std::mem::replace(&mut self.0, true);
        std::task::Poll::Ready(Some(if first { Ok(Frame::Data("half".into())) } else { Err(BodyError::Gone(None)) }))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

impl Transport for DuplexStream {
    fn break_off(&mut self) {}
}

fn connection() -> Arc<Connection> {
    connection_on("")
}

fn connection_on(settings: &str) -> Arc<Connection> {
    let text =
        format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{settings}\n[pools.p]\nendpoints = [\"127.0.0.1:1\"]\n");
    let loaded = Config::parse(&text, std::path::Path::new("test.toml")).expect("a configuration");
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    Arc::new(Connection {
        id: ConnectionId::next(),
        listener: Arc::clone(&loaded.config.listeners[0]),
        peer: nobody,
        local: nobody,
        proxied: None,
        protocol: Protocol::Http1,
        tls: None,
        alternative: None,
    })
}

/// A client of a fresh connection, and the way to drain it.
fn client() -> (DuplexStream, Lifecycle, tokio::task::JoinHandle<()>) {
    let (ours, theirs) = duplex(64 * 1024);
    let lifecycle = Lifecycle::new();
    let served = tokio::spawn(serve(theirs, connection(), Echo, lifecycle.life()));
    (ours, lifecycle, served)
}

async fn until_close(io: &mut DuplexStream) -> String {
    let mut all = Vec::new();
    io.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

async fn ask(request: &str) -> String {
    let (mut io, _lifecycle, _served) = client();
    io.write_all(request.as_bytes()).await.unwrap();
    until_close(&mut io).await
}

#[tokio::test]
async fn who_has_the_last_piece_of_a_body_alone_holds_its_buffer() {
    for (framing, sent) in
        [(Framing::Length(100_000), vec![b'x'; 100_000]), (Framing::Chunked, b"1\r\nx\r\n0\r\n\r\n".to_vec())]
    {
        let (mut io, theirs) = duplex(1 << 20);
        let wire = SharedWire::new(theirs, &connection().listener);
        wire.lock().expect(framing, None);
        io.write_all(&sent).await.unwrap();

        let (mut body, mut last) = (Body::stream(Inbound::new(&wire)), Bytes::new());
        while let Some(frame) = body.frame().await {
            if let Ok(Frame::Data(content)) = frame {
                last = content;
            }
        }

        assert!(!last.is_empty() && last.is_unique());
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_turn() {
    let answers = ask("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none\
         POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\nT: x\r\n\r\n\
         GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    .await;

    let one = answers.find("\r\n\r\none").unwrap();
    let two = answers.find("\r\n\r\ntwo+trailers").unwrap();
    assert!(one < two);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(answers.matches("connection: close").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_request_ends_the_connection() {
    let answers = ask("GET / HTTP/1.1\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").await;

    assert!(answers.starts_with("HTTP/1.1 400 Bad Request"));
    assert!(answers.contains("connection: close"));
    assert_eq!(answers.matches("HTTP/1.1").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn endless_request_line_is_refused_before_its_end() {
    let answers = ask(&format!("GET /{}", "a".repeat(40_000))).await;

    assert!(answers.starts_with("HTTP/1.1 414"), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn half_a_head_ends_with_408() {
    let answers = ask("GET / HTTP/1.1\r\nHost").await;

    assert!(answers.starts_with("HTTP/1.1 408"), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_without_a_word() {
    let (mut io, _lifecycle, served) = client();
    io.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();

    let answers = until_close(&mut io).await;

    assert_eq!(answers.matches("HTTP/1.1").count(), 1);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stalled_body_is_late() {
    let answers = ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc").await;

    assert!(answers.starts_with("HTTP/1.1 400"), "{answers}");
    assert!(answers.contains("body_read clock ran out"), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn continue_is_sent_only_when_content_is_wanted() {
    let wanted = ask("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    let unwanted = ask("POST /early HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;

    assert!(wanted.starts_with("HTTP/1.1 100 Continue\r\n\r\n"), "{wanted}");
    assert!(unwanted.starts_with("HTTP/1.1 403"), "{unwanted}");
    assert!(unwanted.contains("connection: close"), "{unwanted}");
}

#[tokio::test(start_paused = true)]
async fn client_in_the_middle_of_an_upload_gets_to_read_its_refusal() {
    let (mut io, _lifecycle, served) = client();
    io.write_all(b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n").await.unwrap();

    for _ in 0..64 {
        io.write_all(&[b'x'; 64 * 1024]).await.expect("the server reads on");
    }

    assert!(until_close(&mut io).await.starts_with("HTTP/1.1 403"));
    drop(io);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn client_that_never_stops_sending_is_cut_after_its_answer() {
    let (mut io, _lifecycle, served) = client();
    io.write_all(b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999\r\n\r\n").await.unwrap();
    let began = Instant::now();

    while io.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(900)).await;
    }

    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn early_hints_reach_http11_clients_only() {
    let new = ask("GET /hints HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let old = ask("GET /hints HTTP/1.0\r\n\r\n").await;

    assert!(new.starts_with("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200"), "{new}");
    assert!(old.starts_with("HTTP/1.1 200"), "{old}");
}

#[tokio::test(start_paused = true)]
async fn client_that_leaves_ends_its_exchange() {
    let (mut io, _lifecycle, served) = client();
    io.write_all(b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    tokio::task::yield_now().await;

    drop(io);

    tokio::time::timeout(Duration::from_millis(10), served).await.expect("ended at once").unwrap();
}

#[tokio::test(start_paused = true)]
async fn drain_ends_an_idle_connection_and_spares_a_busy_one() {
    let (mut idle, lifecycle, served) = client();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut first = vec![0; 1024];
    assert!(idle.read(&mut first).await.unwrap() > 0);

    lifecycle.advance(Phase::Draining);

    assert_eq!(until_close(&mut idle).await, "");
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn answer_that_still_reads_its_request_loses_nothing_of_it() {
    let (mut io, _lifecycle, _served) = client();
    io.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nfirst,").await.unwrap();
    tokio::task::yield_now().await;
    io.write_all(b"later").await.unwrap();

    let answer = until_close(&mut io).await;

    assert!(answer.contains("content-length: 11\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nfirst,later"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn unread_body_that_is_here_already_does_not_cost_the_connection() {
    let answers = ask("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
         GET /early HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    .await;

    assert_eq!(answers.matches("HTTP/1.1 403").count(), 2, "{answers}");
}

/// A client over TCP, where a break can be told from an end.
async fn tcp_client() -> tokio::net::TcpStream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    let io = ClientIo::plain(accepted.unwrap().0);
    let lifecycle = Lifecycle::new();
    tokio::spawn(async move {
        serve(io, connection(), Echo, lifecycle.life()).await;
        drop(lifecycle);
    });
    client.unwrap()
}

#[tokio::test]
async fn torn_content_that_lasts_until_the_close_ends_with_a_reset() {
    let mut io = tcp_client().await;
    io.write_all(b"GET /torn HTTP/1.0\r\n\r\n").await.unwrap();

    let error = io.read_to_end(&mut Vec::new()).await.unwrap_err();

    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn torn_chunks_reach_the_client_without_their_end() {
    let mut io = tcp_client().await;
    io.write_all(b"GET /torn HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();

    let mut all = Vec::new();
    io.read_to_end(&mut all).await.unwrap();

    assert!(all.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(all.ends_with(b"\r\n\r\n4\r\nhalf\r\n"), "{}", String::from_utf8_lossy(&all));
}

#[tokio::test(start_paused = true)]
async fn broken_preface_is_not_answered_in_the_wrong_protocol() {
    for (settings, answered) in [("", true), ("http2 = { cleartext = true }", false)] {
        let (mut io, theirs) = duplex(1024);
        let lifecycle = Lifecycle::new();
        tokio::spawn(serve(theirs, connection_on(settings), Echo, lifecycle.life()));
        io.write_all(b"INVALID CONNECTION PREFACE\r\n\r\n").await.unwrap();

        assert_eq!(until_close(&mut io).await.starts_with("HTTP/1.1 400"), answered, "{settings}");
    }
}
