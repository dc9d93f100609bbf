//! Heads and trailers between field sections and the `http` crate's types (RFC 9114 §4.2, §4.3).
//!
//! Everything that makes a request malformed by its fields alone is refused here; what depends on the listener and is
//! the same for HTTP/2 stands in `serve::head`. Deliberately absent: repair.

use bytes::{Bytes, BytesMut};
use http::header;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, StatusCode, Uri, Version};

use super::frame;
use super::qpack::{self, Lines, Unreadable};
use crate::head::{self, Fields, HeaderValue, request};
use crate::message::Refusal;

/// Why a section is no head or no trailer section.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bad {
    /// It cannot be decoded, which ends the connection (RFC 9204 §2.2).
    Unreadable(&'static str),
    /// It is malformed or too large, which ends the request.
    Refused(Refusal),
}

impl From<Unreadable> for Bad {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Broken(what) => Self::Unreadable(what),
            Unreadable::TooLarge => Self::Refused(Refusal::HeadTooLarge("header list exceeds its bound")),
        }
    }
}

const fn malformed(what: &'static str) -> Bad {
    Bad::Refused(Refusal::MalformedHead(what))
}

/// A request's head.
#[derive(Debug)]
pub struct Head {
    /// Method, target, fields.
    pub parts: request::Parts,
    /// `:protocol` (RFC 9220 §3).
    pub protocol: Option<Bytes>,
    /// Content-Length, if there is one and only one.
    pub length: Option<u64>,
}

/// Pseudo-header fields of a request (RFC 9114 §4.3.1).
#[derive(Default)]
struct Pseudo {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
}

/// Reads a request's head, whose fields count `most` bytes at most.
///
/// # Errors
/// [`Bad`]; with it as much of the head as was understood.
pub fn request(section: Bytes, most: usize) -> Result<Head, (Bad, Option<Box<request::Parts>>)> {
    let mut parts = request::Parts { version: Version::HTTP_3, ..request::Parts::default() };
    let mut pseudo = Pseudo::default();
    let read = read(section, most, &mut parts.headers, &mut pseudo);
    let done = target(&pseudo, &mut parts);
    match read.and(done).and_then(|()| length(&parts.headers)) {
        Ok(length) => Ok(Head { parts, protocol: pseudo.protocol, length }),
        Err(bad @ Bad::Unreadable(_)) => Err((bad, None)),
        Err(bad) => Err((bad, Some(Box::new(parts)))),
    }
}

/// Reads a trailer section.
///
/// # Errors
/// [`Bad`].
pub fn trailers(section: Bytes, most: usize) -> Result<Fields, Bad> {
    let mut fields = Fields::new();
    let mut lines = Lines::of(section, most)?;
    while let Some((name, value)) = lines.line()? {
        if name.first() == Some(&b':') {
            // RFC 9114 §4.3.
            return Err(malformed("pseudo-header field in a trailer section"));
        }
        take_field(&mut fields, &name, value)?;
    }
    Ok(fields)
}

fn read(section: Bytes, most: usize, fields: &mut Fields, pseudo: &mut Pseudo) -> Result<(), Bad> {
    let mut lines = Lines::of(section, most)?;
    while let Some((name, value)) = lines.line()? {
        if name.first() != Some(&b':') {
            take_field(fields, &name, value)?;
            continue;
        }
        if !fields.is_empty() {
            return Err(malformed("pseudo-header field after a field"));
        }
        let place = match name.as_ref() {
            b":method" => &mut pseudo.method,
            b":scheme" => &mut pseudo.scheme,
            b":authority" => &mut pseudo.authority,
            b":path" => &mut pseudo.path,
            b":protocol" => &mut pseudo.protocol,
            _ => return Err(malformed("unknown pseudo-header field")),
        };
        if place.replace(value).is_some() {
            return Err(malformed("pseudo-header field twice"));
        }
    }
    Ok(())
}

/// Fields of a section, however many bytes it may have: the listener's own bound is looked at later.
const MOST_FIELDS: usize = 10_000;

/// RFC 9114 §4.2.
fn take_field(fields: &mut Fields, name: &Bytes, value: Bytes) -> Result<(), Bad> {
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err(malformed("upper case in a field name"));
    }
    let name = head::field_name(name).map_err(|_| malformed("field name"))?;
    match name {
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => {
            return Err(malformed("connection-specific field"));
        }
        header::TE if value.as_ref() != b"trailers" => return Err(malformed("TE other than trailers")),
        _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => {
            return Err(malformed("connection-specific field"));
        }
        _ => {}
    }
    // RFC 9114 §10.3: CR, LF, NUL and other control characters.
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| malformed("field value"))?;
    if fields.len() >= MOST_FIELDS {
        return Err(Bad::Refused(Refusal::HeadTooLarge("too many fields")));
    }
    fields.append(name, value);
    Ok(())
}

