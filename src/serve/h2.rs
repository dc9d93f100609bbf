//! HTTP/2 for clients (RFC 9113), on the h2 crate.
//!
//! Floor 6. In: a connection that speaks HTTP/2, by ALPN or prior knowledge. Out: requests to a [`Handler`], its
//! answers to the client. All streams of a connection are polled in the connection's own task, and what they say in one
//! turn of it leaves in one system call (see [`wire`]); tunnels alone get tasks of their own. Below here the h2 crate does
//! framing, HPACK, stream states and windows; here stand the clocks, the bounds over all streams and the politeness at
//! the end.
//!
//! Floods. The crate itself ends a connection with ENHANCE_YOUR_CALM for more than `max_pending_resets` streams reset
//! before they were accepted, more than 100 empty DATA frames, DATA so small that framing outweighs half a connection
//! window, CONTINUATION frames beyond what the header bound needs, and header lists of four times their bound; and
//! after `max_error_resets` stream errors that it found. It answers PING and SETTINGS one at a time and reads no
//! further until the answer is written. Added here: streams that we find malformed count likewise, and a client that
//! sends a MiB without a request, content or room for answers is sent away. A client that resets more streams than
//! `max_error_resets`, and more than half of all, before they are answered is asked to leave: each may have cost an
//! endpoint a request. What its connections do together is bounded by `max_streams_per_client` and
//! `max_resets_per_client`.
//!
//! Deliberately absent: server push (RFC 9113 §8.4), priorities (RFC 9218), HTTP/1.1's `Upgrade: h2c`.

mod body;
mod exchange;
mod handshake;
mod ledger;
mod open;
mod send;
mod tunnel;
mod wire;

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::server::Connection as Engine;
use h2::{Ping, PingPong, Reason};
use tokio::time::Instant;

use self::ledger::{Charged, Ledger};
use self::open::Open;
use self::wire::Wire;
use crate::config::listener::ClientClocks;
use crate::lifecycle::{Awaited, Life, Phase};
use crate::limit::Share;
use crate::message::{Connection, Handler, Sign, Transport};
use crate::net::timer::Timer;
use crate::serve::streams::Ended;

/// How long a client may take for its part of the goodbye once nothing is open any more.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves one connection until it ends.
///
/// The limits are those of `connection.listener`, streams are taken from `share`. In [`Phase::Draining`] the client is
/// asked to leave (GOAWAY) and open streams finish; in [`Phase::Ending`] the connection is cut.
pub async fn serve<H, I>(io: I, connection: Arc<Connection>, handler: H, life: Life, share: Share)
where
    H: Handler,
    I: Transport + 'static,
{
    // In a box each: a connection that rests takes the room of what it is then, and not of how it came to be.
    if let Some(driver) = Box::pin(begin(io, connection, share, life.clone())).await {
        driver.run(handler, life).await;
    }
}

/// Begins a connection; `None` when there will be none.
async fn begin<I>(mut io: I, connection: Arc<Connection>, share: Share, life: Life) -> Option<Box<Driver<I>>>
where
    I: Transport + 'static,
{
    let ledger = Arc::new(Ledger::default());
    let mut clock = Timer::new();
    clock.arm(connection.listener.clocks.head);
    io.share();
    let wire = Wire::new(io, Arc::clone(&ledger));
    let engine = handshake::shake(wire.clone(), &connection.listener, &mut clock, &life).await?;
    wire.gather(true);
    Some(Box::new(Driver::new(engine, wire, connection, ledger, clock, share)))
}

/// What the connection as a whole waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waiting {
    /// A new stream: the keep-alive clock.
    Idle,
    /// Open streams: a sign of life now and then.
    Busy,
    /// The client to take the end of answers that are complete on our side: the write clock.
    Flushing,
    /// The end of the connection.
    Goodbye,
}

