//! How long a message body is (RFC 9112 §6).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};

use crate::head::{Fields, HeaderValue};

/// The extent of a message body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// No body.
    None,
    /// That many bytes.
    Length(u64),
    /// Chunks until the last one.
    Chunked,
    /// Until the connection closes; responses only.
    UntilClose,
}

/// Why the extent of a body is not clear.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unclear {
    /// Two readers could disagree; says on what.
    Ambiguous(&'static str),
    /// A transfer coding other than `chunked` alone.
    UnknownCoding,
}

/// The extent of a request's body (RFC 9112 §6.3).
///
/// # Errors
/// [`Unclear`] whenever two readers could disagree.
pub fn of_request(version: Version, fields: &Fields) -> Result<Framing, Unclear> {
    match declared(version, fields)? {
        // RFC 9112 §6.3 item 7: a request without either has no body.
        None => Ok(Framing::None),
        Some(framing) => Ok(framing),
    }
}

/// The extent of a response's body (RFC 9112 §6.3).
///
/// # Errors
/// [`Unclear`] whenever two readers could disagree.
pub fn of_response(method: &Method, version: Version, status: StatusCode, fields: &Fields) -> Result<Framing, Unclear> {
    let declared = declared(version, fields)?;
    // RFC 9112 §6.3 item 1.
    if *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return Ok(Framing::None);
    }
    // RFC 9112 §6.3 item 8.
    Ok(declared.unwrap_or(Framing::UntilClose))
}

fn declared(version: Version, fields: &Fields) -> Result<Option<Framing>, Unclear> {
    let mut codings = fields.get_all(TRANSFER_ENCODING);
    let mut lengths = fields.get_all(CONTENT_LENGTH);
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(None),
        // RFC 9112 §6.3 item 3: both present ought to be handled as an error; so it is.
        (Some(_), Some(_)) => Err(Unclear::Ambiguous("both Transfer-Encoding and Content-Length")),
        (Some(coding), None) => {
            // RFC 9112 §6.1: a 1.0 message with a transfer coding has faulty framing.
            if version < Version::HTTP_11 {
                return Err(Unclear::Ambiguous("Transfer-Encoding in HTTP/1.0"));
            }
            if codings.next().is_some() {
                return Err(Unclear::Ambiguous("more than one Transfer-Encoding"));
            }
            if coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                Ok(Some(Framing::Chunked))
            } else {
                Err(Unclear::UnknownCoding)
            }
        }
        (None, Some(length)) => {
            // RFC 9112 §6.3 item 5 allows equal repetitions to be merged; a reader behind us may not.
            if lengths.next().is_some() {
                return Err(Unclear::Ambiguous("more than one Content-Length"));
            }
            content_length(length).map(|length| Some(Framing::Length(length)))
        }
    }
}

/// `1*DIGIT` (RFC 9110 §8.6) that fits 63 bits: no sign, no list, no white space.
fn content_length(value: &HeaderValue) -> Result<u64, Unclear> {
    const BAD: Unclear = Unclear::Ambiguous("Content-Length is not a number");
    let digits = value.as_bytes();
    if digits.is_empty() || digits.len() > 19 {
        return Err(BAD);
    }
    digits
        .iter()
        .try_fold(0_u64, |sum, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
            sum.checked_mul(10)?.checked_add(u64::from(digit))
        })
        .filter(|length| *length <= u64::MAX >> 1)
        .ok_or(BAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> Fields {
        let mut map = Fields::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn unclear_requests_are_refused() {
        let ambiguous = [
            vec![("content-length", "5"), ("transfer-encoding", "chunked")],
            vec![("content-length", "5"), ("content-length", "5")],
            vec![("content-length", "5, 5")],
            vec![("content-length", "+5")],
            vec![("content-length", "-5")],
            vec![("content-length", "0x5")],
            vec![("content-length", "")],
            vec![("content-length", "5 ")],
            vec![("content-length", "99999999999999999999")],
            vec![("content-length", "18446744073709551615")],
            vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ];
        for case in ambiguous {
            let got = of_request(Version::HTTP_11, &fields(&case));
            assert!(matches!(got, Err(Unclear::Ambiguous(_))), "{case:?}: {got:?}");
        }
        for coding in ["gzip", "gzip, chunked", "chunked, gzip", "identity", "xchunked", "chunked;q=1", "\"chunked\""] {
            let got = of_request(Version::HTTP_11, &fields(&[("transfer-encoding", coding)]));
            assert_eq!(got, Err(Unclear::UnknownCoding), "{coding}");
        }
        assert!(of_request(Version::HTTP_10, &fields(&[("transfer-encoding", "chunked")])).is_err());
    }

    #[test]
    fn clear_framing_is_understood() {
        assert_eq!(of_request(Version::HTTP_11, &fields(&[])), Ok(Framing::None));
        assert_eq!(of_request(Version::HTTP_11, &fields(&[("content-length", "007")])), Ok(Framing::Length(7)));
        assert_eq!(of_request(Version::HTTP_11, &fields(&[("transfer-encoding", "Chunked")])), Ok(Framing::Chunked));
        let of = |status, pairs: &[_]| of_response(&Method::GET, Version::HTTP_11, status, &fields(pairs));
        assert_eq!(of(StatusCode::OK, &[]), Ok(Framing::UntilClose));
        assert_eq!(of(StatusCode::NO_CONTENT, &[("content-length", "9")]), Ok(Framing::None));
        assert_eq!(of(StatusCode::NOT_MODIFIED, &[("content-length", "9")]), Ok(Framing::None));
    }
}
