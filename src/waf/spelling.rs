//! Spellings of a path that no client chooses by accident.
//!
//! Part of `waf`. In: the path as it came. A browser resolves `..` itself, escapes UTF-8 as it is, and has no use for a
//! NUL or a line end: who writes them hopes that somebody behind reads the path otherwise than who checks it.

/// Whether a path is spelt to deceive.
pub fn is_deceptive(path: &[u8]) -> bool {
    let mut rest = path;
    // Every deception has one of these bytes.
    while let Some(at) = memchr::memchr3(b'%', b'.', b'\\', rest) {
        let Some((before, found)) = rest.split_at_checked(at) else { return false };
        let behind = path.len().saturating_sub(found.len());
        match found {
            [b'%', high, low, after @ ..] => {
                if let Some(byte) = byte(*high, *low) {
                    if escapes(byte, after) {
                        return true;
                    }
                    if byte == b'.' && is_parent(path, behind) {
                        return true;
                    }
                    // `%252e`: escaped twice, to be read twice.
                    if byte == b'%' && after.starts_with(b"2e") | after.starts_with(b"2E") {
                        return true;
                    }
                }
            }
            [b'.', ..] if before.last().is_none_or(|byte| matches!(byte, b'/' | b'\\')) && is_parent(path, behind) => {
                return true;
            }
            _ => {}
        }
        rest = found.get(1..).unwrap_or_default();
    }
    false
}

/// Whether an escaped byte has no place in a path: NUL, line ends, bytes of overlong or impossible UTF-8 (RFC 3629 §3).
fn escapes(byte: u8, after: &[u8]) -> bool {
    let next = match after {
        [b'%', high, low, ..] => self::byte(*high, *low),
        _ => None,
    };
    match byte {
        0 | b'\r' | b'\n' | 0xc0 | 0xc1 | 0xf5.. => true,
        0xe0 => next.is_some_and(|next| matches!(next, 0x80..=0x9f)),
        0xf0 => next.is_some_and(|next| matches!(next, 0x80..=0x8f)),
        _ => false,
    }
}

/// Whether the segment around a place is `..`, however its dots are written.
fn is_parent(path: &[u8], at: usize) -> bool {
    let (before, behind) = path.split_at_checked(at).unwrap_or((path, &[]));
    let start = before.iter().rposition(|byte| matches!(byte, b'/' | b'\\')).map_or(0, |at| at.saturating_add(1));
    let length = behind.iter().position(|byte| matches!(byte, b'/' | b'\\')).unwrap_or(behind.len());
    let mut segment = path.get(start..at.saturating_add(length)).unwrap_or_default();
    // A slash that is escaped ends the segment, too: `..%2f`.
    if let Some(end) =
        segment.windows(3).position(|three| matches!(three, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']))
    {
        segment = segment.get(..end).unwrap_or_default();
    }
    let mut dots = 0_u8;
    loop {
        segment = match segment {
            [] => return dots == 2,
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots = dots.saturating_add(1);
    }
}

fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(high)? << 4) | digit(low)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn deceptive_spellings_are_seen() {
        for path in [
            "/a/../b",
            "/..",
            "/a/%2e%2e/b",
            "/a/.%2e/b",
            "/a/%2E./b",
            "/static/..%2f..%2fetc/passwd",
            "/static/%2e%2e%2fetc",
            "/a/..%5cb",
            "/a/..\\b",
            "/a/%252e%252e/b",
            "/a%00.png",
            "/a%0d%0aSet-Cookie:x",
            "/%c0%ae%c0%ae/",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/%ff",
        ] {
            assert!(is_deceptive(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn honest_spellings_are_not() {
        for path in [
            "/",
            "/superset/dashboard/1/",
            "/static/assets/a.b..c.js",
            "/...",
            "/api/v1/database/1/table/a%2Fb/public/",
            "/superset/dashboard/%E0%A4%B9%E0%A4%BF/",
            "/superset/dashboard/%F0%9F%93%88/",
            "/superset/dashboard/caf%C3%A9/",
            "/dashboard/100%/",
            "/dashboard/100%25/",
            "/a/.well-known/b",
            "/x%2ey",
        ] {
            assert!(!is_deceptive(path.as_bytes()), "{path}");
        }
    }

    proptest! {
        #[test]
        fn every_path_that_a_browser_writes_is_honest(segments in prop::collection::vec("[^/.\\\\\\x00-\\x1f]{1,8}", 0..4)) {
            let escaped: Vec<String> = segments
                .iter()
                .map(|segment| percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC).to_string())
                .collect();

            let path = format!("/{}", escaped.join("/"));
            prop_assert!(!is_deceptive(path.as_bytes()));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(path in prop::collection::vec(any::<u8>(), 0..40)) {
            is_deceptive(&path);
        }
    }
}
