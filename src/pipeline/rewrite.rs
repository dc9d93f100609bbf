//! Takes out of a message what belongs to one hop, and puts in what the other side must know.

mod written;

use http::Uri;
use http::header::{ALT_SVC, EXPECT, HOST, HeaderName, STRICT_TRANSPORT_SECURITY, TE, VIA};
use http::uri::PathAndQuery;

use crate::config;
use crate::config::process::Clients;
use crate::forwarded;
use crate::head::{Fields, HeaderValue, request};
use crate::headers::{self, Forwarding, HopFields, Host};
use crate::lexicon::Protocol;
use crate::lifecycle::Phase;
use crate::message::Connection;

use super::fault::Fault;
use super::identify::{Identity, REQUEST_ID, TRACEPARENT, TRACESTATE};

/// Makes a request ready for an endpoint.
///
/// # Errors
/// [`Fault::BadConnection`].
pub(super) fn request(
    head: &mut request::Parts,
    identity: &Identity,
    host: &Host,
    route: &config::Route,
    clients: &Clients,
    connection: &Connection,
) -> Result<(), Fault> {
    let trailers = head.headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let hop = HopFields::of(&head.headers).map_err(|_| Fault::BadConnection)?;
    let prefix = route.strip_prefix.as_deref().filter(|prefix| strip_prefix(&mut head.uri, prefix));
    let prefix = prefix.and_then(|prefix| HeaderValue::from_str(prefix).ok());
    let address = identity.client.ip();
    let forwarded = || forwarded::forwarded_value(address, Some(host.as_str()), identity.scheme);
    let facts = Forwarding {
        client: &written::address(address),
        scheme: identity.scheme,
        host: Some(host.as_value()),
        port: &headers::port_value(host.port_or_default(identity.scheme)),
        prefix: prefix.as_ref(),
        forwarded: clients.forwarded.then(forwarded).flatten(),
    };
    let is_doomed = |name: &HeaderName| {
        // RFC 9110 §10.1.1: `Expect` is answered here, once the request is admitted.
        hop.has(name) || *name == EXPECT || (*name == TRACESTATE && !identity.continues)
    };
    headers::set_forwarded(&mut head.headers, &clients.strip, is_doomed, facts);
    if trailers {
        // RFC 9110 §10.1.4: we can take trailers, so we may say so.
        head.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // An HTTP/1.0 request, or one with an absolute target, may have come without.
    if !head.headers.contains_key(HOST) {
        head.headers.append(HOST, host.as_value().clone());
    }
    if let Some(subject) = connection.tls.as_ref().and_then(|tls| tls.client_subject.as_ref()) {
        head.headers.insert(headers::CLIENT_SUBJECT, subject.clone());
    }
    // RFC 9110 §7.6.3: a gateway says so in each request.
    head.headers.append(
        VIA,
        HeaderValue::from_static(match connection.protocol {
            Protocol::Http1 => "1.1 sluicegate",
            Protocol::Http2 => "2 sluicegate",
            Protocol::Http3 => "3 sluicegate",
        }),
    );
    head.headers.insert(REQUEST_ID, identity.request_id.clone());
    head.headers.insert(TRACEPARENT, identity.traceparent.clone());
    headers::apply_edits(&mut head.headers, &route.request_headers);
    Ok(())
}

/// Whether each attempt is to tell its endpoint of a span of its own. What an operator has made of the field stays.
pub(super) fn is_traced(head: &request::Parts, identity: &Identity) -> bool {
    identity.traced && head.headers.get(TRACEPARENT) == Some(&identity.traceparent)
}

/// Makes an endpoint's response ready for the client.
pub(super) fn response(fields: &mut Fields, route: &config::Route) {
    if headers::strip_hop_by_hop(fields).is_err() {
        // An endpoint that names a field it should not is odd, not dangerous: the field stays, `Connection` goes.
        fields.remove(http::header::CONNECTION);
        drop(headers::strip_hop_by_hop(fields));
    }
    // Nothing is ever buffered here, and nobody behind us needs to know.
    headers::take_accel_buffering(fields);
    headers::apply_edits(fields, &route.response_headers);
}

/// Makes an endpoint's 101 ready for the client; the handshake's own fields are in it already.
pub(super) fn switched(fields: &mut Fields, route: &config::Route) {
    headers::apply_edits(fields, &route.response_headers);
}

/// What every answer carries, ours or an endpoint's.
pub(super) fn answer(fields: &mut Fields, identity: &Identity, connection: &Connection, phase: Phase) {
    let mut id = identity.request_id.clone();
    // RFC 7541 §7.1.3: never indexed. No other answer has this value; in the table of an HTTP/2 connection it would only
    // take the place of others, and be compared with every one before it.
    id.set_sensitive(true);
    fields.insert(REQUEST_ID, id);
    if let Some(alternative) = &connection.alternative {
        // RFC 7838 §3: nobody shall come to a process that is about to end.
        let ends = phase >= Phase::Draining;
        fields.insert(ALT_SVC, if ends { HeaderValue::from_static("clear") } else { alternative.clone() });
    }
    // RFC 6797 §7.2: never over plain HTTP.
    if let (Some(hsts), Some(_)) = (&connection.listener.hsts, &connection.tls) {
        let subdomains = if hsts.include_subdomains { "; includeSubDomains" } else { "" };
        let value = format!("max-age={}{subdomains}", hsts.max_age.as_secs());
        if let Ok(value) = HeaderValue::try_from(value) {
            fields.insert(STRICT_TRANSPORT_SECURITY, value);
        }
    }
}

/// Removes `prefix` from the path; whether it was there.
fn strip_prefix(target: &mut Uri, prefix: &str) -> bool {
    let whole = target.path_and_query().map_or("/", PathAndQuery::as_str);
    let Some(rest) = whole.strip_prefix(prefix.trim_end_matches('/')) else { return false };
    let rest = match rest.chars().next() {
        Some('/') => PathAndQuery::try_from(rest),
        None | Some('?') => PathAndQuery::try_from(format!("/{rest}")),
        Some(_) => return false,
    };
    let Ok(rest) = rest else { return false };
    *target = Uri::from(rest);
    true
}

#[cfg(test)]
mod tests;
