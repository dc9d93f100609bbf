//! Lists of fields that heads have left, for whoever comes next on the thread.
//!
//! Part of `head`. Each exchange makes two, beyond the size that the allocator has at hand.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use super::fields::Field;

/// Lists that a thread keeps.
const MOST: usize = 32;

/// Fields that one of them has room for: enough for a head, and not for an odd one.
const ROOM: RangeInclusive<usize> = 16..=64;

thread_local! {
    static SPARE: RefCell<Vec<Vec<Field>>> = const { RefCell::new(Vec::new()) };
}

/// An empty list: one that is kept, or a new one with room for as many fields.
pub(super) fn take(room: usize) -> Vec<Field> {
    let kept = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
    kept.unwrap_or_else(|| Vec::with_capacity(room.max(*ROOM.start())))
}

/// Keeps the room of a list, not what is in it.
pub(super) fn keep(mut list: Vec<Field>) {
    if !ROOM.contains(&list.capacity()) {
        return;
    }
    list.clear();
    // A thread that ends keeps nothing.
    SPARE
        .try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST {
                spare.push(list);
            }
        })
        .unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use crate::head::{Fields, HeaderValue};

    use super::*;

    #[test]
    fn list_that_a_head_has_left_is_the_next_ones_and_empty() {
        let mut first = Fields::with_capacity(20);
        first.append("cookie", HeaderValue::from_static("secret"));
        drop(first);

        let (given, new) = (take(0), take(0));

        assert!(given.is_empty() && given.capacity() >= 20);
        assert_eq!(new.capacity(), *ROOM.start());
    }

    #[test]
    fn thread_keeps_few_lists_and_neither_short_nor_long_ones() {
        keep(Vec::with_capacity(ROOM.start() - 1));
        assert!(SPARE.take().is_empty());
        drop((0..100).map(|_| Fields::with_capacity(*ROOM.start())).collect::<Vec<_>>());
        // Takes one, which grows.
        drop(Fields::with_capacity(ROOM.end() + 1));

        let kept = SPARE.take();

        assert_eq!(kept.len(), MOST - 1);
        assert!(kept.iter().all(|list| ROOM.contains(&list.capacity())));
    }
}
