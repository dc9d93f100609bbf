//! A table of fixed size in which each key has one number, changed by all workers at once and locked by none.
//!
//! Part of `limit`. Sets of [`WAYS`] cells; a key lives in the set that its hash names. A cell is 128 bits, owner and
//! number together, so that one compare-and-swap says both whose number it is and what it becomes. Somebody new takes
//! the cell with the smallest number of his set and *inherits* that number. With numbers that only grow this makes a
//! promise that holds whatever comes: nobody's number is ever taken for smaller than it is. Who was pushed out had the
//! smallest number of the set, the smallest never shrinks, and so finds at least his own when he comes back.
//!
//! That a key never has two cells needs care, as two workers may meet it for the first time at once: a new cell is
//! first taken *on trial*, under a ticket, then the set is searched for the key again. Of two that search, the later
//! one to take sees the other; it yields to one that is settled and throws out one that is on trial, whose owner then
//! begins again.

use std::iter;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::nanos::Nanos;
use governor::state::StateStore;
use portable_atomic::AtomicU128;

use super::Key;

/// Cells of a set: two cache lines.
const WAYS: usize = 8;

/// Sets that come into being together, with the first key of any of them: 1 KiB. A table is made for the flood that it
/// must withstand; on most days a fraction of it is ever touched, and takes memory.
const PAGE: usize = 8;

/// Whose number it is that may become a key's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// The key's own.
    Own,
    /// That of the cell which the key would take.
    Inherited,
}

/// One number for each key. All orderings are sequentially consistent: the search after a trial needs one order.
#[derive(Debug)]
pub struct Table {
    sets: usize,
    pages: Box<[OnceLock<Page>]>,
    pushed_out: AtomicU64,
}

type Page = Box<[Set; PAGE]>;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Set([AtomicU128; WAYS]);

/// A cell's content: the owner's tag (48 bits), a ticket (16 bits, 0 when settled), the number.
#[derive(Clone, Copy)]
struct Cell(u128);

impl Cell {
    const fn new(tag: u64, ticket: u16, number: u64) -> Self {
        Self(((tag << 16 | ticket as u64) as u128) << 64 | number as u128)
    }

    const fn tag(self) -> u64 {
        (self.0 >> 80) as u64
    }

    const fn is_settled(self) -> bool {
        self.0 & (0xffff << 64) == 0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the number")]
    const fn number(self) -> u64 {
        self.0 as u64
    }
}

/// The tag of a cell that nobody owns; its number still counts for who takes it.
const NOBODY: u64 = 0;

impl Table {
    /// Room for `keys` keys, two cells for each: 32 bytes a key, once it is used.
    pub fn new(keys: usize) -> Self {
        let sets = keys.div_ceil(WAYS / 2).max(1);
        let pages = iter::repeat_with(OnceLock::new).take(sets.div_ceil(PAGE)).collect();
        Self { sets, pages, pushed_out: AtomicU64::new(0) }
    }

    /// Bytes it takes now.
    pub fn bytes(&self) -> usize {
        let made = self.pages.iter().filter(|page| page.get().is_some()).count();
        size_of_val(&*self.pages) + made * size_of::<[Set; PAGE]>()
    }

    /// How often somebody new took the cell of a key whose number was still above what `update` was told to free.
    pub fn pushed_out(&self) -> u64 {
        self.pushed_out.load(Ordering::Relaxed)
    }

    /// The number of `key`, if it has one.
    pub fn peek(&self, key: Key) -> Option<u64> {
        let tag = tag(key);
        let cells = self.known(key)?.0.iter().map(|cell| Cell(cell.load(Ordering::SeqCst)));
        cells.filter(|cell| cell.tag() == tag && cell.is_settled()).map(Cell::number).next()
    }

