//! How much may be repeated.
//!
//! Part of `balance`. When much fails at once, repeats would double the load on what is left: they are limited to a
//! share of the recent exchanges. Atomics only; the clock is an argument.

use std::sync::atomic::{AtomicU64, Ordering};

/// Seconds that count.
const WINDOW: u32 = 10;

/// Repeats that are always allowed within the window: 3 a second. In one heap rather than each second by itself, since
/// a killed endpoint fails all its exchanges in one moment.
const FLOOR: u64 = 3 * WINDOW as u64;

/// Seconds kept; above the window, so that the oldest is never written while it counts.
const KEPT: usize = 16;

/// A pool's budget of retries, shared by all workers.
#[derive(Debug)]
pub struct Budget {
    percent: u64,
    exchanges: Tally,
    retries: Tally,
}

/// How much of a budget is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fill {
    /// Retries of the last 10 s.
    pub used: u64,
    /// Those that the same time allows.
    pub allowed: u64,
}

impl Budget {
    /// Allows `percent` retries per hundred exchanges of the last 10 s, and 30 in any 10 s whatever the traffic.
    pub fn new(percent: u8) -> Self {
        Self { percent: u64::from(percent), exchanges: Tally::default(), retries: Tally::default() }
    }

    /// Counts an exchange (not its repeats). `now` in milliseconds since any fixed point, the same for all callers.
    pub fn note_exchange(&self, now: u64) {
        self.exchanges.add_below(second(now), u64::MAX);
    }

    /// Takes one retry from the budget; false when it is used up.
    pub fn try_retry(&self, now: u64) -> bool {
        let second = second(now);
        self.retries.add_below(second, self.allowed(second))
    }

    /// How much of it is used.
    pub fn fill(&self, now: u64) -> Fill {
        let second = second(now);
        Fill { used: self.retries.sum(second), allowed: self.allowed(second) }
    }

    fn allowed(&self, second: u32) -> u64 {
        (self.exchanges.sum(second).saturating_mul(self.percent) / 100).max(FLOOR)
    }
}

fn second(now: u64) -> u32 {
    // Wraps after 136 years.
    u32::try_from((now / 1_000) & u64::from(u32::MAX)).unwrap_or_default()
}

/// Counts per second in a ring. A slot holds its second in the upper half and the count in the lower.
#[derive(Debug, Default)]
struct Tally([AtomicU64; KEPT]);

impl Tally {
    /// Adds one in `second` if the window's sum is below `cap`.
    fn add_below(&self, second: u32, cap: u64) -> bool {
        let Some(slot) = self.0.get(second as usize % KEPT) else {
            return false;
        };
        let mut seen = slot.load(Ordering::Relaxed);
        loop {
            let (at, count) = unpack(seen);
            // The sum without this slot cannot grow any more; the slot itself is guarded by the exchange below.
            if cap != u64::MAX
                && self.sum_without(second, slot).saturating_add(if at == second { count } else { 0 }) >= cap
            {
                return false;
            }
            let next = if at == second { seen.saturating_add(1) } else { pack(second, 1) };
            match slot.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    fn sum(&self, second: u32) -> u64 {
        self.0.iter().map(|slot| counted(slot, second)).sum()
    }

    fn sum_without(&self, second: u32, skipped: &AtomicU64) -> u64 {
        self.0.iter().filter(|slot| !std::ptr::eq(*slot, skipped)).map(|slot| counted(slot, second)).sum()
    }
}

/// The slot's count if its second lies within the window that ends with `second`.
fn counted(slot: &AtomicU64, second: u32) -> u64 {
    let (at, count) = unpack(slot.load(Ordering::Relaxed));
    if second.wrapping_sub(at) < WINDOW { count } else { 0 }
}

const fn pack(second: u32, count: u64) -> u64 {
    ((second as u64) << 32) | count
}

fn unpack(slot: u64) -> (u32, u64) {
    (u32::try_from(slot >> 32).unwrap_or_default(), slot & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floor_allows_thirty_retries_in_ten_seconds_without_traffic() {
        let budget = Budget::new(10);

        let allowed = (0..100).filter(|_| budget.try_retry(5_000)).count();

        assert_eq!(allowed, 30);
        assert!(!budget.try_retry(14_999));
        assert!(budget.try_retry(15_000));
    }

    #[test]
    fn share_of_recent_exchanges_may_be_repeated() {
        let budget = Budget::new(10);
        for i in 0..1_000 {
            budget.note_exchange(i * 9);
        }

        assert_eq!(budget.fill(9_000), Fill { used: 0, allowed: 100 });
        assert_eq!((0..1_000).filter(|_| budget.try_retry(9_000)).count(), 100);
        assert_eq!(budget.fill(9_000), Fill { used: 100, allowed: 100 });
    }

    #[test]
    fn exchanges_older_than_the_window_do_not_count() {
        let budget = Budget::new(100);
        for _ in 0..1_000 {
            budget.note_exchange(0);
        }

        assert_eq!((0..1_000).filter(|_| budget.try_retry(10_000)).count(), 30);
    }

    #[test]
    fn workers_together_stay_within_the_budget() {
        let budget = Budget::new(10);
        for _ in 0..2_000 {
            budget.note_exchange(1_000);
        }

        let allowed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..500).filter(|_| budget.try_retry(1_500)).count())).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });

        assert_eq!(allowed, 200);
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_retries_than_allowed(
            percent in 0_u8..=100, steps in prop::collection::vec((0_u64..700, any::<bool>()), 1..400),
        ) {
            let budget = Budget::new(percent);
            let (mut now, mut exchanges, mut retries) = (0, Vec::new(), Vec::new());
            for (pause, repeats) in steps {
                now += pause;
                if repeats {
                    let recent = |all: &[u64]| all.iter().filter(|at| now / 1_000 - *at / 1_000 < 10).count() as u64;
                    let allowed = (recent(&exchanges) * u64::from(percent) / 100).max(30);
                    let before = recent(&retries);
                    prop_assert_eq!(budget.try_retry(now), before < allowed);
                    if before < allowed { retries.push(now); }
                } else {
                    budget.note_exchange(now);
                    exchanges.push(now);
                }
            }
        }
    }
}
