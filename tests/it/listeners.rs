//! The client's side of a connection: redirects, PROXY protocol, certificates, caps.

use tokio::net::TcpStream;

use crate::rig::{Peer, Rig, Upstream};

#[tokio::test]
async fn plain_listener_redirects_and_still_answers_health() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("redirect_to_https = { port = 8443 }").endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("GET /x?y=1 HTTP/1.1\r\nHost: bi.example.com:8080\r\n\r\n").await;
    let redirect = client.response().await;
    client.send("GET /health HTTP/1.1\r\nHost: bi.example.com\r\n\r\n").await;
    let health = client.response().await;

    assert_eq!(redirect.status, 308);
    assert_eq!(redirect.get("location").as_deref(), Some("https://bi.example.com:8443/x?y=1"));
    assert_eq!(health.text(), "a");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn redirect_to_the_usual_port_names_none() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("redirect_to_https = true").endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("GET / HTTP/1.1\r\nHost: bi.example.com\r\n\r\n").await;

    assert_eq!(client.response().await.get("location").as_deref(), Some("https://bi.example.com/"));
}

#[tokio::test]
async fn hsts_is_sent_over_tls_only() {
    let upstream = Upstream::named("a").await;
    let lines = "hsts = { max_age = \"1d\", include_subdomains = true }";
    let rig = Rig::setup().plain(lines).secure(lines).endpoint(&upstream).start().await;

    let plain = rig.get("/").await;
    let secure = rig.h2().await.get("/").await;

    assert_eq!(plain.get("strict-transport-security"), None);
    assert_eq!(secure.get("strict-transport-security"), Some("max-age=86400; includeSubDomains"));
}

#[tokio::test]
async fn proxy_header_of_a_trusted_network_names_the_client() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("proxy_protocol = [\"127.0.0.0/8\"]").endpoint(&upstream).start().await;
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend_from_slice(&[203, 0, 113, 8, 127, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb]);

    for (header, client_address) in
        [(b"PROXY TCP4 203.0.113.7 127.0.0.1 12345 443\r\n".to_vec(), "203.0.113.7"), (v2, "203.0.113.8")]
    {
        let mut client = rig.client().await;
        client.send([&header[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
        assert_eq!(client.response().await.status, 200);
        assert_eq!(upstream.requests().last().unwrap().head.get("x-forwarded-for").as_deref(), Some(client_address));
    }
}

#[tokio::test]
async fn trusted_network_without_a_proxy_header_is_not_served() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("proxy_protocol = [\"127.0.0.0/8\"]").endpoint(&upstream).start().await;

    for bytes in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 nonsense\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = rig.client().await;
        client.send(bytes).await;
        assert!(client.rest().await.is_empty());
    }

    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn proxy_header_of_a_stranger_is_no_request() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("proxy_protocol = [\"10.0.0.0/8\"]").endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send("PROXY TCP4 203.0.113.7 127.0.0.1 12345 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;

    assert_eq!(client.response().await.status, 400);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn proxy_header_comes_before_tls() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("proxy_protocol = [\"127.0.0.0/8\"]").endpoint(&upstream).start().await;
    let mut stream = TcpStream::connect(rig.secure).await.unwrap();

    tokio::io::AsyncWriteExt::write_all(&mut stream, b"PROXY TCP6 2001:db8::7 ::1 12345 443\r\n").await.unwrap();
    let mut client = rig.pki.over(stream, "http/1.1", false).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;

    assert_eq!(client.response().await.status, 200);
    assert_eq!(upstream.requests()[0].head.get("x-real-ip").as_deref(), Some("2001:db8::7"));
}

#[tokio::test]
async fn client_certificate_is_demanded_and_its_subject_passed_on() {
    let upstream = Upstream::named("a").await;
    let setup = Rig::setup().secure("[listeners.tls.client_certificates]\nauthorities = \"DIR/ca.pem\"");
    let rig = setup.endpoint(&upstream).start().await;

    let mut with = rig.pki.connect(rig.secure, "http/1.1", true).await.unwrap();
    with.send("GET / HTTP/1.1\r\nHost: a\r\nX-Client-Certificate-Subject: CN=forged\r\n\r\n").await;
    assert_eq!(with.response().await.status, 200);
    // In TLS 1.3 the client learns of it after its own part of the handshake.
    if let Ok(mut without) = rig.pki.connect(rig.secure, "http/1.1", false).await {
        drop(without.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await);
        assert!(without.rest().await.is_empty());
    }

    let seen = upstream.requests();
    assert_eq!(seen.len(), 1);
    let subject = seen[0].head.get("x-client-certificate-subject").unwrap();
    assert!(subject.contains("CN=client of a test") && !subject.contains("forged"), "{subject}");
}

#[tokio::test]
async fn connections_of_one_client_are_bounded() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().plain("max_connections_per_client = 2").endpoint(&upstream).start().await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = rig.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.response().await;
        open.push(client);
    }

    let mut refused = rig.client().await;
    assert!(refused.rest().await.is_empty());
    open.pop();
    rig.status_where("one is gone", |status| status["listeners"][0]["connections"] == 1).await;

    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn plain_http_on_a_tls_port_does_no_harm() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = Peer::connect(rig.secure).await;

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    drop(client.rest().await);

    assert_eq!(rig.secure_client().await.number, 0);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn endpoint_may_speak_tls() {
    let rest = "[[routes]]\npool = \"app\"";
    let inner = Upstream::named("inner").await;
    let inside = Rig::setup().endpoint(&inner).start().await;
    let pool = format!(
        "tls = {{ server_name = \"localhost\", authorities = \"{}\" }}",
        inside.directory.path().join("ca.pem").display()
    );
    let outside = Rig::setup().endpoint_at(inside.secure, 1).pool(&pool).rest(rest).start().await;
    let wrong = Rig::setup().endpoint_at(inside.secure, 1).pool("tls = { server_name = \"localhost\" }").start().await;

    assert_eq!(outside.get("/").await.text(), "inner");
    assert_eq!(wrong.get("/wrong").await.status, 502);
    assert_eq!(wrong.record("/wrong").await["fault"], "upstream_tls");
}

#[tokio::test]
async fn admin_listener_is_not_the_proxy() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    assert_eq!(rig.admin("/nothing").await.status, 404);
    assert!(upstream.requests().is_empty());
}
