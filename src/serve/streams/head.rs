//! Judges the head of an HTTP/2 or HTTP/3 request.
//!
//! Floor 6. In: a head as the h2 crate or our [`crate::h3`] decoded it. Out: the head as the pipeline shall see it, or
//! why it is refused. Both refuse by themselves (stream or connection error): upper-case names, CR, LF and NUL,
//! connection-specific fields, `te` other than `trailers`, repeated, unknown or misplaced pseudo-headers, `:status`,
//! content lengths that differ from each other or from the content. Here stands what the h2 crate lets pass, but for
//! pseudo-headers among trailers: those it drops unseen (h2 0.4.20). Deliberately absent: repair. Nothing but cookie
//! crumbs is put together.

use http::header::{self, HeaderName};
use http::{Method, Uri};

use crate::config::listener::RequestLimits;
use crate::head::{Fields, HeaderValue, request};
use crate::headers::has_hop_fields;
use crate::message::{Refusal, Upgrade};

/// What a head asks for.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::serve) enum Ask {
    /// An ordinary exchange.
    Exchange,
    /// A tunnel (RFC 8441 §4, RFC 9220 §3).
    Tunnel(Upgrade),
}

/// Checks `head` and completes it with `Host`. `protocol` is its `:protocol`.
///
/// # Errors
/// Why it is refused; [`Refusal::MalformedHead`] and [`Refusal::AmbiguousFraming`] are malformed in the sense of
/// RFC 9113 §8.1.1 and RFC 9114 §4.1.2, the others are answered.
pub(in crate::serve) fn admit(
    head: &mut request::Parts,
    protocol: Option<&[u8]>,
    limits: &RequestLimits,
) -> Result<Ask, Refusal> {
    if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > limits.uri_bytes) {
        return Err(Refusal::UriTooLong);
    }
    join_cookies(&mut head.headers);
    bounds(head, limits)?;
    values(&head.headers)?;
    authority(head)?;
    framing(&head.headers)?;
    target(head, protocol)
}

/// RFC 9113 §8.2.3, RFC 9114 §4.2.1: crumbs are joined before the field goes to HTTP/1.1.
fn join_cookies(headers: &mut Fields) {
    let mut crumbs = headers.get_all(header::COOKIE);
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let mut joined = Vec::new();
    for crumb in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(header::COOKIE, value);
    }
}

/// The limits of the listener, measured as over HTTP/1.1.
fn bounds(head: &request::Parts, limits: &RequestLimits) -> Result<(), Refusal> {
    if head.headers.len() > limits.fields {
        return Err(Refusal::HeadTooLarge("too many fields"));
    }
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let fields = size(&head.headers);
    if fields.saturating_add(target) > limits.head_bytes {
        return Err(Refusal::HeadTooLarge("header list exceeds its bound"));
    }
    Ok(())
}

/// Bytes of a field section as over HTTP/1.1: name, colon, space, value, line end.
pub(in crate::serve) fn size(headers: &Fields) -> usize {
    headers.iter().fold(0_usize, |sum, (name, value)| {
        sum.saturating_add(name.as_str().len()).saturating_add(value.len()).saturating_add(4)
    })
}

/// RFC 9113 §8.2.1: a value neither starts nor ends with white space. (Control characters are refused already.)
pub(in crate::serve) fn values(headers: &Fields) -> Result<(), Refusal> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    for value in headers.values() {
        if blank(value.as_bytes().first()) || blank(value.as_bytes().last()) {
            return Err(Refusal::MalformedHead("white space around a field value"));
        }
    }
    Ok(())
}

