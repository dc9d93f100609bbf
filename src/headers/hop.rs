//! Fields of one hop.
//!
//! Part of `headers`. In HTTP/1 `Connection` may name any field as belonging to this hop only; a client that names
//! `Host` or `Cookie` makes a careless proxy drop what the next hop's decision rests on.

use http::header::{CONNECTION, HeaderName};

use super::glance::Glance;
use crate::head::{Fields, HeaderValue};

/// Why a `Connection` field is refused: 400 towards clients, 502 for an upstream's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadConnection {
    /// Not a list of tokens (RFC 9110 §7.6.1).
    #[error("malformed Connection field")]
    Malformed,
    /// Names a field whose removal would change what the message means.
    #[error("Connection names the end-to-end field {0}")]
    Nominates(HeaderName),
}

/// Fields that are removed from every message (RFC 9110 §7.6.1). `Trailer` stays: trailers pass through. The proxy
/// credentials are for a forward proxy, which we are not.
const HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "proxy-authenticate",
];

fn is_hop(name: &str) -> bool {
    const GLANCE: Glance = Glance::new(&HOP);
    GLANCE.may_have(name) && HOP.contains(&name)
}

/// Whether any field belongs to one hop only.
pub fn has_hop_fields(headers: &Fields) -> bool {
    headers.keys().any(|name| is_hop(name.as_str()))
}

/// Fields that no hop may take away. RFC 9110 §7.6.1: a sender must not name fields meant for all recipients.
const PROTECTED: [&str; 29] = [
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "location",
    "origin",
    "range",
    "referer",
    "set-cookie",
    "strict-transport-security",
    "traceparent",
    "tracestate",
    "vary",
    "www-authenticate",
    "x-csrftoken",
    "x-frame-options",
    "x-guesttoken",
    "x-real-ip",
    "x-request-id",
];

/// Removes the fields that belong to one hop only (RFC 9110 §7.6.1), including those named by `Connection`.
///
/// An upgrade must be read from the fields before this.
///
/// # Errors
/// When `Connection` is no list of tokens, or names a field that every recipient needs. Nothing is removed then.
pub fn strip_hop_by_hop(headers: &mut Fields) -> Result<(), BadConnection> {
    let hop = HopFields::of(headers)?;
    headers.retain(|name, _| !hop.has(name));
    Ok(())
}

/// The fields of a message that belong to one hop only, for who goes through all of them anyway.
#[derive(Debug)]
pub struct HopFields {
    /// Sorted: `Connection` may fill a head, and each field is held against them.
    nominated: Vec<HeaderName>,
}

impl HopFields {
    /// Those of `headers`, including those named by `Connection`.
    ///
    /// # Errors
    /// As [`strip_hop_by_hop`].
    pub fn of(headers: &Fields) -> Result<Self, BadConnection> {
        let mut nominated = nominated(headers)?;
        nominated.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        Ok(Self { nominated })
    }

    /// Whether `name` is one of them.
    pub fn has(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        is_hop(name) || self.nominated.binary_search_by(|nominated| nominated.as_str().cmp(name)).is_ok()
    }
}

/// Fields that `Connection` names and that are not removed anyway. Allocates only when there are any.
fn nominated(headers: &Fields) -> Result<Vec<HeaderName>, BadConnection> {
    let mut nominated = Vec::new();
    for option in headers.get_all(CONNECTION).flat_map(options) {
        // RFC 9110 §5.6.1.2: empty list elements are ignored.
        if option.is_empty() || is_plain(option) {
            continue;
        }
        let name = HeaderName::from_bytes(option).map_err(|_| BadConnection::Malformed)?;
        if is_protected(name.as_str()) {
            return Err(BadConnection::Nominates(name));
        }
        nominated.push(name);
    }
    Ok(nominated)
}

fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The options of nearly every request.
fn is_plain(option: &[u8]) -> bool {
    [&b"keep-alive"[..], b"close", b"upgrade", b"te"].iter().any(|plain| option.eq_ignore_ascii_case(plain))
}

fn is_protected(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("access-control-")
        || name.starts_with("if-")
        || PROTECTED.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_names_are_sorted_for_the_search() {
        assert!(PROTECTED.is_sorted());
    }
}
