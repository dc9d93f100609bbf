//! The HTTP check: a request, and what its answer must look like.
//!
//! An accepted connection proves nothing: a Gunicorn that starts or stops accepts and never answers. Only a whole
//! response head with a good status, and the expected text in the body, counts as life.

use std::time::SystemTime;

use http::{HeaderName, header};

use super::Why;
use super::jar::Jar;
use super::wire::{Ask, To, exchange};
use crate::config::pool::HttpCheck;
use crate::head::HeaderValue;

/// Sent unless the check names its own.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION"), " (health)"));

/// Checks an endpoint once. `host` is sent when the check names none; cookies go out of the jar and into it.
pub(crate) async fn probe(to: &To, check: &HttpCheck, host: &str, jar: &mut Jar) -> Result<(), Why> {
    let fields = fields(check, jar);
    let mut stream = to.connect().await?;
    let ask = Ask {
        method: &check.method,
        target: &check.path,
        host: check.host.as_deref().unwrap_or(host),
        fields: &fields,
    };
    let reply = exchange(&mut *stream, &ask).await?;
    if !check.statuses.contains(&reply.status) {
        return Err(Why::Status(reply.status));
    }
    let now = SystemTime::now();
    for cookie in reply.fields.get_all(header::SET_COOKIE) {
        jar.absorb(cookie.as_bytes(), now);
    }
    match &check.body {
        Some(text) if !contains(&reply.body, text) => Err(Why::Body),
        Some(_) | None => Ok(()),
    }
}

fn fields(check: &HttpCheck, jar: &Jar) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields: Vec<_> = check.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut default = |name: HeaderName, value: HeaderValue| {
        if !check.headers.contains_key(&name) {
            fields.push((name, value));
        }
    };
    default(header::USER_AGENT, USER_AGENT);
    default(header::ACCEPT, HeaderValue::from_static("*/*"));
    // The body is looked at as it comes.
    default(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    default(header::CONNECTION, HeaderValue::from_static("close"));
    if let Some(cookies) = jar.field() {
        default(header::COOKIE, cookies);
    }
    fields
}

fn contains(body: &[u8], text: &str) -> bool {
    memchr::memmem::find(body, text.as_bytes()).is_some()
}
