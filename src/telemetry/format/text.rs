//! Pieces of lines: JSON, numbers, addresses, quoted text.
//!
//! Floor 2, pure. Whatever bytes a client sent, what comes out is one line.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderValue;

/// Names are constants where this is called: inlined, they are stored as they are, without a copy of unknown length.
#[inline(always)]
pub(super) fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

#[inline(always)]
pub(super) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(out, name);
    string(value, out);
}

#[inline(always)]
pub(super) fn optional(out: &mut Vec<u8>, name: &str, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        field(out, name, value.as_bytes());
    }
}

#[inline(always)]
pub(super) fn count(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    decimal(value, 1, out);
}

/// Milliseconds with microseconds as the fraction.
#[inline(always)]
pub(super) fn millis(out: &mut Vec<u8>, name: &str, value: Duration) {
    key(out, name);
    if value.is_zero() {
        out.push(b'0');
    } else {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        decimal(micros / 1_000, 1, out);
        out.push(b'.');
        decimal(micros % 1_000, 3, out);
    }
}

/// Appends a number of at least `digits` digits. A dozen of them in each line make `fmt` show in a profile.
pub(super) fn decimal(value: u64, digits: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; 20];
    let (mut left, mut from) = (value, text.len());
    for digit in text.iter_mut().rev() {
        if left == 0 {
            break;
        }
        // Below ten, so that nothing is lost.
        *digit = b'0' | u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
        from -= 1;
    }
    out.extend_from_slice(text.get(from.min(text.len() - digits)..).unwrap_or_default());
}

/// Appends the sixteen hexadecimal digits of a number.
pub(super) fn hex(number: u64, out: &mut Vec<u8>) {
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    let pairs = number.to_be_bytes().map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
    out.extend_from_slice(pairs.as_flattened());
}

/// Appends an address; IPv4 in IPv6 becomes IPv4.
pub(super) fn address(address: IpAddr, out: &mut Vec<u8>) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                decimal(octet.into(), 1, out);
            }
        }
        IpAddr::V6(address) => display(address, out),
    }
}

pub(super) fn display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _infallible = std::io::Write::write_fmt(out, format_args!("{value}"));
}

/// Appends a JSON string (RFC 8259 §7). Bytes that are not UTF-8 are taken as ISO-8859-1, as RFC 9110 §5.5 says that
/// old fields are. All control characters and line separators are escaped: a line stays a line, also for readers
/// that break lines as Unicode does, and a terminal is not driven.
pub(super) fn string(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if is_plain(value) {
        out.extend_from_slice(value);
    } else if let Ok(text) = std::str::from_utf8(value) {
        text.chars().for_each(|character| escaped(character, out));
    } else {
        value.iter().for_each(|byte| escaped(char::from(*byte), out));
    }
    out.push(b'"');
}

/// Whether nothing has to be escaped.
fn is_plain(value: &[u8]) -> bool {
    // To the end of a block, whatever is found: without an early way out the compiler checks all its bytes at once.
    fn plain<const N: usize>(block: &[u8; N]) -> bool {
        block.iter().fold(true, |all, byte| all & matches!(byte, b' '..=b'~') & (*byte != b'"') & (*byte != b'\\'))
    }
    // The last block overlaps the one before it, so that nothing is left to be checked byte by byte.
    match (value.last_chunk::<16>(), value.first_chunk::<8>(), value.last_chunk::<8>()) {
        (Some(last), ..) => value.as_chunks::<16>().0.iter().fold(plain(last), |all, block| all & plain(block)),
        (None, Some(first), Some(last)) => plain(first) & plain(last),
        _ => value.iter().all(|byte| plain(&[*byte])),
    }
}

pub(super) fn escaped(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
            display(format_args!("\\u{:04x}", u32::from(character)), out);
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Appends text for between quotes in `combined`: what is not printable ASCII becomes `\xHH`, as Apache does.
pub(super) fn quoted(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => display(format_args!("\\x{byte:02x}"), out),
        }
    }
}
