//! The life of a connection by the clock, which no test with sockets could wait for: on a transport in memory.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::*;
use crate::body::Body;
use crate::config::Listener;
use crate::h3::{frame, qpack};
use crate::lexicon::{ConnectionId, Protocol};
use crate::lifecycle::Lifecycle;
use crate::limit::Clients;
use crate::message::{Answer, Answering, Refused, Request};
use crate::serve::quic::seam::{Lost, RecvHalf, SendHalf};

/// What both ends of a connection see of it.
#[derive(Default)]
struct Seen {
    /// Requests that the client has sent whole.
    requests: VecDeque<(u64, Bytes)>,
    control: Vec<u8>,
    answers: Vec<u8>,
    finished: usize,
    /// What our transport has received by now.
    received: u64,
    closed: Option<(Code, Instant)>,
}

/// A connection whose client takes and acknowledges everything at once.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Seen>>);

impl Wire {
    fn see<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The stream numbers of the goodbyes on our control stream.
    fn goodbyes(&self) -> Vec<u64> {
        let control = self.see(|seen| seen.control.clone());
        let mut rest = control.as_slice();
        assert_eq!(frame::take_integer(&mut rest), Some(0));
        let mut found = Vec::new();
        while let (Some(kind), Some(length)) = (frame::take_integer(&mut rest), frame::take_integer(&mut rest)) {
            let (mut payload, after) = rest.split_at(usize::try_from(length).unwrap());
            rest = after;
            if kind == frame::GOAWAY {
                found.push(frame::take_integer(&mut payload).unwrap());
            }
        }
        found
    }
}

struct Incoming(u64, Option<Bytes>);

struct Outgoing {
    wire: Wire,
    control: bool,
    finished: bool,
}

impl Transport for Wire {
    type Send = Outgoing;
    type Recv = Incoming;

    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<Option<(Outgoing, Incoming)>> {
        let Some((id, bytes)) = self.see(|seen| seen.requests.pop_front()) else { return Poll::Pending };
        let send = Outgoing { wire: self.clone(), control: false, finished: false };
        Poll::Ready(Some((send, Incoming(id, Some(bytes)))))
    }

    fn poll_accept_uni(&mut self, _: &mut Context<'_>) -> Poll<Option<Incoming>> {
        Poll::Pending
    }

    fn poll_open_uni(&mut self, _: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        Poll::Ready(Some(Outgoing { wire: self.clone(), control: true, finished: false }))
    }

    fn close(&mut self, code: Code, _: &'static str) {
        self.see(|seen| seen.closed = Some((code, Instant::now())));
    }

    fn round_trip(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn received(&self) -> u64 {
        self.see(|seen| seen.received)
    }
}

impl RecvHalf for Incoming {
    fn id(&self) -> u64 {
        self.0
    }

