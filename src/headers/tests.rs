//! Fields of one hop, of the client and of the proxy; hosts, traces and request ids.

use http::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::head::{Fields, HeaderValue};

fn map(fields: &[(&str, &str)]) -> Fields {
    fields
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap()))
        .collect()
}

fn nominates(name: &'static str) -> Result<(), BadConnection> {
    Err(BadConnection::Nominates(HeaderName::from_static(name)))
}

#[test]
fn fields_of_one_hop_and_those_named_by_connection_go() {
    let mut headers = map(&[
        ("connection", "keep-alive, X-Hop"),
        ("connection", ", close ,"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("x-hop", "2"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("proxy-connection", "close"),
        ("trailer", "x-sum"),
        ("cookie", "session=1"),
    ]);

    strip_hop_by_hop(&mut headers).unwrap();

    assert_eq!(headers, map(&[("trailer", "x-sum"), ("cookie", "session=1")]));
}

#[test]
fn connection_cannot_take_away_what_others_rely_on() {
    for name in ["host", "cookie", "authorization", "content-length", "x-forwarded-for", "set-cookie", "if-match"] {
        let fields = [("connection", format!("close, {}", name.to_uppercase())), (name, "kept".into())];
        let mut headers = map(&fields.each_ref().map(|(name, value)| (*name, value.as_str())));

        assert_eq!(strip_hop_by_hop(&mut headers), nominates(name));
        assert_eq!(headers.len(), 2);
    }
}

#[test]
fn connection_that_is_no_list_of_tokens_is_refused() {
    for value in ["a b", "close; x", "\"close\"", ":path", "x@y"] {
        assert_eq!(strip_hop_by_hop(&mut map(&[("connection", value)])), Err(BadConnection::Malformed), "{value}");
    }
}

#[test]
fn underscored_copies_of_what_we_say_go() {
    let strip = [HeaderName::from_static("x-remote-user")];
    let mut headers = map(&[
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded_host", "evil"),
        ("x-forwarded-ssl", "on"),
        ("x_real_ip", "6.6.6.6"),
        ("x_remote_user", "admin"),
        ("content_length", "5"),
        ("transfer_encoding", "chunked"),
        ("x-remote-user", "admin"),
        ("forwarded", "for=6.6.6.6"),
        ("x_other", "kept"),
        ("x-gone", "1"),
    ]);

    let client = HeaderValue::from_static("192.0.2.7");
    let port = HeaderValue::from_static("443");
    let facts = Forwarding { client: &client, scheme: "https", host: None, port: &port, prefix: None, forwarded: None };
    set_forwarded(&mut headers, &strip, |name| name == "x-gone", facts);

    assert_eq!(
        headers,
        map(&[
            ("x_other", "kept"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-real-ip", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
        ])
    );
}

#[test]
fn edits_come_in_the_order_remove_set_add() {
    let pair = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let edits = HeaderEdits {
        remove: vec![HeaderName::from_static("a")],
        set: vec![pair("a", "1"), pair("b", "2")],
        add: vec![pair("a", "3")],
    };
    let mut headers = map(&[("a", "0"), ("b", "0"), ("b", "0")]);

    apply_edits(&mut headers, &edits);

    assert_eq!(headers, map(&[("b", "2"), ("a", "1"), ("a", "3")]));
}

#[test]
fn accel_buffering_is_read_and_removed() {
    let mut headers = map(&[("x-accel-buffering", "no")]);

    assert!(take_accel_buffering(&mut headers) && headers.is_empty());
    assert!(!take_accel_buffering(&mut headers));
}

#[test]
fn hosts_are_read_as_name_and_port() {
    let host = |name, port| Ok(Authority { name, port });
    for (text, expected) in [
        ("bi.example.com", host("bi.example.com", None)),
        ("bi.example.com:8443", host("bi.example.com", Some(8443))),
        ("bi.example.com:", host("bi.example.com", None)),
        ("[2001:db8::1]:443", host("[2001:db8::1]", Some(443))),
        ("[::1]", host("[::1]", None)),
        ("under_score", host("under_score", None)),
        ("", Err(BadHost::Empty)),
        (":80", Err(BadHost::Empty)),
        ("user@host", Err(BadHost::Name)),
        ("a,b", Err(BadHost::Name)),
        ("a b", Err(BadHost::Name)),
        ("a/b", Err(BadHost::Name)),
        ("a%2fb", Err(BadHost::Name)),
        ("[::1]x", Err(BadHost::Name)),
        ("[::1", Err(BadHost::Name)),
        ("[v1.x]", Err(BadHost::Name)),
        ("::1", Err(BadHost::Empty)),
        ("a:b:1", Err(BadHost::Port)),
        ("a:+80", Err(BadHost::Port)),
        ("a:0", Err(BadHost::Port)),
        ("a:65536", Err(BadHost::Port)),
    ] {
        assert_eq!(Authority::parse(text.as_bytes()), expected, "{text}");
    }
    assert_eq!(Authority::parse(&[b'a'; 260]), Err(BadHost::TooLong));
}

#[test]
fn host_and_authority_agree_in_any_case_and_with_the_default_port() {
    let agree = |a: &str, b: &str| {
        Authority::parse(a.as_bytes()).unwrap().agrees_with(&Authority::parse(b.as_bytes()).unwrap(), "https")
    };

    assert!(agree("A.example:443", "a.EXAMPLE"));
    assert!(!agree("a.example:80", "a.example"));
    assert!(!agree("a.example", "b.example"));
}

#[test]
fn host_of_a_request_comes_from_target_and_field() {
    let of = |target: &str, hosts: &[&str]| {
        let mut request = http::Request::builder().uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        host(&request.body(()).unwrap().into()).map(|host| (host.name().to_owned(), host.port()))
    };
    let name = |name: &str, port| Ok((name.to_owned(), port));

    assert_eq!(of("/x", &["Bi.Example:8443"]), name("bi.example", Some(8443)));
    assert_eq!(of("https://bi.example/x", &[]), name("bi.example", None));
    assert_eq!(of("https://bi.example/x", &["BI.example:443"]), name("bi.example", None));
    assert_eq!(of("https://bi.example/x", &["evil.example"]), Err(BadHost::Disagree));
    assert_eq!(of("https://user@bi.example/x", &["bi.example"]), Err(BadHost::Name));
    assert_eq!(of("/x", &[]), Err(BadHost::Missing));
    assert_eq!(of("/x", &["a", "a"]), Err(BadHost::Several));
    assert_eq!(of("/x", &[""]), Err(BadHost::Empty));
}

#[test]
fn h2_values_with_line_ends_or_edge_spaces_are_refused() {
    assert_eq!(check_value(b"a\rb"), Err(BadField::ControlByte));
    assert_eq!(check_value(b"a\nb"), Err(BadField::ControlByte));
    assert_eq!(check_value(b"a\0b"), Err(BadField::ControlByte));
    assert_eq!(check_value(b" a"), Err(BadField::EdgeSpace));
    assert_eq!(check_value(b"a\t"), Err(BadField::EdgeSpace));
    assert_eq!(check_value(b""), Ok(()));
    assert_eq!(check_value(b"a b"), Ok(()));
}

#[test]
fn h2_refuses_fields_of_the_connection() {
    for name in ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"] {
        assert!(matches!(check_h2(&map(&[(name, "x")])), Err(BadField::ConnectionSpecific(_))), "{name}");
    }
    assert_eq!(check_h2(&map(&[("te", "gzip")])), Err(BadField::Te));
    assert_eq!(check_h2(&map(&[("te", "trailers"), ("cookie", "a=b")])), Ok(()));
}

#[test]
fn traceparent_is_read_as_the_trace_context_says() {
    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = Trace::parse(GOOD.as_bytes()).unwrap();
    assert_eq!(trace.to_value(), GOOD);
    assert_eq!(trace.child(0x2a).to_value(), "00-0af7651916cd43dd8448eb211c80319c-000000000000002a-01");
    assert!(Trace::parse(GOOD.replacen("00", "cc", 1).as_bytes()).is_some());
    assert!(Trace::parse(format!("{}-more", GOOD.replacen("00", "cc", 1)).as_bytes()).is_some());

    for bad in [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
        "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
        "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert_eq!(Trace::parse(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn request_ids_are_safe_in_logs() {
    assert!(is_request_id(b"4bf92f35-77b3.A_b~:/+=@"));
    assert!(!is_request_id(b""));
    assert!(!is_request_id(b"a\"b"));
    assert!(!is_request_id(b"a b"));
    assert!(!is_request_id(&[b'a'; 129]));
    let trace = Trace::begin(1, 2, 0);
    assert_eq!(
        request_id(0xabc, trace),
        (HeaderValue::from_static("00000000000000000000000000000abc"), trace.to_value())
    );
}

#[test]
fn connection_that_names_thousands_takes_away_those_that_are_there() {
    let named: Vec<String> = (0..5_000).rev().map(|number| format!("x-{number}")).collect();
    let mut headers = map(&[("x-0", "a"), ("x-4999", "b"), ("x-2500", "c"), ("x-5000", "d"), ("x-2500", "e")]);
    headers.insert("connection", HeaderValue::try_from(named.join(", ")).unwrap());

    strip_hop_by_hop(&mut headers).unwrap();

    assert_eq!(headers, map(&[("x-5000", "d")]));
}

fn field() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "host",
            "referer",
            "origin",
            "cookie",
            "x-csrftoken",
            "authorization",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-real-ip",
            "forwarded",
            "te",
            "keep-alive",
            "upgrade",
            "transfer-encoding",
            "proxy-connection",
            "remote-user",
            "x-hop",
            "x_hop",
        ])
        .prop_map(str::to_owned),
        "[a-z][a-z_-]{0,12}",
    ];
    let value = "[a-zA-Z0-9,;=. ]{0,20}";
    (name, value)
        .prop_map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value.trim()).unwrap()))
}

