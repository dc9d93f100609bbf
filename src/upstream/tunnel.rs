//! Carries an upgraded byte stream between a client and an endpoint.
//!
//! Floor 3. Bytes pass unchanged, half-close included; each direction is watched by an
//! [`Observer`](super::observer::Observer). When the tunnel must end for a reason of ours (drain, silence, a frame too
//! large) a Close is put between two frames in each direction, and the answers are awaited for a moment. Broken framing
//! passes like anything else, so that its receiver answers what came before and then fails the connection with the code
//! it finds right; it gets a moment for that, as what follows can no longer be bounded. An idle tunnel holds no buffer:
//! each thread reads into one scratch, and only what the other side does not take at once is kept, 64 KiB a direction
//! at most.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;

use self::flow::{Flow, Trouble};
use super::observer::{Offence, Side};
use crate::lifecycle::{Awaited, Life, Phase};
use crate::message::Duplex;
use crate::net::timer::Timer;

mod flow;

/// How long the answers to our Close are awaited, and the end of connections whose closing handshake is done.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// Bounds of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Longest silence in both directions together.
    pub idle: Duration,
    /// Largest frame payload in bytes.
    pub max_frame: u64,
    /// Time over which tunnels end in a drain, each at a random moment of it: about half the drain, so that neither the
    /// other replicas nor the endpoints meet all clients at once.
    pub drain_spread: Duration,
}

/// What has passed in one direction. Written by the tunnel, read by records and metrics while it runs.
#[derive(Debug, Default)]
pub struct Passed {
    /// Bytes, frame headers included.
    pub bytes: AtomicU64,
    /// Messages that ended.
    pub messages: AtomicU64,
    /// Frames that ended, control frames included.
    pub frames: AtomicU64,
}

/// What has passed in both.
#[derive(Debug, Default)]
pub struct Tally {
    /// From the client.
    pub from_client: Passed,
    /// From the endpoint.
    pub from_upstream: Passed,
}

/// Who ended a tunnel, and why.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ending {
    /// That side sent the first Close.
    Closed(Side),
    /// That side ended its connection, or lost it, without a Close.
    Gone(Side),
    /// Nothing passed for too long.
    Idle,
    /// That side sent a frame beyond the bound.
    TooLarge(Side),
    /// That side broke the framing.
    Malformed(Side, &'static str),
    /// The process drains.
    Drained,
    /// The process ends.
    Cut,
}

/// Close codes (RFC 6455 §7.4.1 and its registry).
const GOING_AWAY: u16 = 1001;
const TOO_LARGE: u16 = 1009;
const SERVICE_RESTART: u16 = 1012;

/// Carries bytes until the tunnel ends. `leftover` is what the endpoint sent behind its 101.
pub async fn run(
    mut client: Box<dyn Duplex>,
    mut upstream: Box<dyn Duplex>,
    leftover: Bytes,
    settings: Settings,
    life: Life,
    tally: Arc<Tally>,
) -> Ending {
    let mut pump = Pump::new(&leftover, settings, tally);
    drop(leftover);
    let (mut draining, mut ending) = (Awaited::new(life.clone(), Phase::Draining), life);
    let mut ending = pin!(ending.reached(Phase::Ending));
    let mut leaving = None;
    let end = poll_fn(|cx| {
        if draining.poll(cx) {
            if ending.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ending::Cut);
            }
            let spread = || Box::pin(tokio::time::sleep(settings.drain_spread.mul_f64(fastrand::f64())));
            if pump.finishing.is_none() && leaving.get_or_insert_with(spread).as_mut().poll(cx).is_ready() {
                pump.finish(Ending::Drained, SERVICE_RESTART, GOING_AWAY);
            }
        }
        pump.poll(cx, &mut client, &mut upstream)
    })
    .await;
    if end != Ending::Cut {
        // Errors mean that there is nobody left to be polite to.
        let polite = async { drop(tokio::join!(client.shutdown(), upstream.shutdown())) };
        drop(tokio::time::timeout(Duration::from_secs(1), polite).await);
    }
    end
}

