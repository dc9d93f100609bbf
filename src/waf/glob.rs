//! Patterns with stars.
//!
//! Part of `waf`. All places in the pattern where a match may stand are followed at once, so that the work is bounded
//! by the length of the text times that of the pattern: no text makes it backtrack.

/// A pattern for a whole text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob {
    /// What comes before the first star.
    literal: Box<[u8]>,
    /// What comes behind the last star; the whole, when there is none.
    ending: Box<[u8]>,
    /// The rest; empty when there is no star.
    rest: Box<[Element]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Element {
    Byte(u8),
    /// Any bytes but the separator.
    Within,
    /// Any bytes.
    Across,
}

impl Element {
    const fn byte(&self) -> Option<u8> {
        match self {
            Self::Byte(byte) => Some(*byte),
            Self::Within | Self::Across => None,
        }
    }
}

/// Elements behind the first star at most; what is longer is cut there and fits everything that follows.
const MAX: usize = 255;

/// A set of places in the pattern.
type Places = [u64; 4];

impl Glob {
    /// A pattern for paths: `*` stands for anything but `/`, `**` for anything.
    pub fn path(pattern: &str) -> Self {
        Self::new(pattern, true)
    }

    /// A pattern for texts: `*` stands for anything.
    pub fn text(pattern: &str) -> Self {
        Self::new(pattern, false)
    }

    fn new(pattern: &str, has_segments: bool) -> Self {
        let bytes = pattern.as_bytes();
        let (literal, starred) = bytes.split_at(bytes.iter().position(|byte| *byte == b'*').unwrap_or(bytes.len()));
        let mut rest = Vec::new();
        for byte in starred {
            let before = rest.last().copied();
            match (byte, before) {
                (b'*', Some(Element::Within | Element::Across)) => {
                    rest.pop();
                    rest.push(Element::Across);
                }
                (b'*', _) => rest.push(if has_segments { Element::Within } else { Element::Across }),
                (byte, _) => rest.push(Element::Byte(*byte)),
            }
        }
        if rest.len() > MAX {
            rest.truncate(MAX - 1);
            rest.push(Element::Across);
        }
        // Not of the pattern: what was too long was cut.
        let ending = match rest.iter().rposition(|element| !matches!(element, Element::Byte(_))) {
            Some(star) => rest.iter().skip(star.saturating_add(1)).filter_map(Element::byte).collect(),
            None => literal.into(),
        };
        Self { literal: literal.into(), ending, rest: rest.into() }
    }

    /// What every text that fits begins with.
    pub fn literal(&self) -> &[u8] {
        &self.literal
    }

    /// What every text that fits ends with.
    pub fn ending(&self) -> &[u8] {
        &self.ending
    }

    /// Whether the pattern has no star.
    pub fn is_literal(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether the whole of `text` fits.
    pub fn fits(&self, text: &[u8]) -> bool {
        let Some(rest) = text.strip_prefix(&*self.literal) else { return false };
        match &*self.rest {
            [] => rest.is_empty(),
            [Element::Across] => true,
            // Most texts that do not fit are told by their end.
            _ => rest.ends_with(&self.ending) && self.follow(rest),
        }
    }

    fn follow(&self, text: &[u8]) -> bool {
        let mut now: Places = [0; 4];
        self.reach(0, &mut now);
        for byte in text {
            let mut next: Places = [0; 4];
            for at in places(&now) {
                match self.rest.get(at) {
                    Some(Element::Byte(wanted)) if wanted == byte => self.reach(at.saturating_add(1), &mut next),
                    Some(Element::Within) if *byte != b'/' => self.reach(at, &mut next),
                    Some(Element::Across) => self.reach(at, &mut next),
                    Some(Element::Byte(_) | Element::Within) | None => {}
                }
            }
            if next == [0; 4] {
                return false;
            }
            now = next;
        }
        places(&now).any(|at| at == self.rest.len())
    }

    /// Adds a place, and those behind stars that stand for nothing.
    fn reach(&self, mut at: usize, places: &mut Places) {
        loop {
            if let Some(word) = places.get_mut(at / 64) {
                *word |= 1 << (at % 64);
            }
            match self.rest.get(at) {
                Some(Element::Within | Element::Across) => at = at.saturating_add(1),
                Some(Element::Byte(_)) | None => return,
            }
        }
    }
}

fn places(set: &Places) -> impl Iterator<Item = usize> {
    set.iter().enumerate().flat_map(|(index, word)| {
        let mut left = *word;
        std::iter::from_fn(move || {
            let bit = usize::try_from(left.checked_ilog2()?).unwrap_or_default();
            left &= !(1 << bit);
            Some(index.saturating_mul(64).saturating_add(bit))
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Obviously right, and exponential.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            [b'*', rest @ ..] => {
                let end = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
                (0..=end).any(|at| naive(rest, &text[at..]))
            }
            [byte, rest @ ..] => text.first() == Some(byte) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn glob_fits_what_the_naive_one_fits(pattern in "/?[ab/]{0,3}(\\*|\\*\\*)?[ab/]{0,2}(\\*|\\*\\*)?[ab]{0,2}", text in "[ab/]{0,12}") {
            prop_assert_eq!(Glob::path(&pattern).fits(text.as_bytes()), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn star_stays_within_a_segment_and_two_do_not() {
        for (pattern, text, fits) in [
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/b/c", false),
            ("/a/**/c", "/a/b/b/c", true),
            ("/**.php", "/x/y.php", true),
            ("/*.php", "/x/y.php", false),
            ("/a", "/a", true),
            ("/a", "/a/b", false),
            ("**", "", true),
        ] {
            assert_eq!(Glob::path(pattern).fits(text.as_bytes()), fits, "{pattern} {text}");
        }
        assert!(Glob::text("t13d*_8daa*").fits(b"t13d1516h2_8daaf6152771_02713d6af862"));
        assert!(Glob::text("*").fits(b"a/b"));
    }

    #[test]
    fn pattern_that_is_too_long_fits_all_that_goes_on_where_it_is_cut() {
        let many = |count: usize| "x".repeat(count);
        // A star and what may be behind it, and one byte more than that.
        let (whole, cut) = (Glob::path(&format!("/*{}", many(MAX - 1))), Glob::path(&format!("/*{}", many(MAX))));

        for (glob, text, fits) in [
            (&whole, format!("/{}", many(MAX - 1)), true),
            (&whole, format!("/{}", many(MAX - 2)), false),
            (&whole, format!("/{}/y", many(MAX - 1)), false),
            (&cut, format!("/{}", many(MAX)), true),
            (&cut, format!("/a{}/y", many(MAX - 2)), true),
            (&cut, format!("/a{}/y", many(MAX - 3)), false),
        ] {
            assert_eq!(glob.fits(text.as_bytes()), fits, "{text}");
        }
        assert_eq!((whole.ending().len(), cut.ending().len()), (MAX - 1, 0));
    }

    #[test]
    fn long_texts_take_time_in_proportion() {
        let text = "a".repeat(32 * 1024);

        assert!(!Glob::path("/**a*a*a*a*b").fits(format!("/{text}").as_bytes()));
    }
}
