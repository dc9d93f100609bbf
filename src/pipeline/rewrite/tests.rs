//! What endpoints and clients are told in heads.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::TRAILER;

use super::*;
use crate::config::{Config, Listener};
use crate::lexicon::{ConnectionId, Protocol};
use crate::message::TlsFacts;

fn stripped(target: &str, prefix: &str) -> Option<String> {
    let mut uri: Uri = target.parse().unwrap();
    strip_prefix(&mut uri, prefix).then(|| uri.to_string())
}

#[test]
fn prefix_goes_only_at_the_end_of_a_segment() {
    assert_eq!(stripped("/bi/login/?next=%2F", "/bi").unwrap(), "/login/?next=%2F");
    assert_eq!(stripped("/bi", "/bi").unwrap(), "/");
    assert_eq!(stripped("/bi?a=/bi/", "/bi/").unwrap(), "/?a=/bi/");
    assert_eq!(stripped("http://h/bi/x", "/bi").unwrap(), "/x");
    assert_eq!(stripped("/bigger", "/bi"), None);
    assert_eq!(stripped("/x/bi", "/bi"), None);
}

fn config(route: &str) -> Config {
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.p]\nendpoints = [\"127.0.0.1:1\"]\n[[routes]]\npool = \"p\"\n{route}\n"
    );
    Config::parse(&text, "a.toml".as_ref()).unwrap_or_else(|findings| panic!("{findings}")).config
}

fn connection(tls: bool) -> Connection {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let facts = TlsFacts {
        version: "TLSv1.3",
        cipher: "x",
        server_name: None,
        fingerprint: None,
        resumed: false,
        client_subject: Some(HeaderValue::from_static("CN=we")),
    };
    Connection {
        id: ConnectionId::next(),
        listener: Arc::new(Listener::internal("l", nobody)),
        peer: nobody,
        local: nobody,
        proxied: None,
        protocol: Protocol::Http1,
        tls: tls.then_some(facts),
        alternative: None,
    }
}

fn identity() -> Identity {
    Identity {
        client: SocketAddr::from(([203, 0, 113, 9], 5)),
        scheme: "https",
        request_id: HeaderValue::from_static("id-1"),
        traceparent: HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        continues: true,
        parent: None,
        traced: false,
    }
}

fn rewritten(route: &str, tls: bool, target: &str, fields: &[(&'static str, &'static str)]) -> request::Parts {
    rewritten_by(&config(route), tls, target, fields)
}

fn rewritten_by(config: &Config, tls: bool, target: &str, fields: &[(&'static str, &'static str)]) -> request::Parts {
    let mut head = request::Parts::from(http::Request::get(target).body(()).unwrap());
    head.headers.insert(HOST, HeaderValue::from_static("bi.test:8443"));
    for (name, value) in fields {
        head.headers.append(*name, HeaderValue::from_static(value));
    }
    let host = headers::host(&head).unwrap();
    let route = config.routes.iter().find(|route| route.name.as_str() != "version").unwrap();
    request(&mut head, &identity(), &host, route, &config.clients, &connection(tls)).unwrap();
    head
}

#[test]
fn endpoint_hears_who_asks_and_nothing_that_a_client_made_up() {
    let head = rewritten(
        "path = \"/bi\"\nstrip_prefix = \"/bi\"",
        true,
        "/bi/login/",
        &[
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-prefix", "/evil"),
            ("x-client-certificate-subject", "CN=admin"),
            ("x-request-id", "theirs"),
            ("expect", "100-continue"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("referer", "https://bi.test:8443/bi/"),
        ],
    );

    assert_eq!(head.uri, "/login/");
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-prefix", "/bi"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "bi.test:8443"),
        ("x-forwarded-port", "8443"),
        ("x-client-certificate-subject", "CN=we"),
        ("x-request-id", "id-1"),
        ("host", "bi.test:8443"),
        ("referer", "https://bi.test:8443/bi/"),
    ] {
        assert!(head.headers.get_all(name).eq([value]), "{name}: {:?}", head.headers.get(name));
    }
    for name in ["expect", "connection", "x-hop"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
}

#[test]
fn subject_of_nobody_is_said_by_nobody() {
    // However it is written, and whatever `clients.strip` says.
    let mut config = config("");
    config.clients.strip.clear();
    for name in ["x-client-certificate-subject", "x_client_certificate_subject", "x-client_certificate-subject"] {
        let head = rewritten_by(&config, false, "/", &[(name, "CN=admin")]);

        assert!(!head.headers.contains_key(name), "{name}");
    }
}

#[test]
fn trailers_stay_announced_and_other_codings_are_not_asked_for() {
    let with = rewritten("", false, "/", &[("te", "Trailers"), ("trailer", "x-sum")]);
    assert!(with.headers.get_all(TE).eq(["trailers"]));
    assert!(with.headers.get_all(TRAILER).eq(["x-sum"]), "announced twice");

    let without = rewritten("", false, "/", &[("te", "gzip, trailers;q=0.5")]);
    assert!(!without.headers.contains_key(TE));
}

#[test]
fn response_loses_what_was_for_us_alone() {
    let config = config("response_headers = { remove = [\"server\"], set = { x-frame-options = \"DENY\" } }");
    let route = config.routes.iter().find(|route| route.name.as_str() != "version").unwrap();
    let mut fields = Fields::new();
    for (name, value) in [
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "timeout=2"),
        ("x-hop", "1"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
        ("trailer", "x-sum"),
        ("server", "gunicorn"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ] {
        fields.append(name, HeaderValue::from_static(value));
    }

    response(&mut fields, route);

    let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["set-cookie", "set-cookie", "trailer", "x-frame-options"]);
}

#[test]
fn odd_connection_field_of_an_endpoint_takes_nothing_away() {
    let config = config("");
    let mut fields = Fields::new();
    fields.insert("connection", HeaderValue::from_static("set-cookie"));
    fields.insert("set-cookie", HeaderValue::from_static("a=1"));

    response(&mut fields, &config.routes[0]);

    assert!(fields.contains_key("set-cookie") && !fields.contains_key("connection"));
}
