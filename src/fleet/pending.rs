//! Counts on their way to Redis: what a round takes along, and what is told meanwhile.
//!
//! Part of `fleet`, pure. A round takes everything there is, so that every key gets its turn, however many there are and
//! whatever is told while it lasts.

use std::collections::HashMap;
use std::collections::hash_map::IntoIter;
use std::sync::Arc;

use crate::lexicon::LimitName;
use crate::limit::{Key, Meter};

/// What is counted: a limit, and a key of it.
pub(super) type Counted = (LimitName, Key);

/// How many more, or fewer.
pub(super) type Sum = (Arc<Meter>, i64);

/// Counts that wait.
pub(super) struct Pending {
    most: usize,
    /// For the round to come.
    next: HashMap<Counted, Sum>,
    /// What is left of the round under way.
    due: IntoIter<Counted, Sum>,
}

impl Pending {
    /// Nothing as yet; `most` keys may wait.
    pub(super) fn new(most: usize) -> Self {
        Self { most, next: HashMap::new(), due: HashMap::new().into_iter() }
    }

    /// So many more, or fewer, of a key; whether there was room.
    pub(super) fn add(&mut self, meter: Arc<Meter>, key: Key, count: i64) -> bool {
        let waiting = self.next.len().saturating_add(self.due.len());
        match self.next.get_mut(&(meter.name.clone(), key)) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None if waiting < self.most => {
                self.next.insert((meter.name.clone(), key), (meter, count));
            }
            None => return false,
        }
        true
    }

    /// Whether there is anything for a round to come.
    pub(super) fn is_told(&self) -> bool {
        !self.next.is_empty()
    }

    /// Begins a round; the one before must be over.
    pub(super) fn begin(&mut self) {
        debug_assert_eq!(self.due.len(), 0, "a round is not over");
        self.due = std::mem::take(&mut self.next).into_iter();
    }

    /// The next key of the round.
    pub(super) fn take(&mut self) -> Option<(Counted, Sum)> {
        self.due.next()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::config::quota::Store;
    use crate::limit::Rate;

    fn meter() -> Arc<Meter> {
        let one = NonZeroU32::MIN;
        let rate = Rate::new(one, Duration::from_secs(1), one, 16);
        Arc::new(Meter { name: LimitName::new("few"), rate, store: Store::Local })
    }

    #[test]
    fn every_key_is_in_the_next_round_however_many_are_told_while_one_lasts() {
        let (meter, mut pending) = (meter(), Pending::new(10_000));
        let add = |pending: &mut Pending, key| assert!(pending.add(Arc::clone(&meter), Key(key), 1));
        (0..1_000).for_each(|key| add(&mut pending, key));

        pending.begin();
        (500..2_000).for_each(|key| add(&mut pending, key));
        let first: Vec<u64> = std::iter::from_fn(|| pending.take()).map(|((_, key), _)| key.0).collect();
        pending.begin();
        let second: Vec<u64> = std::iter::from_fn(|| pending.take()).map(|((_, key), _)| key.0).collect();

        let sorted = |mut keys: Vec<u64>| {
            keys.sort_unstable();
            keys
        };
        assert_eq!(sorted(first), (0..1_000).collect::<Vec<u64>>());
        assert_eq!(sorted(second), (500..2_000).collect::<Vec<u64>>());
        assert!(!pending.is_told());
    }

    #[test]
    fn what_waits_is_summed_up_and_bounded_over_both_rounds() {
        let (meter, mut pending) = (meter(), Pending::new(3));

        assert!(pending.add(Arc::clone(&meter), Key(1), 2) && pending.add(Arc::clone(&meter), Key(1), -1));
        assert!(pending.add(Arc::clone(&meter), Key(2), 1));
        pending.begin();
        assert!(pending.add(Arc::clone(&meter), Key(1), 5));
        assert!(!pending.add(Arc::clone(&meter), Key(3), 1), "two are under way, one waits");
        assert!(pending.add(Arc::clone(&meter), Key(1), 1));

        let mut sums: Vec<i64> = std::iter::from_fn(|| pending.take()).map(|(_, (_, sum))| sum).collect();
        pending.begin();
        sums.extend(pending.take().map(|(_, (_, sum))| sum));
        sums.sort_unstable();
        assert_eq!(sums, [1, 1, 6]);
    }
}