    fn poll_read(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Lost>> {
        Poll::Ready(Ok(self.1.take()))
    }

    fn stop(&mut self, _: Code) {}
}

impl SendHalf for Outgoing {
    fn poll_write(&mut self, _: &mut Context<'_>, pieces: &mut [Bytes]) -> Poll<Result<(), Lost>> {
        self.wire.see(|seen| {
            let to = if self.control { &mut seen.control } else { &mut seen.answers };
            pieces.iter_mut().for_each(|piece| to.extend_from_slice(&std::mem::take(piece)));
        });
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {
        self.finished = true;
        self.wire.see(|seen| seen.finished += 1);
    }

    fn reset(&mut self, code: Code) {
        panic!("a stream was reset: {code:?}");
    }

    fn poll_stopped(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.finished { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Answers after a while.
#[derive(Clone)]
struct Slow {
    takes: Duration,
}

/// A minute.
const SLOW: Slow = Slow { takes: Duration::from_secs(60) };

impl Handler for Slow {
    fn handle(&self, _: Request) -> Answering {
        let takes = self.takes;
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            Answer::new(StatusCode::OK, Body::full("slow but whole"))
        })
    }

    fn refuse(&self, refused: Refused) -> Answer {
        panic!("refused: {:?}", refused.refusal);
    }
}

fn get() -> Bytes {
    let mut section = BytesMut::new();
    qpack::begin(&mut section);
    for (name, value) in [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")] {
        qpack::put_line(&mut section, name, value.as_bytes(), false);
    }
    let mut bytes = BytesMut::new();
    frame::put_head(&mut bytes, frame::HEADERS, section.len());
    bytes.extend_from_slice(&section);
    bytes.freeze()
}

fn connection(adjust: impl FnOnce(&mut Listener)) -> Arc<Connection> {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut listener = Listener::internal("test", address);
    adjust(&mut listener);
    Arc::new(Connection {
        id: ConnectionId::next(),
        listener: Arc::new(listener),
        peer: address,
        local: address,
        proxied: None,
        protocol: Protocol::Http3,
        tls: None,
        alternative: None,
    })
}

fn share() -> Share {
    Clients::new(64, 64).share(IpAddr::from([127, 0, 0, 1]))
}

#[tokio::test(start_paused = true)]
async fn old_connection_is_asked_to_leave_and_finishes_its_streams() {
    let wire = Wire::default();
    wire.see(|seen| seen.requests.push_back((0, get())));
    let began = Instant::now();
    let connection = connection(|listener| listener.max_connection_age = Duration::from_secs(50));
    let lifecycle = Lifecycle::new();
    let served = tokio::spawn(serve(wire.clone(), connection, SLOW, lifecycle.life(), share()));

    tokio::time::sleep(Duration::from_secs(44)).await;
    assert_eq!(wire.goodbyes(), [0; 0], "not before nine tenths of its age");
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(wire.goodbyes(), [LAST_STREAM, 4], "in two steps");
    assert_eq!(wire.see(|seen| (seen.finished, seen.closed)), (0, None), "its stream goes on");

    assert_eq!(served.await.unwrap(), None);
    let (finished, whole, closed) = wire.see(|seen| {
        let whole = seen.answers.windows(14).any(|window| window == b"slow but whole");
        (seen.finished, whole, seen.closed.unwrap())
    });
    assert_eq!((finished, whole, closed.0), (1, true, Code::NoError));
    assert!((60..70).contains(&(closed.1 - began).as_secs()), "as soon as its last stream has ended");
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_asked_to_leave_after_keep_alive() {
    let wire = Wire::default();
    let began = Instant::now();
    let lifecycle = Lifecycle::new();

    assert_eq!(serve(wire.clone(), connection(|_| ()), SLOW, lifecycle.life(), share()).await, None);

    assert_eq!(wire.goodbyes(), [LAST_STREAM, 0]);
    let (code, at) = wire.see(|seen| seen.closed.unwrap());
    assert_eq!((code, (at - began).as_secs()), (Code::NoError, 75));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_came_before_it_was_idle_are_no_flood() {
    let wire = Wire::default();
    wire.see(|seen| seen.requests.push_back((0, get())));
    let lifecycle = Lifecycle::new();
    let slow = Slow { takes: Duration::from_secs(12) };
    let served = tokio::spawn(serve(wire.clone(), connection(|_| ()), slow, lifecycle.life(), share()));

    // Of an upload that ends between two looks, or of acknowledgements of a download.
    tokio::time::sleep(Duration::from_secs(11)).await;
    wire.see(|seen| seen.received += 8 * MAX_IDLE_BYTES);

    assert_eq!(served.await.unwrap(), None);
    assert_eq!(wire.see(|seen| (seen.finished, seen.closed.unwrap().0)), (1, Code::NoError));
}

#[tokio::test(start_paused = true)]
async fn much_that_comes_while_nothing_is_open_is_a_flood() {
    let wire = Wire::default();
    wire.see(|seen| seen.requests.push_back((0, get())));
    let began = Instant::now();
    let lifecycle = Lifecycle::new();
    let slow = Slow { takes: Duration::from_secs(12) };
    let served = tokio::spawn(serve(wire.clone(), connection(|_| ()), slow, lifecycle.life(), share()));

    tokio::time::sleep(Duration::from_secs(16)).await;
    wire.see(|seen| seen.received += 8 * MAX_IDLE_BYTES);

    assert_eq!(served.await.unwrap(), Some(FLOOD));
    assert_eq!(began.elapsed().as_secs(), 20, "at the next look");
}
