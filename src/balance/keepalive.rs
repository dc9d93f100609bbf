//! How long an endpoint keeps idle connections open, learned from its closes.
//!
//! Part of `balance`. A request that is sent in the moment in which the endpoint closes the connection is lost, or has to
//! be repeated; who knows the endpoint's idle time stays below it and never meets that moment. A single close tells
//! nothing, since a worker that is replaced closes everything it has: two that come at the same age, a while apart, do.
//! What was learned is forgotten slowly, by connections that rest as long as they may and are still open.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Closes nearer to each other than this count as one event, in milliseconds.
const APART: u64 = 1_000;

/// Time between two steps of forgetting, in milliseconds. A step is a sixteenth: it doubles within two minutes.
const STEP: u64 = 10_000;

/// Share of the learned time that connections rest, as a fraction: what is left is for the way and for coarse clocks.
const SHARE: (u64, u64) = (3, 4);

/// Below this no connection would ever be used again, in milliseconds.
const FLOOR: u64 = 50;

/// Beyond this nothing is known any more, in milliseconds: an hour.
const CEILING: u64 = 3_600_000;

/// What the closes of one endpoint have shown. By atomics alone; what a race between two workers costs is one
/// observation.
#[derive(Debug, Default)]
pub struct KeepAlive {
    /// Milliseconds; 0 while nothing is known.
    learned: AtomicU64,
    /// The last close: its moment in the upper half, how long the connection had rested in the lower one.
    last: AtomicU64,
    /// When it was last forgotten a little.
    stepped: AtomicU64,
    closes: AtomicU64,
}

impl KeepAlive {
    /// The endpoint has closed a connection that had rested for `rested`. Says what was learned, if that is news. `now` in
    /// milliseconds since any fixed point, the same for all callers.
    pub fn note_close(&self, rested: Duration, now: u64) -> Option<Duration> {
        self.closes.fetch_add(1, Ordering::Relaxed);
        let rested = millis(rested);
        let (when, before) = halves(self.last.load(Ordering::Relaxed));
        let moment = now & 0xffff_ffff;
        let apart = moment.abs_diff(when) >= APART;
        if before != 0 && !apart {
            return None;
        }
        self.last.store(joined(moment, rested), Ordering::Relaxed);
        let alike = rested.saturating_mul(4) >= before.saturating_mul(3)
            && before.saturating_mul(4) >= rested.saturating_mul(3);
        let idle = rested.min(before);
        if before == 0 || !alike || self.learned.load(Ordering::Relaxed) == idle {
            return None;
        }
        self.learned.store(idle, Ordering::Relaxed);
        self.stepped.store(now, Ordering::Relaxed);
        Some(Duration::from_millis(idle))
    }

    /// A connection has rested as long as it may, and is still open.
    pub fn note_held(&self, now: u64) {
        let learned = self.learned.load(Ordering::Relaxed);
        if learned == 0 || now.saturating_sub(self.stepped.load(Ordering::Relaxed)) < STEP {
            return;
        }
        self.stepped.store(now, Ordering::Relaxed);
        let more = learned.saturating_add((learned / 16).max(1));
        self.learned.store(if more > CEILING { 0 } else { more }, Ordering::Relaxed);
    }

    /// How long a connection may rest, of `most` by configuration.
    pub fn limit(&self, most: Duration) -> Duration {
        match self.learned.load(Ordering::Relaxed) {
            0 => most,
            learned => most.min(Duration::from_millis((learned.saturating_mul(SHARE.0) / SHARE.1).max(FLOOR))),
        }
    }

    /// How long the endpoint keeps idle connections, as far as is known.
    pub fn learned(&self) -> Option<Duration> {
        Some(self.learned.load(Ordering::Relaxed)).filter(|learned| *learned != 0).map(Duration::from_millis)
    }

    /// Idle connections that the endpoint closed before they were used again.
    pub fn closes(&self) -> u64 {
        self.closes.load(Ordering::Relaxed)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(CEILING).clamp(1, CEILING)
}

/// Both are below 2^32: moments are counted in 49 days, and begin again.
const fn joined(now: u64, rested: u64) -> u64 {
    now << 32 | rested
}

/// The moment and the rest.
const fn halves(last: u64) -> (u64, u64) {
    (last >> 32, last & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn two_closes_at_the_same_age_teach_the_idle_time() {
        let endpoint = KeepAlive::default();

        assert_eq!(endpoint.note_close(ms(2_100), 10_000), None);
        assert_eq!(endpoint.limit(MINUTE), MINUTE);
        assert_eq!(endpoint.note_close(ms(2_000), 13_000), Some(ms(2_000)));

        assert_eq!(endpoint.limit(MINUTE), ms(1_500));
        assert_eq!(endpoint.limit(ms(900)), ms(900), "the configuration stays the most");
    }

    #[test]
    fn worker_that_is_replaced_teaches_nothing() {
        let endpoint = KeepAlive::default();
        for rested in [40, 41, 42, 43] {
            endpoint.note_close(ms(rested), 10_000);
        }
        endpoint.note_close(ms(900), 60_000);
        endpoint.note_close(ms(20_000), 90_000);

        assert_eq!((endpoint.learned(), endpoint.closes()), (None, 6));
    }

    #[test]
    fn longer_idle_time_is_found_again_within_minutes() {
        let endpoint = KeepAlive::default();
        endpoint.note_close(ms(300), 10_000);
        endpoint.note_close(ms(300), 12_000);

        for second in 12..12 + 600 {
            endpoint.note_held(second * 1_000);
        }

        assert!(endpoint.limit(MINUTE) > ms(5_000), "{:?}", endpoint.learned());
    }

    proptest! {
        #[test]
        fn limit_stays_within_its_bounds(
            closes in prop::collection::vec((0_u64..5_000_000, 0_u64..100_000_000, any::<bool>()), 0..50),
            most in 50_u64..100_000_000,
        ) {
            let endpoint = KeepAlive::default();
            for (rested, now, held) in closes {
                if held { endpoint.note_held(now); } else { endpoint.note_close(ms(rested), now); }
                prop_assert!(endpoint.limit(ms(most)) <= ms(most));
                prop_assert!(endpoint.limit(ms(most)) >= ms(FLOOR));
            }
        }
    }
}
