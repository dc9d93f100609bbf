//! Values that no parser of ours may let pass.
//!
//! Part of `headers`. An HTTP/2 field that is written into HTTP/1 as it came could end a line there: the oldest way to
//! smuggle. The `http` crate refuses control bytes already; what it lets pass, and what HTTP/2 forbids, is refused here.

use http::header::{CONNECTION, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};

use crate::head::Fields;

/// Why a field is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadField {
    /// CR, LF or NUL in a value (RFC 9110 §5.5, RFC 9113 §8.2.1).
    #[error("CR, LF or NUL in a field value")]
    ControlByte,
    /// A value that begins or ends with a space or tab (RFC 9113 §8.2.1).
    #[error("space at the edge of a field value")]
    EdgeSpace,
    /// A field of the HTTP/1 connection in HTTP/2 (RFC 9113 §8.2.2).
    #[error("connection-specific field {0} in HTTP/2")]
    ConnectionSpecific(HeaderName),
    /// `TE` other than `trailers` in HTTP/2 (RFC 9113 §8.2.2).
    #[error("TE other than trailers in HTTP/2")]
    Te,
}

/// Checks one value.
///
/// # Errors
/// When it holds CR, LF or NUL, or has a space or tab at its edge.
pub fn check_value(value: &[u8]) -> Result<(), BadField> {
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(BadField::ControlByte);
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_space(value.first()) || is_space(value.last()) {
        return Err(BadField::EdgeSpace);
    }
    Ok(())
}

/// Checks the fields of an HTTP/2 message, head or trailers.
///
/// # Errors
/// The first field that makes the message malformed (RFC 9113 §8.2): the stream ends with `PROTOCOL_ERROR`.
pub fn check_h2(headers: &Fields) -> Result<(), BadField> {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION] {
        if headers.contains_key(&name) {
            return Err(BadField::ConnectionSpecific(name));
        }
    }
    if headers.get_all(TE).any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err(BadField::Te);
    }
    headers.values().try_for_each(|value| check_value(value.as_bytes()))
}
