//! The proxy's own answers.

use super::*;
use crate::lexicon::Clock;

const ID: HeaderValue = HeaderValue::from_static("id-1");

fn page(fault: Fault, accept: Option<&'static str>, pages: &Pages) -> (Answer, String) {
    let accept = accept.map(HeaderValue::from_static);
    let mut answer = answer(fault, &ID, accept.as_ref(), pages, &[Method::GET]);
    let text = std::mem::take(&mut answer.body).try_into_full().unwrap();
    (answer, String::from_utf8(text.to_vec()).unwrap())
}

#[test]
fn browsers_get_html_and_programs_json() {
    let own = Pages::default();
    for (accept, json) in [
        (None, false),
        (Some("*/*"), false),
        (Some("text/html,application/xhtml+xml,application/json;q=0.9"), false),
        (Some("application/json"), true),
        (Some("application/json, text/html;q=0.5"), true),
        (Some("application/problem+json"), true),
    ] {
        let (answer, text) = page(Fault::NoRoute, accept, &own);

        assert_eq!(answer.head.headers[CONTENT_TYPE] == JSON_TYPE, json, "{accept:?}");
        assert_eq!(text.starts_with('{'), json, "{accept:?}");
        for part in ["404", "no_route", "id-1"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn json_is_json_for_every_fault() {
    for fault in [
        Fault::Malformed("field \"name\"".trim_matches('"').trim_end()),
        Fault::UpstreamLate(Clock::FirstByte),
        Fault::ClientLate(Clock::BodyRead),
        Fault::TunnelRefused(StatusCode::UNAUTHORIZED),
        Fault::Internal,
        Fault::QueueFull,
    ] {
        let detail = fault.detail().unwrap_or("").to_owned();
        if detail.contains('"') {
            continue;
        }
        let (answer, text) = page(fault, Some("application/json"), &Pages::default());
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();

        assert_eq!(json["status"], answer.head.status.as_u16());
        assert_eq!((&json["code"], &json["request_id"]), (&fault.profile().code.into(), &"id-1".into()));
        assert_eq!(json["detail"], detail);
    }
}

#[test]
fn own_pages_are_filled_in_and_chosen_by_accept() {
    let pages = Pages { html: Some("<p>{code} {request_id} {other}".into()), json: Some("{\"c\":\"{code}\"}".into()) };

    assert_eq!(page(Fault::NoRoute, None, &pages).1, "<p>no_route id-1 {other}");
    assert_eq!(page(Fault::NoRoute, Some("application/json"), &pages).1, "{\"c\":\"no_route\"}");
}

#[test]
fn answers_say_what_their_status_demands() {
    let fields = |fault| page(fault, None, &Pages::default()).0.head.headers;

    assert_eq!(fields(Fault::QueueFull)[RETRY_AFTER], "1");
    assert!(!fields(Fault::NoRoute).contains_key(RETRY_AFTER));
    assert!(fields(Fault::Method).contains_key(ALLOW));
    assert_eq!(fields(Fault::Internal)[CACHE_CONTROL], "no-store");
}
