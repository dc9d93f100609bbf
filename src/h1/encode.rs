//! Puts heads and chunks into bytes.
//!
//! What goes out is canonical: one framing field, chosen here from what is known about the body, whatever the message
//! carried before.

use bytes::{BufMut as _, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderName, Method, StatusCode};

use crate::head::{Fields, request, response};

/// How a body is delimited on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delimiting {
    /// No body, and no framing field of ours; in answer to HEAD and in a 304 what the message says of its length
    /// stands.
    Absent,
    /// A Content-Length of that many bytes.
    Length(u64),
    /// Chunks.
    Chunks,
    /// The end of the connection.
    Close,
}

impl Delimiting {
    /// For a response to `method` whose body has `remaining` bytes, when known, to a client that speaks HTTP/1.1 or
    /// does not.
    pub fn of_response(method: &Method, status: StatusCode, remaining: Option<u64>, http11: bool) -> Self {
        // RFC 9112 §6.3 item 1.
        if *method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
        {
            return Self::Absent;
        }
        match remaining {
            Some(length) => Self::Length(length),
            None if http11 => Self::Chunks,
            // RFC 9112 §6.1: no transfer coding towards HTTP/1.0.
            None => Self::Close,
        }
    }

    /// For a request whose body has `remaining` bytes, when known.
    pub fn of_request(method: &Method, remaining: Option<u64>) -> Self {
        match remaining {
            // RFC 9110 §8.6: a length of zero is worth saying only where a body is expected.
            Some(0) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => Self::Absent,
            Some(length) => Self::Length(length),
            None => Self::Chunks,
        }
    }
}

/// What the `Connection` field says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Persistence {
    /// Nothing: the version's default holds.
    Default,
    /// `close`.
    Close,
    /// `keep-alive`, for HTTP/1.0 clients.
    KeepAlive,
    /// `Upgrade`.
    Upgrade,
    /// `TE`, as RFC 9110 §10.1.4 wants the field named that tells of trailers.
    Trailers,
}

