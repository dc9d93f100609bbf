//! What an endpoint carries, and the limits on it.
//!
//! Part of `balance`. Exchanges, those among them without a connection yet and those that repeat what failed elsewhere
//! stand in one word, so that all three limits hold at every moment at the price of one compare-exchange.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Most of what an endpoint may carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caps {
    /// Exchanges.
    pub in_flight: u32,
    /// Exchanges and tunnels without a connection yet.
    pub pending: u32,
    /// Repeats.
    pub retries: u32,
}

/// How often each limit was reached. All wrap.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reached {
    /// Exchanges.
    pub in_flight: u32,
    /// Exchanges and tunnels without a connection yet.
    pub pending: u32,
    /// Repeats.
    pub retries: u32,
}

/// What is carried.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Carried {
    /// Exchanges. 32 bits.
    pub(super) in_flight: u32,
    /// Those, and tunnels, without a connection yet. 16 bits.
    pub(super) pending: u32,
    /// Repeats. 16 bits.
    pub(super) retries: u32,
}

#[derive(Debug, Default)]
pub(super) struct Load {
    word: AtomicU64,
    in_flight_reached: AtomicU32,
    pending_reached: AtomicU32,
    retries_reached: AtomicU32,
}

/// Most that a part of 16 bits may count to.
const MOST_PARTS: u32 = u16::MAX as u32;

impl Load {
    pub(super) fn get(&self) -> Carried {
        unpack(self.word.load(Ordering::Relaxed))
    }

    /// Whether another one fits at this moment.
    pub(super) fn fits(&self, caps: &Caps, retry: bool) -> bool {
        let carried = self.get();
        let more = Carried { in_flight: 1, pending: 1, retries: retry.into() };
        sum(carried, more).is_some_and(|next| next.is_within(caps, retry))
    }

    /// Adds `more`, if everything stays within `caps`.
    pub(super) fn raise(&self, more: Carried, caps: &Caps) -> bool {
        let raised = |word: u64| {
            let next = sum(unpack(word), more)?;
            next.is_within(caps, more.retries > 0).then(|| pack(next))
        };
        let Ok(before) = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised) else { return false };
        let Some(now) = sum(unpack(before), more) else { return true };
        for (is, cap, reached) in [
            (now.in_flight, caps.in_flight, &self.in_flight_reached),
            (now.pending, caps.pending, &self.pending_reached),
            (now.retries, caps.retries, &self.retries_reached),
        ] {
            if is == cap && is > 0 {
                reached.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    /// Takes `less` away, which was added before; says what was there.
    pub(super) fn lower(&self, less: Carried) -> Carried {
        // Each part was raised by as much before, so that none can pass zero and borrow from its neighbour.
        unpack(self.word.fetch_sub(pack(less), Ordering::Relaxed))
    }

    pub(super) fn reached(&self) -> Reached {
        Reached {
            in_flight: self.in_flight_reached.load(Ordering::Relaxed),
            pending: self.pending_reached.load(Ordering::Relaxed),
            retries: self.retries_reached.load(Ordering::Relaxed),
        }
    }
}

impl Carried {
    const fn is_within(self, caps: &Caps, retry: bool) -> bool {
        self.in_flight <= caps.in_flight && self.pending <= caps.pending && (!retry || self.retries <= caps.retries)
    }
}

fn sum(carried: Carried, more: Carried) -> Option<Carried> {
    let part = |part: u32, more: u32| part.checked_add(more).filter(|sum| *sum <= MOST_PARTS);
    Some(Carried {
        in_flight: carried.in_flight.checked_add(more.in_flight)?,
        pending: part(carried.pending, more.pending)?,
        retries: part(carried.retries, more.retries)?,
    })
}

const fn pack(carried: Carried) -> u64 {
    (carried.in_flight as u64) | ((carried.pending as u64) << 32) | ((carried.retries as u64) << 48)
}

fn unpack(word: u64) -> Carried {
    let part = |shift: u32, mask: u64| u32::try_from((word >> shift) & mask).unwrap_or_default();
    Carried { in_flight: part(0, u32::MAX.into()), pending: part(32, 0xffff), retries: part(48, 0xffff) }
}