/// RFC 9113 §8.3.1, §8.5: what must be present for which method.
fn target(head: &request::Parts, protocol: Option<&[u8]>) -> Result<Ask, Refusal> {
    if head.uri.scheme().is_some_and(|scheme| scheme != "https" && scheme != "http") {
        return Err(Refusal::MalformedHead(":scheme is neither http nor https"));
    }
    if head.method == Method::CONNECT {
        if head.uri.authority().is_none() {
            return Err(Refusal::MalformedHead("CONNECT without :authority"));
        }
        let Some(protocol) = protocol else {
            return Ok(Ask::Exchange);
        };
        require_path(head)?;
        // RFC 8441 leaves open how others are refused; RFC 9220 §3 says 501.
        return if protocol.eq_ignore_ascii_case(b"websocket") {
            Ok(Ask::Tunnel(Upgrade::ExtendedConnect))
        } else {
            Err(Refusal::UnknownProtocol)
        };
    }
    require_path(head)?;
    Ok(Ask::Exchange)
}

/// `:path` is `*` for OPTIONS or begins with a slash.
fn require_path(head: &request::Parts) -> Result<(), Refusal> {
    // `PathAndQuery` shows an absent path as `/`; `Uri::path` tells.
    if head.uri.path().is_empty() {
        return Err(Refusal::MalformedHead(":path is missing or empty"));
    }
    match head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str) {
        "*" if head.method == Method::OPTIONS => Ok(()),
        path if path.starts_with('/') => Ok(()),
        _ => Err(Refusal::MalformedHead(":path does not begin with a slash")),
    }
}

/// RFC 9113 §8.3.1, RFC 9114 §4.3.1: `:authority` has no user information, and `Host` names the same entity. Leaves exactly one `Host`
/// when the client named one at all.
fn authority(head: &mut request::Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(header::HOST);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::MalformedHead("several Host fields"));
    }
    let Some(authority) = head.uri.authority() else {
        return Ok(());
    };
    let authority = authority.as_str();
    if authority.contains('@') {
        return Err(Refusal::MalformedHead("user information in :authority"));
    }
    match host {
        Some(host) if same_entity(&head.uri, authority, host.as_bytes()) => Ok(()),
        Some(_) => Err(Refusal::MalformedHead("Host differs from :authority")),
        None => {
            let value = HeaderValue::from_str(authority)
                .map_err(|_| Refusal::MalformedHead(":authority is not a field value"))?;
            head.headers.insert(header::HOST, value);
            Ok(())
        }
    }
}

/// Equal but for case and the scheme's default port.
fn same_entity(uri: &Uri, authority: &str, host: &[u8]) -> bool {
    let port: &[u8] = if uri.scheme_str() == Some("http") { b":80" } else { b":443" };
    let authority = authority.as_bytes();
    let bare = |name| <[u8]>::strip_suffix(name, port).unwrap_or(name);
    bare(authority).eq_ignore_ascii_case(bare(host))
}

/// RFC 9110 §8.6: one length at most. (The h2 crate has compared it with the content already.)
fn framing(headers: &Fields) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH);
    let first = lengths.next();
    if lengths.next().is_some() {
        return Err(Refusal::AmbiguousFraming("several Content-Length fields"));
    }
    // The crate reads an empty value as zero.
    if first.is_some_and(HeaderValue::is_empty) {
        return Err(Refusal::AmbiguousFraming("empty Content-Length"));
    }
    Ok(())
}

/// Fields that belong to one hop of HTTP/1.1 and have no place here (RFC 9113 §8.2.2, RFC 9114 §4.2).
const CONNECTION_SPECIFIC: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Removes connection-specific fields from what we send.
pub(in crate::serve) fn strip(headers: &mut Fields) {
    // What the pipeline answers has none.
    if !has_hop_fields(headers) {
        return;
    }
    if let Some(named) = headers.remove(header::CONNECTION) {
        // RFC 9110 §7.6.1: the fields that `Connection` names go with it.
        for name in named.as_bytes().split(|byte| *byte == b',') {
            if let Ok(name) = std::str::from_utf8(name.trim_ascii()) {
                headers.remove(name);
            }
        }
    }
    for name in &CONNECTION_SPECIFIC {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
