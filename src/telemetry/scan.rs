//! Looks at eight bytes at once.
//!
//! Floor 2, pure. Most of what a line of the log is made of is short, and most of it has nothing in it that needs care: to
//! find that out must cost less than to copy it. For long texts in which something is sought there is `memchr`. Source: H. S.
//! Warren, "Hacker's Delight", §6-1: which byte of a word fits first is exact, and so is whether any does.

/// Eight bytes of a text.
#[derive(Clone, Copy)]
pub(super) struct Eight(u64);

/// One in each byte.
const ONES: u64 = u64::MAX / 0xff;

/// The highest bit of each byte.
const HIGHS: u64 = ONES << 7;

impl Eight {
    /// Not zero if one of them is `byte`.
    #[inline]
    pub(super) const fn are(self, byte: u8) -> u64 {
        let rest = self.0 ^ (ONES * byte as u64);
        rest.wrapping_sub(ONES) & !rest & HIGHS
    }

    /// Not zero if one of them is not a printable character of ASCII.
    #[inline]
    pub(super) const fn are_unprintable(self) -> u64 {
        // Below the space; DEL, which one more makes the first that is not ASCII; and those.
        (self.0.wrapping_sub(ONES * 0x20) | self.0.wrapping_add(ONES) | self.0) & HIGHS
    }
}

/// Whether no eight bytes of `text` have any of what `look` tells by another number than zero. The last eight overlap those
/// before them, so that nothing is left to be looked at byte by byte.
#[inline]
pub(super) fn has_none(text: &[u8], look: impl Fn(Eight) -> u64) -> bool {
    let look = |eight: &[u8; 8]| look(Eight(u64::from_le_bytes(*eight)));
    let Some(last) = text.last_chunk() else {
        // Filled up with what is there anyway.
        let Some(first) = text.first() else { return true };
        let mut filled = [*first; 8];
        filled.iter_mut().zip(text).for_each(|(to, byte)| *to = *byte);
        return look(&filled) == 0;
    };
    text.as_chunks().0.iter().fold(look(last), |seen, eight| seen | look(eight)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn says_what_a_look_at_each_byte_says(text in proptest::collection::vec(proptest::sample::select(
            vec![0, 1, 0x1f, b' ', b'!', b'-', b'.', b'/', b'~', 0x7f, 0x80, 0x81, 0xae, 0xff]), 0..40)) {
            prop_assert_eq!(has_none(&text, |eight| eight.are(b'.')), !text.contains(&b'.'));
            prop_assert_eq!(has_none(&text, Eight::are_unprintable), text.iter().all(|byte| matches!(byte, b' '..=b'~')));
        }

        #[test]
        fn says_so_of_any_bytes(text in proptest::collection::vec(any::<u8>(), 0..12), byte: u8) {
            prop_assert_eq!(has_none(&text, |eight| eight.are(byte)), !text.contains(&byte));
            prop_assert_eq!(has_none(&text, Eight::are_unprintable), text.iter().all(|byte| matches!(byte, b' '..=b'~')));
        }
    }
}
