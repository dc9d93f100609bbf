//! What is known about an endpoint right now.
//!
//! Part of `balance`. Atomics behind one `Arc`, shared by every roster that the endpoint is in, so that in-flight
//! counts and health survive a reload. Written by claims and by `control`; read by every pick.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::lexicon::Standing;

/// How an exchange of live traffic went, as far as it tells about the endpoint. A client's own misfortune (it went
/// away, its token was refused) is not reported at all.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Live {
    /// A response head came, whatever its status.
    Answered,
    /// No connection: refused, unreachable, or not established in time.
    ConnectFailed,
    /// Connected, but no response head in time.
    Silent,
    /// The connection died before its response was complete.
    Broken,
}

/// What live traffic said of late. Times are in the caller's milliseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Recent {
    /// When it last answered, to about 50 ms.
    pub answered_at: Option<u64>,
    /// When an exchange last failed.
    pub failed_at: Option<u64>,
    /// Failures of any kind since the last answer.
    pub failures: u32,
    /// Failed connects since the last answer.
    pub connect_failures: u32,
}

/// Counts and health of an endpoint. Cloning shares.
#[derive(Clone, Debug)]
pub struct Vitals(Arc<Shared>);

// Own cache lines: every pick and every end of an exchange writes here, from any worker.
#[derive(Debug)]
#[repr(align(64))]
struct Shared {
    in_flight: AtomicU32,
    tunnels: AtomicU32,
    failures: AtomicU32,
    connect_failures: AtomicU32,
    answered_at: AtomicU64,
    failed_at: AtomicU64,
    standing: AtomicU8,
    since: AtomicU64,
    drained: AtomicBool,
    pulse: Pulse,
    reason: ArcSwap<Arc<str>>,
    addresses: ArcSwap<Arc<[SocketAddr]>>,
}

/// Beats whenever an endpoint of a pool changes its standing, so that rosters count anew only then.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<AtomicU32>);

impl Pulse {
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    fn beat(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Stands for "never" in the atomics that hold times.
const NEVER: u64 = u64::MAX;

/// Answers within this many milliseconds of the last noted one are not noted again: one shared write less an exchange.
const ANSWER_GRAIN: u64 = 50;

impl Vitals {
    pub(super) fn new(pulse: Pulse, addresses: &[SocketAddr]) -> Self {
        Self(Arc::new(Shared {
            in_flight: AtomicU32::new(0),
            tunnels: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            connect_failures: AtomicU32::new(0),
            answered_at: AtomicU64::new(NEVER),
            failed_at: AtomicU64::new(NEVER),
            standing: AtomicU8::new(code(Standing::Unknown)),
            since: AtomicU64::new(NEVER),
            drained: AtomicBool::new(false),
            pulse,
            reason: ArcSwap::from_pointee(Arc::from("")),
            addresses: ArcSwap::from_pointee(Arc::from(addresses)),
        }))
    }

    /// Exchanges under way.
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Tunnels open.
    pub fn tunnels(&self) -> u32 {
        self.0.tunnels.load(Ordering::Relaxed)
    }

    /// What checks say.
    pub fn standing(&self) -> Standing {
        standing(self.0.standing.load(Ordering::Relaxed))
    }

    /// Why the standing is what it is, for operators. Empty until the first flip.
    pub fn reason(&self) -> Arc<str> {
        Arc::clone(&self.0.reason.load())
    }

    /// Sets the standing and its reason; says what it was. One writer: the endpoint's prober.
    pub fn set_standing(&self, now: Standing, reason: &str) -> Standing {
        self.0.reason.store(Arc::new(Arc::from(reason)));
        let before = standing(self.0.standing.swap(code(now), Ordering::Relaxed));
        self.0.pulse.beat();
        before
    }

    /// Since when, in milliseconds of Unix time; `None` until the first flip.
    pub fn since(&self) -> Option<u64> {
        Some(self.0.since.load(Ordering::Relaxed)).filter(|since| *since != NEVER)
    }

    /// Notes when the standing has changed, in milliseconds of Unix time.
    pub fn set_since(&self, since: u64) {
        self.0.since.store(since, Ordering::Relaxed);
    }

    /// Whether an operator took the endpoint out. See `Endpoint::is_disabled` for the whole answer.
    pub fn is_drained(&self) -> bool {
        self.0.drained.load(Ordering::Relaxed)
    }

    /// Takes the endpoint out, or back in, until the process ends. What is under way goes on.
    pub fn set_drained(&self, drained: bool) {
        self.0.drained.store(drained, Ordering::Relaxed);
        self.0.pulse.beat();
    }

    /// Where to connect, in order of preference. Empty until the name is resolved; an IP address is its own.
    pub fn addresses(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.0.addresses.load())
    }

    /// Stores what the name resolved to.
    pub fn set_addresses(&self, addresses: &[SocketAddr]) {
        self.0.addresses.store(Arc::new(Arc::from(addresses)));
    }

    /// Notes how an exchange of live traffic went. `now` in milliseconds since any fixed point, the same for all callers.
    pub fn note_live(&self, live: Live, now: u64) {
        let shared = &*self.0;
        match live {
            Live::Answered => {
                let noted = shared.answered_at.load(Ordering::Relaxed);
                if noted == NEVER || now >= noted.saturating_add(ANSWER_GRAIN) {
                    shared.answered_at.store(now, Ordering::Relaxed);
                }
                if shared.failures.load(Ordering::Relaxed) != 0 {
                    shared.failures.store(0, Ordering::Relaxed);
                    shared.connect_failures.store(0, Ordering::Relaxed);
                }
            }
            Live::ConnectFailed | Live::Silent | Live::Broken => {
                shared.failed_at.store(now, Ordering::Relaxed);
                if live == Live::ConnectFailed {
                    shared.connect_failures.fetch_add(1, Ordering::Relaxed);
                }
                shared.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What live traffic said of late.
    pub fn recent(&self) -> Recent {
        let time = |at: &AtomicU64| Some(at.load(Ordering::Relaxed)).filter(|at| *at != NEVER);
        Recent {
            answered_at: time(&self.0.answered_at),
            failed_at: time(&self.0.failed_at),
            failures: self.0.failures.load(Ordering::Relaxed),
            connect_failures: self.0.connect_failures.load(Ordering::Relaxed),
        }
    }

    pub(super) fn in_flight_count(&self) -> &AtomicU32 {
        &self.0.in_flight
    }

    pub(super) fn tunnel_count(&self) -> &AtomicU32 {
        &self.0.tunnels
    }
}

const fn code(standing: Standing) -> u8 {
    match standing {
        Standing::Unknown => 0,
        Standing::Up => 1,
        Standing::Late => 2,
        Standing::Down => 3,
    }
}

const fn standing(code: u8) -> Standing {
    match code {
        1 => Standing::Up,
        2 => Standing::Late,
        3 => Standing::Down,
        _ => Standing::Unknown,
    }
}
