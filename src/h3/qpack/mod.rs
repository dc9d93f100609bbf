//! Field sections without a dynamic table (RFC 9204 §4.5).
//!
//! The capacity that we announce is zero, so that a section says all it means by itself. Strings that came plain share
//! the section's bytes; coded ones share one buffer for the whole section.

mod huffman;
mod table;

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use table::STATIC;

/// Why a section cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreadable {
    /// It breaks the grammar or names a table that is not there: [`super::Code::DecompressionFailed`].
    Broken(&'static str),
    /// Its fields exceed their bound.
    TooLarge,
}

/// Bytes that a field counts beyond its name and value (RFC 9114 §4.2.2).
const OVERHEAD: usize = 32;

/// The field lines of a section, one by one.
#[derive(Debug)]
pub struct Lines {
    rest: Bytes,
    coded: BytesMut,
    left: usize,
}

/// Name and value.
pub type Line = (Bytes, Bytes);

impl Lines {
    /// The lines of `section`, which together count `most` bytes at most (RFC 9114 §4.2.2).
    ///
    /// # Errors
    /// When the section needs a dynamic table.
    pub fn of(mut section: Bytes, most: usize) -> Result<Self, Unreadable> {
        // RFC 9204 §4.5.1: Required Insert Count, then a sign and Delta Base.
        let required = integer(&mut section, 8)?;
        let base = section.first().copied();
        integer(&mut section, 7)?;
        // RFC 9204 §4.5.1.1, §4.5.1.2: nothing was ever inserted, and Base is not below zero.
        if required != 0 || base.is_none_or(|base| base & 0x80 != 0) {
            return Err(Unreadable::Broken("section needs a dynamic table"));
        }
        Ok(Self { rest: section, coded: BytesMut::new(), left: most })
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// The section is worth nothing from here on.
    pub fn line(&mut self) -> Result<Option<Line>, Unreadable> {
        let Some(first) = self.rest.first().copied() else { return Ok(None) };
        let (name, value) = match first {
            // RFC 9204 §4.5.2: indexed, static.
            0xc0.. => {
                let (name, value) = entry(integer(&mut self.rest, 6)?)?;
                (Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()))
            }
            // RFC 9204 §4.5.4: literal with a static name.
            0x40..0x80 if first & 0x10 != 0 => {
                let (name, _) = entry(integer(&mut self.rest, 4)?)?;
                (Bytes::from_static(name.as_bytes()), self.string(7)?)
            }
            // RFC 9204 §4.5.6: literal.
            0x20..0x40 => (self.string(3)?, self.string(7)?),
            // The other three name the dynamic table.
            0x80..0xc0 | 0x40..0x80 | 0x00..0x20 => return Err(Unreadable::Broken("reference to a dynamic table")),
        };
        let counted = name.len().saturating_add(value.len()).saturating_add(OVERHEAD);
        self.left = self.left.checked_sub(counted).ok_or(Unreadable::TooLarge)?;
        Ok(Some((name, value)))
    }

    /// A string whose length has a prefix of `bits`, with the Huffman flag above it (RFC 9204 §4.1.2).
    fn string(&mut self, bits: u32) -> Result<Bytes, Unreadable> {
        let first = self.rest.first().copied().ok_or(CUT)?;
        let length = usize::try_from(integer(&mut self.rest, bits)?).map_err(|_| CUT)?;
        if length > self.rest.len() {
            return Err(CUT);
        }
        let text = self.rest.split_to(length);
        if first >> bits & 1 == 0 {
            return Ok(text);
        }
        // No code is shorter than five bits.
        let longest = length.saturating_mul(8) / 5;
        if longest > self.left {
            return Err(Unreadable::TooLarge);
        }
        if self.coded.capacity() < longest {
            // For this string and, most often, all that follow.
            let ahead = (length + self.rest.len()).saturating_mul(8) / 5;
            self.coded = BytesMut::with_capacity(ahead.min(self.left));
        }
        huffman::decode(&text, &mut self.coded).ok_or(Unreadable::Broken("broken Huffman code"))?;
        Ok(self.coded.split().freeze())
    }
}

const CUT: Unreadable = Unreadable::Broken("section ends within a line");

fn entry(index: u64) -> Result<(&'static str, &'static str), Unreadable> {
    let entry = usize::try_from(index).ok().and_then(|index| STATIC.get(index));
    entry.copied().ok_or(Unreadable::Broken("index beyond the static table"))
}

/// An integer with a prefix of `bits` (RFC 7541 §5.1). Larger ones than 32 bits have no use here.
fn integer(from: &mut Bytes, bits: u32) -> Result<u64, Unreadable> {
    let mask = 0xff_u8 >> (8 - bits.min(8));
    let first = take_byte(from)? & mask;
    let mut value = u64::from(first);
    if first < mask {
        return Ok(value);
    }
    for shift in [0_u32, 7, 14, 21, 28] {
        let byte = take_byte(from)?;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Unreadable::Broken("integer too large"))
}

fn take_byte(from: &mut Bytes) -> Result<u8, Unreadable> {
    from.try_get_u8().map_err(|_| CUT)
}

/// Static entries by name: the first of them, and all with their values.
static BY_NAME: LazyLock<HashMap<&'static str, Vec<(&'static str, u64)>>> = LazyLock::new(|| {
    let mut names: HashMap<_, Vec<_>> = HashMap::new();
    for ((name, value), index) in STATIC.into_iter().zip(0..) {
        names.entry(name).or_default().push((value, index));
    }
    names
});

/// Begins a section.
pub fn begin(into: &mut BytesMut) {
    // RFC 9204 §4.5.1: no inserts required, Delta Base zero.
    into.put_slice(&[0, 0]);
}

/// Appends a line. `name` is in lower case.
pub fn put_line(into: &mut BytesMut, name: &str, value: &[u8], sensitive: bool) {
    let known = BY_NAME.get(name);
    let exact = known.and_then(|known| known.iter().find(|(text, _)| text.as_bytes() == value));
    if let Some((_, index)) = exact {
        return put_integer(into, 0xc0, 6, *index);
    }
    // RFC 9204 §7.1.3: whoever passes it on shall not index it either.
    let never = u8::from(sensitive);
    match known.and_then(|known| known.first()) {
        Some((_, index)) => put_integer(into, 0x50 | never << 5, 4, *index),
        None => put_string(into, 0x20 | never << 4, 3, name.as_bytes()),
    }
    put_string(into, 0, 7, value);
}

fn put_string(into: &mut BytesMut, flags: u8, bits: u32, text: &[u8]) {
    let coded = huffman::coded_length(text);
    if coded < text.len() {
        put_integer(into, flags | 1 << bits, bits, coded as u64);
        huffman::encode(text, into);
    } else {
        put_integer(into, flags, bits, text.len() as u64);
        into.put_slice(text);
    }
}

fn put_integer(into: &mut BytesMut, flags: u8, bits: u32, value: u64) {
    let mask = 0xff_u8 >> (8 - bits.min(8));
    let Some(mut rest) = value.checked_sub(u64::from(mask)) else {
        return into.put_u8(flags | u8::try_from(value).unwrap_or(mask));
    };
    into.put_u8(flags | mask);
    while rest >= 0x80 {
        into.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    into.put_u8((rest & 0x7f) as u8);
}

#[cfg(test)]
mod tests;
