//! Fields that belong to one hop only (RFC 9110 §7.6.1).

use http::header::{
    CONNECTION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::HeaderMap;

/// `Connection` names a field that means something beyond the hop: removing it would change what the request says
/// behind the back of whoever checked it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("Connection names a field that is not the connection's")]
pub struct BadConnection;

/// Fields of the hop by definition. `Transfer-Encoding` goes as well, since the body is framed anew.
const OF_THE_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that nobody may have removed by naming them.
const BEYOND: [&str; 14] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "authorization",
    "cookie",
    "set-cookie",
    "origin",
    "referer",
    "x-csrftoken",
    "x-guesttoken",
    "cache-control",
    "location",
    "date",
];

/// Names that `Connection` may list; more are an attack.
const MAX_NAMED: usize = 32;

/// Removes the fields of the hop, also those that `Connection` names. `TE: trailers` and `Trailer` are kept in meaning
/// by whoever frames the message.
///
/// # Errors
/// [`BadConnection`] when `Connection` names a field that is not the hop's; nothing is removed then.
pub fn strip_hop_by_hop(fields: &mut HeaderMap) -> Result<(), BadConnection> {
    let mut named = Vec::new();
    for line in fields.get_all(CONNECTION) {
        for token in line.as_bytes().split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            let ordinary = token.is_empty()
                || ["keep-alive", "close", "upgrade", "te", "http2-settings"]
                    .iter()
                    .any(|known| token.eq_ignore_ascii_case(known.as_bytes()));
            if ordinary {
                continue;
            }
            let name = HeaderName::from_bytes(token).map_err(|_| BadConnection)?;
            let beyond = BEYOND.contains(&name.as_str())
                || name.as_str().starts_with("x-forwarded-")
                || name.as_str().starts_with("sec-");
            if beyond || named.len() >= MAX_NAMED {
                return Err(BadConnection);
            }
            named.push(name);
        }
    }
    for name in &named {
        fields.remove(name);
    }
    for name in &OF_THE_HOP {
        fields.remove(name);
    }
    fields.remove("http2-settings");
    Ok(())
}

