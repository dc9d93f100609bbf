//! Request and response heads (RFC 9112 §2 to §5).
//!
//! The grammar is `httparse`'s; what it tolerates beyond the grammar is refused here or by [`super::HeadScan`] before.
//! Names and values share the head's bytes, they are not copied.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::HOST;
use http::uri::Scheme;
use http::{Method, StatusCode, Uri, Version};

use super::framing::{self, Framing, Unclear};
use crate::head::{Fields, HeaderValue, request, response};
use crate::message::Refusal;

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head.
    pub bytes: usize,
    /// Bytes of the request target.
    pub target: usize,
    /// Number of fields; at most [`MAX_FIELDS`].
    pub fields: usize,
}

/// Most fields that any configuration can allow.
pub const MAX_FIELDS: usize = 256;

/// Fields that there is room for beyond those that came: a proxy adds its own on the way.
const ROOM: usize = 8;
/// What is wrong with a head that does not name HTTP at all.
pub const NOT_HTTP: &str = "not HTTP";

/// A request's head and the extent of its body.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target, version, fields.
    pub parts: request::Parts,
    /// Extent of the body.
    pub framing: Framing,
}

/// A response's head and the extent of its body.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status, version, fields.
    pub parts: response::Parts,
    /// Extent of the body.
    pub framing: Framing,
}

/// Why an endpoint's bytes are no response; says what was wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed response head: {0}")]
pub struct MalformedResponse(pub &'static str);

/// Parses a complete request head, as delimited by [`super::HeadScan`].
///
/// # Errors
/// The refusal, with as much of the head as was understood.
pub fn parse_request(head: &Bytes, limits: &HeadLimits) -> Result<RequestHead, (Refusal, Option<Box<request::Parts>>)> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let slots = slots.get_mut(..limits.fields).unwrap_or_default();
    let mut parsed = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, head, slots);
    match status {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err((Refusal::MalformedHead("incomplete head"), None)),
        Err(error) => return Err((refusal(error, head), None)),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err((Refusal::MalformedHead("incomplete request line"), None));
    };
    if target.len() > limits.target {
        return Err((Refusal::UriTooLong, None));
    }
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| (Refusal::MalformedHead("method"), None))?;
    let mut parts = request::Parts { method, version, ..request::Parts::default() };
    parts.uri = request_target(head, target, &parts.method).map_err(|refusal| (refusal, None))?;
    if let Err(what) = take_fields(head, parsed.headers, &mut parts.headers) {
        return Err((Refusal::MalformedHead(what), Some(Box::new(parts))));
    }
    if let Err(refusal) = check_host(&parts) {
        return Err((refusal, Some(Box::new(parts))));
    }
    match framing::of_request(parts.version, &parts.headers) {
        Ok(framing) => Ok(RequestHead { parts, framing }),
        Err(Unclear::Ambiguous(what)) => Err((Refusal::AmbiguousFraming(what), Some(Box::new(parts)))),
        Err(Unclear::UnknownCoding) => Err((Refusal::UnknownCoding, Some(Box::new(parts)))),
    }
}

/// Parses a complete response head, as delimited by [`super::HeadScan`].
///
/// # Errors
/// [`MalformedResponse`] for anything odd: the exchange becomes a 502, never a guess.
pub fn parse_response(head: &Bytes, method: &Method) -> Result<ResponseHead, MalformedResponse> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, &mut slots);
    match status {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(MalformedResponse("incomplete head")),
        Err(error) => return Err(MalformedResponse(what(error))),
    }
    let (Some(code), Some(version)) = (parsed.code, parsed.version) else {
        return Err(MalformedResponse("incomplete status line"));
    };
    // RFC 9110 §15: valid codes are 100 to 599.
    let status = StatusCode::from_u16(code).ok().filter(|_| code <= 599).ok_or(MalformedResponse("status code"))?;
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut parts = response::Parts { status, version, ..response::Parts::default() };
    take_fields(head, parsed.headers, &mut parts.headers).map_err(MalformedResponse)?;
    let framing = framing::of_response(method, parts.version, parts.status, &parts.headers);
    match framing {
        Ok(framing) => Ok(ResponseHead { parts, framing }),
        Err(Unclear::Ambiguous(what)) => Err(MalformedResponse(what)),
        Err(Unclear::UnknownCoding) => Err(MalformedResponse("transfer coding other than chunked")),
    }
}

/// Parses a trailer section: fields and the empty line after them (RFC 9112 §7.1.2).
///
/// # Errors
/// What is wrong with it.
pub fn parse_trailers(section: &Bytes) -> Result<Fields, &'static str> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let fields = match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Ok(httparse::Status::Partial) => return Err("incomplete trailers"),
        Err(error) => return Err(what(error)),
    };
    let mut trailers = Fields::new();
    take_fields(section, fields, &mut trailers)?;
    // RFC 9110 §6.5.1: framing, routing and authentication have no place in trailers.
    let forbidden = ["transfer-encoding", "content-length", "host", "connection", "upgrade", "authorization", "cookie"];
    if forbidden.iter().any(|name| trailers.contains_key(*name)) {
        return Err("forbidden trailer field");
    }
    Ok(trailers)
}

/// RFC 9112 §3.2: exactly one Host in HTTP/1.1, at most one in HTTP/1.0.
fn check_host(parts: &request::Parts) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(HOST);
    match (hosts.next(), hosts.next()) {
        (None, _) if parts.version == Version::HTTP_11 => Err(Refusal::MalformedHead("no Host")),
        (_, Some(_)) => Err(Refusal::MalformedHead("more than one Host")),
        _ => Ok(()),
    }
}