/// Drives one connection.
struct Driver<I> {
    engine: Engine<Wire<I>, Charged>,
    wire: Wire<I>,
    connection: Arc<Connection>,
    ledger: Arc<Ledger>,
    clock: Timer,
    waiting: Waiting,
    /// When `waiting` has lasted too long.
    deadline: Instant,
    /// When the connection is too old; `None` once it was asked to end.
    old: Option<Instant>,
    /// Since when the socket takes nothing, and what it had taken by then.
    blocked: Option<(Instant, u64)>,
    /// What had been read at the last sign of life, and whether a PING asks for the next.
    heard: u64,
    pinged: bool,
    pings: Option<PingPong>,
    /// What had left when the wait for flushing was looked at last.
    taken: u64,
    leaving: bool,
    malformed: usize,
    /// Streams that the client reset before their answers, and those that ended otherwise.
    abandoned: usize,
    answered: usize,
    /// Of those, how many had been answered when the handler last heard of one that was not.
    credited: usize,
    /// Of the streams that the client may have over all its connections.
    share: Share,
}

impl<I> Driver<I>
where
    I: Transport + 'static,
{
    fn new(
        mut engine: Engine<Wire<I>, Charged>,
        wire: Wire<I>,
        connection: Arc<Connection>,
        ledger: Arc<Ledger>,
        clock: Timer,
        share: Share,
    ) -> Self {
        let now = Instant::now();
        let age = connection.listener.max_connection_age;
        // Spread over a tenth, so that connections that came together do not leave together.
        let age = age.mul_f64(1.0 - fastrand::f64() / 10.0);
        Self {
            pings: engine.ping_pong(),
            engine,
            wire,
            ledger,
            clock,
            waiting: Waiting::Idle,
            deadline: now + connection.listener.clocks.keep_alive,
            old: now.checked_add(age),
            blocked: None,
            heard: 0,
            pinged: false,
            taken: 0,
            leaving: false,
            malformed: 0,
            abandoned: 0,
            answered: 0,
            credited: 0,
            share,
            connection,
        }
    }

    async fn run<H: Handler>(mut self: Box<Self>, handler: H, life: Life) {
        let mut streams = Open::default();
        let (mut draining, mut ending) = (Awaited::new(life.clone(), Phase::Draining), life);
        let mut ending = pin!(ending.reached(Phase::Ending));
        let mut drained = false;
        poll_fn(|cx| {
            if !drained && draining.poll(cx) {
                drained = true;
                self.leave();
            }
            if drained && ending.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            loop {
                match self.engine.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        self.ledger.note_useful();
                        let most = self.connection.listener.max_streams_per_client;
                        streams.push(exchange::serve(
                            (request, respond),
                            self.share.covers(streams.len().saturating_add(1), most),
                            Arc::clone(&self.connection),
                            handler.clone(),
                            Arc::clone(&self.ledger),
                        ));
                    }
                    // Closed, or a connection error: the streams' futures are dropped with us.
                    Poll::Ready(Some(Err(error))) => {
                        // What the crate itself calls a flood.
                        if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                            handler.flooded(&self.connection, Sign::Resets);
                        }
                        return Poll::Ready(());
                    }
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            // All that was said before this turn; what the streams say now the engine takes in the next one.
            if let Poll::Ready(Err(_)) = self.wire.poll_send(cx) {
                return Poll::Ready(());
            }
            while let Poll::Ready(Some(ended)) = streams.poll_next(cx) {
                self.note(ended, &handler, cx);
            }
            if streams.is_empty() {
                self.share.rest();
            }
            if self.ledger.is_flooded() {
                handler.flooded(&self.connection, Sign::Idle);
                self.engine.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                self.ledger.note_useful();
                cx.waker().wake_by_ref();
            }
            self.poll_clocks(streams.is_empty(), cx)
        })
        .await;
        drop(streams);
        // In a box of its own: a connection that lives, and rests, has no use for the room.
        Box::pin(self.cut()).await;
    }

    /// Asks the client to leave (RFC 9113 §6.8): streams that are open, or on their way, are still served.
    fn leave(&mut self) {
        self.leaving = true;
        self.engine.graceful_shutdown();
    }

    fn note<H: Handler>(&mut self, ended: Ended, handler: &H, cx: &Context<'_>) {
        if ended != Ended::Abandoned {
            self.answered = self.answered.saturating_add(1);
        }
        match ended {
            Ended::Well => return,
            Ended::Close => self.leave(),
            Ended::Abandoned => {
                self.abandoned = self.abandoned.saturating_add(1);
                let answered = self.answered.saturating_sub(std::mem::replace(&mut self.credited, self.answered));
                let too_many_of_client = handler.abandoned(&self.connection, answered);
                let allowed = self.answered.max(self.connection.listener.http2.max_error_resets);
                if self.leaving || (self.abandoned <= allowed && !too_many_of_client) {
                    return;
                }
                if !too_many_of_client {
                    handler.flooded(&self.connection, Sign::Resets);
                }
                self.leave();
            }
            Ended::Malformed => {
                self.malformed = self.malformed.saturating_add(1);
                if self.malformed > self.connection.listener.http2.max_error_resets {
                    handler.flooded(&self.connection, Sign::Malformed);
                    self.engine.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
            }
        }
        // The crate does not wake for its own goodbye.
        cx.waker().wake_by_ref();
    }

    /// Ready when the connection is to be cut.
    fn poll_clocks(&mut self, quiet: bool, cx: &mut Context<'_>) -> Poll<()> {
        let ClientClocks { keep_alive, write_idle, .. } = self.connection.listener.clocks;
        let now = Instant::now();
        let open = !quiet || self.engine.has_streams();
        let (waiting, longest) = match () {
            () if !quiet => (Waiting::Busy, keep_alive),
            () if self.wire.is_unsent() || (open && self.ledger.buffered() > 0) => (Waiting::Flushing, write_idle),
            () if open => (Waiting::Busy, keep_alive),
            () if self.leaving => (Waiting::Goodbye, GOODBYE),
            () => (Waiting::Idle, keep_alive),
        };
        if waiting != self.waiting {
            self.waiting = waiting;
            self.deadline = now + longest;
            self.pinged = false;
            self.taken = self.wire.sent();
        }
        self.blocked = match self.blocked {
            _ if !self.ledger.is_blocked() => None,
            Some((since, written)) if written == self.ledger.written() => Some((since, written)),
            _ => Some((now, self.ledger.written())),
        };
        loop {
            let stalled = self.blocked.map(|(since, _)| since + write_idle);
            let next = [Some(self.deadline), self.old, stalled].into_iter().flatten().min().unwrap_or(self.deadline);
            self.clock.arm_at(next);
            if self.clock.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if stalled.is_some_and(|at| at <= now) {
                self.ledger.note_stall();
                return Poll::Ready(());
            }
            if self.old.is_some_and(|at| at <= now) {
                self.old = None;
                self.leave();
                cx.waker().wake_by_ref();
            }
            if self.deadline > now {
                continue;
            }
            match self.waiting {
                Waiting::Goodbye => return Poll::Ready(()),
                Waiting::Flushing => {
                    let sent = self.wire.sent();
                    if sent == self.taken {
                        return Poll::Ready(());
                    }
                    self.taken = sent;
                    self.deadline = now + write_idle;
                }
                Waiting::Idle => {
                    self.waiting = Waiting::Goodbye;
                    self.deadline = now + GOODBYE;
                    self.leave();
                    cx.waker().wake_by_ref();
                }
                Waiting::Busy => {
                    if !self.is_alive(cx) {
                        return Poll::Ready(());
                    }
                    self.deadline = now + keep_alive;
                }
            }
        }
    }

    /// Whether anything was heard since the last call; asks for a sign of life when it was not.
    fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        let read = self.ledger.read();
        if read != self.heard {
            self.heard = read;
            self.pinged = false;
            return true;
        }
        if self.pinged {
            return false;
        }
        self.pinged = true;
        if let Some(pings) = &mut self.pings {
            // Takes the last answer, without which no other PING may be sent.
            drop(pings.poll_pong(cx));
            drop(pings.send_ping(Ping::opaque()));
            cx.waker().wake_by_ref();
        }
        true
    }

    /// Tells the client that this is the end, as far as it listens.
    async fn cut(mut self) {
        self.engine.abrupt_shutdown(Reason::NO_ERROR);
        self.wire.gather(false);
        let mut clock = Timer::new();
        clock.arm(Duration::from_secs(1));
        let closed = poll_fn(|cx| {
            ready!(self.engine.poll_closed(cx)).ok();
            self.wire.poll_send(cx).map(drop)
        });
        tokio::select! {
            () = closed => {}
            () = clock.expired() => {}
        }
    }
}

#[cfg(test)]
mod tests;
