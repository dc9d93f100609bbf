//! Field sections become heads, or are refused as RFC 9114 section 4 says.

use super::*;

type Fields<'a> = Vec<(&'a str, &'a [u8])>;

const GOOD: [(&str, &[u8]); 4] =
    [(":method", b"GET"), (":scheme", b"https"), (":authority", b"test"), (":path", b"/a?b")];

fn encoded(fields: &[(&str, &[u8])]) -> Bytes {
    let mut section = BytesMut::new();
    qpack::begin(&mut section);
    for (name, value) in fields {
        qpack::put_line(&mut section, name, value, false);
    }
    section.freeze()
}

fn and<'a>(more: &[(&'a str, &'a [u8])]) -> Fields<'a> {
    GOOD.iter().copied().chain(more.iter().copied()).collect()
}

fn refusal(fields: &[(&str, &[u8])]) -> Option<Refusal> {
    match request(encoded(fields), 10_000) {
        Ok(_) => None,
        Err((Bad::Refused(refusal), _)) => Some(refusal),
        Err((bad, _)) => panic!("{bad:?}"),
    }
}

#[test]
fn head_is_read() {
    let head =
        request(encoded(&and(&[("cookie", b"a=1"), ("cookie", b"b=2"), ("content-length", b"5")])), 10_000).unwrap();

    assert_eq!(head.parts.method, Method::GET);
    assert_eq!(head.parts.uri, "https://test/a?b");
    assert_eq!(head.parts.headers.get_all("cookie").count(), 2);
    assert_eq!((head.length, head.protocol), (Some(5), None));
}

#[test]
fn what_the_specification_calls_malformed_is_refused() {
    let cases: Vec<Fields<'_>> = vec![
        and(&[("connection", b"close")]),
        and(&[("keep-alive", b"1")]),
        and(&[("proxy-connection", b"close")]),
        and(&[("transfer-encoding", b"chunked")]),
        and(&[("upgrade", b"websocket")]),
        and(&[("te", b"gzip")]),
        and(&[("X-Upper", b"a")]),
        and(&[("x", b"a\nb")]),
        and(&[("x", b"a\rb")]),
        and(&[("x", b"a\0b")]),
        and(&[("x y", b"a")]),
        and(&[("", b"a")]),
        and(&[(":what", b"a")]),
        and(&[(":path", b"/again")]),
        and(&[(":status", b"200")]),
        and(&[(":protocol", b"websocket")]),
        and(&[("x", b"a"), (":path", b"/")]),
        and(&[("content-length", b"+5")]),
        and(&[("content-length", b"")]),
        and(&[("content-length", b"5"), ("content-length", b"5")]),
        and(&[("content-length", b"99999999999999999999999")]),
        GOOD[1..].to_vec(),
        GOOD[..3].to_vec(),
        vec![GOOD[0], GOOD[2], GOOD[3]],
        vec![(":method", b"G T"), GOOD[1], GOOD[2], GOOD[3]],
        vec![GOOD[0], (":scheme", b"ftp"), GOOD[2], GOOD[3]],
        vec![GOOD[0], GOOD[1], (":authority", b"a b"), GOOD[3]],
        vec![GOOD[0], GOOD[1], GOOD[2], (":path", b"")],
        vec![GOOD[0], GOOD[1], GOOD[2], (":path", b"/a#b")],
        vec![GOOD[0], GOOD[1], GOOD[2], (":path", b"/a b")],
        vec![(":method", b"CONNECT"), GOOD[1], GOOD[2], GOOD[3]],
        vec![(":method", b"CONNECT")],
        vec![GOOD[0], GOOD[1], GOOD[3]],
        vec![GOOD[0], GOOD[1], GOOD[3], ("host", b"")],
        vec![(":method", b"CONNECT"), (":protocol", b"websocket"), GOOD[2]],
    ];

    for fields in cases {
        assert!(
            matches!(refusal(&fields), Some(Refusal::MalformedHead(_) | Refusal::AmbiguousFraming(_))),
            "{fields:?}"
        );
    }
}

#[test]
fn connect_is_read_with_and_without_a_protocol() {
    let plain = request(encoded(&[(":method", b"CONNECT"), (":authority", b"test:443")]), 10_000).unwrap();
    let extended =
        request(encoded(&[(":method", b"CONNECT"), (":protocol", b"websocket"), GOOD[1], GOOD[2], GOOD[3]]), 10_000)
            .unwrap();

    assert_eq!(plain.parts.uri.authority().unwrap(), "test:443");
    assert_eq!(extended.protocol.as_deref(), Some(b"websocket".as_slice()));
    assert_eq!(extended.parts.uri.path(), "/a");
}

#[test]
fn trailers_are_read_and_hold_no_pseudo_headers() {
    assert_eq!(trailers(encoded(&[("x-sum", b"1")]), 1000).unwrap()["x-sum"], "1");
    assert!(trailers(encoded(&[(":path", b"/")]), 1000).is_err());
    assert!(trailers(encoded(&[("connection", b"close")]), 1000).is_err());
}

#[test]
fn response_head_is_a_frame_that_reads_back() {
    let mut fields = head::Fields::new();
    fields.insert("content-type", HeaderValue::from_static("application/json"));
    fields.insert("x-long", HeaderValue::from_str(&"v".repeat(300)).unwrap());

    let mut bytes = response(StatusCode::OK, &fields);
    let mut cutter = frame::Cutter::new();

    assert!(matches!(cutter.next(&mut bytes), Some(frame::Part::Head { kind: frame::HEADERS, .. })));
    let Some(frame::Part::Payload(section)) = cutter.next(&mut bytes) else { panic!("no payload") };
    assert_eq!(cutter.next(&mut bytes), Some(frame::Part::End));
    let mut lines = Lines::of(section, 10_000).unwrap();
    assert_eq!(lines.line().unwrap().unwrap(), (Bytes::from_static(b":status"), Bytes::from_static(b"200")));
    assert_eq!(lines.line().unwrap().unwrap().1, "application/json");
    assert_eq!(lines.line().unwrap().unwrap().1, "v".repeat(300));
}

#[test]
fn more_names_than_anybody_sends_are_refused() {
    let names: Vec<String> = (0..40_000).map(|number| format!("{number:x}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    let too_large = Bad::Refused(Refusal::HeadTooLarge("too many fields"));

    assert_eq!(request(encoded(&and(&fields)), 4 << 20).unwrap_err().0, too_large);
    assert_eq!(trailers(encoded(&fields), 4 << 20).unwrap_err(), too_large);
}
