//! Sums over a past of fixed length, in slots of fixed length.
//!
//! A slot knows which stretch of time it is about, so that nothing needs to be cleared as time goes on, and a clock that
//! is set forwards or back can neither bring old sums to life nor fill the memory.

use std::ops::AddAssign;

/// Sums of `T` for the last so many stretches of time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ring<T> {
    step: u64,
    slots: Box<[Slot<T>]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Slot<T> {
    /// Which stretch, counted from 1970.
    number: u64,
    sum: T,
}

impl<T: AddAssign + Copy + Default + PartialEq> Ring<T> {
    /// `slots` stretches of `step` seconds each; both at least one.
    pub(super) fn new(step: u64, slots: usize) -> Self {
        Self { step: step.max(1), slots: vec![Slot::default(); slots.max(1)].into() }
    }

    /// Adds to the stretch that `now` is in.
    pub(super) fn add(&mut self, now: u64, more: T) {
        self.put(now / self.step, more);
    }

    /// Adds to a stretch by its number.
    pub(super) fn put(&mut self, number: u64, more: T) {
        let place = usize::try_from(number % self.slots.len() as u64).unwrap_or_default();
        let Some(slot) = self.slots.get_mut(place) else { return };
        if slot.number != number {
            *slot = Slot { number, sum: T::default() };
        }
        slot.sum += more;
    }

    /// The sum of the last `seconds`, the stretch that `now` is in included; at most of the whole ring.
    pub(super) fn over(&self, now: u64, seconds: u64) -> T {
        let newest = now / self.step;
        let many = seconds.div_ceil(self.step).clamp(1, self.slots.len() as u64);
        let mut sum = T::default();
        for slot in &self.slots {
            if slot.number <= newest && newest - slot.number < many {
                sum += slot.sum;
            }
        }
        sum
    }

    /// What is not empty, with the numbers of the stretches.
    pub(super) fn filled(&self) -> impl Iterator<Item = (u64, T)> {
        self.slots.iter().filter(|slot| slot.sum != T::default()).map(|slot| (slot.number, slot.sum))
    }
}