/// Writes a response head.
pub fn response_head(out: &mut BytesMut, head: &response::Parts, delimiting: Delimiting, persistence: Persistence) {
    out.reserve(64 + head.headers.len() * 48);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(head.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(head.status.canonical_reason().unwrap_or("").as_bytes());
    out.put_slice(b"\r\n");
    // RFC 9110 §8.6: a length may be said without content in answer to HEAD and in a 304, never in a 1xx or a 204.
    let length_stands = !head.status.is_informational() && head.status != StatusCode::NO_CONTENT;
    fields(out, &head.headers, delimiting, persistence, length_stands);
}

/// Writes a request head in origin-form.
pub fn request_head(out: &mut BytesMut, head: &request::Parts, delimiting: Delimiting, persistence: Persistence) {
    out.reserve(256 + head.headers.len() * 48);
    out.put_slice(head.method.as_str().as_bytes());
    out.put_u8(b' ');
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.starts_with('?') {
        // RFC 9112 §3.2.1: an empty path, as in `http://host?a=b`, is sent as `/`.
        out.put_u8(b'/');
    }
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    fields(out, &head.headers, delimiting, persistence, false);
}

/// `length_stands` says whether a length that the message brought may stay when there is no body.
fn fields(out: &mut BytesMut, fields: &Fields, delimiting: Delimiting, persistence: Persistence, length_stands: bool) {
    for (name, value) in fields {
        let ours = match *name {
            CONNECTION | TRANSFER_ENCODING => true,
            CONTENT_LENGTH => delimiting != Delimiting::Absent || !length_stands,
            // RFC 9110 §6.6.2 announces what only chunks can carry.
            TRAILER => delimiting != Delimiting::Chunks,
            _ => false,
        };
        if !ours {
            field(out, name, value.as_bytes());
        }
    }
    match delimiting {
        Delimiting::Absent | Delimiting::Close => {}
        Delimiting::Length(length) => {
            out.put_slice(b"content-length: ");
            decimal(out, length);
            out.put_slice(b"\r\n");
        }
        Delimiting::Chunks => out.put_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.put_slice(match persistence {
        Persistence::Default => b"\r\n",
        Persistence::Close => b"connection: close\r\n\r\n",
        Persistence::KeepAlive => b"connection: keep-alive\r\n\r\n",
        Persistence::Upgrade => b"connection: Upgrade\r\n\r\n",
        Persistence::Trailers => b"connection: TE\r\n\r\n",
    });
}

fn field(out: &mut BytesMut, name: &HeaderName, value: &[u8]) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Writes the line before a chunk of `length` bytes.
pub fn chunk_size(out: &mut BytesMut, length: usize) {
    let mut digits = [0_u8; 16];
    let mut left = length;
    let mut used = 0_usize;
    for slot in digits.iter_mut().rev() {
        *slot = b"0123456789abcdef".get(left & 15).copied().unwrap_or(b'0');
        left >>= 4;
        used += 1;
        if left == 0 {
            break;
        }
    }
    out.put_slice(digits.get(16 - used..).unwrap_or_default());
    out.put_slice(b"\r\n");
}

/// Writes the last chunk and `trailers`.
pub fn last_chunk(out: &mut BytesMut, trailers: &Fields) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers {
        field(out, name, value.as_bytes());
    }
    out.put_slice(b"\r\n");
}

fn decimal(out: &mut BytesMut, number: u64) {
    let mut digits = [0_u8; 20];
    let mut left = number;
    let mut used = 0_usize;
    for slot in digits.iter_mut().rev() {
        // A digit fits a byte.
        *slot = b'0'.saturating_add(u8::try_from(left % 10).unwrap_or(0));
        left /= 10;
        used += 1;
        if left == 0 {
            break;
        }
    }
    out.put_slice(digits.get(20 - used..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_fields_are_ours_alone() {
        let mut head = response::Parts::default();
        head.headers.insert("content-length", "99".parse().unwrap());
        head.headers.insert("connection", "x-secret".parse().unwrap());
        head.headers.insert("server", "s".parse().unwrap());
        let mut out = BytesMut::new();

        response_head(&mut out, &head, Delimiting::Length(1_234_567), Persistence::Close);

        assert_eq!(
            out,
            "HTTP/1.1 200 OK\r\nserver: s\r\ncontent-length: 1234567\r\nconnection: close\r\n\r\n".as_bytes()
        );
    }

    #[test]
    fn length_without_content_is_said_only_where_it_may_be() {
        let written = |status: u16| {
            let mut head = response::Parts::from(
                http::Response::builder().status(status).header("content-length", "9").body(()).unwrap(),
            );
            head.version = http::Version::HTTP_11;
            let mut out = BytesMut::new();
            response_head(&mut out, &head, Delimiting::Absent, Persistence::Default);
            String::from_utf8(out.to_vec()).unwrap().contains("content-length: 9")
        };

        // RFC 9110 §8.6; in answer to HEAD a 200 may say what GET would bring.
        assert!(written(304) && written(200));
        assert!(!written(204) && !written(103) && !written(101));
    }

    #[test]
    fn empty_path_before_a_query_is_sent_as_a_slash() {
        let head = request::Parts::from(http::Request::get("http://h?a=b").body(()).unwrap());
        let mut out = BytesMut::new();

        request_head(&mut out, &head, Delimiting::Absent, Persistence::Default);

        assert_eq!(out, "GET /?a=b HTTP/1.1\r\n\r\n".as_bytes());
    }

    #[test]
    fn request_without_a_body_announces_none() {
        let mut head = request::Parts::from(http::Request::get("/").header("content-length", "9").body(()).unwrap());
        head.headers.insert("te", "trailers".parse().unwrap());
        let mut out = BytesMut::new();

        request_head(&mut out, &head, Delimiting::Absent, Persistence::Trailers);

        assert_eq!(out, "GET / HTTP/1.1\r\nte: trailers\r\nconnection: TE\r\n\r\n".as_bytes());
    }

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for (length, text) in [(1, "1\r\n"), (255, "ff\r\n"), (65_536, "10000\r\n")] {
            let mut out = BytesMut::new();
            chunk_size(&mut out, length);
            assert_eq!(out, text.as_bytes());
        }
    }
}
