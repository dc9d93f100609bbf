//! One exchange with scripted endpoints, over real sockets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::balance::Roster;
use crate::body::{BodyError, Source};
use crate::config::Config;
use crate::head::request;
use crate::message::Interim;

const LIMITS: Limits = Limits {
    write_idle: Duration::from_secs(20),
    first_byte: Duration::from_secs(20),
    between_bytes: Duration::from_secs(20),
    deadline: None,
    head_bytes: 1024,
};

async fn pair() -> (Link, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Link::new(UpstreamIo::plain(ours.unwrap())), theirs.unwrap().0)
}

fn home() -> Home {
    let text = "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.p]\nendpoints = [\"127.0.0.1:1\"]\n";
    let config = Config::parse(text, "p.toml".as_ref()).unwrap().config;
    let endpoint = Arc::clone(&Roster::new(&config.pools[0].endpoints).endpoints()[0]);
    let (idle, way) = (Idle::default(), Way::new(endpoint.id, None));
    idle.expect(way, &endpoint);
    Home { idle, way, most: 8, limit: Duration::from_secs(60) }
}

/// Pieces of content, then an end: `None` never comes.
struct Pieces(VecDeque<&'static [u8]>, Option<u64>, bool);

impl Source for Pieces {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self.0.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(piece))))),
            None if self.2 => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.1
    }
}

fn endless(pieces: &[&'static [u8]]) -> Body {
    Body::stream(Pieces(pieces.iter().copied().collect(), None, false))
}

/// What the link makes of an endpoint that says `script` and then ends its side.
struct Told {
    outcome: Result<Outcome, (Failure, Sent)>,
    interims: Vec<(StatusCode, Fields)>,
    idle: Idle,
}

struct Asked<'a> {
    body: Body,
    limits: Limits,
    upgrade: bool,
    method: Method,
    leave: Option<Leave<'a>>,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self { body: Body::empty(), limits: LIMITS, upgrade: false, method: Method::GET, leave: None }
    }
}

async fn ask(link: Link, asked: Asked<'_>) -> Told {
    let mut head = request::Parts { method: asked.method, ..request::Parts::default() };
    head.headers.insert("host", "h".parse().unwrap());
    let (home, interim) = (home(), Interim::default());
    let idle = home.idle.clone();
    let exchange = Exchange {
        head: &head,
        body: asked.body,
        interim: &interim,
        upgrade: asked.upgrade,
        limits: asked.limits,
        leave: asked.leave,
    };
    let outcome = link.exchange(exchange, home).await;
    Told { outcome, interims: interim.take(), idle }
}

async fn told(script: impl AsRef<[u8]>) -> Told {
    let (link, mut peer) = pair().await;
    peer.write_all(script.as_ref()).await.unwrap();
    let told = ask(link, Asked::default()).await;
    drop(peer);
    told
}

impl Told {
    fn failure(self) -> (Failure, Sent) {
        match self.outcome {
            Err(failed) => failed,
            Ok(_) => panic!("an answer was taken"),
        }
    }

    fn response(self) -> (response::Parts, Body, Idle) {
        match self.outcome {
            Ok(Outcome::Response { head, body }) => (head, body, self.idle),
            Ok(Outcome::Switched { .. }) => panic!("switched"),
            Err((failure, sent)) => panic!("{failure:?} {sent:?}"),
        }
    }
}

async fn read(mut body: Body) -> (Vec<u8>, Option<BodyError>) {
    let mut content = Vec::new();
    loop {
        match body.frame().await {
            Some(Ok(Frame::Data(data))) => content.extend_from_slice(&data),
            Some(Ok(Frame::Trailers(_))) | None => return (content, None),
            Some(Err(error)) => return (content, Some(error)),
        }
    }
}

#[tokio::test]
async fn connection_goes_home_only_when_nothing_else_was_said() {
    const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (script, rests) in [
        (PLAIN.to_owned(), 1),
        ("HTTP/1.1 204 No\r\n\r\n".to_owned(), 1),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(), 1),
        (format!("{PLAIN}HTTP/1.1 200 Forged\r\n\r\n"), 0),
        (format!("{PLAIN}\r\n"), 0),
        ("HTTP/1.1 204 No\r\n\r\nx".to_owned(), 0),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok".to_owned(), 0),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), 0),
    ] {
        let (link, mut peer) = pair().await;
        peer.write_all(script.as_bytes()).await.unwrap();

        let (_, body, idle) = ask(link, Asked::default()).await.response();
        let (_, error) = read(body).await;

        assert!(error.is_none(), "{script}");
        assert_eq!(idle.len(), rests, "{script}");
    }
}

