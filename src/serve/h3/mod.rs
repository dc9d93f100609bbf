//! HTTP/3 for clients (RFC 9114), on any QUIC that fills [`seam`](super::quic::seam).
//!
//! Floor 6. In: an established connection. Out: requests to a [`Handler`], its answers to the client. All streams of a
//! connection are polled in the connection's own task; tunnels alone get tasks of their own. Below here QUIC does
//! packets, loss and windows, and [`crate::h3`] frames and field sections; here stand the clocks, the bounds over all
//! streams and the politeness at the end.
//!
//! Floods. Frames are bounded before a byte of them is kept, unknown ones are skipped and count: a client that sends a
//! MiB without a request or content in it is sent away, as is one that breaks more than `max_error_resets` streams. A
//! client that resets more than that, and more than half of all, before they are answered is asked to leave: each may
//! have cost an endpoint a request. What its connections do together is bounded by `max_streams_per_client` and
//! `max_resets_per_client`.
//!
//! Deliberately absent: server push (RFC 9114 §4.6), priorities (RFC 9218), datagrams (RFC 9297), QPACK's dynamic table.

mod body;
mod control;
mod exchange;
mod reader;
mod send;
mod tally;
mod tunnel;

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use self::control::{Incoming, Outgoing};
use self::tally::Tally;
use super::quic::seam::{RecvHalf as _, SendHalf as _, Transport};
use crate::h3::{Code, Offence};
use crate::lifecycle::{Awaited, Life, Phase};
use crate::limit::Share;
use crate::message::{Connection, Handler, Sign};
use crate::net::timer::Timer;
use crate::serve::streams::Ended;

/// Serves one connection until it ends; what the client did if it was sent away.
///
/// The limits are those of `connection.listener`, streams are taken from `share`. In [`Phase::Draining`] the client is
/// asked to leave (GOAWAY) and open streams finish; in [`Phase::Ending`] the connection is cut.
pub async fn serve<T: Transport, H: Handler>(
    transport: T,
    connection: Arc<Connection>,
    handler: H,
    life: Life,
    share: Share,
) -> Option<Offence> {
    let mut driver = Driver::new(transport, connection, share);
    driver.run(handler, life).await
}

/// How far the goodbye has come (RFC 9114 §5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leaving {
    No,
    /// The client knows that it shall open no more streams; those on their way are still served.
    Announced {
        until: Instant,
    },
    /// Streams from `from` on are rejected; until `until` the client may still hear so.
    Final {
        from: u64,
        until: Instant,
    },
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// It is gone already.
    Gone,
    /// In peace.
    Well(&'static str),
    /// The client is to blame.
    Offended(Offence),
}

/// Drives one connection.
struct Driver<T: Transport> {
    transport: T,
    connection: Arc<Connection>,
    tally: Arc<Tally>,
    outgoing: Outgoing<T::Send>,
    incoming: Incoming<T::Recv>,
    clock: Timer,
    /// When the connection is too old; `None` once it was asked to end.
    old: Option<Instant>,
    /// Since when no stream is open.
    idle: Option<Instant>,
    leaving: Leaving,
    /// The next number of a client's request stream.
    next_stream: u64,
    malformed: usize,
    /// Streams that the client reset before their answers, and those that ended otherwise.
    abandoned: usize,
    answered: usize,
    /// Of those, how many had been answered when the handler last heard of one that was not.
    credited: usize,
    /// Of the streams that the client may have over all its connections.
    share: Share,
    /// What had been received when somebody was last seen to do something, and when that is looked at next.
    heard: u64,
    useful: usize,
    look: Instant,
}

impl<T: Transport> Driver<T> {
    fn new(transport: T, connection: Arc<Connection>, share: Share) -> Self {
        let now = Instant::now();
        // Spread over a tenth, so that connections that came together do not leave together.
        let age = connection.listener.max_connection_age.mul_f64(1.0 - fastrand::f64() / 10.0);
        Self {
            outgoing: Outgoing::new(&connection.listener),
            incoming: Incoming::default(),
            tally: Arc::default(),
            clock: Timer::new(),
            old: now.checked_add(age),
            idle: Some(now),
            leaving: Leaving::No,
            next_stream: 0,
            malformed: 0,
            abandoned: 0,
            answered: 0,
            credited: 0,
            share,
            heard: transport.received(),
            useful: 0,
            look: now + LOOK,
            transport,
            connection,
        }
    }