    /// Replaces the number of `key` by what `decide` makes of it, or leaves everything as it is when `decide` refuses.
    /// A key without a number gets the smallest of its set, `0` where nobody ever was. Numbers up to `free` are worth
    /// nothing any more. `decide` may be called several times; the last call counts.
    ///
    /// # Errors
    /// What `decide` refuses with.
    pub fn update<T, E>(
        &self,
        key: Key,
        free: u64,
        decide: impl Fn(u64, Whose) -> Result<(T, u64), E>,
    ) -> Result<T, E> {
        let (set, tag) = (self.set(key), tag(key));
        loop {
            let mut smallest: Option<(&AtomicU128, Cell)> = None;
            let mut own = None;
            for place in &set.0 {
                let cell = Cell(place.load(Ordering::SeqCst));
                if cell.tag() == tag && cell.is_settled() {
                    own = Some((place, cell));
                    break;
                }
                if smallest.is_none_or(|(_, known)| cell.number() < known.number()) {
                    smallest = Some((place, cell));
                }
            }
            // A set has cells: one of the two is there.
            let Some((place, before)) = own.or(smallest) else { continue };
            let whose = if own.is_some() { Whose::Own } else { Whose::Inherited };
            let (answer, number) = decide(before.number(), whose)?;
            let after = Cell::new(tag, 0, number);
            if own.is_some() {
                if swap(place, before, after) {
                    return Ok(answer);
                }
                continue;
            }
            let trial = Cell::new(tag, fastrand::u16(1..), before.number());
            if !swap(place, before, trial) {
                continue;
            }
            if set.is_alone(place, tag) && swap(place, trial, after) {
                if before.tag() != NOBODY && before.number() > free {
                    self.pushed_out.fetch_add(1, Ordering::Relaxed);
                }
                return Ok(answer);
            }
            // Lost when somebody has thrown it out already.
            swap(place, trial, Cell::new(NOBODY, 0, trial.number()));
            std::hint::spin_loop();
        }
    }

    /// Replaces the number of `key`, if it has one.
    pub fn change(&self, key: Key, change: impl Fn(u64) -> u64) {
        let Some(set) = self.known(key) else { return };
        let tag = tag(key);
        for place in &set.0 {
            let mut cell = Cell(place.load(Ordering::SeqCst));
            while cell.tag() == tag && cell.is_settled() {
                if swap(place, cell, Cell::new(tag, 0, change(cell.number()))) {
                    return;
                }
                cell = Cell(place.load(Ordering::SeqCst));
            }
        }
    }

    /// Cells whose number is above `free`; for a look now and then, as it reads all of them.
    pub fn occupied(&self, free: u64) -> usize {
        let sets = self.pages.iter().filter_map(OnceLock::get).flat_map(|page| page.iter());
        let cells = sets.flat_map(|set| &set.0).map(|cell| Cell(cell.load(Ordering::Relaxed)));
        cells.filter(|cell| cell.tag() != NOBODY && cell.number() > free).count()
    }

    /// The set of `key`.
    #[expect(clippy::indexing_slicing, reason = "`place` gives a page that there is, and a set within a page")]
    fn set(&self, key: Key) -> &Set {
        let (page, set) = self.place(key);
        &self.pages[page].get_or_init(Page::default)[set]
    }

    /// The set of `key`, if anybody ever was in its page.
    fn known(&self, key: Key) -> Option<&Set> {
        let (page, set) = self.place(key);
        self.pages.get(page)?.get()?.get(set)
    }

