//! How many at once for each key, exact over all workers.
//!
//! Part of `limit`. The number of a key in the [`Table`] is how many it has; a cell is taken over only when its number
//! is zero, so that who has something is never pushed out. Who finds no such cell shares one count with all others who
//! do not: the bound holds, and who was there before is not hurt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Key;
use super::table::{Table, Whose};

/// Counts of what is under way.
#[derive(Debug)]
pub struct Concurrency {
    most: u64,
    table: Table,
    others: AtomicU64,
}

/// One of what a key may have; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    of: Arc<Concurrency>,
    /// `None` for who shares the count of those without a cell.
    key: Option<Key>,
}

/// Why there is no place.
enum Refusal {
    /// The key has all that it may have.
    Enough,
    /// There is no free cell for it.
    Full,
}

impl Concurrency {
    /// `most` for each key; counted for `keys` keys at a time.
    pub fn new(most: u32, keys: usize) -> Self {
        Self { most: most.into(), table: Table::new(keys), others: AtomicU64::new(0) }
    }

    /// What each key may have at once.
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// A place for `key`, unless it has as many as it may.
    pub fn enter(self: &Arc<Self>, key: Key) -> Option<Place> {
        let decide = |held: u64, whose| match whose {
            Whose::Inherited if held > 0 => Err(Refusal::Full),
            _ if held >= self.most => Err(Refusal::Enough),
            _ => Ok(((), held.saturating_add(1))),
        };
        let key = match self.table.update(key, 0, decide) {
            Ok(()) => Some(key),
            Err(Refusal::Enough) => return None,
            Err(Refusal::Full) => {
                let one_more = |held: u64| held.checked_add(1).filter(|sum| *sum <= self.most);
                self.others.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
                None
            }
        };
        Some(Place { of: Arc::clone(self), key })
    }

    /// Keys that have something.
    pub fn occupied(&self) -> usize {
        self.table.occupied(0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.key {
            Some(key) => self.of.table.change(key, |held| held.saturating_sub(1)),
            None => {
                self.of.others.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_no_more_than_its_share_at_once() {
        let counts = Arc::new(Concurrency::new(2, 100));

        let (first, second) = (counts.enter(Key(1)), counts.enter(Key(1)));

        assert!(first.is_some() && second.is_some() && counts.enter(Key(1)).is_none());
        assert!(counts.enter(Key(2)).is_some());
        drop(first);
        assert!(counts.enter(Key(1)).is_some());
    }

    #[test]
    fn who_has_something_is_never_pushed_out() {
        let counts = Arc::new(Concurrency::new(1, 1));
        let held: Vec<_> = (1..=8).map(|key| counts.enter(Key(key)).unwrap()).collect();

        let ninth = counts.enter(Key(9));
        assert!(ninth.is_some(), "there is one place for all without a cell");
        assert!(counts.enter(Key(10)).is_none());
        assert!((1..=8).all(|key| counts.enter(Key(key)).is_none()));

        drop((held, ninth));
        assert_eq!(counts.occupied(), 0);
        assert!(counts.enter(Key(10)).is_some());
    }

    #[test]
    fn threads_together_have_no_more_than_the_share() {
        for _ in 0..50 {
            let counts = Arc::new(Concurrency::new(5, 4));
            let under_way = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            if let Some(place) = counts.enter(Key(77)) {
                                assert!(under_way.fetch_add(1, Ordering::SeqCst) < 5);
                                under_way.fetch_sub(1, Ordering::SeqCst);
                                drop(place);
                            }
                        }
                    });
                }
            });
            assert_eq!(counts.occupied(), 0);
        }
    }
}