    async fn run<H: Handler>(&mut self, handler: H, life: Life) -> Option<Offence> {
        // Made with the first stream and given back at rest: an empty one takes the room of a stream.
        let mut streams = None;
        let (mut draining, mut ending) = (Awaited::new(life.clone(), Phase::Draining), life);
        let mut ending = pin!(ending.reached(Phase::Ending));
        let mut drained = false;
        let end = poll_fn(|cx| {
            if !drained && draining.poll(cx) {
                drained = true;
                self.leave();
            }
            if drained && ending.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Well("the process ends"));
            }
            if let Err(end) = self.poll_control(cx) {
                return Poll::Ready(end);
            }
            loop {
                match self.transport.poll_accept(cx) {
                    Poll::Ready(Some((send, recv))) => {
                        if let Some(stream) = self.admit(send, recv) {
                            let most = self.connection.listener.max_streams_per_client;
                            let open = streams.get_or_insert_with(FuturesUnordered::new);
                            let has_room = self.share.covers(open.len().saturating_add(1), most);
                            let connection = Arc::clone(&self.connection);
                            let tally = Arc::clone(&self.tally);
                            open.push(exchange::serve(stream, has_room, connection, handler.clone(), tally));
                        }
                    }
                    Poll::Ready(None) => return Poll::Ready(End::Gone),
                    Poll::Pending => break,
                }
            }
            while let Some(open) = &mut streams
                && let Poll::Ready(Some(ended)) = open.poll_next_unpin(cx)
            {
                if let Err(offence) = self.note(ended, &handler) {
                    return Poll::Ready(End::Offended(offence));
                }
            }
            if let Some(offence) = self.tally.offence(cx) {
                return Poll::Ready(End::Offended(offence));
            }
            if self.tally.is_flooded() {
                return Poll::Ready(End::Offended(FLOOD));
            }
            let empty = streams.as_ref().is_none_or(FuturesUnordered::is_empty);
            if empty {
                self.share.rest();
            }
            if empty && self.idle.is_some_and(|since| since.elapsed() >= LOOK) {
                streams = None;
            }
            let quiet = empty && self.tally.tunnels() == 0;
            self.poll_clocks(quiet, cx)
        })
        .await;
        // What is still open is told as gone, before its streams are.
        drop(streams);
        match end {
            End::Gone => None,
            End::Well(reason) => {
                self.transport.close(Code::NoError, reason);
                None
            }
            End::Offended(offence) => {
                self.transport.close(offence.code, offence.what);
                if let Some(sign) = sign(offence) {
                    handler.flooded(&self.connection, sign);
                }
                Some(offence)
            }
        }
    }

    /// Moves the streams that concern the connection itself.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        self.outgoing.poll(&mut self.transport, cx).map_err(|control::Gone| End::Gone)?;
        let unknown = self.connection.listener.http3.as_ref().map_or(0, |http3| http3.max_unknown);
        self.incoming.poll(&mut self.transport, unknown, &self.tally, cx).map_err(End::Offended)
    }

    /// A stream to be served, unless the client was told not to open it.
    fn admit(&mut self, mut send: T::Send, mut recv: T::Recv) -> Option<(T::Send, T::Recv)> {
        let id = recv.id();
        if let Leaving::Final { from, .. } = self.leaving
            && id >= from
        {
            // RFC 9114 §5.2: it was not processed and can be sent elsewhere.
            send.reset(Code::RequestRejected);
            recv.stop(Code::RequestRejected);
            return None;
        }
        self.next_stream = self.next_stream.max(id.saturating_add(4));
        self.useful = self.useful.saturating_add(1);
        Some((send, recv))
    }

    /// Asks the client to leave, in two steps so that nothing on its way is lost (RFC 9114 §5.2).
    fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Announced { until: Instant::now() + self.moment() };
            self.outgoing.goaway(LAST_STREAM);
        }
        self.old = None;
    }

    /// Time for a client to hear something and to be heard.
    fn moment(&self) -> Duration {
        (self.transport.round_trip() * 3).clamp(MOMENTS.0, MOMENTS.1)
    }

    fn note<H: Handler>(&mut self, ended: Ended, handler: &H) -> Result<(), Offence> {
        let most = self.connection.listener.http3.as_ref().map_or(0, |http3| http3.max_error_resets);
        if ended != Ended::Abandoned {
            self.answered = self.answered.saturating_add(1);
        }
        match ended {
            Ended::Well => {}
            Ended::Close => self.leave(),
            Ended::Abandoned => {
                self.abandoned = self.abandoned.saturating_add(1);
                let answered = self.answered.saturating_sub(std::mem::replace(&mut self.credited, self.answered));
                let too_many_of_client = handler.abandoned(&self.connection, answered);
                if self.abandoned > self.answered.max(most) || too_many_of_client {
                    if self.leaving == Leaving::No && !too_many_of_client {
                        handler.flooded(&self.connection, Sign::Resets);
                    }
                    self.leave();
                }
                // One that does not leave when asked has no claim to more.
                if self.abandoned > self.answered.max(most).saturating_mul(4) {
                    return Err(RESETS);
                }
            }
            Ended::Malformed => {
                self.malformed = self.malformed.saturating_add(1);
                if self.malformed > most {
                    return Err(MALFORMED);
                }
            }
        }
        Ok(())
    }

    /// Ready when the connection is to end.
    fn poll_clocks(&mut self, quiet: bool, cx: &mut Context<'_>) -> Poll<End> {
        let keep_alive = self.connection.listener.clocks.keep_alive;
        loop {
            let now = Instant::now();
            self.idle = if quiet { self.idle.or(Some(now)) } else { None };
            match self.leaving {
                Leaving::Announced { until } if until <= now => {
                    self.outgoing.goaway(self.next_stream);
                    self.leaving = Leaving::Final { from: self.next_stream, until: now + self.moment() };
                    // The frame goes out on the next turn.
                    cx.waker().wake_by_ref();
                }
                Leaving::Final { until, .. } if quiet && until <= now => return Poll::Ready(End::Well("goodbye")),
                _ => {}
            }
            if self.old.is_some_and(|at| at <= now) || self.idle.is_some_and(|since| since + keep_alive <= now) {
                self.leave();
            }
            if self.look <= now
                && let Err(offence) = self.listen(now)
            {
                return Poll::Ready(End::Offended(offence));
            }
            let step = match self.leaving {
                Leaving::Announced { until } => Some(until),
                Leaving::Final { until, .. } if quiet => Some(until),
                Leaving::No => self.idle.map(|since| since + keep_alive),
                Leaving::Final { .. } => None,
            };
            let next = [Some(self.look), self.old, step].into_iter().flatten().min().unwrap_or(self.look);
            self.clock.arm_at(next);
            if self.clock.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Looks at what was received that never came here: packets of PING, PADDING and repeated data.
    fn listen(&mut self, now: Instant) -> Result<(), Offence> {
        // Bytes that came before it was idle were content, or acknowledged some: only a whole look at nothing counts.
        let idle = self.idle.is_some_and(|since| since + LOOK <= self.look);
        self.look = now + LOOK;
        let received = self.transport.received();
        let (before, useful) = (self.heard, self.useful);
        self.heard = received;
        self.useful = 0;
        // Content is useful, but the windows bound how much of it can come before it is pulled; what is pulled is noted
        // by the tally, which a busy stream resets. Here only the connections count on which nothing at all was open.
        if idle && useful == 0 && received.saturating_sub(before) > MAX_IDLE_BYTES {
            return Err(FLOOD);
        }
        Ok(())
    }
}

const RESETS: Offence = Offence::new(Code::ExcessiveLoad, "too many streams reset");
const MALFORMED: Offence = Offence::new(Code::ExcessiveLoad, "too many malformed requests");
const FLOOD: Offence = Offence::new(Code::ExcessiveLoad, "much was sent and nothing meant");

/// What an offence says of its client, where it is the sign of a flood.
fn sign(offence: Offence) -> Option<Sign> {
    match offence {
        RESETS => Some(Sign::Resets),
        MALFORMED => Some(Sign::Malformed),
        _ => (offence.code == Code::ExcessiveLoad).then_some(Sign::Idle),
    }
}

/// The largest number of a request stream (RFC 9000 §2.1, RFC 9114 §5.2).
const LAST_STREAM: u64 = crate::h3::frame::MAX_INTEGER - 3;

/// Shortest and longest [`Driver::moment`].
const MOMENTS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How often a connection is asked how much it received.
const LOOK: Duration = Duration::from_secs(5);

/// What an idle client may send between two looks.
const MAX_IDLE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests;