#[tokio::test]
async fn interim_responses_come_first_and_never_for_the_last() {
    let script = "HTTP/1.1 100 Continue\r\n\r\n\
                  HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: 9\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let told = told(script).await;

    let [(status, fields)] = &told.interims[..] else { panic!("{:?}", told.interims) };
    assert_eq!((status.as_u16(), fields.len(), &fields["link"]), (103, 1, "</a>".parse().as_ref().unwrap()));
    assert_eq!(told.response().0.status, StatusCode::OK);
}

#[tokio::test]
async fn storm_of_interim_responses_is_a_fault_of_the_endpoint() {
    let (failure, _) = told("HTTP/1.1 102 Processing\r\n\r\n".repeat(40)).await.failure();

    assert!(matches!(failure, Failure::Malformed(MalformedResponse("too many interim responses"))), "{failure:?}");
}

#[tokio::test]
async fn what_is_no_response_is_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2_000));
    for script in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\nX: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 999 Odd\r\n\r\n",
        &long,
    ] {
        let (failure, _) = told(script).await.failure();
        assert!(matches!(failure, Failure::Malformed(_) | Failure::HeadTooLarge), "{script}: {failure:?}");
    }
}

#[tokio::test]
async fn close_before_the_end_of_the_head_is_no_answer() {
    let (link, mut peer) = pair().await;
    let asked = tokio::spawn(ask(link, Asked::default()));
    let mut byte = [0];
    peer.read_exact(&mut byte).await.unwrap();
    peer.shutdown().await.unwrap();
    assert!(matches!(asked.await.unwrap().failure(), (Failure::Closed(_), Sent::OnFresh)));

    let (link, mut peer) = pair().await;
    peer.write_all(b"HTTP/1.1 200 O").await.unwrap();
    peer.shutdown().await.unwrap();
    assert!(matches!(ask(link, Asked::default()).await.failure().0, Failure::Closed(_)));
}