/// Both directions and what ends them.
struct Pump {
    from_client: Flow,
    from_upstream: Flow,
    idle: Duration,
    tally: Arc<Tally>,
    clock: Timer,
    /// Whoever sent a Close, or ended its half, first.
    closed: Option<Side>,
    ended: Option<Side>,
    /// Set once we end it.
    finishing: Option<Ending>,
    /// Set once a side broke the framing.
    broken: Option<Ending>,
    /// Whether `clock` stands for [`CLOSE_WAIT`].
    closing: bool,
}

impl Pump {
    fn new(leftover: &[u8], settings: Settings, tally: Arc<Tally>) -> Self {
        let mut clock = Timer::new();
        clock.arm(settings.idle);
        let mut pump = Self {
            from_client: Flow::new(Side::Client, settings.max_frame),
            from_upstream: Flow::new(Side::Upstream, settings.max_frame),
            idle: settings.idle,
            tally,
            clock,
            closed: None,
            ended: None,
            finishing: None,
            broken: None,
            closing: false,
        };
        if let Err(Trouble::Offence(side, offence)) = pump.from_upstream.seed(leftover, &pump.tally.from_upstream) {
            pump.offended(side, offence);
        }
        pump
    }

    /// Ends the tunnel for a reason of ours, with a Close of its own code to each side.
    fn finish(&mut self, why: Ending, to_client: u16, to_upstream: u16) {
        if self.finishing.is_none() {
            self.finishing = Some(why);
            self.from_upstream.stop(to_client);
            self.from_client.stop(to_upstream);
            self.wait_for_close();
        }
    }

    fn wait_for_close(&mut self) {
        if !self.closing {
            self.closing = true;
            self.clock.arm(CLOSE_WAIT);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, client: &mut dyn Duplex, upstream: &mut dyn Duplex) -> Poll<Ending> {
        loop {
            let mut moved = false;
            let flows = [
                self.from_client.poll(cx, client, upstream, &self.tally.from_client, &mut moved),
                self.from_upstream.poll(cx, upstream, client, &self.tally.from_upstream, &mut moved),
            ];
            self.note_order();
            let mut offended = false;
            for trouble in flows.into_iter().filter_map(Result::err) {
                match trouble {
                    Trouble::Gone(side) => {
                        self.ended = self.ended.or(Some(side));
                        return Poll::Ready(self.natural());
                    }
                    Trouble::Offence(side, offence) => {
                        self.offended(side, offence);
                        offended = true;
                    }
                }
            }
            if offended {
                // What has just passed, or the Closes, are to be written.
                continue;
            }
            if self.from_client.is_over() && self.from_upstream.is_over() {
                return Poll::Ready(self.natural());
            }
            if self.from_client.is_closed() && self.from_upstream.is_closed() {
                self.wait_for_close();
            } else if moved && !self.closing {
                self.clock.arm(self.idle);
            }
            if self.clock.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.closing {
                return Poll::Ready(self.natural());
            }
            self.finish(Ending::Idle, GOING_AWAY, GOING_AWAY);
        }
    }

    fn offended(&mut self, side: Side, offence: Offence) {
        match (offence, side) {
            (Offence::TooLarge, Side::Client) => self.finish(Ending::TooLarge(side), TOO_LARGE, GOING_AWAY),
            (Offence::TooLarge, Side::Upstream) => self.finish(Ending::TooLarge(side), GOING_AWAY, TOO_LARGE),
            (Offence::Malformed(what), _) => {
                self.broken = self.broken.or(Some(Ending::Malformed(side, what)));
                self.wait_for_close();
            }
        }
    }

    fn note_order(&mut self) {
        for flow in [&self.from_client, &self.from_upstream] {
            if flow.is_closed() && self.finishing.is_none() {
                self.closed = self.closed.or_else(|| Some(flow.sender()));
            }
            if flow.has_ended() {
                self.ended = self.ended.or_else(|| Some(flow.sender()));
            }
        }
    }

    /// Our reason if we had one, else broken framing, else the first Close, else the first end.
    fn natural(&self) -> Ending {
        match (self.finishing.or(self.broken), self.closed, self.ended) {
            (Some(why), ..) => why,
            (None, Some(side), _) => Ending::Closed(side),
            (None, None, side) => Ending::Gone(side.unwrap_or(Side::Client)),
        }
    }
}

impl Passed {
    fn add(&self, bytes: usize, frames: u64, messages: u64) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        if frames > 0 {
            self.frames.fetch_add(frames, Relaxed);
            self.messages.fetch_add(messages, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
