//! The rules for header fields that pass through.
//!
//! Floor 2, pure. In: fields and facts about the exchange. Out: the fields as the next hop may see them, or the
//! reason why the message must be refused. Called by `serve` (checks), `pipeline::rewrite` and the upstream side.
//! What is not named here passes untouched: `Host`, `Referer`, `Origin`, `Cookie`, `Authorization`, `X-CSRFToken` and
//! every field of a response that Superset sets. Deliberately absent: framing (the codecs' business), clocks, random
//! numbers (arguments).

mod check;
mod family;
mod glance;
mod hop;
mod host;
mod trace;

pub use check::{BadField, check_h2, check_value};
pub use family::{CLIENT_SUBJECT, Forwarding, address_value, port_value, set_forwarded};
pub use hop::{BadConnection, HopFields, has_hop_fields, strip_hop_by_hop};
pub use host::{Authority, BadHost, Host, host};
pub use trace::{Trace, is_request_id, request_id};

use http::HeaderName;

use crate::config::route::HeaderEdits;
use crate::head::Fields;

/// Applies a route's edits in the order remove, set, add.
pub fn apply_edits(headers: &mut Fields, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &edits.add {
        headers.append(name, value.clone());
    }
}

/// Removes `X-Accel-Buffering` from a response: it speaks to the proxy alone. True when it asked for no buffering,
/// which is how every response is treated anyway.
pub fn take_accel_buffering(headers: &mut Fields) -> bool {
    const ACCEL: HeaderName = HeaderName::from_static("x-accel-buffering");
    headers.remove(ACCEL).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no"))
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
pub const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

#[cfg(test)]
mod tests;
