//! What endpoints are told about the client is true, whatever the client says; everything else passes untouched.

use crate::rig::peer::{Head, Request};
use crate::rig::{Rig, Upstream};

async fn sent_with(rig: &Rig, upstream: &Upstream, fields: &str) -> Head {
    let before = upstream.requests().len();
    let mut client = rig.client().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: bi.example.com:8443\r\n{fields}\r\n")).await;
    client.response().await;
    let seen: Vec<Request> = upstream.received(before + 1).await;
    seen[before].head.clone()
}

#[tokio::test]
async fn forwarded_family_is_overwritten_for_strangers() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    let lies = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
                X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n";
    let head = sent_with(&rig, &upstream, lies).await;

    let count = |name: &str| head.fields.iter().filter(|(field, _)| field == name).count();
    assert_eq!(head.get("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(head.get("x-real-ip").as_deref(), Some("127.0.0.1"));
    assert_eq!(head.get("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(head.get("x-forwarded-host").as_deref(), Some("bi.example.com:8443"));
    assert_eq!(head.get("x-forwarded-port").as_deref(), Some("8443"));
    assert_eq!(head.get("x-forwarded-prefix"), None);
    assert_eq!(head.get("forwarded"), None);
    assert_eq!(head.get("host").as_deref(), Some("bi.example.com:8443"));
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "host"] {
        assert_eq!(count(name), 1, "{name}");
    }
}

#[tokio::test]
async fn fields_keep_the_order_in_which_they_came() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    let head = sent_with(&rig, &upstream, "X-B: 1\r\nCookie: a\r\nX-A: 2\r\nX-B: 3\r\n").await;

    let theirs = ["x-a", "x-b", "cookie"];
    let came: Vec<_> = head.fields.iter().filter(|(name, _)| theirs.contains(&name.as_str())).collect();
    let sent = [("x-b", "1"), ("cookie", "a"), ("x-a", "2"), ("x-b", "3")];
    assert!(came.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(sent), "{came:?}");
}

#[tokio::test]
async fn trusted_proxy_tells_who_the_client_is() {
    let upstream = Upstream::named("a").await;
    let rig =
        Rig::setup().clients("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").endpoint(&upstream).start().await;

    let fields = "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.3\r\nX-Request-Id: from-the-edge\r\n";
    let head = sent_with(&rig, &upstream, fields).await;

    // The rightmost address that is not a trusted proxy's: what stands left of it anybody may have written.
    assert_eq!(head.get("x-real-ip").as_deref(), Some("203.0.113.9"));
    assert_eq!(head.get("x-request-id").as_deref(), Some("from-the-edge"));
    assert_eq!(rig.record("/").await["client"], "203.0.113.9");
}

#[tokio::test]
async fn scheme_and_port_are_true_over_tls_and_http2() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    let mut client = rig.secure_client().await;
    client.send("GET / HTTP/1.1\r\nHost: bi.example.com\r\n\r\n").await;
    client.response().await;
    rig.h2().await.get("/").await;

    for (request, host) in upstream.received(2).await.iter().zip(["bi.example.com", "test"]) {
        assert_eq!(request.head.get("x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(request.head.get("x-forwarded-port").as_deref(), Some("443"));
        assert_eq!(request.head.get("host").as_deref(), Some(host));
        assert_eq!(request.head.get("x-forwarded-host").as_deref(), Some(host));
    }
}

#[tokio::test]
async fn identity_that_a_client_claims_is_removed() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    let claims = "Remote-User: admin\r\nX-Remote-User: admin\r\nX-Forwarded-User: admin\r\nX-Script-Name: /x\r\n\
                  X-Client-Certificate-Subject: CN=admin\r\nX_Forwarded_For: 6.6.6.6\r\nRemote_User: admin\r\n";
    let head = sent_with(&rig, &upstream, claims).await;

    assert!(
        !head.fields.iter().any(|(_, value)| value.contains("admin") || value == "/x" || value == "6.6.6.6"),
        "{head:?}"
    );
}

#[tokio::test]
async fn fields_that_superset_needs_pass_untouched() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let fields = [
        ("referer", "https://bi.example.com:8443/login/"),
        ("origin", "https://bi.example.com:8443"),
        ("cookie", "session=a; other=b"),
        ("x-csrftoken", "token"),
        ("authorization", "Bearer secret"),
        ("accept-encoding", "gzip, br"),
        ("x-guesttoken", "guest"),
    ];

    let text: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = sent_with(&rig, &upstream, &text).await;

    for (name, value) in fields {
        assert_eq!(head.get(name).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn fields_of_one_hop_stay_on_their_hop() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    let fields =
        "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 1\r\nProxy-Connection: close\r\nTE: gzip\r\n";
    let head = sent_with(&rig, &upstream, fields).await;
    let response = rig.get("/").await;

    for name in ["x-mine", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(head.get(name), None, "{name}");
    }
    for name in ["x-hop", "keep-alive"] {
        assert_eq!(response.get(name), None, "{name}");
    }
}

#[tokio::test]
async fn request_has_an_id_that_everybody_sees() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client
        .send("GET /id HTTP/1.1\r\nHost: a\r\nX-Request-Id: forged\r\nTraceparent: forged\r\nTracestate: a=b\r\n\r\n")
        .await;
    let response = client.response().await;

    let id = response.get("x-request-id").unwrap();
    let seen = upstream.received(1).await;
    assert_ne!(id, "forged");
    assert_eq!(seen[0].head.get("x-request-id").unwrap(), id);
    assert_eq!(seen[0].head.get("tracestate"), None, "it belongs to a trace that did not go on");
    let trace = seen[0].head.get("traceparent").unwrap();
    assert!(trace.starts_with("00-") && trace.len() == 55, "{trace}");
    let record = rig.record("/id").await;
    assert_eq!((&record["request_id"], &record["traceparent"]), (&id.into(), &trace.into()));
}

#[tokio::test]
async fn trace_of_a_trusted_proxy_goes_on() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().clients("trusted_proxies = [\"127.0.0.1/32\"]").endpoint(&upstream).start().await;

    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let head = sent_with(&rig, &upstream, &format!("Traceparent: {parent}\r\nTracestate: a=b\r\n")).await;

    let trace = |text: &str| text.split('-').nth(1).map(str::to_owned);
    assert_eq!(trace(&head.get("traceparent").unwrap()), trace(parent));
    assert_eq!(head.get("tracestate").as_deref(), Some("a=b"));
}

#[tokio::test]
async fn rfc_7239_is_spoken_if_wanted() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().clients("forwarded = true").endpoint(&upstream).start().await;

    let head = sent_with(&rig, &upstream, "").await;

    let forwarded = head.get("forwarded").unwrap();
    for part in ["for=127.0.0.1", "proto=http", "host=\"bi.example.com:8443\""] {
        assert!(forwarded.contains(part), "{forwarded}");
    }
}

#[tokio::test]
async fn routes_edit_fields_both_ways() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nX-Old: a\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let rest = "[[routes]]\npool = \"app\"\n\
                request_headers = { remove = [\"x-gone\"], set = { x-set = \"new\" }, add = { x-add = \"more\" } }\n\
                response_headers = { remove = [\"server\"], set = { x-old = \"b\" } }";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;

    let head = sent_with(&rig, &upstream, "X-Gone: 1\r\nX-Set: old\r\nX-Add: one\r\n").await;
    let response = rig.get("/").await;

    assert_eq!(head.get("x-gone"), None);
    assert_eq!(head.get("x-set").as_deref(), Some("new"));
    assert_eq!(head.get("x-add").as_deref(), Some("one, more"));
    assert_eq!((response.get("server"), response.get("x-old").as_deref()), (None, Some("b")));
}
