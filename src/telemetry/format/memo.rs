//! Texts that are known to be harmless.
//!
//! Floor 2, pure. A dashboard asks for its charts in dozens of requests with one `User-Agent` and one `Referer`; to see that a
//! text is one of the last costs less than to look for what must not be in a line. Bounded: a few dozen short texts.

/// Texts that are remembered at a time.
const PLACES: usize = 32;

/// Longest text that is remembered, in bytes.
const LONGEST: usize = 256;

/// Texts that came out as they were. Each has one place, which it takes from whatever was there. None has a secret in it, for
/// that would not have come out as it was.
#[derive(Debug, Default)]
pub(super) struct Memo([Vec<u8>; PLACES]);

impl Memo {
    /// Appends what `make` makes of `text`, which must be the same each time.
    pub(super) fn append(&mut self, text: &[u8], out: &mut Vec<u8>, make: impl FnOnce(&[u8], &mut Vec<u8>)) {
        let Some(known) = self.0.get_mut(place(text)) else { return make(text, out) };
        if known == text {
            return out.extend_from_slice(text);
        }
        let start = out.len();
        make(text, out);
        if text.len() <= LONGEST && out.get(start..) == Some(text) {
            known.clear();
            known.extend_from_slice(text);
        }
    }
}

/// Where it is remembered. Texts that are made up to share a place make a line as dear as it is without all this.
fn place(text: &[u8]) -> usize {
    let mix =
        |sum: u64, part: &[u8; 8]| (sum.rotate_left(5) ^ u64::from_le_bytes(*part)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (parts, rest) = text.as_chunks();
    let sum = parts.iter().fold(text.len() as u64, mix);
    let sum = rest.iter().fold(sum, |sum, byte| mix(sum, &u64::from(*byte).to_le_bytes()));
    usize::try_from(sum >> 32).unwrap_or_default() % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out with every `x` left out, and whether it was looked for.
    fn appended(memo: &mut Memo, text: &str) -> (String, bool) {
        let (mut out, mut made) = (b"<".to_vec(), false);
        memo.append(text.as_bytes(), &mut out, |text, out| {
            made = true;
            out.extend(text.iter().filter(|byte| **byte != b'x'));
        });
        (String::from_utf8(out).unwrap(), made)
    }

    #[test]
    fn text_that_comes_again_is_not_looked_at_again() {
        let mut memo = Memo::default();
        assert_eq!(appended(&mut memo, "abc"), ("<abc".to_owned(), true));
        assert_eq!(appended(&mut memo, "abc"), ("<abc".to_owned(), false));
    }

    #[test]
    fn text_that_comes_out_otherwise_is_never_kept() {
        let mut memo = Memo::default();
        for _ in 0..2 {
            assert_eq!(appended(&mut memo, "axb"), ("<ab".to_owned(), true));
        }
        assert!(memo.0.iter().all(Vec::is_empty));
    }

    #[test]
    fn each_comes_out_as_its_own_however_many_there_are() {
        let mut memo = Memo::default();
        for number in (0..1_000).chain(0..1_000) {
            assert_eq!(appended(&mut memo, &format!("{number}x")).0, format!("<{number}"));
            assert_eq!(appended(&mut memo, &format!("{number}")).0, format!("<{number}"));
            appended(&mut memo, &"y".repeat(number));
        }
        assert!(memo.0.iter().all(|known| known.len() <= LONGEST && !known.is_empty()));
    }
}
