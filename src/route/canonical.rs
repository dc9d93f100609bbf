//! One spelling for each path.
//!
//! Part of `route`. Gunicorn and Flask serve `//health`, `/%68ealth` and `/lab%2fecho` as `/health` and `/lab/echo`: a
//! route that blocks `/version` must see through such spellings.

use std::borrow::Cow;

const SEPARATORS: [char; 2] = ['/', '\\'];

/// The path as routes see it. Borrowed for every path that a browser writes.
///
/// Escapes of ASCII are decoded, once, as Gunicorn does (`%2f` is a slash, `%2e` a dot); `%25` and bytes beyond ASCII
/// stay escaped, so that no second decoding is ever needed. Then repeated slashes become one, `.` goes, `..` takes its
/// parent with it and never leaves the root, and a final slash goes. A percent sign that begins no escape is one that
/// should have been escaped. A backslash counts as a slash, as browsers have it. Case
/// and `;` stay as they are. A target that is no path (`*`) stays too.
///
/// Idempotent. The work is linear in the length.
pub fn canonical(path: &str) -> Cow<'_, str> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    if trimmed.is_empty() {
        return Cow::Borrowed("/");
    }
    if is_canonical(trimmed) {
        return Cow::Borrowed(trimmed);
    }
    Cow::Owned(resolve(&decode(trimmed)))
}

/// Whether there is nothing to decode or to resolve; no final slash either.
fn is_canonical(path: &str) -> bool {
    let mut before = 0;
    for byte in path.bytes() {
        if matches!(byte, b'%' | b'\\') || !byte.is_ascii() || (before == b'/' && matches!(byte, b'/' | b'.')) {
            return false;
        }
        before = byte;
    }
    before != b'/' && path.starts_with('/')
}

fn decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let byte = match (byte, after) {
            (b'%', [high, low, beyond @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = beyond;
                    (high << 4) | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        };
        match byte {
            b'%' => decoded.push_str("%25"),
            byte if byte.is_ascii() => decoded.push(char::from(byte)),
            byte => push_escape(&mut decoded, byte),
        }
    }
    decoded
}

fn resolve(path: &str) -> String {
    let mut resolved = String::with_capacity(path.len());
    if !path.starts_with(SEPARATORS) {
        // `*` and the like: nothing to resolve, but never to be taken for a path either.
        return path.to_owned();
    }
    for segment in path.split(SEPARATORS) {
        match segment {
            "" | "." => {}
            ".." => resolved.truncate(resolved.rfind('/').unwrap_or_default()),
            segment => {
                resolved.push('/');
                resolved.push_str(segment);
            }
        }
    }
    if resolved.is_empty() {
        resolved.push('/');
    }
    resolved
}

fn push_escape(text: &mut String, byte: u8) {
    let digit =
        |nibble: u8| char::from(if nibble < 10 { b'0'.wrapping_add(nibble) } else { b'7'.wrapping_add(nibble) });
    text.extend(['%', digit(byte >> 4), digit(byte & 0xf)]);
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
