//! The fields that tell an endpoint about the client, each exactly once.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::BytesMut;
use http::header::{FORWARDED, HOST, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::config::process::Clients;
use crate::config::route::HeaderEdits;
use crate::forwarded;

use super::Host;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The certificate's subject of a client that showed one.
const SUBJECT: HeaderName = HeaderName::from_static("x-client-certificate-subject");

/// What is told about the client.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its address, as identified.
    pub client: IpAddr,
    /// `https` or `http`, as the client sees it.
    pub scheme: &'static str,
    /// The host that it named.
    pub host: &'a Host,
    /// The path prefix that was removed.
    pub prefix: Option<&'a str>,
    /// The subject of its certificate.
    pub subject: Option<&'a HeaderValue>,
}

/// Replaces whatever a client sent about itself by what we know. Superset trusts exactly one hop: each field is there
/// once, with one value. `Host` stays as the client wrote it, port included; so do Referer, Origin and cookies.
pub fn forward(fields: &mut HeaderMap, facts: &Facts<'_>, clients: &Clients) {
    for name in &clients.strip {
        fields.remove(name);
    }
    fields.remove(SUBJECT);
    fields.remove(FORWARDED);
    fields.remove(PREFIX);

    let mut text = BytesMut::with_capacity(40);
    // Writing to memory cannot fail, and an address is always a value.
    drop(write!(text, "{}", facts.client));
    let client = HeaderValue::from_maybe_shared(text.freeze()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    fields.insert(FOR, client.clone());
    fields.insert(REAL_IP, client);
    fields.insert(PROTO, HeaderValue::from_static(facts.scheme));
    fields.insert(FORWARDED_HOST, facts.host.value().clone());
    let port = match (facts.host.port(), facts.scheme) {
        (Some(port), _) => HeaderValue::from(port),
        (None, "https") => HeaderValue::from_static("443"),
        (None, _) => HeaderValue::from_static("80"),
    };
    fields.insert(PORT, port);
    // An HTTP/1.0 request, or an absolute target, may have come without.
    fields.insert(HOST, facts.host.value().clone());
    if let Some(prefix) = facts.prefix.and_then(|prefix| HeaderValue::from_str(prefix).ok()) {
        fields.insert(PREFIX, prefix);
    }
    if let Some(subject) = facts.subject {
        fields.insert(SUBJECT, subject.clone());
    }
    if clients.forwarded
        && let Some(value) = forwarded::forwarded_value(facts.client, Some(facts.host.as_str()), facts.scheme)
    {
        fields.insert(FORWARDED, value);
    }
}

/// Applies a route's edits: remove, then set, then add.
pub fn edit(fields: &mut HeaderMap, edits: &HeaderEdits) {
    for name in &edits.remove {
        fields.remove(name);
    }
    for (name, value) in &edits.set {
        fields.insert(name, value.clone());
    }
    for (name, value) in &edits.add {
        fields.append(name, value.clone());
    }
}
