//! Tells at a glance that a name is none of a few.
//!
//! Part of `headers`. Each message has every of its names held against lists; most are in none, and their first letter
//! and length say so.

/// First letters and lengths of a list of names.
pub(super) struct Glance([u64; LETTERS]);

/// Letters are told apart by five bits.
const LETTERS: usize = 32;

impl Glance {
    /// Of `names`, in lower case.
    pub(super) const fn new(mut names: &[&str]) -> Self {
        let mut table = [0; LETTERS];
        while let [name, rest @ ..] = names {
            if let [letter, ..] = name.as_bytes() {
                #[expect(clippy::indexing_slicing, reason = "below 32 by the mask, and made at compile time")]
                let row = &mut table[(*letter & 31) as usize];
                *row |= bit(name);
            }
            names = rest;
        }
        Self(table)
    }

    /// Whether `name`, in lower case, may be in the list.
    pub(super) fn may_have(&self, name: &str) -> bool {
        let letter = name.as_bytes().first().map_or(0, |letter| usize::from(*letter & 31));
        self.0.get(letter).is_some_and(|row| row & bit(name) != 0)
    }
}

const fn bit(name: &str) -> u64 {
    1 << (name.len() & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_list_are_never_passed_over() {
        const NAMES: [&str; 4] = ["te", "upgrade", "connection", "x-y"];
        const GLANCE: Glance = Glance::new(&NAMES);

        assert!(NAMES.iter().all(|name| GLANCE.may_have(name)));
        assert!(!GLANCE.may_have("host") && !GLANCE.may_have("user-agent") && !GLANCE.may_have(""));
    }
}
