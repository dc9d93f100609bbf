//! A rate with a burst, exact over all workers: GCRA by `governor` over a [`Table`].
//!
//! Part of `limit`. The number of a key is its *theoretical arrival time* in nanoseconds: how far into the future what
//! it did reaches at the agreed rate. It only grows, so that the table's promise holds: nobody gets more than
//! the limit, however many keys push each other out.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};

use crate::config::quota::Store;
use crate::lexicon::LimitName;

use super::Key;
use super::table::{At, Table};

/// So many per time, with a burst.
#[derive(Debug)]
pub struct Rate {
    quota: Quota,
    table: Table,
}

type Limiter<'a> = RateLimiter<Key, At<'a>, Moment, StateInformationMiddleware>;

/// A rate under a name, by which its states are known in the fleet.
#[derive(Debug)]
pub struct Meter {
    /// The name.
    pub name: LimitName,
    /// The rate.
    pub rate: Rate,
    /// Where its states are, beside here.
    pub store: Store,
}

/// What a rate says about one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// It may pass; so many more could follow at once.
    Admitted(u32),
    /// It may not; it could after so long.
    Refused(Duration),
}

/// Governor asks for the time twice: once to begin with, then for each request.
#[derive(Debug, Default)]
struct Moment(Cell<u64>);

impl Clock for Moment {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.get())
    }
}

impl Rate {
    /// `count` per `period`, of which `burst` may come at once; known for `keys` keys at a time.
    pub fn new(count: NonZeroU32, period: Duration, burst: NonZeroU32, keys: usize) -> Self {
        let each = (period / count.get()).max(Duration::from_nanos(1));
        // `None` is for a period of zero.
        let quota = Quota::with_period(each).unwrap_or_else(|| Quota::per_second(count)).allow_burst(burst);
        Self { quota, table: Table::new(keys) }
    }

    /// One request of `key` at `now`.
    pub fn check(&self, key: Key, now: u64) -> Decision {
        let limiter = self.limiter(now);
        match limiter.check_key(&key) {
            Ok(state) => Decision::Admitted(state.remaining_burst_capacity()),
            Err(until) => Decision::Refused(until.wait_time_from(Nanos::from(now))),
        }
    }

    /// `count` requests of `key` at once, all or none.
    pub fn check_many(&self, key: Key, count: NonZeroU32, now: u64) -> Decision {
        let limiter = self.limiter(now);
        match limiter.check_key_n(&key, count) {
            Ok(Ok(state)) => Decision::Admitted(state.remaining_burst_capacity()),
            Ok(Err(until)) => Decision::Refused(until.wait_time_from(Nanos::from(now))),
            Err(_more_than_the_burst) => Decision::Refused(self.window()),
        }
    }

    /// Takes back one request that turned out not to count. A key that was pushed out meanwhile may gain by it what
    /// it gives back, no more.
    pub fn give_back(&self, key: Key) {
        self.give_back_many(key, 1);
    }

    /// Takes back `count` requests.
    pub fn give_back_many(&self, key: Key, count: u64) {
        self.table.change(key, |reach| reach.saturating_sub(self.each().saturating_mul(count)));
    }

    /// How far `key` reaches into the future at `now`, in nanoseconds; what others have been told of it.
    pub fn debt(&self, key: Key, now: u64) -> u64 {
        self.table.peek(key).unwrap_or(0).saturating_sub(now)
    }

    /// `key` reaches at least `debt` nanoseconds into the future: others know more of it.
    pub fn owe(&self, key: Key, debt: u64, now: u64) {
        let reach = now.saturating_add(debt);
        // An error says that enough is known already.
        let _enough = self.table.update(key, now, |known, _| if known < reach { Ok(((), reach)) } else { Err(()) });
    }

    /// Nanoseconds that one request takes.
    pub fn each(&self) -> u64 {
        nanos(self.quota.replenish_interval())
    }

    /// Requests that may come at once.
    pub const fn burst(&self) -> NonZeroU32 {
        self.quota.burst_size()
    }

    /// The time in which a whole burst comes back.
    pub fn window(&self) -> Duration {
        self.quota.burst_size_replenished_in()
    }

    /// Where the states are.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    fn limiter(&self, now: u64) -> Limiter<'_> {
        let limiter = Limiter::new(self.quota, At(&self.table, now), Moment::default());
        limiter.clock().0.set(now);
        limiter
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::super::SECOND;
    use super::*;

    fn rate(count: u32, period: u64, burst: u32, keys: usize) -> Rate {
        let some = |number| NonZeroU32::new(number).unwrap();
        Rate::new(some(count), Duration::from_secs(period), some(burst), keys)
    }

    fn admits(rate: &Rate, key: u64, now: u64) -> bool {
        matches!(rate.check(Key(key), now), Decision::Admitted(_))
    }

