//! The Huffman code of field strings (RFC 7541 appendix B, RFC 9204 §4.1.2).
//!
//! The code is canonical: equally long codes follow each other in the order of their symbols, so that the lengths alone
//! say all of it. Tables are worked out at build time.

use bytes::BufMut;

/// Bits of each byte's code, and of the end-of-string symbol.
#[rustfmt::skip] // a table
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23,
    23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22,
    22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26,
    27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27,
    26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
const END: u16 = 256;
const LONGEST: usize = 30;

/// Bits looked at first; the codes of nearly all text are no longer.
const QUICK: usize = 10;

/// What the lengths say.
struct Tables {
    /// Code of each symbol, at the low end.
    codes: [u32; SYMBOLS],
    /// Symbols in the order of their codes.
    ordered: [u16; SYMBOLS],
    /// By length: the first code, how many there are, and where in `ordered` the first one stands.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    place: [u32; LONGEST + 1],
    /// By the first bits: symbol and length; length 0 where the code is longer.
    quick: [(u16, u8); 1 << QUICK],
}

static TABLES: Tables = tables();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "worked out by the compiler, where a panic is an error of the build"
)]
const fn tables() -> Tables {
    let mut tables = Tables {
        codes: [0; SYMBOLS],
        ordered: [0; SYMBOLS],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        place: [0; LONGEST + 1],
        quick: [(0, 0); 1 << QUICK],
    };
    let (mut code, mut length, mut placed) = (0_u32, 1, 0);
    while length <= LONGEST {
        tables.first[length] = code;
        tables.place[length] = placed as u32;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                tables.codes[symbol] = code;
                tables.ordered[placed] = symbol as u16;
                tables.count[length] += 1;
                if length <= QUICK {
                    let mut slot = (code as usize) << (QUICK - length);
                    let end = (code as usize + 1) << (QUICK - length);
                    while slot < end {
                        tables.quick[slot] = (symbol as u16, length as u8);
                        slot += 1;
                    }
                }
                code += 1;
                placed += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    tables
}

/// Appends what `coded` stands for; `None` when it is no code, holds the end-of-string symbol, or is padded with
/// anything but the beginning of it, seven bits at most (RFC 7541 §5.2).
pub(super) fn decode(coded: &[u8], into: &mut impl BufMut) -> Option<()> {
    let (mut window, mut held) = (0_u64, 0_usize);
    let mut rest = coded.iter();
    loop {
        while held <= 32 {
            let Some(byte) = rest.next() else { break };
            window = window << 8 | u64::from(*byte);
            held += 8;
        }
        if held == 0 {
            return Some(());
        }
        // The next bits at the low end of a word, followed by ones behind the last.
        let ahead = match held.checked_sub(LONGEST) {
            Some(beyond) => window >> beyond,
            None => window << (LONGEST - held) | ((1 << (LONGEST - held)) - 1),
        } & ((1 << LONGEST) - 1);
        let (symbol, length) = next(u32::try_from(ahead).ok()?)?;
        if length > held {
            let padding = (1 << held) - 1;
            return (held < 8 && window & padding == padding).then_some(());
        }
        if symbol == END {
            return None;
        }
        into.put_u8(u8::try_from(symbol).ok()?);
        held -= length;
    }
}

/// The symbol at the front of `LONGEST` bits, and the length of its code.
fn next(ahead: u32) -> Option<(u16, usize)> {
    let front = usize::try_from(ahead >> (LONGEST - QUICK)).ok()?;
    match TABLES.quick.get(front) {
        Some((symbol, length)) if *length > 0 => return Some((*symbol, usize::from(*length))),
        _ => {}
    }
    for length in QUICK + 1..=LONGEST {
        let code = ahead >> (LONGEST - length);
        let (first, count) = (*TABLES.first.get(length)?, *TABLES.count.get(length)?);
        if let Some(offset) = code.checked_sub(first).filter(|offset| *offset < count) {
            let place = TABLES.place.get(length)?.checked_add(offset)?;
            return Some((*TABLES.ordered.get(usize::try_from(place).ok()?)?, length));
        }
    }
    None
}

/// Bytes that `text` takes coded.
pub(super) fn coded_length(text: &[u8]) -> usize {
    let length = |byte: &u8| LENGTHS.get(usize::from(*byte)).map_or(0, |length| usize::from(*length));
    text.iter().map(length).sum::<usize>().div_ceil(8)
}

/// Appends `text` coded.
pub(super) fn encode(text: &[u8], into: &mut impl BufMut) {
    let (mut window, mut held) = (0_u64, 0_u32);
    for byte in text {
        let symbol = usize::from(*byte);
        let (Some(code), Some(length)) = (TABLES.codes.get(symbol), LENGTHS.get(symbol)) else { continue };
        window = window << length | u64::from(*code);
        held += u32::from(*length);
        while held >= 8 {
            held -= 8;
            into.put_u8((window >> held & 0xff) as u8);
        }
    }
    if held > 0 {
        into.put_u8((window << (8 - held) & 0xff) as u8 | (0xff_u8 >> held));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn samples_of_the_specification_read_back() {
        // RFC 7541 appendix C.4 and C.6.
        let samples: [(&[u8], &str); 3] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (
                &[0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82, 0xae, 0x43, 0xd3],
                "https://www.example.com",
            ),
        ];

        for (coded, text) in samples {
            assert_eq!(decoded(coded).unwrap(), text.as_bytes());
            let mut again = Vec::new();
            encode(text.as_bytes(), &mut again);
            assert_eq!(again, coded);
        }
    }

    #[test]
    fn wrong_padding_and_the_end_symbol_are_refused() {
        // `a` is 00011: padded with a zero; padded with a whole byte; the end-of-string symbol.
        assert_eq!(decoded(&[0b0001_1110]), None);
        assert_eq!(decoded(&[0b0001_1111, 0xff]), None);
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decoded(&[0b0001_1111]).unwrap(), b"a");
    }

    proptest! {
        #[test]
        fn any_text_reads_back(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut coded = Vec::new();
            encode(&text, &mut coded);

            prop_assert_eq!(coded.len(), coded_length(&text));
            prop_assert_eq!(decoded(&coded), Some(text));
        }

        #[test]
        fn whatever_is_decoded_has_one_code(coded in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(text) = decoded(&coded) {
                let mut again = Vec::new();
                encode(&text, &mut again);
                prop_assert_eq!(again, coded);
            }
        }
    }
}
