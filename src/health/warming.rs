//! How endpoints grow into their share after a recovery.
//!
//! Part of `health`, pure. A replica that has just come up has cold caches and empty connection pools; its whole share
//! at once would make it slow or take it down again. One that comes up while hardly anybody serves is needed whole.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use crate::config::pool::SlowStart;

/// What is remembered of a pool's endpoints.
#[derive(Debug)]
pub struct Warming<K> {
    /// Since when each usable endpoint is so.
    since: HashMap<K, Since>,
    /// Since when the pool has had an endpoint that is usable.
    serving: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    at: u64,
    cold: bool,
}

/// All of its due.
const WHOLE: u8 = 100;

impl<K> Default for Warming<K> {
    fn default() -> Self {
        Self { since: HashMap::new(), serving: None }
    }
}

impl<K: Copy + Eq + Hash> Warming<K> {
    /// What share of its due each of the endpoints that are `usable` takes as of `now` in milliseconds, in percent.
    pub fn judge(&mut self, usable: &[K], config: Option<&SlowStart>, now: u64) -> Vec<(K, u8)> {
        let present: HashSet<&K> = usable.iter().collect();
        self.since.retain(|key, _| present.contains(key));
        if self.since.is_empty() {
            // Nobody served: whoever comes now is needed whole.
            self.serving = None;
        }
        let serving = match self.serving {
            None if usable.is_empty() => return Vec::new(),
            None => *self.serving.insert(now),
            Some(since) => since,
        };
        let window = config.map_or(Duration::ZERO, |config| config.window);
        let settled = u128::from(now.saturating_sub(serving)) >= window.as_millis();
        let share = |key: &K| {
            let since = self.since.entry(*key).or_insert_with(|| Since { at: now, cold: settled && config.is_some() });
            let percent = match config {
                Some(config) if since.cold => percent(now.saturating_sub(since.at), config),
                Some(_) | None => WHOLE,
            };
            since.cold = percent < WHOLE;
            (*key, percent)
        };
        usable.iter().map(share).collect()
    }

    /// Whether any of them is growing.
    pub fn is_cold(&self) -> bool {
        self.since.values().any(|since| since.cold)
    }
}

/// From `from` to the whole, evenly over the window.
fn percent(elapsed: u64, config: &SlowStart) -> u8 {
    let from = u128::from(config.from.min(WHOLE));
    let grown = u128::from(WHOLE).saturating_sub(from).saturating_mul(elapsed.into());
    let percent =
        grown.checked_div(config.window.as_millis()).map_or_else(|| WHOLE.into(), |grown| from.saturating_add(grown));
    u8::try_from(percent).unwrap_or(WHOLE).min(WHOLE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: SlowStart = SlowStart { window: Duration::from_secs(10), from: 20 };

    #[test]
    fn recovered_endpoint_grows_into_its_share() {
        let mut warming = Warming::default();
        assert_eq!(warming.judge(&[1, 2], Some(&CONFIG), 0), [(1, 100), (2, 100)], "all begin alike");
        warming.judge(&[1], Some(&CONFIG), 20_000);

        let shares: Vec<u8> =
            [30_000, 35_000, 40_000, 45_000].map(|now| warming.judge(&[1, 2], Some(&CONFIG), now)[1].1).into();

        assert_eq!(shares, [20, 60, 100, 100]);
        assert!(!warming.is_cold());
    }

    #[test]
    fn whoever_comes_up_while_nobody_serves_is_needed_whole() {
        let mut warming = Warming::default();
        warming.judge(&[1, 2], Some(&CONFIG), 0);
        warming.judge(&[], Some(&CONFIG), 50_000);

        assert_eq!(warming.judge(&[2], Some(&CONFIG), 60_000), [(2, 100)]);
        assert_eq!(warming.judge(&[2, 1], Some(&CONFIG), 61_000), [(2, 100), (1, 100)], "and soon after it as well");
        assert_eq!(warming.judge(&[2, 1, 3], Some(&CONFIG), 75_000)[2], (3, 20), "one that is discovered later is not");
        assert_eq!(warming.judge(&[2, 1, 3], None, 75_000)[2], (3, 100), "unless slow start is off");
    }

    proptest! {
        #[test]
        fn share_never_falls_while_an_endpoint_stays(
            window in 1_u64..100_000, from in 1_u8..=100, steps in prop::collection::vec(0_u64..5_000, 1..60),
        ) {
            let config = SlowStart { window: Duration::from_millis(window), from };
            let mut warming = Warming::default();
            warming.judge(&[1], Some(&config), 0);
            let (mut now, mut last) = (window, from.saturating_sub(1));
            for step in steps {
                let share = warming.judge(&[1, 2], Some(&config), now)[1].1;
                prop_assert!(share >= last && share >= from && share <= 100);
                prop_assert!(share == 100 || now < 2 * window);
                last = share;
                now += step;
            }
        }
    }
}
