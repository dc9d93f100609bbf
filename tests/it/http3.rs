//! What works over HTTP/2 works over HTTP/3.

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::rig::h3::{reply, request};
use crate::rig::{H3, Rig, Upstream};

#[tokio::test]
async fn request_over_http3_is_forwarded_answered_and_recorded() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;
    let mut client = rig.h3().await;

    let answer = client.get("/one?two").await;

    assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::OK, b"a".as_slice()));
    assert_eq!(answer.get("x-name"), Some("a"));
    assert!(answer.get("x-request-id").is_some() && answer.get("date").is_some());
    let seen = &upstream.received(1).await[0];
    assert_eq!(seen.target(), "/one?two");
    assert_eq!(seen.head.get("host").unwrap(), "test");
    assert_eq!(seen.head.get("via").unwrap(), "3 sluicegate");
    assert_eq!(seen.head.get("x-forwarded-proto").unwrap(), "https");
    let record = rig.record_where("the record", |record| record["protocol"] == "h3").await;
    assert_eq!(record["status"], 200);
    assert_eq!(record["end"], "--");
    assert_eq!(record["tls"], "TLSv1.3");
    assert_eq!(rig.metric("sluicegate_exchanges_total{listener=\"secure\",protocol=\"h3\",status=\"2xx\"}").await, 1.0);
}

#[tokio::test]
async fn answers_over_tcp_name_http3_on_the_bound_port() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;
    let expected = format!("h3=\":{}\"; ma=86400", rig.secure.port());

    let over_h2 = rig.h2().await.get("/").await;
    let mut over_h1 = rig.secure_client().await;
    over_h1.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;

    assert_eq!(over_h2.get("alt-svc"), Some(expected.as_str()));
    assert_eq!(over_h1.response().await.head.get("alt-svc").as_deref(), Some(expected.as_str()));
    assert_eq!(rig.get("/").await.head.get("alt-svc"), None, "a plain listener has no HTTP/3");
}

#[tokio::test]
async fn advertised_port_may_be_another() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup()
        .secure("http3 = { advertised_port = 443, advertise_for = \"60s\" }")
        .endpoint(&upstream)
        .start()
        .await;

    assert_eq!(rig.h2().await.get("/").await.get("alt-svc"), Some("h3=\":443\"; ma=60"));
}

#[tokio::test]
async fn upload_arrives_whole_with_its_trailers() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;
    let mut client = rig.h3().await;
    let body: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).take(3_000_000).collect();

    let mut stream = client.start(request(Method::POST, "/upload")).await;
    for piece in body.chunks(70_001) {
        stream.send_data(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    stream.finish().await.unwrap();
    let answer = reply(&mut stream).await.unwrap();

    assert_eq!(answer.status, StatusCode::OK);
    assert!(upstream.received(1).await[0].body == body);
}

#[tokio::test]
async fn connection_serves_many_requests_at_once() {
    let upstream = Upstream::answering(|request| {
        let body = request.target().repeat(5_000);
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
    .await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;
    let mut client = rig.h3().await;

    let mut streams = Vec::new();
    for number in 0..40 {
        let mut stream = client.start(request(Method::GET, &format!("/{number}"))).await;
        stream.finish().await.unwrap();
        streams.push(stream);
    }

    for (number, mut stream) in streams.into_iter().enumerate() {
        let answer = reply(&mut stream).await.unwrap();
        assert!(answer.broken.is_none());
        assert!(answer.body == format!("/{number}").repeat(5_000).as_bytes(), "{number}");
    }
}

#[tokio::test]
async fn subject_of_a_client_certificate_reaches_the_endpoint() {
    let upstream = Upstream::named("a").await;
    let secure = "http3 = true\n[listeners.tls.client_certificates]\nauthorities = \"DIR/ca.pem\"";
    let rig = Rig::setup().secure(secure).endpoint(&upstream).start().await;

    let mut known = H3::connect(rig.secure, rig.pki.client("h3", true)).await.unwrap();
    assert_eq!(known.get("/").await.status, StatusCode::OK);
    let unknown = H3::connect(rig.secure, rig.pki.client("h3", false)).await;

    let subject = upstream.received(1).await[0].head.get("x-client-certificate-subject").unwrap();
    assert_eq!(subject, "CN=client of a test");
    // The client may have taken the handshake for done before it is refused.
    if let Ok(refused) = unknown {
        drop(refused.ended().await);
    }
    assert_eq!(upstream.requests().len(), 1);
}