    /// The upper bits choose the set, the lower ones are the tag.
    fn place(&self, key: Key) -> (usize, usize) {
        // A product of two fractions of the number of sets is below it.
        let scaled = u128::from(key.0) * self.sets as u128;
        let set = usize::try_from(scaled >> 64).unwrap_or(0);
        (set / PAGE, set % PAGE)
    }
}

impl Set {
    /// Whether no cell but `own` has `tag`, once those on trial are thrown out.
    fn is_alone(&self, own: &AtomicU128, tag: u64) -> bool {
        self.0.iter().filter(|place| !std::ptr::eq(*place, own)).all(|place| {
            let cell = Cell(place.load(Ordering::SeqCst));
            cell.tag() != tag || (!cell.is_settled() && swap(place, cell, Cell::new(NOBODY, 0, cell.number())))
        })
    }
}

fn swap(place: &AtomicU128, before: Cell, after: Cell) -> bool {
    place.compare_exchange(before.0, after.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// The lower 48 bits; never [`NOBODY`].
const fn tag(key: Key) -> u64 {
    match key.0 & 0xffff_ffff_ffff {
        NOBODY => 1,
        tag => tag,
    }
}

/// The table as governor sees it, at one moment.
pub(super) struct At<'a>(pub(super) &'a Table, pub(super) u64);

impl StateStore for At<'_> {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let decide = |number: u64, _| decide(Some(Nanos::from(number))).map(|(answer, next)| (answer, next.as_u64()));
        self.0.update(*key, self.1, decide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(table: &Table, key: u64, most: u64) -> bool {
        table.update(Key(key), 0, |number, _| if number < most { Ok(((), number + 1)) } else { Err(()) }).is_ok()
    }

    #[test]
    fn numbers_are_kept_apart_by_key() {
        let table = Table::new(1000);

        for key in 1..500_u64 {
            assert!(add(&table, key.wrapping_mul(0x9E37_79B9_7F4A_7C15), 1));
        }
        let second = (1..500_u64).filter(|key| add(&table, key.wrapping_mul(0x9E37_79B9_7F4A_7C15), 1)).count();

        assert_eq!(second, 0);
        assert_eq!(table.occupied(0), 499);
    }

    #[test]
    fn newcomer_inherits_the_smallest_number_of_a_full_set() {
        let table = Table::new(1);
        for (key, number) in (1..=8_u64).zip([5, 9, 3, 7, 8, 6, 4, 9]) {
            for _ in 0..number {
                assert!(add(&table, key, 100));
            }
        }

        assert!(add(&table, 100, 100));

        assert_eq!(table.peek(Key(3)), None, "who had the least made room");
        assert_eq!(table.peek(Key(100)), Some(4));
        assert_eq!(table.peek(Key(2)), Some(9), "the worst is still known");
        assert_eq!(table.pushed_out(), 1);
    }

    /// The promise of the module: with keys that push each other out all the time, on all threads, no key is ever
    /// taken for less than it has.
    #[test]
    fn key_never_gets_more_than_its_limit_whoever_pushes_it_out() {
        for round in 0..200_u64 {
            // Two sets for 40 keys.
            let table = Table::new(8);
            let most = 1 + round % 7;
            let admitted: Vec<AtomicU64> = (0..40).map(|_| AtomicU64::new(0)).collect();
            std::thread::scope(|scope| {
                for thread in 0..4_u64 {
                    let (table, admitted) = (&table, &admitted);
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(round * 4 + thread);
                        for _ in 0..600 {
                            let at = random.usize(..40);
                            if add(table, (at as u64 + 1) << 58 | (at as u64 + 1), most) {
                                admitted[at].fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            for count in &admitted {
                assert!(count.load(Ordering::Relaxed) <= most, "round {round}");
            }
        }
    }

    #[test]
    fn workers_that_meet_a_key_at_once_give_it_one_cell() {
        for round in 0..2_000_u64 {
            let table = Table::new(1);
            let start = std::sync::Barrier::new(3);
            let admitted: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            (0..4).filter(|_| add(&table, round + 1, 5)).count()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });

            assert_eq!(admitted, 5, "round {round}");
            assert_eq!(table.occupied(0), 1);
        }
    }

    #[test]
    fn a_million_keys_take_half_of_64_mib() {
        let table = Table::new(1_000_000);

        assert!(table.bytes() < 1 << 20, "empty");
        for key in 0..1_u64 << 18 {
            table.set(Key(key << 46));
        }
        assert!(table.bytes() > 30 << 20 && table.bytes() <= 33 << 20, "full");
    }

    #[test]
    fn room_that_nobody_has_used_takes_no_memory() {
        let table = Table::new(100_000);
        let made = || table.pages.iter().filter(|page| page.get().is_some()).count();

        assert_eq!(table.peek(Key(7)), None);
        table.change(Key(7), |number| number + 1);
        assert_eq!(made(), 0);
        assert!(add(&table, 7, 1) && add(&table, u64::MAX, 1));
        assert_eq!((made(), table.occupied(0)), (2, 2));
    }
}
