//! What is known about an endpoint right now.
//!
//! Part of `balance`. Atomics behind one `Arc`, shared by every roster that the endpoint is in, so that in-flight
//! counts and health survive a reload. Written by claims and by `control`; read by every pick.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::keepalive::KeepAlive;
use super::load::{Load, Reached};
use super::traffic::{Live, Recent, Seen, Tally, Traffic};
use crate::lexicon::Standing;

/// Counts and health of an endpoint. Cloning shares.
#[derive(Clone, Debug)]
pub struct Vitals(Arc<Shared>);

// Own cache lines: every pick and every end of an exchange writes here, from any worker.
#[derive(Debug)]
#[repr(align(64))]
struct Shared {
    load: Load,
    tunnels: AtomicU32,
    traffic: Traffic,
    standing: AtomicU8,
    bench: AtomicU8,
    warmth: AtomicU8,
    turns: AtomicU32,
    since: AtomicU64,
    silent_since: AtomicU64,
    drained: AtomicBool,
    pulse: Pulse,
    reason: ArcSwap<Arc<str>>,
    bench_reason: ArcSwap<Arc<str>>,
    addresses: ArcSwap<Arc<[SocketAddr]>>,
    /// Whether the name was asked for, whatever came of it; an IP address needs no asking.
    asked: watch::Sender<bool>,
    keep_alive: KeepAlive,
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

/// Warmth of an endpoint that takes its whole share, in percent.
pub const WARM: u8 = 100;

/// What live traffic has made of an endpoint. One writer takes it out and back in; a pick takes the trial.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Bench {
    /// In play.
    In = 0,
    /// Ejected: takes nothing while others can.
    Out = 1,
    /// Ejected, and one exchange that can be repeated elsewhere may try it out.
    Trial = 2,
    /// Ejected, and any exchange may try it out, since none came that could be repeated.
    OpenTrial = 3,
    /// Ejected, and an exchange is trying it out.
    OnTrial = 4,
}

impl Bench {
    /// Whether an exchange may try the endpoint out.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Trial | Self::OpenTrial)
    }
}

impl Vitals {
    pub(super) fn new(pulse: Pulse, addresses: &[SocketAddr]) -> Self {
        Self(Arc::new(Shared {
            load: Load::default(),
            tunnels: AtomicU32::new(0),
            traffic: Traffic::default(),
            standing: AtomicU8::new(code(Standing::Unknown)),
            bench: AtomicU8::new(Bench::In as u8),
            warmth: AtomicU8::new(WARM),
            turns: AtomicU32::new(0),
            since: AtomicU64::new(NEVER),
            silent_since: AtomicU64::new(NEVER),
            drained: AtomicBool::new(false),
            pulse,
            reason: ArcSwap::from_pointee(Arc::from("")),
            bench_reason: ArcSwap::from_pointee(Arc::from("")),
            addresses: ArcSwap::from_pointee(Arc::from(addresses)),
            asked: watch::Sender::new(!addresses.is_empty()),
            keep_alive: KeepAlive::default(),
        }))
    }

