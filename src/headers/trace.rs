//! Request ids and W3C trace context.

use http::HeaderValue;

/// Whether a request id from a trusted proxy can be taken over: it will stand in logs and pages.
pub fn valid_request_id(id: &HeaderValue) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/');
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(fits)
}

/// A fresh request id: 32 hexadecimal digits of `random`.
pub fn made_request_id(random: u128) -> HeaderValue {
    text(&hexadecimal(random))
}

/// A fresh `traceparent` (W3C Trace Context §3.2): not sampled, since nobody has asked for it.
pub fn made_traceparent(trace: u128, span: u64) -> HeaderValue {
    parent(&hexadecimal(trace.max(1)), span, b"00")
}

/// The `traceparent` that continues `theirs` under our own span; `None` when theirs is invalid (§3.2.2).
pub fn next_traceparent(theirs: &HeaderValue, span: u64) -> Option<HeaderValue> {
    let bytes = theirs.as_bytes();
    // version "-" trace-id "-" parent-id "-" flags; a later version may append fields, which we do not pass on.
    let (version, trace, span_id, flags) = (bytes.get(..2)?, bytes.get(3..35)?, bytes.get(36..52)?, bytes.get(53..55)?);
    let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
    let hexadecimal = |digits: &[u8]| digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let valid = dashes
        && [version, trace, span_id, flags].iter().all(|part| hexadecimal(part))
        && version != b"ff"
        && (bytes.len() == 55 || (version != b"00" && bytes.get(55) == Some(&b'-')))
        && trace.iter().any(|byte| *byte != b'0')
        && span_id.iter().any(|byte| *byte != b'0');
    valid.then(|| parent(trace, span, flags))
}

fn parent(trace: &[u8], span: u64, flags: &[u8]) -> HeaderValue {
    let mut value = Vec::with_capacity(55);
    value.extend_from_slice(b"00-");
    value.extend_from_slice(trace);
    value.push(b'-');
    let span = hexadecimal(u128::from(span.max(1)));
    value.extend_from_slice(span.get(16..).unwrap_or_default());
    value.push(b'-');
    value.extend_from_slice(flags);
    text(&value)
}

fn hexadecimal(number: u128) -> [u8; 32] {
    let mut digits = [b'0'; 32];
    let mut left = number;
    for digit in digits.iter_mut().rev() {
        let nibble = u8::try_from(left & 15).unwrap_or(0);
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) };
        left >>= 4;
    }
    digits
}

fn text(bytes: &[u8]) -> HeaderValue {
    // Hexadecimal digits and dashes are always a value.
    HeaderValue::from_bytes(bytes).unwrap_or_else(|_| HeaderValue::from_static("0"))
}