/// RFC 9112 §3.2: one of the four forms.
fn request_target(head: &Bytes, target: &str, method: &Method) -> Result<Uri, Refusal> {
    const BAD: Refusal = Refusal::MalformedHead("request target");
    // A fragment is never sent (RFC 9110 §7.1); `Uri` would cut it off silently.
    if target.contains('#') {
        return Err(BAD);
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).map_err(|_| BAD)?;
    let origin_form = target.starts_with('/');
    // RFC 9110 §4.2: no other scheme is ours to serve.
    let ours = uri.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let absolute_form = ours && uri.authority().is_some();
    let asterisk_form = target == "*" && *method == Method::OPTIONS;
    let authority_form = *method == Method::CONNECT && uri.scheme().is_none() && uri.authority().is_some();
    if *method == Method::CONNECT { authority_form } else { origin_form || absolute_form || asterisk_form }
        .then_some(uri)
        .ok_or(BAD)
}

fn take_fields(head: &Bytes, parsed: &[httparse::Header<'_>], fields: &mut Fields) -> Result<(), &'static str> {
    fields.reserve(parsed.len() + ROOM);
    for field in parsed {
        // An empty value has no place in the head to share.
        let value = if field.value.is_empty() { Bytes::new() } else { head.slice_ref(field.value) };
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| "field value")?;
        fields.append_read(field.name.as_bytes(), value).map_err(|_| "field name")?;
    }
    Ok(())
}

fn refusal(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge("fields"),
        // Only something that names itself HTTP is a version question; the rest is no request at all.
        httparse::Error::Version if names_http(head) => Refusal::UnknownVersion,
        httparse::Error::Version => Refusal::MalformedHead(NOT_HTTP),
        error => Refusal::MalformedHead(what(error)),
    }
}

/// Whether the first line ends in some version of HTTP.
fn names_http(head: &[u8]) -> bool {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    // A fourth word is a space in the target, not another version.
    let (_method, _target, version) = (words.next(), words.next(), words.next());
    words.next().is_none() && version.is_some_and(|version| version.starts_with(b"HTTP/"))
}

const fn what(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "field name",
        httparse::Error::HeaderValue => "field value",
        httparse::Error::NewLine => "line end",
        httparse::Error::Status => "status line",
        httparse::Error::Token => "request line",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "version",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 65_536, target: 64, fields: 8 };

    fn parse(head: &'static [u8]) -> Result<RequestHead, Refusal> {
        parse_request(&Bytes::from_static(head), &LIMITS).map_err(|(refusal, _)| refusal)
    }

    #[test]
    fn plain_request_is_understood() {
        let head = parse(b"POST /a?b=%20 HTTP/1.1\r\nHost: x:1\r\nContent-Length: 3\r\nEmpty:\r\n\r\n").unwrap();

        assert_eq!(head.parts.method, Method::POST);
        assert_eq!(head.parts.uri, "/a?b=%20");
        assert_eq!(head.parts.headers["host"], "x:1");
        assert_eq!(head.parts.headers["empty"], "");
        assert_eq!(head.framing, Framing::Length(3));
    }

    #[test]
    fn odd_heads_are_refused() {
        let cases: [(&'static [u8], Refusal); 20] = [
            (b"GET / HTTP/1.1\r\n\r\n", Refusal::MalformedHead("no Host")),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refusal::MalformedHead("more than one Host")),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refusal::MalformedHead("field name")),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", Refusal::MalformedHead("field name")),
            (b"GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", Refusal::MalformedHead("field name")),
            (b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", Refusal::MalformedHead("field value")),
            (b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Refusal::MalformedHead("field value")),
            (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Refusal::MalformedHead("field name")),
            (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MalformedHead("request line")),
            (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", Refusal::UnknownVersion),
            (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MalformedHead(NOT_HTTP)),
            (b"PRI * HTTP/2.0\r\n\r\n", Refusal::UnknownVersion),
            (b"INVALID CONNECTION PREFACE\r\n\r\n", Refusal::MalformedHead(NOT_HTTP)),
            (b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MalformedHead("request target")),
            (b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MalformedHead("request target")),
            (b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MalformedHead("request target")),
            (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MalformedHead("request target")),
            (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MalformedHead("request target")),
            (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Refusal::UnknownCoding),
            (
                b"GET / HTTP/1.1\r\n1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\nHost: a\r\n\r\n",
                Refusal::HeadTooLarge("fields"),
            ),
        ];
        for (head, refusal) in cases {
            assert_eq!(parse(head).map(|_| ()).unwrap_err(), refusal, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn no_configuration_allows_more_fields_than_there_is_room_for() {
        for (fields, taken) in [(MAX_FIELDS, true), (MAX_FIELDS + 1, false)] {
            let text = format!(
                "[[listeners]]\naddress = \"127.0.0.1:1\"\nlimits = {{ fields = {fields} }}\n\
                 [pools.p]\nendpoints = [\"127.0.0.1:1\"]\n"
            );
            assert_eq!(crate::config::Config::parse(&text, "a.toml".as_ref()).is_ok(), taken, "{fields}");
        }
    }

    #[test]
    fn odd_responses_are_refused() {
        let cases: [&'static [u8]; 7] = [
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 600 Odd\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        ];
        for head in cases {
            let got = parse_response(&Bytes::from_static(head), &Method::GET);
            assert!(got.is_err(), "{}", String::from_utf8_lossy(head));
        }
    }
}
