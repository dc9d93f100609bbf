//! The host that a request is for.

use http::header::HOST;
use http::{HeaderValue, Uri, request};

/// The host is missing, malformed, or named in two ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("bad host")]
pub struct BadHost;

/// A valid host, as the client wrote it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    text: HeaderValue,
    /// Lower case, without port.
    name: String,
    port: Option<u16>,
}

impl Host {
    /// Reads `uri-host [ ":" port ]` (RFC 9110 §7.2). No user information, no empty host.
    ///
    /// # Errors
    /// [`BadHost`].
    pub fn parse(text: &HeaderValue) -> Result<Self, BadHost> {
        let written = text.to_str().map_err(|_| BadHost)?;
        let (name, port) = match written.strip_prefix('[') {
            Some(rest) => {
                let (address, behind) = rest.split_once(']').ok_or(BadHost)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| BadHost)?;
                let name = written.get(..address.len() + 2).ok_or(BadHost)?;
                match behind.strip_prefix(':') {
                    None if behind.is_empty() => (name, None),
                    None => return Err(BadHost),
                    Some(port) => (name, Some(port)),
                }
            }
            None => match written.split_once(':') {
                None => (written, None),
                Some((name, port)) => (name, Some(port)),
            },
        };
        let bracketed = name.starts_with('[');
        // RFC 3986 §3.2.2: a registered name. Percent-encoding is allowed there and means nothing in DNS; `_` is found
        // in the names of containers.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if name.is_empty() || name.len() > 255 || (!bracketed && !name.bytes().all(fits)) {
            return Err(BadHost);
        }
        let port = match port {
            // RFC 3986 §3.2.3: an empty port is the default one.
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| BadHost)?)
            }
            Some(_) => return Err(BadHost),
        };
        // RFC 1034 §3.1: the name with a final dot is the same name.
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() { Err(BadHost) } else { Ok(Self { text: text.clone(), name, port }) }
    }

    /// The host in lower case, without port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, if one is named.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// As the client wrote it.
    pub const fn value(&self) -> &HeaderValue {
        &self.text
    }

    /// As the client wrote it.
    pub fn as_str(&self) -> &str {
        // Only visible ASCII gets through `parse`.
        self.text.to_str().unwrap_or("")
    }
}

/// The host of a request: its `Host` field, with which the authority of its target must agree. An HTTP/1.0 request
/// without either has none and is refused: Superset is served by name.
///
/// # Errors
/// [`BadHost`].
pub fn host(head: &request::Parts) -> Result<Host, BadHost> {
    let named = head.headers.get(HOST).map(Host::parse).transpose()?;
    let authority = authority(&head.uri)?;
    match (named, authority) {
        (Some(named), None) => Ok(named),
        (None, Some(authority)) => Ok(authority),
        // RFC 9112 §3.2.2 and RFC 9113 §8.3.1: two names for one host are one too many if they differ.
        (Some(named), Some(authority)) if named.name == authority.name && named.port == authority.port => Ok(named),
        (Some(_), Some(_)) | (None, None) => Err(BadHost),
    }
}

fn authority(target: &Uri) -> Result<Option<Host>, BadHost> {
    let Some(authority) = target.authority() else { return Ok(None) };
    let text = HeaderValue::from_str(authority.as_str()).map_err(|_| BadHost)?;
    Host::parse(&text).map(Some)
}
