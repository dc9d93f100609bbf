//! Takes out of a message what belongs to one hop, and puts in what the other side must know.

use http::header::{EXPECT, HeaderName, STRICT_TRANSPORT_SECURITY, TE, TRAILER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri, request};

use crate::config;
use crate::config::process::Clients;
use crate::headers::{self, Facts, Host};
use crate::message::Connection;

use super::fault::Fault;
use super::identify::{Identity, REQUEST_ID, TRACEPARENT};

/// nginx's word for "do not buffer this"; we never do, and nobody behind us needs to know (Superset sends it with
/// streamed exports).
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

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
    let announced: Vec<HeaderValue> = head.headers.get_all(TRAILER).iter().cloned().collect();
    headers::strip_hop_by_hop(&mut head.headers).map_err(|_| Fault::BadConnection)?;
    if trailers {
        // RFC 9110 §10.1.4: we can take trailers, so we may say so.
        head.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    for names in announced {
        head.headers.append(TRAILER, names);
    }
    // RFC 9110 §10.1.1: answered here, once the request is admitted.
    head.headers.remove(EXPECT);
    let prefix = route.strip_prefix.as_deref().filter(|prefix| strip_prefix(&mut head.uri, prefix));
    let facts = Facts {
        client: identity.client.ip(),
        scheme: identity.scheme,
        host,
        prefix,
        subject: connection.tls.as_ref().and_then(|tls| tls.client_subject.as_ref()),
    };
    headers::forward(&mut head.headers, &facts, clients);
    head.headers.insert(REQUEST_ID, identity.request_id.clone());
    head.headers.insert(TRACEPARENT, identity.traceparent.clone());
    headers::edit(&mut head.headers, &route.request_headers);
    Ok(())
}

/// Makes an endpoint's response ready for the client.
pub(super) fn response(fields: &mut HeaderMap, route: &config::Route) {
    let announced: Vec<HeaderValue> = fields.get_all(TRAILER).iter().cloned().collect();
    if headers::strip_hop_by_hop(fields).is_err() {
        // An endpoint that names a field it should not is odd, not dangerous: the field stays, `Connection` goes.
        fields.remove(http::header::CONNECTION);
        drop(headers::strip_hop_by_hop(fields));
    }
    for names in announced {
        fields.append(TRAILER, names);
    }
    fields.remove(ACCEL_BUFFERING);
    headers::edit(fields, &route.response_headers);
}

/// Makes an endpoint's 101 ready for the client; the handshake's own fields are in it already.
pub(super) fn switched(fields: &mut HeaderMap, route: &config::Route) {
    headers::edit(fields, &route.response_headers);
}

/// What every answer carries, ours or an endpoint's.
pub(super) fn answer(fields: &mut HeaderMap, identity: &Identity, connection: &Connection) {
    fields.insert(REQUEST_ID, identity.request_id.clone());
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
