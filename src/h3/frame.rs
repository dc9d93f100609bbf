//! The layout of frames (RFC 9114 §7.1): type, length, payload; and QUIC's variable-length integers (RFC 9000 §16).

use bytes::{Buf as _, BufMut, Bytes};

/// DATA (RFC 9114 §7.2.1).
pub const DATA: u64 = 0x0;
/// HEADERS (RFC 9114 §7.2.2).
pub const HEADERS: u64 = 0x1;
/// CANCEL_PUSH (RFC 9114 §7.2.3).
pub const CANCEL_PUSH: u64 = 0x3;
/// SETTINGS (RFC 9114 §7.2.4).
pub const SETTINGS: u64 = 0x4;
/// PUSH_PROMISE (RFC 9114 §7.2.5).
pub const PUSH_PROMISE: u64 = 0x5;
/// GOAWAY (RFC 9114 §7.2.6).
pub const GOAWAY: u64 = 0x7;
/// MAX_PUSH_ID (RFC 9114 §7.2.7).
pub const MAX_PUSH_ID: u64 = 0xd;

/// Whether a type has been HTTP/2's and has no meaning here (RFC 9114 §7.2.8): whoever sends it mistakes the protocol.
pub const fn is_of_http2(kind: u64) -> bool {
    matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
}

/// The largest integer that fits (RFC 9000 §16).
pub const MAX_INTEGER: u64 = (1 << 62) - 1;

/// Appends an integer in its shortest form. Beyond [`MAX_INTEGER`] it is cut to that.
pub fn put_integer(into: &mut impl BufMut, value: u64) {
    match value.min(MAX_INTEGER) {
        value @ 0..=0x3f => into.put_uint(value, 1),
        value @ 0x40..=0x3fff => into.put_uint(value | 0x4000, 2),
        value @ 0x4000..=0x3fff_ffff => into.put_uint(value | 0x8000_0000, 4),
        value => into.put_uint(value | 0xc000_0000_0000_0000, 8),
    }
}

/// Takes an integer off the front, if all of it is there.
pub fn take_integer(from: &mut &[u8]) -> Option<u64> {
    let first = *from.first()?;
    let length = 1_usize << (first >> 6);
    let (bytes, rest) = from.split_at_checked(length)?;
    let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    *from = rest;
    // The two bits that told the length.
    Some(value & (u64::MAX >> (66 - 8 * length).min(63)))
}

/// Appends the head of a frame.
pub fn put_head(into: &mut impl BufMut, kind: u64, length: usize) {
    put_integer(into, kind);
    put_integer(into, length as u64);
}

/// Cuts the bytes of a stream into frames, however they come.
#[derive(Debug, Default)]
pub struct Cutter {
    /// As much of a head as has come; a head is 16 bytes at most.
    head: [u8; 16],
    held: usize,
    /// Payload still to come, inside a frame.
    left: Option<u64>,
}

/// What comes next on a stream of frames.
#[derive(Debug, Eq, PartialEq)]
pub enum Part {
    /// A frame begins.
    Head {
        /// Its type.
        kind: u64,
        /// Bytes of payload that it declares.
        length: u64,
    },
    /// Payload, as much as there is. Never empty.
    Payload(Bytes),
    /// The frame ends.
    End,
}

impl Cutter {
    /// A stream of which nothing was read.
    pub const fn new() -> Self {
        Self { head: [0; 16], held: 0, left: None }
    }

    /// Takes the next part off the front of `input`; `None` when more input is needed, of which nothing is left then.
    pub fn next(&mut self, input: &mut Bytes) -> Option<Part> {
        match self.left {
            None => self.begin(input),
            Some(0) => {
                self.left = None;
                Some(Part::End)
            }
            Some(_) if input.is_empty() => None,
            Some(left) => {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                self.left = Some(left.saturating_sub(length as u64));
                Some(Part::Payload(input.split_to(length)))
            }
        }
    }

    /// Whether the stream may end here (RFC 9114 §7.1).
    pub const fn is_between(&self) -> bool {
        self.left.is_none() && self.held == 0
    }

    fn begin(&mut self, input: &mut Bytes) -> Option<Part> {
        while let Some(byte) = input.first().copied() {
            input.advance(1);
            // Sixteen bytes are always enough, so there is always room for one more.
            if let Some(slot) = self.head.get_mut(self.held) {
                *slot = byte;
                self.held += 1;
            }
            let mut head = self.head.get(..self.held).unwrap_or_default();
            if let (Some(kind), Some(length)) = (take_integer(&mut head), take_integer(&mut head)) {
                self.held = 0;
                self.left = Some(length);
                return Some(Part::Head { kind, length });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(pieces: &[&[u8]]) -> (Vec<Part>, bool) {
        let mut cutter = Cutter::default();
        let mut parts: Vec<Part> = Vec::new();
        for piece in pieces {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(part) = cutter.next(&mut piece) {
                match (parts.last_mut(), part) {
                    (Some(Part::Payload(before)), Part::Payload(more)) => {
                        *before = [before.as_ref(), &more].concat().into();
                    }
                    (_, part) => parts.push(part),
                }
            }
            assert!(piece.is_empty());
        }
        (parts, cutter.is_between())
    }

    #[test]
    fn integers_of_the_specification_read_back() {
        // RFC 9000 appendix A.1.
        let samples: [(&[u8], u64); 5] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];

        for (mut bytes, value) in samples {
            assert_eq!(take_integer(&mut bytes), Some(value));
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn frames_may_be_empty() {
        assert_eq!(parts(&[&[0, 0]]), (vec![Part::Head { kind: DATA, length: 0 }, Part::End], true));
    }

    proptest! {
        #[test]
        fn integers_read_back(value in 0..=MAX_INTEGER) {
            let mut bytes = Vec::new();
            put_integer(&mut bytes, value);
            let mut rest = bytes.as_slice();

            prop_assert_eq!(take_integer(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
            for end in 0..bytes.len() {
                prop_assert_eq!(take_integer(&mut &bytes[..end]), None);
            }
        }

        #[test]
        fn frames_do_not_depend_on_how_they_came(bytes in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index) {
            let (one, other) = bytes.split_at(at.index(bytes.len() + 1));

            prop_assert_eq!(parts(&[&bytes]), parts(&[one, other]));
        }
    }
}
