//! Pieces of lines: JSON, numbers, addresses, quoted text.
//!
//! Floor 2, pure. Whatever bytes a client sent, what comes out is one line.

use std::net::IpAddr;
use std::time::Duration;

use crate::telemetry::scan;

// Names are literals: what stands before a value is one constant, which is stored as it is.

/// Appends `,"name":`.
macro_rules! key {
    ($out:expr, $name:literal) => {
        $out.extend_from_slice(concat!(",\"", $name, "\":").as_bytes())
    };
}

/// Appends a name and a string that may be anything.
macro_rules! field {
    ($out:expr, $name:literal, $value:expr) => {{
        $out.extend_from_slice(concat!(",\"", $name, "\":\"").as_bytes());
        $crate::telemetry::format::text::inner($value, $out);
        $out.push(b'"');
    }};
}

/// Appends a name and a string in which nothing needs to be escaped: a word of ours.
macro_rules! word {
    ($out:expr, $name:literal, $value:expr) => {{
        $out.extend_from_slice(concat!(",\"", $name, "\":\"").as_bytes());
        $out.extend_from_slice($value);
        $out.push(b'"');
    }};
}

/// Appends a name and a number.
macro_rules! count {
    ($out:expr, $name:literal, $value:expr) => {{
        $crate::telemetry::format::text::key!($out, $name);
        $crate::telemetry::format::text::decimal($value, $out);
    }};
}

/// Appends a name and a time in milliseconds.
macro_rules! millis {
    ($out:expr, $name:literal, $value:expr) => {{
        $crate::telemetry::format::text::key!($out, $name);
        $crate::telemetry::format::text::lasting($value, $out);
    }};
}

pub(super) use {count, field, key, millis, word};

/// Milliseconds with microseconds as the fraction.
#[inline]
pub(super) fn lasting(value: Duration, out: &mut Vec<u8>) {
    if value < Duration::from_micros(1) {
        return out.push(b'0');
    }
    let micros = value.subsec_micros();
    decimal(value.as_secs().saturating_mul(1_000).saturating_add(u64::from(micros / 1_000)), out);
    let [hundreds, tens, ones] = three(u16::try_from(micros % 1_000).unwrap_or_default());
    out.extend_from_slice(&[b'.', hundreds, tens, ones]);
}

/// Appends a number. Nearly all in a line are short, and each length is stored as it is, without a copy of unknown length.
#[inline]
pub(super) fn decimal(value: u64, out: &mut Vec<u8>) {
    match u16::try_from(value) {
        Ok(one @ 0..10) => out.push(b'0' | u8::try_from(one).unwrap_or_default()),
        Ok(two @ 10..100) => out.extend_from_slice(&pair(two)),
        Ok(value @ 100..1_000) => out.extend_from_slice(&three(value)),
        _ => longer(value, out),
    }
}

#[cold]
fn longer(value: u64, out: &mut Vec<u8>) {
    decimal(value / 1_000, out);
    out.extend_from_slice(&three(u16::try_from(value % 1_000).unwrap_or_default()));
}

/// The digits of a number below 1,000.
#[inline]
pub(super) fn three(value: u16) -> [u8; 3] {
    let [_, first] = pair(value / 100);
    let [second, third] = pair(value % 100);
    [first, second, third]
}

/// The digits of a number below 100.
#[inline]
fn pair(value: u16) -> [u8; 2] {
    // Below ten, so that nothing is lost.
    [value / 10, value % 10].map(|digit| b'0' | u8::try_from(digit).unwrap_or_default())
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
                decimal(octet.into(), out);
            }
        }
        IpAddr::V6(address) => display(address, out),
    }
}

pub(super) fn display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _infallible = std::io::Write::write_fmt(out, format_args!("{value}"));
}

/// Appends a JSON string (RFC 8259 §7), see [`inner`].
pub(super) fn string(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    inner(value, out);
    out.push(b'"');
}

/// Appends what stands between the quotes. Bytes that are not UTF-8 are taken as ISO-8859-1, as RFC 9110 §5.5 says that
/// old fields are. All control characters and line separators are escaped: a line stays a line, also for readers
/// that break lines as Unicode does, and a terminal is not driven.
pub(super) fn inner(value: &[u8], out: &mut Vec<u8>) {
    if scan::has_none(value, |eight| eight.are_unprintable() | eight.are(b'"') | eight.are(b'\\')) {
        out.extend_from_slice(value);
    } else if let Ok(text) = std::str::from_utf8(value) {
        text.chars().for_each(|character| escaped(character, out));
    } else {
        value.iter().for_each(|byte| escaped(char::from(*byte), out));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"<".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_everybody_writes_them(value: u64, digits in 0_u32..20) {
            for value in [value, value % 10_u64.pow(digits), 10_u64.pow(digits), 10_u64.pow(digits) - 1, u64::MAX] {
                prop_assert_eq!(written(|out| decimal(value, out)), format!("<{value}"));
            }
        }

        #[test]
        fn times_are_milliseconds_with_three_digits(nanos in 1_000_u64..) {
            let (millis, micros) = (nanos / 1_000_000, nanos / 1_000 % 1_000);
            let expected = format!("<{millis}.{micros:03}");
            prop_assert_eq!(written(|out| lasting(Duration::from_nanos(nanos), out)), expected);
        }
    }

    #[test]
    fn less_than_a_microsecond_is_no_time() {
        assert_eq!(written(|out| lasting(Duration::from_nanos(999), out)), "<0");
    }
}