#[tokio::test]
async fn endpoint_may_answer_before_it_has_read_the_request() {
    let (link, mut peer) = pair().await;
    let body = endless(&[b"some"]);
    let asked = tokio::spawn(ask(link, Asked { body, method: Method::POST, ..Asked::default() }));
    let mut seen = vec![0; 16];
    peer.read_exact(&mut seen).await.unwrap();

    peer.write_all(b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nbig").await.unwrap();

    let (head, body, idle) = asked.await.unwrap().response();
    assert_eq!(head.status, StatusCode::PAYLOAD_TOO_LARGE);
    let (content, error) = read(body).await;
    assert_eq!((&content[..], error.is_none()), (&b"big"[..], true));
    assert_eq!(idle.len(), 0, "half a request is still to come on it");
}

#[tokio::test]
async fn interim_response_of_an_endpoint_that_stops_listening_is_not_its_answer() {
    let (link, mut peer) = pair().await;
    peer.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    // Whatever we send now meets a reset.
    peer.set_zero_linger().unwrap();
    let body = endless(&[&[b'x'; 4096][..]; 600]);

    let asked = tokio::spawn(ask(link, Asked { body, method: Method::POST, ..Asked::default() }));
    let mut some = [0; 4096];
    peer.read_exact(&mut some).await.unwrap();
    drop(peer);

    match asked.await.unwrap().outcome {
        Ok(Outcome::Response { head, .. }) => assert_eq!(head.status, StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Outcome::Switched { .. }) => panic!("switched"),
        Err((failure, _)) => assert!(matches!(failure, Failure::Closed(_)), "{failure:?}"),
    }
}

#[tokio::test]
async fn body_until_the_close_ends_well_with_an_end_and_badly_with_a_reset() {
    let (link, mut peer) = pair().await;
    peer.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it").await.unwrap();
    peer.shutdown().await.unwrap();
    let (_, body, idle) = ask(link, Asked::default()).await.response();
    let (content, error) = read(body).await;
    assert_eq!((&content[..], error.is_none(), idle.len()), (&b"all of it"[..], true, 0));

    let (link, mut peer) = pair().await;
    peer.write_all(b"HTTP/1.1 200 OK\r\n\r\nsome").await.unwrap();
    let (_, mut body, _) = ask(link, Asked::default()).await.response();
    assert!(matches!(body.frame().await, Some(Ok(Frame::Data(_)))));
    peer.set_zero_linger().unwrap();
    drop(peer);
    assert!(matches!(read(body).await.1, Some(BodyError::Gone(Some(_)))));
}

#[tokio::test]
async fn body_that_breaks_off_is_never_complete() {
    for script in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX: y\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf!!",
    ] {
        let (link, mut peer) = pair().await;
        peer.write_all(script.as_bytes()).await.unwrap();
        peer.shutdown().await.unwrap();

        let (_, body, idle) = ask(link, Asked::default()).await.response();
        let (content, error) = read(body).await;

        assert_eq!((&content[..], error.is_some(), idle.len()), (&b"half"[..], true, 0), "{script}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_clock_names_itself() {
    let (link, _peer) = pair().await;
    let first = Limits { first_byte: Duration::from_secs(3), ..LIMITS };
    let (failure, _) = ask(link, Asked { limits: first, ..Asked::default() }).await.failure();
    assert!(matches!(failure, Failure::Late(Clock::FirstByte)), "{failure:?}");

    let (link, _peer) = pair().await;
    let whole = Limits { deadline: Some(Instant::now() + Duration::from_secs(2)), ..first };
    let (failure, _) = ask(link, Asked { limits: whole, ..Asked::default() }).await.failure();
    assert!(matches!(failure, Failure::Late(Clock::Exchange)), "{failure:?}");

    let (link, _peer) = pair().await;
    let body = endless(&[&[b'x'; 65_536][..]; 600]);
    let write = Limits { write_idle: Duration::from_secs(1), ..LIMITS };
    let (failure, _) = ask(link, Asked { body, limits: write, ..Asked::default() }).await.failure();
    assert!(matches!(failure, Failure::Late(Clock::UpstreamWrite)), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_endpoint_is_left_when_there_is_where_to_go_and_else_has_all_of_its_time() {
    let after = Some(Duration::from_secs(3));
    let limits = Limits { first_byte: Duration::from_secs(20), ..LIMITS };
    let began = Instant::now();
    let (link, _peer) = pair().await;
    let goes = Leave { after, asks: &|slow| slow };

    let (failure, sent) = ask(link, Asked { limits, leave: Some(goes), ..Asked::default() }).await.failure();

    assert!(matches!((&failure, sent), (Failure::Slow, Sent::OnFresh)), "{failure:?}");
    assert_eq!(began.elapsed().as_secs(), 3);

    let (began, asked) = (Instant::now(), AtomicUsize::new(0));
    let (link, _peer) = pair().await;
    let asks = |slow| {
        asked.fetch_add(usize::from(slow), Ordering::Relaxed);
        false
    };
    let stays = Leave { after, asks: &asks };
    let (failure, _) = ask(link, Asked { limits, leave: Some(stays), ..Asked::default() }).await.failure();

    assert!(matches!(failure, Failure::Late(Clock::FirstByte)), "{failure:?}");
    assert_eq!((began.elapsed().as_secs(), asked.into_inner()), (20, 1));
}

#[tokio::test(start_paused = true)]
async fn end_of_the_exchange_holds_while_the_client_sends_nothing() {
    let (link, _peer) = pair().await;
    let limits = Limits { deadline: Some(Instant::now() + Duration::from_secs(2)), ..LIMITS };

    let (failure, _) = ask(link, Asked { body: endless(&[b"x"]), limits, ..Asked::default() }).await.failure();

    assert!(matches!(failure, Failure::Late(Clock::Exchange)), "{failure:?}");
}

#[tokio::test]
async fn pause_in_a_body_and_its_deadline_break_it_off() {
    let script = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    let late = async |limits| {
        let (link, mut peer) = pair().await;
        peer.write_all(script).await.unwrap();
        let (_, body, _) = ask(link, Asked { limits, ..Asked::default() }).await.response();
        read(body).await.1
    };

    let pause = late(Limits { between_bytes: Duration::from_millis(20), ..LIMITS }).await;
    assert!(matches!(pause, Some(BodyError::Late(Clock::BetweenBytes))), "{pause:?}");
    let over = late(Limits { deadline: Some(Instant::now() + Duration::from_millis(200)), ..LIMITS }).await;
    assert!(matches!(over, Some(BodyError::Late(Clock::Exchange))), "{over:?}");
}

#[tokio::test]
async fn body_other_than_announced_is_the_clients_failure() {
    for pieces in [&[&b"abc"[..]][..], &[&b"abc"[..], b"def"]] {
        let (link, _peer) = pair().await;
        let body = Body::stream(Pieces(pieces.iter().copied().collect(), Some(5), true));

        let (failure, _) = ask(link, Asked { body, method: Method::POST, ..Asked::default() }).await.failure();

        assert!(matches!(failure, Failure::Request(BodyError::Malformed(_))), "{failure:?}");
    }
}

#[tokio::test]
async fn switched_connection_keeps_what_came_behind_the_head() {
    let (link, mut peer) = pair().await;
    peer.write_all(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\nfirst").await.unwrap();

    let told = ask(link, Asked { upgrade: true, ..Asked::default() }).await;

    let Ok(Outcome::Switched { head, leftover, .. }) = told.outcome else { panic!("not switched") };
    assert_eq!((head.status.as_u16(), &leftover[..]), (101, &b"first"[..]));
}
