//! Maps by numbers of our own.
//!
//! Part of `balance`. Every exchange looks its endpoint up, more than once. No client chooses these numbers, so that the
//! standard library's hasher, which guards against chosen ones, would cost ten times as much for nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are made of numbers that this process gives.
pub type ById<K, T> = HashMap<K, T, BuildHasherDefault<Numbers>>;

/// A hash of numbers under way: each is mixed in by a multiplication (Knuth, The Art of Computer Programming, 6.4).
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers(u64);

impl Hasher for Numbers {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(32) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        // The upper bits are mixed best; the map looks at both ends.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use super::*;

    #[test]
    fn numbers_in_a_row_fall_into_places_of_their_own() {
        let hashes = (0..1_000_u64).map(|number| BuildHasherDefault::<Numbers>::default().hash_one((number, 0_u64)));

        let places: HashSet<u64> = hashes.map(|hash| hash % 4_096).collect();

        assert!(places.len() > 800, "{}", places.len());
    }
}
