//! Waiting for the answer and writing it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::body::{Body, Frame};
use crate::h1::encode::{self, Delimiting, Persistence};
use crate::head::{Fields, response};
use crate::message::{Answer, Answering, Interim, Transport};
use crate::net::date;

use super::super::pace::Path;
use super::{Asked, Server, Written, poll_answer};

/// How a connection that ends is read on, so that the client gets to see the answer before a reset for what it still
/// sends (RFC 9112 §9.6). A library or browser in the middle of an upload tells of a reset, not of the 413.
struct Linger {
    /// Longest pause of a client that still sends.
    pause: Duration,
    /// Longest time in all.
    whole: Duration,
    /// Most bytes.
    bytes: usize,
}

const LINGER: Linger =
    Linger { pause: Duration::from_secs(1), whole: Duration::from_secs(5), bytes: 256 * 1024 * 1024 };

impl<I: Transport + 'static> Server<I> {
    /// Waits for the answer, passing interim responses on; `None` when the client left before.
    pub(super) async fn await_answer(
        &mut self,
        mut answering: Answering,
        interim: &Interim,
        asked: &Asked,
    ) -> Option<Answer> {
        poll_fn(|cx| {
            // First, so that an answer of this very moment says `close` if the connection is going to be.
            self.drain.poll(cx);
            if let Poll::Ready(answer) = poll_answer(&mut answering, cx) {
                self.add_interim(interim, asked);
                return Poll::Ready(Some(answer));
            }
            self.add_interim(interim, asked);
            if let Poll::Ready(Err(_)) = self.poll_outbox(cx) {
                return Poll::Ready(None);
            }
            self.wire.lock().poll_gone(cx).map(|()| None)
        })
        .await
    }

    /// Writes `answer`.
    pub(super) async fn write(&mut self, answer: Answer, asked: &Asked) -> Written {
        // An endpoint that answers early may still be reading what came: its bytes are not ours to skip.
        if self.wire.is_unread() {
            self.wire.lock().skip_received();
        }
        let last = self.is_last(&answer, asked);
        let Answer { mut head, body, .. } = answer;
        let delimiting = Delimiting::of_response(&asked.method, head.status, body.remaining(), asked.http11);
        let persistence = match (last || delimiting == Delimiting::Close, asked.http11) {
            (true, _) => Persistence::Close,
            (false, true) => Persistence::Default,
            (false, false) => Persistence::KeepAlive,
        };
        date::stamp(&mut head.headers);
        encode::response_head(self.outbox.head(), &head, delimiting, persistence);
        let body = if delimiting == Delimiting::Absent { Body::empty() } else { body };
        let complete = self.write_body(body, delimiting).await;
        match (complete, persistence) {
            (false, _) => {
                if delimiting == Delimiting::Close {
                    self.wire.lock().break_off();
                }
                Written::Broken
            }
            (true, Persistence::Close) => Written::Close,
            // A body that was not read to its end by the time the answer is complete cannot be followed by anything.
            (true, _) if !self.wire.lock().is_received() => Written::Close,
            (true, _) => Written::Open,
        }
    }

    /// Writes the head of an answer that turns the connection into a tunnel; whether it went out.
    pub(super) async fn write_switch(&mut self, answer: Answer) -> bool {
        let mut head = answer.head;
        date::stamp(&mut head.headers);
        encode::response_head(self.outbox.head(), &head, Delimiting::Absent, Persistence::Upgrade);
        self.write_body(Body::empty(), Delimiting::Absent).await
    }

    /// Writes what waits and `body`; whether all of it went out.
    async fn write_body(&mut self, mut body: Body, delimiting: Delimiting) -> bool {
        let chunked = delimiting == Delimiting::Chunks;
        let mut ended = false;
        let mut broken = false;
        let written = poll_fn(|cx| {
            loop {
                let mut starved = false;
                if !ended && self.outbox.takes_content() {
                    match body.poll_frame(cx) {
                        Poll::Ready(Some(Ok(Frame::Data(content)))) => self.outbox.push(content, chunked),
                        Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                            ended = true;
                            if chunked {
                                self.outbox.push_last_chunk(&trailers);
                            }
                        }
                        Poll::Ready(None) => {
                            ended = true;
                            if chunked {
                                self.outbox.push_last_chunk(&Fields::new());
                            }
                        }
                        // The end is missing on purpose: the client must not take this for a complete response. What
                        // came before is still its own.
                        Poll::Ready(Some(Err(_))) => {
                            ended = true;
                            broken = true;
                        }
                        Poll::Pending => starved = true,
                    }
                    // A whole small response leaves in one piece.
                    if !ended && !starved && self.outbox.takes_content() {
                        continue;
                    }
                }
                match self.poll_outbox(cx) {
                    Poll::Ready(Ok(())) if ended => return Poll::Ready(!broken),
                    Poll::Ready(Ok(())) if starved => {
                        self.drain.poll(cx);
                        return self.wire.lock().poll_gone(cx).map(|()| false);
                    }
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        if let Some(clock) = self.patience.late() {
            body.late(clock);
        }
        self.patience.forget();
        written
    }

    /// Writes what waits. An error when the client is gone or takes nothing for too long.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stuck>> {
        if self.outbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut wire = self.wire.lock();
        let Some(io) = &mut wire.io else {
            return Poll::Ready(Err(Stuck));
        };
        let mut moved = 0;
        let written = self.outbox.poll_write(io, Transport::sent, cx, &mut moved);
        if moved > 0 || written.is_ready() {
            self.patience.rest(usize::try_from(moved).unwrap_or(usize::MAX));
        }
        match written {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(Stuck)),
            // The connection carries nothing else.
            Poll::Pending => self.patience.poll(Path::default(), cx).map(|()| Err(Stuck)),
        }
    }

    fn add_interim(&mut self, interim: &Interim, asked: &Asked) {
        // RFC 9110 §15.2: never to an HTTP/1.0 client.
        if !asked.http11 || interim.is_empty() {
            return;
        }
        for (status, fields) in interim.take() {
            let head = response::Parts { status, headers: fields, ..response::Parts::default() };
            encode::response_head(self.outbox.head(), &head, Delimiting::Absent, Persistence::Default);
        }
    }

    /// Ends the connection so that the client gets to read the answer.
    pub(super) async fn linger(&mut self) {
        let end = Instant::now() + LINGER.whole;
        self.timer.arm(LINGER.pause);
        let mut read = 0_usize;
        let mut shut = false;
        poll_fn(|cx| {
            let mut wire = self.wire.lock();
            if !shut {
                let Some(io) = &mut wire.io else { return Poll::Ready(()) };
                match Pin::new(io).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => shut = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx),
                }
            }
            let before = read;
            loop {
                wire.received.clear();
                match wire.poll_read_ahead(cx) {
                    Poll::Ready(Ok(count @ 1..)) if read < LINGER.bytes => read = read.saturating_add(count),
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            if read > before {
                self.timer.arm_at(end.min(Instant::now() + LINGER.pause));
            }
            self.timer.poll(cx)
        })
        .await;
    }
}

/// The client is gone, or takes nothing.
#[derive(Debug)]
struct Stuck;
