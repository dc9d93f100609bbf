//! The two handshakes of a WebSocket, and origins.

use std::time::Duration;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn settings(origins: &[&str]) -> WebSocket {
    WebSocket {
        idle: Duration::from_secs(90),
        max_frame: 1 << 20,
        origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        on_silent_close: StatusCode::UNAUTHORIZED,
    }
}

fn asked(fields: &[(&'static str, &str)]) -> request::Parts {
    let mut head = request::Parts::from(http::Request::get("/ws").body(()).unwrap());
    for (name, value) in fields {
        head.headers.append(*name, value.parse().unwrap());
    }
    head
}

fn begun(upgrade: Upgrade) -> (Handshake, request::Parts) {
    let mut head = match upgrade {
        Upgrade::Http1 => asked(&[("sec-websocket-key", KEY), ("sec-websocket-protocol", "chat")]),
        Upgrade::ExtendedConnect => asked(&[]),
    };
    let handshake = Handshake::begin(&mut head, upgrade, &settings(&[]), "https", "bi.test").unwrap();
    (handshake, head)
}

/// The 101 of an endpoint that read our handshake.
fn answered(head: &request::Parts) -> response::Parts {
    let accept = derive_accept_key(head.headers[SEC_WEBSOCKET_KEY].as_bytes());
    http::Response::builder()
        .status(101)
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "WebSocket")
        .header("sec-websocket-accept", accept)
        .header("sec-websocket-protocol", "chat")
        .header("keep-alive", "timeout=5")
        .header("content-length", "7")
        .body(())
        .unwrap()
        .into()
}

#[test]
fn client_and_endpoint_each_get_a_handshake_of_their_own() {
    let (handshake, asked) = begun(Upgrade::Http1);
    assert_ne!(asked.headers[SEC_WEBSOCKET_KEY], KEY, "the client's key went on");
    assert_eq!((&asked.method, &asked.headers[SEC_WEBSOCKET_VERSION]), (&Method::GET, &HeaderValue::from_static("13")));

    let mut head = answered(&asked);
    handshake.finish(&mut head).unwrap();

    // RFC 6455 §1.3's own example.
    assert_eq!(head.headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(head.headers["sec-websocket-protocol"], "chat");
    assert_eq!((head.status.as_u16(), &head.headers[UPGRADE]), (101, &WEBSOCKET));
    assert!(!head.headers.contains_key("content-length") && !head.headers.contains_key("keep-alive"));
}

#[test]
fn http2_client_gets_a_200_without_the_fields_of_http1() {
    let (handshake, mut asked) = begun(Upgrade::ExtendedConnect);
    asked.method = Method::GET;

    let mut head = answered(&asked);
    handshake.finish(&mut head).unwrap();

    assert_eq!(head.status, StatusCode::OK);
    for name in ["connection", "upgrade", "sec-websocket-accept", "keep-alive", "content-length"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
}

#[test]
fn endpoint_must_prove_that_it_read_the_handshake() {
    for (field, value) in [
        ("sec-websocket-accept", Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        ("sec-websocket-accept", None),
        ("upgrade", Some("h2c")),
        ("upgrade", None),
        ("connection", Some("close")),
        ("connection", None),
    ] {
        let (handshake, asked) = begun(Upgrade::Http1);
        let mut head = answered(&asked);
        head.headers.remove(field);
        if let Some(value) = value {
            head.headers.insert(field, HeaderValue::from_static(value));
        }

        assert_eq!(handshake.finish(&mut head), Err(Fault::UpstreamMalformed), "{field}: {value:?}");
    }
}

#[test]
fn key_of_a_client_must_be_one() {
    for fields in [&[][..], &[("sec-websocket-key", "short")]] {
        let begun = Handshake::begin(&mut asked(fields), Upgrade::Http1, &settings(&[]), "https", "bi.test");
        assert_eq!(begun.err(), Some(Fault::Malformed("Sec-WebSocket-Key")));
    }
}

#[test]
fn success_without_a_switch_opens_nothing_for_an_http2_client() {
    let would_open = |upgrade, status| begun(upgrade).0.would_open(status);

    assert!(would_open(Upgrade::ExtendedConnect, StatusCode::OK));
    assert!(!would_open(Upgrade::ExtendedConnect, StatusCode::UNAUTHORIZED));
    assert!(!would_open(Upgrade::Http1, StatusCode::OK));
}

#[test]
fn origins_are_checked_where_they_are_named() {
    let admitted = |origins: &[&str], origin: Option<&str>| {
        let mut head = asked(&[("sec-websocket-key", KEY)]);
        if let Some(origin) = origin {
            head.headers.insert(ORIGIN, origin.parse().unwrap());
        }
        Handshake::begin(&mut head, Upgrade::Http1, &settings(origins), "https", "bi.test:8443").map(|_| ())
    };

    assert_eq!(admitted(&[], Some("https://evil.test")), Ok(()));
    assert_eq!(admitted(&["same"], Some("https://BI.test:8443")), Ok(()));
    assert_eq!(admitted(&["https://a.test"], Some("https://A.test")), Ok(()));
    for origin in [
        None,
        Some("null"),
        Some("http://bi.test:8443"),
        Some("https://bi.test"),
        Some("https://bi.test:8443.evil.test"),
        Some("https://evil.test"),
    ] {
        assert_eq!(admitted(&["same"], origin), Err(Fault::OriginRefused), "{origin:?}");
    }
}