    #[test]
    fn burst_passes_then_the_rate() {
        let rate = rate(10, 60, 3, 100);

        assert_eq!(rate.check(Key(1), SECOND), Decision::Admitted(2));
        assert_eq!(rate.check(Key(1), SECOND), Decision::Admitted(1));
        assert_eq!(rate.check(Key(1), SECOND), Decision::Admitted(0));
        assert_eq!(rate.check(Key(1), SECOND), Decision::Refused(Duration::from_secs(6)));
        assert!(admits(&rate, 2, SECOND), "another key has its own");
        assert!(!admits(&rate, 1, 6 * SECOND));
        assert!(admits(&rate, 1, 7 * SECOND));
        assert!(!admits(&rate, 1, 7 * SECOND));
    }

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let rate = rate(1, 60, 2, 100);
        assert!(admits(&rate, 1, 0) && admits(&rate, 1, 0) && !admits(&rate, 1, 0));

        rate.give_back(Key(1));

        assert!(admits(&rate, 1, 0) && !admits(&rate, 1, 0));
    }

    #[test]
    fn what_others_know_of_a_key_counts() {
        let rate = rate(1, 1, 10, 100);
        assert!(admits(&rate, 1, SECOND));

        rate.owe(Key(1), 10 * SECOND, SECOND);
        rate.owe(Key(1), 3 * SECOND, SECOND);

        assert_eq!(rate.check(Key(1), SECOND), Decision::Refused(Duration::from_secs(1)));
    }

    /// One offender at his limit, and a flood of keys that is fifty times what the table can hold.
    #[test]
    fn flood_of_keys_does_not_free_the_worst_offender() {
        let rate = rate(10, 60, 10, 1_000);
        let offender = 0xDEAD_BEEF_0123_4567;
        let mut random = fastrand::Rng::with_seed(7);
        let mut admitted = 0;

        for second in 0..60_u64 {
            let now = second * SECOND;
            for _ in 0..20 {
                admitted += u32::from(admits(&rate, offender, now));
            }
            for _ in 0..1_000 {
                admits(&rate, random.u64(..), now);
            }
        }

        assert!(rate.table().pushed_out() > 10_000, "the flood did push keys out");
        assert!(admitted <= 10 + 10, "{admitted}: a burst, then ten a minute");
    }

    /// Who is honest and new is not hurt by that flood as long as the table can breathe.
    #[test]
    fn flood_of_keys_does_not_lock_honest_clients_out() {
        let rate = rate(100, 1, 100, 1_000);
        let mut random = fastrand::Rng::with_seed(7);
        let mut refused = 0;

        for at in 0..20_000_u64 {
            let now = at * SECOND / 20_000;
            admits(&rate, random.u64(..), now);
            if at % 100 == 0 {
                refused += u32::from(!admits(&rate, 0xABCD_0000_0000_0000 + (at % 1_000), now));
            }
        }

        assert_eq!(refused, 0);
    }

    proptest! {
        /// In any span, a key gets no more than the burst and what comes back in the span.
        #[test]
        fn never_more_than_the_limit(
            count in 1u32..50,
            burst in 1u32..20,
            steps in prop::collection::vec((0u64..6, 0u64..200), 1..400),
        ) {
            let rate = rate(count, 1, burst, 1);
            let (mut now, mut passed) = (0, vec![Vec::new(); 6]);
            for (key, pause) in steps {
                now += pause * SECOND / 1_000;
                if admits(&rate, (key + 1) << 32, now) {
                    passed[usize::try_from(key).unwrap()].push(now);
                }
            }
            for times in passed {
                for (from, begin) in times.iter().enumerate() {
                    for (to, end) in times.iter().enumerate().skip(from) {
                        let most = u64::from(burst) + (end - begin) / rate.each();
                        prop_assert!((to - from + 1) as u64 <= most);
                    }
                }
            }
        }

        /// The same over threads: at one moment all of them together get the burst of each key, exactly as long as no
        /// key has to leave the table, never more when some have to.
        #[test]
        fn threads_share_one_burst(burst in 1u32..30, keys in 1usize..24, room in 1usize..32) {
            let rate = rate(1, 3600, burst, room);
            let passed: Vec<AtomicU64> = (0..keys).map(|_| AtomicU64::new(0)).collect();
            std::thread::scope(|scope| {
                for thread in 0..3 {
                    let (rate, passed) = (&rate, &passed);
                    scope.spawn(move || {
                        for round in 0..burst as usize {
                            for at in 0..keys {
                                let at = (at + round + thread) % keys;
                                let key = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                                if admits(rate, key, SECOND) {
                                    passed[at].fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        }
                    });
                }
            });
            for count in &passed {
                prop_assert!(count.load(Ordering::Relaxed) <= u64::from(burst));
                if rate.table().pushed_out() == 0 && keys <= 8 {
                    prop_assert_eq!(count.load(Ordering::Relaxed), u64::from(burst));
                }
            }
        }
    }
}
