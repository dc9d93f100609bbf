//! Requests over HTTP/1 that can be read in two ways, or not at all, are refused: with a status, a reason in the
//! record, and the end of the connection. Nothing of them reaches an endpoint.

use crate::rig::{Rig, Upstream};

/// Name of the path, bytes (`PATH` stands for it), status, fault.
type Case = (&'static str, &'static [u8], u16, &'static str);

const HEADS: &[Case] = &[
    ("no-host", b"GET PATH HTTP/1.1\r\n\r\n", 400, "malformed"),
    ("two-hosts", b"GET PATH HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("two-hosts-differ", b"GET PATH HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400, "malformed"),
    ("space-before-colon", b"GET PATH HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400, "malformed"),
    ("tab-before-colon", b"GET PATH HTTP/1.1\r\nHost: a\r\nX\t: b\r\n\r\n", 400, "malformed"),
    ("length-space-colon", b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", 400, "malformed"),
    ("obs-fold", b"GET PATH HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400, "malformed"),
    ("obs-fold-tab", b"GET PATH HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n", 400, "malformed"),
    ("folded-first-line", b"GET PATH HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("empty-name", b"GET PATH HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400, "malformed"),
    ("no-colon", b"GET PATH HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", 400, "malformed"),
    ("name-with-paren", b"GET PATH HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n", 400, "malformed"),
    ("name-not-ascii", b"GET PATH HTTP/1.1\r\nHost: a\r\nX\xc3\xa4: b\r\n\r\n", 400, "malformed"),
    ("nul-in-value", b"GET PATH HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", 400, "malformed"),
    ("nul-in-name", b"GET PATH HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", 400, "malformed"),
    ("cr-in-value", b"GET PATH HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400, "malformed"),
    ("bell-in-value", b"GET PATH HTTP/1.1\r\nHost: a\r\nX: b\x07\r\n\r\n", 400, "malformed"),
    ("delete-in-value", b"GET PATH HTTP/1.1\r\nHost: a\r\nX: b\x7f\r\n\r\n", 400, "malformed"),
    ("bare-lf-in-head", b"GET PATH HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, "malformed"),
    ("bare-lf-all", b"GET PATH HTTP/1.1\nHost: a\n\n", 400, "malformed"),
    ("bare-lf-at-end", b"GET PATH HTTP/1.1\r\nHost: a\r\n\n", 400, "malformed"),
    ("two-spaces", b"GET  PATH HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("space-at-line-end", b"GET PATH HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "malformed"),
    ("tab-in-line", b"GET\tPATH\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("leading-space", b" GET PATH HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("method-with-comma", b"G,ET PATH HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("version-0.9", b"GET PATH\r\n\r\n", 400, "malformed"),
    ("version-lower", b"GET PATH http/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("version-1.2", b"GET PATH HTTP/1.2\r\nHost: a\r\n\r\n", 505, "unknown_version"),
    ("version-3", b"GET PATH HTTP/3.0\r\nHost: a\r\n\r\n", 505, "unknown_version"),
    ("target-relative", b"GET relative HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("target-fragment", b"GET PATH#f HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("target-nul", b"GET PATH\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("target-asterisk", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
];

/// Understood, and not for us: where the request ends is beyond doubt.
const JUDGED: &[Case] = &[
    ("host-with-path", b"GET PATH HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "bad_host"),
    ("host-with-user", b"GET PATH HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "bad_host"),
    ("host-with-space", b"GET PATH HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad_host"),
    ("host-bad-port", b"GET PATH HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400, "bad_host"),
    ("host-list", b"GET PATH HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "bad_host"),
    ("absolute-differs", b"GET http://bPATH HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_host"),
    ("connection-names-host", b"GET PATH HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", 400, "bad_connection"),
    (
        "connection-names-length",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: content-length\r\n\r\n",
        400,
        "bad_connection",
    ),
    ("trace", b"TRACE PATH HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method"),
    ("connect", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "method"),
];

const FRAMING: &[Case] = &[
    (
        "both-lengths",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous_framing",
    ),
    (
        "both-other-order",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous_framing",
    ),
    (
        "length-twice",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        400,
        "ambiguous_framing",
    ),
    (
        "lengths-differ",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        400,
        "ambiguous_framing",
    ),
    ("length-list", b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400, "ambiguous_framing"),
    ("length-plus", b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400, "ambiguous_framing"),
    ("length-minus", b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", 400, "ambiguous_framing"),
    ("length-hex", b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", 400, "ambiguous_framing"),
    ("length-empty", b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400, "ambiguous_framing"),
    (
        "length-overflows",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        400,
        "ambiguous_framing",
    ),
    (
        "coding-twice",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous_framing",
    ),
    (
        "coding-in-1.0",
        b"POST PATH HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous_framing",
    ),
    ("coding-gzip", b"POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "unknown_coding"),
    (
        "coding-gzip-chunked",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
        "unknown_coding",
    ),
    ("coding-identity", b"POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501, "unknown_coding"),
    (
        "coding-xchunked",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        501,
        "unknown_coding",
    ),
    (
        "coding-vertical-tab",
        b"POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
        "malformed",
    ),
];

const CHUNKS: &[Case] = &[
    ("chunk-size-empty", b"\r\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-size-words", b"xyz\r\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-size-prefix", b"0x3\r\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-size-plus", b"+3\r\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-size-minus", b"-3\r\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-size-space-before", b" 3\r\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-size-overflows", b"10000000000000003\r\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-size-bare-lf", b"3\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-size-bare-cr", b"3\rabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-longer", b"3\r\nabcd\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-end-bare-lf", b"3\r\nabc\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-extension-lf", b"3;a\nb\r\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("chunk-extension-nul", b"3;a\0b\r\nabc\r\n0\r\n\r\n", 400, "body_malformed"),
    ("trailer-is-framing", b"0\r\nContent-Length: 3\r\n\r\n", 400, "body_malformed"),
    ("trailer-is-host", b"0\r\nHost: evil\r\n\r\n", 400, "body_malformed"),
    ("trailer-folded", b"0\r\nX: a\r\n b\r\n\r\n", 400, "body_malformed"),
    ("trailer-bare-lf", b"0\r\nX: a\n\r\n", 400, "body_malformed"),
];

/// A request to smuggle, behind each case.
const HIDDEN: &[u8] = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// Plays one case; says what is wrong with the outcome.
async fn play(rig: &Rig, path: &str, bytes: &[u8], status: u16, fault: &str) -> Result<(), String> {
    let mut client = rig.client().await;
    client.send(bytes).await;
    // The proxy may have hung up by now, which is what this is about.
    drop(client.try_send(HIDDEN).await);
    let Some(response) = crate::rig::soon(path, client.try_response(true)).await else {
        return Err(format!("{path}: no answer"));
    };
    let mut wrong = Vec::new();
    let Ok(rest) = tokio::time::timeout(crate::rig::PATIENCE / 5, client.rest()).await else {
        return Err(format!("{path}: answered {} and not closed", response.status));
    };

    if response.status != status || !response.text().contains(fault) {
        wrong.push(format!("answered {} {}", response.status, response.text()));
    }
    if !rest.is_empty() {
        wrong.push(format!("then {:?}", String::from_utf8_lossy(&rest)));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{path}: {}", wrong.join("; "))) }
}

async fn all_are_refused(cases: &[Case], request: impl Fn(&str, &[u8]) -> Vec<u8>) {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut wrong = Vec::new();

    for (name, bytes, status, fault) in cases {
        let path = format!("/{name}");
        wrong.extend(play(&rig, &path, &request(&path, bytes), *status, fault).await.err());
    }

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
    let mut faults: Vec<&str> = cases.iter().map(|case| case.3).collect();
    let records =
        crate::rig::soon("a record for each", rig.records.find_many(cases.len(), |record| record["fault"].is_string()))
            .await;
    let mut recorded: Vec<&str> = records.iter().filter_map(|record| record["fault"].as_str()).collect();
    faults.sort_unstable();
    recorded.sort_unstable();
    assert_eq!(recorded, faults);
}

fn with_path(path: &str, bytes: &[u8]) -> Vec<u8> {
    let at = bytes.windows(4).position(|window| window == b"PATH");
    match at {
        Some(at) => [&bytes[..at], path.as_bytes(), &bytes[at + 4..]].concat(),
        None => bytes.to_vec(),
    }
}

#[tokio::test]
async fn malformed_heads_are_refused_and_recorded() {
    all_are_refused(HEADS, with_path).await;
}

#[tokio::test]
async fn heads_that_are_understood_are_refused_and_the_next_request_is_served() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut wrong = Vec::new();

    for (name, bytes, status, fault) in JUDGED {
        let path = format!("/{name}");
        let mut client = rig.client().await;
        client.send(with_path(&path, bytes)).await;
        let response = client.response().await;
        if response.status != *status || !response.text().contains(fault) {
            wrong.push(format!("{path}: answered {} {}", response.status, response.text()));
        }
        let open = response.get("connection").as_deref() != Some("close");
        if open && client.try_send(HIDDEN).await.is_ok() && client.response().await.text() != "a" {
            wrong.push(format!("{path}: the next request was not served"));
        }
        rig.record_where(&path, |record| record["fault"] == *fault).await;
    }

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(upstream.requests().iter().all(|request| request.target() == "/hidden"), "{:?}", upstream.requests());
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_recorded() {
    all_are_refused(FRAMING, with_path).await;
}

#[tokio::test]
async fn malformed_chunks_are_refused_and_recorded() {
    all_are_refused(CHUNKS, |path, body| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        [head.as_bytes(), body].concat()
    })
    .await;
}

#[tokio::test]
async fn heads_beyond_their_bounds_are_refused_with_the_status_that_says_so() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let many: String = (0..101).map(|index| format!("X-{index}: y\r\n")).collect();

    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000));
    let long_head = format!("GET /head HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let many_fields = format!("GET /fields HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    let cases =
        [(long_target, 414, "uri_too_long"), (long_head, 431, "head_too_large"), (many_fields, 431, "head_too_large")];
    for (bytes, status, fault) in cases {
        let mut client = rig.client().await;
        drop(client.try_send(bytes).await);
        let response = client.response().await;
        assert_eq!(response.status, status, "{fault}: {}", response.text());
        assert!(response.text().contains(fault));
        rig.record_where(fault, |record| record["fault"] == fault).await;
    }

    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_their_order() {
    let upstream = Upstream::answering(|request| crate::rig::upstream::named(request.target())).await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    let requests: String = (0..5).map(|index| format!("GET /{index} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests).await;

    for index in 0..5 {
        assert_eq!(client.response().await.text(), format!("/{index}"));
    }
}

#[tokio::test]
async fn empty_lines_before_a_request_are_forgiven() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    // RFC 9112 §2.2: at least one empty line received before the request line should be ignored.
    client.send("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;

    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn old_clients_are_served_and_their_connection_closed() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("GET /old HTTP/1.0\r\nHost: a\r\n\r\n").await;

    assert_eq!(client.response().await.text(), "a");
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn chunk_extensions_are_dropped_and_the_content_kept() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\n\r\n").await;

    assert_eq!(client.response().await.status, 200);
    assert_eq!(upstream.received(1).await[0].body, b"abc");
}
