//! Moments as text.
//!
//! Floor 2, pure. The present second's text is formatted once a second, not once a record.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::text::three;

/// How moments are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::telemetry) enum Pattern {
    /// RFC 3339, UTC, with microseconds.
    Rfc3339,
    /// Apache's, with seconds.
    Apache,
}

/// Writes moments.
#[derive(Debug)]
pub(in crate::telemetry) struct Stamp {
    pattern: Pattern,
    second: Option<u64>,
    text: String,
}

impl Stamp {
    pub(in crate::telemetry) const fn new(pattern: Pattern) -> Self {
        Self { pattern, second: None, text: String::new() }
    }

    /// Appends `at`.
    pub(in crate::telemetry) fn write(&mut self, at: SystemTime, out: &mut Vec<u8>) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            let stamp = i64::try_from(since.as_secs())
                .ok()
                .and_then(|second| jiff::Timestamp::from_second(second).ok())
                .unwrap_or(jiff::Timestamp::MAX);
            self.text.clear();
            // Writing to a String cannot fail, and both patterns are constant.
            let _infallible = match self.pattern {
                Pattern::Rfc3339 => write!(self.text, "{}", stamp.strftime("%Y-%m-%dT%H:%M:%S")),
                Pattern::Apache => write!(self.text, "{}", stamp.strftime("%d/%b/%Y:%H:%M:%S +0000")),
            };
        }
        out.extend_from_slice(self.text.as_bytes());
        if self.pattern == Pattern::Rfc3339 {
            let micros = since.subsec_micros();
            let digits = |part: u32| three(u16::try_from(part).unwrap_or_default());
            let ([a, b, c], [d, e, f]) = (digits(micros / 1_000), digits(micros % 1_000));
            out.extend_from_slice(&[b'.', a, b, c, d, e, f, b'Z']);
        }
    }
}
