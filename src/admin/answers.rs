//! The few shapes that an answer of the admin listener has.
//!
//! Floor 6.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, StatusCode};
use serde::Serialize;

use crate::body::Body;
use crate::head::HeaderValue;
use crate::message::{Answer, Refusal};

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// An answer of a given media type.
pub(super) fn typed(status: StatusCode, kind: &'static str, content: String) -> Answer {
    let mut answer = Answer::new(status, Body::full(content));
    let fields = &mut answer.head.headers;
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // State of this moment, and never a page.
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // No page of anybody else's embeds it, and what is no page of ours loads nothing; a page brings a policy of its own.
    fields.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    fields.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

pub(super) fn text(status: StatusCode, content: &str) -> Answer {
    typed(status, "text/plain; charset=utf-8", content.to_owned())
}

pub(super) fn json(content: &impl Serialize) -> Answer {
    match serde_json::to_string_pretty(content) {
        Ok(content) => typed(StatusCode::OK, "application/json", content + "\n"),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "status could not be written\n"),
    }
}

/// The answer to HEAD: the fields of the answer to GET (RFC 9110 §9.3.2).
pub(super) fn without_body(mut answer: Answer) -> Answer {
    if let Some(length) = answer.body.remaining() {
        answer.head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    answer.body = Body::empty();
    answer
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("only {allowed}\n"));
    // RFC 9110 §15.5.6.
    answer.head.headers.insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

pub(super) const fn refusal_status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::MalformedHead(_) | Refusal::AmbiguousFraming(_) => StatusCode::BAD_REQUEST,
        Refusal::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Refusal::UriTooLong => StatusCode::URI_TOO_LONG,
        Refusal::UnknownCoding | Refusal::UnknownProtocol => StatusCode::NOT_IMPLEMENTED,
        Refusal::UnknownVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        Refusal::Late(_) => StatusCode::REQUEST_TIMEOUT,
        Refusal::Crowded => StatusCode::TOO_MANY_REQUESTS,
    }
}
