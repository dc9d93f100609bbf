//! quinn behind the seam.
//!
//! quinn offers futures where we poll. Those that borrow a stream are made for each poll, at no cost; those that wait
//! for a notice are kept, as a notice goes to whoever waits.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use quinn::{Connection, RecvStream, SendStream, VarInt};

use super::seam::{Lost, RecvHalf, SendHalf, Transport};
use crate::h3::Code;

/// Most bytes that are taken off a stream at once.
const PIECE: usize = 64 << 10;

/// A code as it goes over the wire.
pub(super) fn wire(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}

/// A connection.
pub(super) struct Quinn {
    connection: Connection,
    both_ways: BoxStream<'static, (SendStream, RecvStream)>,
    one_way: BoxStream<'static, RecvStream>,
    opening: Option<Opening>,
}

type Opening = Pin<Box<dyn Future<Output = Option<SendStream>> + Send>>;

impl Quinn {
    pub(super) fn new(connection: Connection) -> Self {
        let both_ways = stream::unfold(connection.clone(), |connection| async move {
            let accepted = connection.accept_bi().await.ok()?;
            Some((accepted, connection))
        });
        let one_way = stream::unfold(connection.clone(), |connection| async move {
            let accepted = connection.accept_uni().await.ok()?;
            Some((accepted, connection))
        });
        Self { connection, both_ways: Box::pin(both_ways), one_way: Box::pin(one_way), opening: None }
    }
}

impl Transport for Quinn {
    type Send = Outgoing;
    type Recv = Incoming;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Outgoing, Incoming)>> {
        let accepted = ready!(self.both_ways.as_mut().poll_next(cx));
        Poll::Ready(accepted.map(|(send, recv)| (Outgoing::new(send), Incoming { stream: recv, ended: false })))
    }

    fn poll_accept_uni(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let accepted = ready!(self.one_way.as_mut().poll_next(cx));
        Poll::Ready(accepted.map(|stream| Incoming { stream, ended: false }))
    }

    fn poll_open_uni(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        let opening = self.opening.get_or_insert_with(|| {
            let connection = self.connection.clone();
            Box::pin(async move { connection.open_uni().await.ok() })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        Poll::Ready(opened.map(Outgoing::new))
    }

    fn close(&mut self, code: Code, reason: &'static str) {
        self.connection.close(wire(code), reason.as_bytes());
    }

    fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    fn received(&self) -> u64 {
        self.connection.stats().udp_rx.bytes
    }
}

/// What the client sends.
pub(super) struct Incoming {
    stream: RecvStream,
    ended: bool,
}

impl RecvHalf for Incoming {
    fn id(&self) -> u64 {
        VarInt::from(self.stream.id()).into_inner()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Lost>> {
        let chunk = ready!(pin!(self.stream.read_chunk(PIECE, true)).poll(cx));
        self.ended |= !matches!(chunk, Ok(Some(_)));
        Poll::Ready(chunk.map(|chunk| chunk.map(|chunk| chunk.bytes)).map_err(|_| Lost))
    }

    fn stop(&mut self, code: Code) {
        self.ended = true;
        // An error says that it has ended already.
        drop(self.stream.stop(wire(code)));
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.ended {
            // RFC 9114 §4.1: the answer does not depend on the rest.
            self.stop(Code::NoError);
        }
    }
}

/// What the client is sent.
pub(super) struct Outgoing {
    stream: SendStream,
    stopped: Option<Stopped>,
    state: State,
}

/// How much is known of the end of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    Ended,
    Stopped,
}

type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Outgoing {
    const fn new(stream: SendStream) -> Self {
        Self { stream, stopped: None, state: State::Open }
    }
}

impl SendHalf for Outgoing {
    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &mut [Bytes]) -> Poll<Result<(), Lost>> {
        let written = ready!(pin!(self.stream.write_chunks(pieces)).poll(cx));
        Poll::Ready(written.map(|_| ()).map_err(|_| Lost))
    }

    fn finish(&mut self) {
        self.state = State::Ended;
        // An error says that it has ended already.
        drop(self.stream.finish());
    }

    fn reset(&mut self, code: Code) {
        self.state = State::Ended;
        drop(self.stream.reset(wire(code)));
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state == State::Stopped {
            return Poll::Ready(());
        }
        let stopped = self.stopped.get_or_insert_with(|| {
            let stopped = self.stream.stopped();
            Box::pin(async move { drop(stopped.await) })
        });
        ready!(stopped.as_mut().poll(cx));
        self.state = State::Stopped;
        Poll::Ready(())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.state == State::Open {
            // quinn would end it well, which would make a torn answer look whole.
            drop(self.stream.reset(wire(Code::InternalError)));
        }
    }
}
