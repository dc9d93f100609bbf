//! `Host` and `:authority`.
//!
//! Part of `headers`. RFC 3986 §3.2 without user information, and narrower: a registered name is made of letters,
//! digits, `-`, `.`, `_` and `~`. Percent-escapes and the sub-delimiters are refused, though the grammar has them: no
//! DNS name needs them, and a comma in `X-Forwarded-Host` is a second value to whoever reads it.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::HOST;

use crate::head::{HeaderValue, request};

/// The host that a request is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    text: HeaderValue,
    name: Box<str>,
    port: Option<u16>,
}

/// A valid `Host` or `:authority`, read but not kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Authority<'a> {
    /// Name or address as written; IPv6 with its brackets.
    pub name: &'a str,
    /// Port, when one was given.
    pub port: Option<u16>,
}

/// Why a `Host` or `:authority` is refused (400).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadHost {
    /// Neither `Host` nor an authority (RFC 9112 §3.2; HTTP/1.0 need not have one).
    #[error("no host")]
    Missing,
    /// More than one `Host` (RFC 9112 §3.2).
    #[error("more than one Host field")]
    Several,
    /// `Host` and the target's authority name different origins (RFC 9113 §8.3.1).
    #[error("Host and authority disagree")]
    Disagree,
    /// No name (RFC 9110 §4.2.1: an empty host is invalid).
    #[error("empty host")]
    Empty,
    /// A byte that no name has; user information among them (RFC 9110 §4.2.4).
    #[error("malformed host")]
    Name,
    /// Not a number from 1 to 65535.
    #[error("malformed port")]
    Port,
    /// More than [`Authority::MAX`] bytes.
    #[error("host too long")]
    TooLong,
}

/// The host of a request, from its target's authority and its `Host` field.
///
/// # Errors
/// When there is none, more than one, an invalid one, or when both are there and disagree.
pub fn host(head: &request::Parts) -> Result<Host, BadHost> {
    let mut fields = head.headers.get_all(HOST);
    let field = fields.next();
    if fields.next().is_some() {
        return Err(BadHost::Several);
    }
    let field_read = field.map(|field| Authority::parse(field.as_bytes())).transpose()?;
    // RFC 9112 §3.2.2: the target's authority counts, where there is one.
    let Some(target) = head.uri.authority() else {
        return match (field, field_read) {
            (Some(field), Some(read)) => Ok(Host::keep(field.clone(), read)),
            _ => Err(BadHost::Missing),
        };
    };
    let read = Authority::parse(target.as_str().as_bytes())?;
    let scheme = head.uri.scheme_str().unwrap_or("http");
    match (field, field_read) {
        (Some(_), Some(other)) if !read.agrees_with(&other, scheme) => Err(BadHost::Disagree),
        (Some(field), Some(_)) if field.as_bytes() == target.as_str().as_bytes() => Ok(Host::keep(field.clone(), read)),
        _ => Ok(Host::keep(HeaderValue::from_str(target.as_str()).map_err(|_| BadHost::Name)?, read)),
    }
}

impl Host {
    fn keep(text: HeaderValue, read: Authority<'_>) -> Self {
        Self { text, name: read.lower_case().into(), port: read.port }
    }

    /// Name or address in lower case, without port; IPv6 with its brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Port, when one was given.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// As the client wrote it, port and all.
    pub fn as_str(&self) -> &str {
        // An authority is ASCII, so this always succeeds.
        self.text.to_str().unwrap_or_default()
    }

    /// As the client wrote it, ready for a field.
    pub const fn as_value(&self) -> &HeaderValue {
        &self.text
    }

    /// The port, or the scheme's.
    pub fn port_or_default(&self, scheme: &str) -> u16 {
        port_or_default(self.port, scheme)
    }
}

fn port_or_default(port: Option<u16>, scheme: &str) -> u16 {
    port.unwrap_or(if scheme == "https" { 443 } else { 80 })
}

impl<'a> Authority<'a> {
    /// Longest name with port, in bytes: DNS allows 253, a port adds 6.
    pub const MAX: usize = 259;

    /// Reads the value of `Host` or `:authority`.
    ///
    /// # Errors
    /// When it is not a name or address with an optional port.
    pub fn parse(value: &'a [u8]) -> Result<Self, BadHost> {
        if value.len() > Self::MAX {
            return Err(BadHost::TooLong);
        }
        let value = std::str::from_utf8(value).map_err(|_| BadHost::Name)?;
        let (name, port) = if value.starts_with('[') {
            let end = value.find(']').ok_or(BadHost::Name)?;
            let (name, rest) = value.split_at_checked(end.saturating_add(1)).ok_or(BadHost::Name)?;
            let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or_default();
            inner.parse::<Ipv6Addr>().map_err(|_| BadHost::Name)?;
            match rest.strip_prefix(':') {
                Some(port) => (name, port),
                None if rest.is_empty() => (name, ""),
                None => return Err(BadHost::Name),
            }
        } else {
            // A loop over the bytes: names are shorter than what a search of many bytes at a time costs to begin.
            let colon = value.bytes().position(|byte| byte == b':').unwrap_or(value.len());
            let (name, port) = value.split_at_checked(colon).ok_or(BadHost::Name)?;
            let port = port.get(1..).unwrap_or_default();
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')) {
                return Err(BadHost::Name);
            }
            (name, port)
        };
        if name.is_empty() {
            return Err(BadHost::Empty);
        }
        Ok(Self { name, port: parse_port(port)? })
    }

    /// The port, or the scheme's.
    pub fn port_or_default(&self, scheme: &str) -> u16 {
        port_or_default(self.port, scheme)
    }

    fn lower_case(&self) -> Cow<'a, str> {
        if self.name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.name.to_ascii_lowercase().into()
        } else {
            self.name.into()
        }
    }

    /// Whether both name the same origin under `scheme`. RFC 9113 §8.3.1: a `Host` that differs from `:authority` makes
    /// the request malformed.
    pub fn agrees_with(&self, other: &Self, scheme: &str) -> bool {
        self.name.eq_ignore_ascii_case(other.name) && self.port_or_default(scheme) == other.port_or_default(scheme)
    }
}

/// RFC 3986 §3.2.3: `port = *DIGIT`, so that it may be empty.
fn parse_port(port: &str) -> Result<Option<u16>, BadHost> {
    if port.is_empty() {
        return Ok(None);
    }
    // `parse` alone would take a plus sign.
    if port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadHost::Port);
    }
    port.parse().ok().filter(|port| *port != 0).map(Some).ok_or(BadHost::Port)
}
