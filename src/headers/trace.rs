//! Request ids and W3C trace context.
//!
//! Part of `headers`. Accepted from trusted peers only (the caller knows which), else made from random numbers that
//! the caller brings. Values are written digit by digit: one allocation each and no formatter on the request path.

use bytes::Bytes;

use crate::head::HeaderValue;

/// Longest request id that is taken over, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Whether `value` may be taken over as a request id: 1 to 128 letters, digits or `-._~:/+=@`, safe in every log.
pub fn is_request_id(value: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&value.len())
        && value.iter().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'+' | b'=' | b'@')
        })
}

/// A request id of 32 hexadecimal digits, and `trace` as a `traceparent`: nearly every exchange makes both, and they share
/// a buffer.
pub fn request_id(random: u128, trace: Trace) -> (HeaderValue, HeaderValue) {
    let mut text = Vec::with_capacity(32 + 55);
    push_hex(&mut text, random.to_be_bytes());
    trace.write(&mut text);
    let mut id = Bytes::from(text);
    let parent = id.split_off(32);
    (value(id), value(parent))
}

/// A position in a distributed trace (W3C Trace Context, §3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trace {
    trace: u128,
    span: u64,
    flags: u8,
}

impl Trace {
    /// Reads a `traceparent`. `None` when it is invalid, which means: begin a new trace and drop `tracestate`.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(55)?;
        let [v1, v2, b'-', middle @ .., b'-', f1, f2] = known else { return None };
        let (trace, span) = middle.split_at_checked(32)?;
        let span = span.strip_prefix(b"-")?;
        let version = hex(&[*v1, *v2])?;
        // §3.2.2.3 and §4.3: `ff` is invalid; version 00 has nothing after the flags; later ones only after a hyphen.
        if version == 0xff || (version == 0 && !rest.is_empty()) || !(rest.is_empty() || rest.starts_with(b"-")) {
            return None;
        }
        let trace = hex(trace).filter(|trace| *trace != 0)?;
        let span = hex(span).filter(|span| *span != 0)?;
        let flags = hex(&[*f1, *f2])?;
        Some(Self { trace, span: u64::try_from(span).ok()?, flags: u8::try_from(flags).ok()? })
    }

    /// A new trace. `flags`: bit 0 asks everyone behind us to record it.
    pub const fn begin(trace: u128, span: u64, flags: u8) -> Self {
        Self { trace: if trace == 0 { 1 } else { trace }, span: nonzero(span), flags }
    }

    /// The same trace with `span` as ours.
    #[must_use]
    pub const fn child(self, span: u64) -> Self {
        Self { span: nonzero(span), ..self }
    }

    /// The trace's id.
    pub const fn trace_id(self) -> u128 {
        self.trace
    }

    /// The span's id.
    pub const fn span_id(self) -> u64 {
        self.span
    }

    /// Whether whoever called records it, and asks everyone behind to do so (§3.2.2.5.1).
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }

    /// As a `traceparent` of version 00. §3.2.2.3: of the flags, only those that version 00 knows.
    pub fn to_value(self) -> HeaderValue {
        let mut text = Vec::with_capacity(55);
        self.write(&mut text);
        value(Bytes::from(text))
    }

    fn write(self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"00-");
        push_hex(text, self.trace.to_be_bytes());
        text.push(b'-');
        push_hex(text, self.span.to_be_bytes());
        text.push(b'-');
        push_hex(text, [self.flags & 1]);
    }
}

const fn nonzero(span: u64) -> u64 {
    if span == 0 { 1 } else { span }
}

/// Lower-case digits only, as the trace context demands; at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit.wrapping_sub(b'0'),
            b'a'..=b'f' => digit.wrapping_sub(b'a').wrapping_add(10),
            _ => return None,
        };
        Some((number << 4) | u128::from(value))
    })
}

/// Through the stack, where the compiler writes many digits at a time.
fn push_hex<const N: usize>(text: &mut Vec<u8>, bytes: [u8; N]) {
    let digit = |nibble: u8| nibble.wrapping_add(if nibble < 10 { b'0' } else { b'a' - 10 });
    let pairs: [[u8; 2]; N] = bytes.map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
    text.extend_from_slice(pairs.as_flattened());
}

/// Digits and hyphens are always a legal value.
fn value(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}
