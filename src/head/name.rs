//! Field names: those that nearly every message has are recognised at one look, without parsing and allocating them.

use std::sync::LazyLock;

use http::HeaderName;
use http::header::InvalidHeaderName;

/// What browsers, Superset and we say most.
const NAMES: [&str; 93] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-request-headers",
    "access-control-request-method",
    "age",
    "allow",
    "alt-svc",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-security-policy-report-only",
    "content-type",
    "cookie",
    "cross-origin-opener-policy",
    "date",
    "dnt",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "origin",
    "permissions-policy",
    "pragma",
    "priority",
    "range",
    "referer",
    "referrer-policy",
    "retry-after",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-gpc",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-accel-buffering",
    "x-content-type-options",
    "x-csrftoken",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-frame-options",
    "x-guesttoken",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
];

/// Slots of the table: as many as it takes for each name to have one of its own.
const SLOTS: usize = 512;

static KNOWN: LazyLock<Known> = LazyLock::new(Known::new);

struct Known {
    /// By [`slot`]; an index beyond the names where there is none.
    slots: [u8; SLOTS],
    names: Box<[HeaderName]>,
}

impl Known {
    fn new() -> Self {
        let names: Box<[HeaderName]> = NAMES.into_iter().map(HeaderName::from_static).collect();
        let mut slots = [u8::MAX; SLOTS];
        for (index, name) in NAMES.iter().enumerate() {
            if let (Some(slot), Ok(index)) = (slots.get_mut(slot(hash(name.as_bytes()))), u8::try_from(index)) {
                *slot = index;
            }
        }
        Self { slots, names }
    }

    /// `name`, whose hash that is.
    fn find(&self, name: &[u8], hash: u64) -> Option<&HeaderName> {
        let known = self.names.get(usize::from(*self.slots.get(slot(hash))?))?;
        is_same(known.as_str().as_bytes(), name).then_some(known)
    }
}

/// Reads a field name, in any case; `hash` is its [`hash`].
///
/// # Errors
/// When it is no token (RFC 9110 §5.1).
pub(super) fn read(name: &[u8], hash: u64) -> Result<HeaderName, InvalidHeaderName> {
    KNOWN.find(name, hash).cloned().map_or_else(|| HeaderName::from_bytes(name), Ok)
}

/// Reads a field name, in any case, without allocating one that is well known.
///
/// # Errors
/// When it is no token (RFC 9110 §5.1).
pub fn field_name(name: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    read(name, hash(name))
}

/// Whether `name`, in any case, is `known`, which is made of small letters, digits and hyphens: eight bytes at a time.
fn is_same(known: &[u8], name: &[u8]) -> bool {
    if known.len() != name.len() {
        return false;
    }
    // The last eight bytes overlap with those before them, so that nothing is left over.
    match (known.last_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(known_end), Some(name_end)) => {
            let mut eights = known.as_chunks::<8>().0.iter().zip(name.as_chunks::<8>().0);
            are_same(*known_end, *name_end) && eights.all(|(known, name)| are_same(*known, *name))
        }
        _ => known.eq_ignore_ascii_case(name),
    }
}

/// The bit of each of eight bytes that makes a letter small.
const CASE: u64 = 0x2020_2020_2020_2020;

fn are_same(known: [u8; 8], name: [u8; 8]) -> bool {
    const LETTER: u64 = CASE << 1;
    let (known, name) = (u64::from_le_bytes(known), u64::from_le_bytes(name));
    // Without the bit that makes letters small, control bytes would be hyphens and digits.
    name | CASE == known && (name | (name << 1)) & LETTER == LETTER
}

/// A hash of a name in any case: of its length and of what it begins and ends with. The factor was found by trying: it gives
/// each of [`NAMES`] a slot of its own.
pub(super) fn hash(name: &[u8]) -> u64 {
    const FACTOR: u64 = 0x7541_ada6_f734_741b;
    let (begins, ends) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(begins), Some(ends)) => (u64::from_le_bytes(*begins), u64::from_le_bytes(*ends)),
        _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            (Some(begins), Some(ends)) => (u32::from_le_bytes(*begins).into(), u32::from_le_bytes(*ends).into()),
            _ => (name.first().copied().unwrap_or(0).into(), name.last().copied().unwrap_or(0).into()),
        },
    };
    ((begins | CASE) ^ (ends | CASE).rotate_left(5) ^ name.len() as u64).wrapping_mul(FACTOR)
}

/// The slot of a hash: its upper nine bits.
fn slot(hash: u64) -> usize {
    usize::try_from(hash >> 55).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_name_has_a_slot_of_its_own_in_any_case() {
        for name in NAMES {
            let shouted = name.to_ascii_uppercase();

            for written in [name, &shouted] {
                let written = written.as_bytes();
                assert_eq!(KNOWN.find(written, hash(written)), Some(&HeaderName::from_static(name)));
            }
        }
    }

    proptest! {
        #[test]
        fn names_are_what_the_http_crate_takes_them_for(
            name in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..70),
                prop::sample::select(&NAMES[..]).prop_map(|name| name.as_bytes().to_vec()),
            ],
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            changed in any::<bool>(),
        ) {
            let mut name = name;
            if changed && !name.is_empty() {
                let at = at.index(name.len());
                name[at] = byte;
            }

            prop_assert_eq!(read(&name, hash(&name)).ok(), HeaderName::from_bytes(&name).ok());
        }
    }
}
