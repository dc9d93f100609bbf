//! What endpoints are told about the client.
//!
//! Part of `headers`. Superset's ProxyFix believes one value of each field. A copy that a client sent would forge
//! links, redirects and the logged address, so each field is emitted once, overwritten; whatever resembles one goes.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::HeaderName;
use http::header::FORWARDED;

use crate::head::{Fields, HeaderValue};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// The certificate's subject of a client that showed one.
pub const CLIENT_SUBJECT: HeaderName = HeaderName::from_static("x-client-certificate-subject");

/// Facts for the forwarded family.
#[derive(Clone, Debug)]
pub struct Forwarding<'a> {
    /// The client's address; see [`address_value`]. Made once per connection, cloned per exchange.
    pub client: &'a HeaderValue,
    /// `http` or `https`, as the client spoke.
    pub scheme: &'static str,
    /// Host with its port, as the client named it; `None` for HTTP/1.0 without one.
    pub host: Option<&'a HeaderValue>,
    /// Port in the client's view: the one in `Host`, else the scheme's. ProxyFix lets it win over the one in `Host`, and
    /// any other value makes logins loop.
    pub port: &'a HeaderValue,
    /// Prefix that the route strips.
    pub prefix: Option<&'a HeaderValue>,
    /// RFC 7239 `Forwarded`, where configured.
    pub forwarded: Option<HeaderValue>,
}

/// Replaces what only a proxy may say.
///
/// Removed are the identity fields in `strip`, every `X-Forwarded-…`, `Forwarded`, `X-Real-IP`, [`CLIENT_SUBJECT`], and
/// all of these with underscores for hyphens, which WSGI and CGI cannot tell apart. Framing fields written with underscores go likewise,
/// and so does whatever else `is_doomed`, so that nobody has to search for it. Of the forwarded family exactly one of
/// each field that has a value comes back.
pub fn set_forwarded(
    headers: &mut Fields,
    strip: &[HeaderName],
    is_doomed: impl Fn(&HeaderName) -> bool,
    facts: Forwarding<'_>,
) {
    headers.retain(|name, _| !is_doomed(name) && !strip.contains(name) && !is_ours(name.as_str(), strip));
    // None of them is there any more.
    headers.append(FOR, facts.client.clone());
    headers.append(REAL_IP, facts.client.clone());
    headers.append(PROTO, HeaderValue::from_static(facts.scheme));
    headers.append(PORT, facts.port.clone());
    let others = [(HOST, facts.host.cloned()), (PREFIX, facts.prefix.cloned()), (FORWARDED, facts.forwarded)];
    for (name, value) in others.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        headers.append(name, value);
    }
}

fn is_ours(name: &str, strip: &[HeaderName]) -> bool {
    const STARTS: &str = "x-forwarded-";
    // Nearly all names are told by their first letter.
    let family = match name.as_bytes() {
        [b'x', ..] => {
            name.get(..STARTS.len()).is_some_and(|start| same(start, STARTS))
                || same(name, REAL_IP.as_str())
                || same(name, CLIENT_SUBJECT.as_str())
        }
        [b'f', ..] => same(name, "forwarded"),
        _ => false,
    };
    // A WSGI endpoint that takes `transfer_encoding` for framing reads another body than we sent.
    let framing = || same(name, "content-length") || same(name, "transfer-encoding");
    family
        || (name.bytes().any(|byte| byte == b'_')
            && (framing() || strip.iter().any(|stripped| same(name, stripped.as_str()))))
}

/// Equal when underscores count as hyphens. Both are lower case.
fn same(name: &str, other: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == other.len() && name.bytes().map(plain).eq(other.bytes().map(plain))
}

/// An address as a field value; IPv4 in IPv6 becomes IPv4.
pub fn address_value(address: IpAddr) -> HeaderValue {
    let text = match address.to_canonical() {
        IpAddr::V4(address) => dotted(address),
        IpAddr::V6(address) => address.to_string().into_bytes(),
    };
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// An IPv4 address digit by digit: one is written for each exchange, and the formatter takes ten times as long.
fn dotted(address: Ipv4Addr) -> Vec<u8> {
    let digit = |number: u8| b'0'.wrapping_add(number % 10);
    let octets = address.octets();
    let more: usize = octets.iter().map(|octet| usize::from(*octet >= 10) + usize::from(*octet >= 100)).sum();
    // To the byte: `Bytes` keeps a vector of the right size as it is.
    let mut text = Vec::with_capacity("0.0.0.0".len() + more);
    for (index, octet) in octets.into_iter().enumerate() {
        if index > 0 {
            text.push(b'.');
        }
        if octet >= 100 {
            text.push(digit(octet / 100));
        }
        if octet >= 10 {
            text.push(digit(octet / 10));
        }
        text.push(digit(octet));
    }
    text
}

/// A port as a field value; the two that matter cost nothing.
pub fn port_value(port: u16) -> HeaderValue {
    match port {
        443 => HeaderValue::from_static("443"),
        80 => HeaderValue::from_static("80"),
        other => HeaderValue::from(other),
    }
}