#[test]
fn addresses_are_written_as_the_standard_library_does() {
    for address in ["0.0.0.0", "1.22.133.255", "10.9.100.99", "255.255.255.255", "2001:db8::1", "::1"] {
        assert_eq!(address_value(address.parse().unwrap()), address);
    }
}

proptest! {
    #[test]
    fn rules_leave_one_of_each_forwarded_field_and_nothing_of_the_hop(
        fields in prop::collection::vec(field(), 0..30),
        options in prop::collection::vec(prop::sample::select(vec!["close", "Keep-Alive", "x-hop", "", "upgrade"]), 0..4),
        prefix: bool,
    ) {
        let mut headers: Fields = fields.into_iter().collect();
        headers.insert("connection", HeaderValue::try_from(options.join(",")).unwrap());
        let before = headers.clone();
        let (client, port, value) =
            (address_value("::ffff:192.0.2.7".parse().unwrap()), port_value(8443), HeaderValue::from_static("/bi"));
        let host = HeaderValue::from_static("bi.example.com:8443");

        strip_hop_by_hop(&mut headers).unwrap();
        let facts = Forwarding {
            client: &client, scheme: "https", host: Some(&host), port: &port, prefix: prefix.then_some(&value), forwarded: None,
        };
        set_forwarded(&mut headers, &[HeaderName::from_static("remote-user")], |_| false, facts);

        for (name, value) in [
            ("x-forwarded-for", "192.0.2.7"), ("x-real-ip", "192.0.2.7"), ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bi.example.com:8443"), ("x-forwarded-port", "8443"),
        ] {
            prop_assert_eq!(headers.get_all(name).collect::<Vec<_>>(), vec![value]);
        }
        prop_assert_eq!(headers.get_all("x-forwarded-prefix").count(), usize::from(prefix));
        for name in ["connection", "keep-alive", "te", "upgrade", "transfer-encoding", "proxy-connection", "forwarded",
            "x_forwarded_for", "remote-user"]
        {
            prop_assert!(!headers.contains_key(name), "{}", name);
        }
        for name in ["host", "referer", "origin", "cookie", "x-csrftoken", "authorization"] {
            prop_assert!(headers.get_all(name).eq(before.get_all(name)), "{}", name);
        }
        if options.contains(&"x-hop") {
            prop_assert!(!headers.contains_key("x-hop"));
        }
    }

    #[test]
    fn no_bytes_break_the_readers(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop((Authority::parse(&bytes), Trace::parse(&bytes), is_request_id(&bytes), check_value(&bytes)));
    }

    #[test]
    fn every_trace_reads_back(trace: u128, span: u64, flags in 0_u8..2) {
        let begun = Trace::begin(trace, span, flags);
        prop_assert_eq!(Trace::parse(begun.to_value().as_bytes()), Some(begun));
    }
}
