//! Turns faults into responses: the only place where they meet HTTP.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, StatusCode};

use crate::body::Body;
use crate::head::HeaderValue;
use crate::message::Answer;
use crate::snapshot::Pages;

use super::fault::Fault;

/// The answer that tells a client of `fault`. `accept` is what the client said it wants, `methods` are those it may use.
pub(super) fn answer(
    fault: Fault,
    request_id: &HeaderValue,
    accept: Option<&HeaderValue>,
    pages: &Pages,
    methods: &[Method],
) -> Answer {
    let profile = fault.profile();
    let detail = fault.detail().unwrap_or("");
    let reason = profile.status.canonical_reason().unwrap_or("Error");
    let id = request_id.to_str().unwrap_or("");
    let status = profile.status.as_str();
    let values =
        [("status", status), ("reason", reason), ("code", profile.code), ("detail", detail), ("request_id", id)];
    let json = wants_json(accept);
    let template = if json { pages.json.as_deref() } else { pages.html.as_deref() };
    let text = match (template, json) {
        (Some(template), _) => Pages::fill(template, &values),
        (None, true) => Pages::fill(JSON, &values),
        (None, false) => Pages::fill(HTML, &values),
    };
    let mut answer = Answer::new(profile.status, Body::full(text));
    let fields = &mut answer.head.headers;
    fields.insert(CONTENT_TYPE, if json { JSON_TYPE } else { HTML_TYPE });
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = fault.retry_after() {
        fields.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if profile.status == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110 §15.5.6.
        let methods: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
        // Methods are tokens, so this cannot fail.
        fields.extend(HeaderValue::try_from(methods.join(", ")).ok().map(|methods| (ALLOW, methods)));
    }
    answer
}

const JSON_TYPE: HeaderValue = HeaderValue::from_static("application/json");
const HTML_TYPE: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const JSON: &str = concat!(
    r#"{"status":{status},"reason":"{reason}","code":"{code}","detail":"{detail}","request_id":"{request_id}","#,
    r#""by":"sluicegate"}"#,
    "\n"
);

const HTML: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status} {reason}</title>\
    <style>body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em;color:#222}\
    code{background:#eee;padding:.1em .3em}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}\
    code{background:#333}}</style></head><body><h1>{status} {reason}</h1><p>The proxy answered this request itself: \
    <code>{code}</code> {detail}</p><p>Request <code>{request_id}</code></p></body></html>\n";

/// Superset's front end asks for JSON; a browser that navigates asks for HTML first.
fn wants_json(accept: Option<&HeaderValue>) -> bool {
    let Some(accept) = accept.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    match (accept.find("json"), accept.find("html")) {
        (Some(json), Some(html)) => json < html,
        (json, _) => json.is_some(),
    }
}

#[cfg(test)]
mod tests;