/// RFC 9114 §4.3.1, §4.4; RFC 9220 §3 with RFC 8441 §4: what must be there, and what must not.
fn target(pseudo: &Pseudo, parts: &mut request::Parts) -> Result<(), Bad> {
    let method = pseudo.method.as_ref().ok_or(malformed(":method is missing"))?;
    parts.method = Method::from_bytes(method).map_err(|_| malformed(":method"))?;
    let authority = match &pseudo.authority {
        Some(authority) => Some(Authority::from_maybe_shared(authority.clone()).map_err(|_| malformed(":authority"))?),
        None => None,
    };
    if parts.method == Method::CONNECT && pseudo.protocol.is_none() {
        if pseudo.scheme.is_some() || pseudo.path.is_some() {
            return Err(malformed("CONNECT with :scheme or :path"));
        }
        parts.uri = authority.map(Uri::from).ok_or(malformed("CONNECT without :authority"))?;
        return Ok(());
    }
    if pseudo.protocol.is_some() && parts.method != Method::CONNECT {
        return Err(malformed(":protocol without CONNECT"));
    }
    // Both of the schemes below have an authority.
    if authority.is_none() && parts.headers.get(header::HOST).is_none_or(HeaderValue::is_empty) {
        return Err(malformed("neither :authority nor Host"));
    }
    let scheme = match pseudo.scheme.as_deref() {
        Some(b"https") => Scheme::HTTPS,
        Some(b"http") => Scheme::HTTP,
        Some(_) => return Err(malformed(":scheme is neither http nor https")),
        None => return Err(malformed(":scheme is missing")),
    };
    let path = match &pseudo.path {
        Some(path) if path.contains(&b'#') => return Err(malformed(":path has a fragment")),
        Some(path) if path.is_empty() => return Err(malformed(":path is empty")),
        Some(path) => PathAndQuery::from_maybe_shared(path.clone()).map_err(|_| malformed(":path"))?,
        None => return Err(malformed(":path is missing")),
    };
    let mut uri = http::uri::Parts::default();
    uri.scheme = authority.is_some().then_some(scheme);
    uri.authority = authority;
    uri.path_and_query = Some(path);
    parts.uri = Uri::from_parts(uri).map_err(|_| malformed("request target"))?;
    Ok(())
}

/// RFC 9110 §8.6.
fn length(fields: &Fields) -> Result<Option<u64>, Bad> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH);
    let Some(first) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(Bad::Refused(Refusal::AmbiguousFraming("several Content-Length fields")));
    }
    let digits = first.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Bad::Refused(Refusal::AmbiguousFraming("Content-Length is no number")));
    }
    let length = first.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or(Bad::Refused(Refusal::AmbiguousFraming("Content-Length is too large")))
}

/// The HEADERS frame of a response's head.
pub fn response(status: StatusCode, fields: &Fields) -> Bytes {
    section(fields, |section| qpack::put_line(section, ":status", status.as_str().as_bytes(), false))
}

/// The HEADERS frame of a trailer section.
pub fn end(fields: &Fields) -> Bytes {
    section(fields, |_| {})
}

fn section(fields: &Fields, first: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut whole = BytesMut::with_capacity(512);
    // The frame's head is written in front once the length is known.
    whole.resize(ROOM, 0);
    qpack::begin(&mut whole);
    first(&mut whole);
    for (name, value) in fields {
        qpack::put_line(&mut whole, name.as_str(), value.as_bytes(), value.is_sensitive());
    }
    let mut head = [0_u8; ROOM];
    let left = {
        let mut rest = head.as_mut_slice();
        frame::put_head(&mut rest, frame::HEADERS, whole.len().saturating_sub(ROOM));
        rest.len()
    };
    let used = ROOM.saturating_sub(left);
    if let (Some(to), Some(from)) = (whole.get_mut(left..ROOM), head.get(..used)) {
        to.copy_from_slice(from);
    }
    whole.freeze().slice(left..)
}

/// The longest head of a frame of ours: a type of one byte, a length of eight.
const ROOM: usize = 9;

#[cfg(test)]
mod tests;
