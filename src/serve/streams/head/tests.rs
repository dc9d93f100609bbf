//! Heads of streams that are admitted, and those that are not (RFC 9113 section 8, RFC 9114 section 4).

use http::{Request, request::Builder};

use super::*;

fn limits() -> RequestLimits {
    RequestLimits { head_bytes: 1024, uri_bytes: 64, fields: 8, trailer_bytes: 64 }
}

fn judged(request: Builder) -> Result<(Ask, Fields), Refusal> {
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let protocol = parts.extensions.remove::<h2::ext::Protocol>();
    let mut head = request::Parts::from(parts);
    admit(&mut head, protocol.as_ref().map(|protocol| protocol.as_str().as_bytes()), &limits())
        .map(|ask| (ask, head.headers))
}

fn get(uri: &str) -> Builder {
    Request::builder().uri(uri)
}

#[test]
fn host_comes_from_authority() {
    let (_, headers) = judged(get("https://superset.example:8443/a")).unwrap();

    assert_eq!(headers[header::HOST], "superset.example:8443");
}

#[test]
fn host_may_repeat_authority_in_any_case_and_with_the_default_port() {
    for host in ["superset.example", "SUPERSET.example:443"] {
        assert!(judged(get("https://Superset.Example/a").header("host", host)).is_ok(), "{host}");
    }
}

#[test]
fn host_that_disagrees_is_refused() {
    for host in ["other.example", "superset.example:80", "superset.example.", ""] {
        let judged = judged(get("https://superset.example/a").header("host", host));
        assert_eq!(judged.unwrap_err(), Refusal::MalformedHead("Host differs from :authority"), "{host}");
    }
}

#[test]
fn two_hosts_are_refused() {
    let judged = judged(get("/a").header("host", "a").header("host", "a"));

    assert_eq!(judged.unwrap_err(), Refusal::MalformedHead("several Host fields"));
}

#[test]
fn user_information_is_refused() {
    let judged = judged(get("https://admin:secret@superset.example/a"));

    assert_eq!(judged.unwrap_err(), Refusal::MalformedHead("user information in :authority"));
}

#[test]
fn white_space_around_values_is_refused() {
    for value in [" a", "a ", "\ta", "a\t", " "] {
        assert!(judged(get("/").header("x-a", value)).is_err(), "{value:?}");
    }
    assert!(judged(get("/").header("x-a", "a b").header("x-b", "")).is_ok());
}

#[test]
fn path_must_begin_with_a_slash() {
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some("*".parse().unwrap());
    let star = Uri::from_parts(parts).unwrap();

    assert!(judged(Request::builder().uri(star.clone())).is_err());
    assert!(judged(Request::builder().method(Method::OPTIONS).uri(star)).is_ok());
}

#[test]
fn cookie_crumbs_are_joined() {
    let (_, headers) =
        judged(get("/").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3")).unwrap();

    assert_eq!(headers.get_all("cookie").collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
}

#[test]
fn many_crumbs_count_as_one_field() {
    let request = (0..50).fold(get("/"), |request, n| request.header("cookie", format!("c{n}=1")));

    assert!(judged(request).is_ok());
}

#[test]
fn long_target_is_refused() {
    let judged = judged(get(&format!("/{}", "a".repeat(64))));

    assert_eq!(judged.unwrap_err(), Refusal::UriTooLong);
}

#[test]
fn too_many_fields_are_refused() {
    let request = (0..9).fold(get("/"), |request, n| request.header(format!("x-{n}"), "1"));

    assert_eq!(judged(request).unwrap_err(), Refusal::HeadTooLarge("too many fields"));
}

#[test]
fn long_header_list_is_refused() {
    let judged = judged(get("/").header("x-a", "a".repeat(1024)));

    assert_eq!(judged.unwrap_err(), Refusal::HeadTooLarge("header list exceeds its bound"));
}

#[test]
fn repeated_length_is_refused_even_when_equal() {
    let judged = judged(get("/").header("content-length", "5").header("content-length", "5"));

    assert_eq!(judged.unwrap_err(), Refusal::AmbiguousFraming("several Content-Length fields"));
}

#[test]
fn empty_length_is_refused() {
    assert!(judged(get("/").header("content-length", "")).is_err());
}

#[test]
fn websocket_is_a_tunnel_and_others_are_unknown() {
    let ask = |protocol: &'static str| {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("https://superset.example/ws")
            .extension(h2::ext::Protocol::from_static(protocol));
        judged(request).map(|judged| judged.0)
    };

    assert_eq!(ask("websocket"), Ok(Ask::Tunnel(Upgrade::ExtendedConnect)));
    assert_eq!(ask("connect-udp"), Err(Refusal::UnknownProtocol));
}

#[test]
fn plain_connect_is_left_to_the_handler() {
    let (ask, _) = judged(Request::builder().method(Method::CONNECT).uri("superset.example:443")).unwrap();

    assert_eq!(ask, Ask::Exchange);
}

#[test]
fn connection_fields_are_stripped_with_those_they_name() {
    let mut headers = Fields::new();
    for (name, value) in [("connection", "close, X-Hop"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("x-end", "1")] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }

    strip(&mut headers);

    assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-end"]);
}