    /// Exchanges under way.
    pub fn in_flight(&self) -> u32 {
        self.0.load.get().in_flight
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

    /// Since when it is down because it accepts checks and does not answer them, on the clock of live traffic.
    pub fn silent_since(&self) -> Option<u64> {
        Some(self.0.silent_since.load(Ordering::Relaxed)).filter(|since| *since != NEVER)
    }

    /// Notes that it hangs as of `now`, unless it did before, or with `None` that it does not. One writer: the endpoint's
    /// prober.
    pub fn set_silent(&self, now: Option<u64>) {
        let before = self.silent_since();
        self.0.silent_since.store(now.map_or(NEVER, |now| before.unwrap_or(now)), Ordering::Relaxed);
    }

    /// How long it keeps idle connections.
    pub fn keep_alive(&self) -> &KeepAlive {
        &self.0.keep_alive
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
        self.note_asked();
    }

    /// Notes that the name was asked for, whatever came of it.
    pub fn note_asked(&self) {
        self.0.asked.send_if_modified(|asked| !std::mem::replace(asked, true));
    }

    /// Waits until the name was asked for once. An endpoint that has just come is leased before its first answer.
    pub async fn asked(&self) {
        // The sender lives as long as these vitals.
        drop(self.0.asked.subscribe().wait_for(|asked| *asked).await);
    }

    /// Notes how an exchange of live traffic went; says what a row it makes. `now` in milliseconds since any fixed
    /// point, the same for all callers.
    pub fn note_live(&self, live: Live, now: u64) -> Seen {
        self.0.traffic.note(live, now)
    }

    /// What live traffic said of late.
    pub fn recent(&self) -> Recent {
        self.0.traffic.recent()
    }

    /// All answers and errors of live traffic so far.
    pub fn tally(&self) -> Tally {
        self.0.traffic.tally()
    }

    /// Ends all rows of failures: what was before no longer counts.
    pub fn forgive(&self) {
        self.0.traffic.forgive();
    }

    /// Exchanges and tunnels that have no connection yet.
    pub fn pending(&self) -> u32 {
        self.0.load.get().pending
    }

    /// Repeats under way of what failed elsewhere.
    pub fn retries(&self) -> u32 {
        self.0.load.get().retries
    }

    /// How often a limit on what the endpoint may carry was reached.
    pub fn reached(&self) -> Reached {
        self.0.load.reached()
    }

    /// What live traffic has made of it.
    pub fn bench(&self) -> Bench {
        bench(self.0.bench.load(Ordering::Acquire))
    }

    /// Takes it out, opens a trial, or takes it back in. One writer: whoever judges the pool.
    pub fn set_bench(&self, now: Bench) {
        self.0.bench.store(now as u8, Ordering::Release);
        self.0.pulse.beat();
    }

    /// Why it was last ejected, for operators. Empty if it never was.
    pub fn bench_reason(&self) -> Arc<str> {
        Arc::clone(&self.0.bench_reason.load())
    }

    /// Notes why it is ejected. One writer: whoever judges the pool.
    pub fn set_bench_reason(&self, reason: &str) {
        self.0.bench_reason.store(Arc::new(Arc::from(reason)));
    }

    /// Takes the trial for one exchange; says what was open. `None` when another has it, or when it is not for an
    /// exchange of this sort.
    pub(super) fn take_trial(&self, expendable: bool) -> Option<Bench> {
        let open = self.bench();
        if !(open == Bench::OpenTrial || (open == Bench::Trial && expendable)) {
            return None;
        }
        let taken =
            self.0.bench.compare_exchange(open as u8, Bench::OnTrial as u8, Ordering::AcqRel, Ordering::Relaxed);
        taken.ok()?;
        self.0.pulse.beat();
        Some(open)
    }

    /// Share of its due that it takes, in percent; below [`WARM`] after a recovery.
    pub fn warmth(&self) -> u8 {
        self.0.warmth.load(Ordering::Relaxed)
    }

    /// Sets the share of its due that it takes. One writer: whoever judges the pool.
    pub fn set_warmth(&self, percent: u8) {
        self.0.warmth.store(percent.clamp(1, WARM), Ordering::Relaxed);
    }

    /// Whether it takes this turn of its own: always when warm, else so often as its warmth says, evenly spread.
    pub(super) fn takes_turn(&self) -> bool {
        let warmth = u64::from(self.warmth());
        if warmth >= u64::from(WARM) {
            return true;
        }
        let turn = u64::from(self.0.turns.fetch_add(1, Ordering::Relaxed));
        let due = |turn: u64| turn.saturating_mul(warmth) / u64::from(WARM);
        due(turn) != due(turn.saturating_add(1))
    }

    pub(super) fn load(&self) -> &Load {
        &self.0.load
    }

    pub(super) fn tunnel_count(&self) -> &AtomicU32 {
        &self.0.tunnels
    }
}

const fn bench(code: u8) -> Bench {
    match code {
        1 => Bench::Out,
        2 => Bench::Trial,
        3 => Bench::OpenTrial,
        4 => Bench::OnTrial,
        _ => Bench::In,
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
