use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::config::process::Clients;

fn clients() -> Clients {
    let text = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[pools.p]\nendpoints = [\"127.0.0.1:1\"]\n";
    Config::parse(text, Path::new("t.toml")).unwrap().config.clients
}

fn parsed(host: &'static str) -> Result<Host, BadHost> {
    Host::parse(&HeaderValue::from_static(host))
}

#[test]
fn hosts_are_read_strictly() {
    for (written, name, port) in [
        ("bi.example.com", "bi.example.com", None),
        ("BI.Example.com:8443", "bi.example.com", Some(8443)),
        ("bi.example.com.", "bi.example.com", None),
        ("[::1]:443", "[::1]", Some(443)),
        ("127.0.0.1:", "127.0.0.1", None),
    ] {
        let host = parsed(written).unwrap();
        assert_eq!((host.name(), host.port()), (name, port), "{written}");
        assert_eq!(host.as_str(), written);
    }
    for bad in ["", "a b", "a,b", "user@h", "h:x", "h:99999", "[::1", "[nonsense]", "h/x", ":80", "[::1]x", "."] {
        assert_eq!(parsed(bad), Err(BadHost), "{bad}");
    }
}

#[test]
fn connection_cannot_name_what_is_not_its_own() {
    for name in ["Host", "cookie", "X-Forwarded-For", "Authorization", "content-length", "Sec-WebSocket-Key", "a b"] {
        let mut fields = HeaderMap::new();
        fields.insert("connection", HeaderValue::from_str(&format!("close, {name}")).unwrap());
        assert_eq!(strip_hop_by_hop(&mut fields), Err(BadConnection), "{name}");
    }
}

#[test]
fn trace_is_continued_under_a_span_of_ours() {
    let theirs = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");

    let ours = next_traceparent(&theirs, 0xABC).unwrap();

    assert_eq!(ours, "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000abc-01");
    for bad in [
        "",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
    ] {
        assert_eq!(next_traceparent(&HeaderValue::from_static(bad), 1), None, "{bad}");
    }
}

#[test]
fn made_ids_have_their_form() {
    assert_eq!(made_request_id(0xBEEF), "0000000000000000000000000000beef");
    assert!(next_traceparent(&made_traceparent(5, 7), 9).is_some());
    assert!(valid_request_id(&made_request_id(u128::MAX)));
    assert!(!valid_request_id(&HeaderValue::from_static("<script>")));
}

const KEPT: [&str; 7] = ["referer", "origin", "cookie", "x-csrftoken", "x-guesttoken", "authorization", "accept"];

proptest! {
    #[test]
    fn whatever_a_client_sends_each_forwarded_field_is_there_once(
        sent in prop::collection::vec(
            ("(x-forwarded-(for|host|proto|port|prefix)|x-real-ip|forwarded|connection|keep-alive|te|upgrade|\
              x-proxy-remote-user|x-client-certificate-subject|referer|origin|cookie|x-csrftoken|authorization)",
             "[a-z0-9 ,.:]{0,12}"),
            0..20,
        ),
    ) {
        let mut fields = HeaderMap::new();
        for (name, value) in &sent {
            let value = if name == "connection" { "keep-alive, x-own" } else { value.as_str() };
            fields.append(HeaderName::try_from(name.as_str()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let before = fields.clone();
        let host = parsed("bi.example.com:8443").unwrap();
        let facts =
            Facts { client: [192, 0, 2, 1].into(), scheme: "https", host: &host, prefix: None, subject: None };

        strip_hop_by_hop(&mut fields).unwrap();
        forward(&mut fields, &facts, &clients());

        for (name, value) in [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bi.example.com:8443"),
            ("x-forwarded-port", "8443"),
            ("host", "bi.example.com:8443"),
        ] {
            let all: Vec<_> = fields.get_all(name).iter().collect();
            prop_assert_eq!(all, vec![value]);
        }
        for gone in ["x-forwarded-prefix", "forwarded", "connection", "keep-alive", "te", "upgrade",
            "x-proxy-remote-user", "x-client-certificate-subject"]
        {
            prop_assert!(!fields.contains_key(gone), "{}", gone);
        }
        for kept in KEPT {
            let all = |map: &HeaderMap| map.get_all(kept).iter().cloned().collect::<Vec<_>>();
            prop_assert_eq!(all(&fields), all(&before));
        }
    }
}
