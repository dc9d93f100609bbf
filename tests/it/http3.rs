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

/// Another configuration beside the running one, whose listener with TLS has an address of its own.
fn beside(rig: &Rig, address: &str) -> String {
    let named = "name = \"secure\"\naddress = ";
    rig.config().replace(&format!("{named}\"127.0.0.1:0\""), &format!("{named}\"{address}\""))
}

#[tokio::test]
async fn udp_port_that_is_taken_keeps_the_process_from_starting_and_is_named() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;
    // An address that no other test has, so that TCP is free on whatever port this is.
    let taken = std::net::UdpSocket::bind("127.77.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(rig.directory.path().join("taken.toml"), beside(&rig, &address)).unwrap();

    let (well, said) = rig.command(&["run", "--config", "taken.toml"]).await;

    assert!(!well, "{said}");
    assert!(said.contains(&address) && said.contains("UDP") && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn port_that_the_system_chooses_is_the_same_for_tcp_and_udp() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;

    let told = rig.event("listening for HTTP/3").await;

    assert_eq!(crate::rig::field(&told, "address"), &rig.secure.to_string());
    let (h2, mut h3) = (rig.h2().await, rig.h3().await);
    assert_eq!(h2.get("/").await.body, b"a");
    assert_eq!(h3.get("/").await.body, b"a");
}

#[tokio::test]
async fn http3_on_a_plain_listener_is_a_finding() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let plain = rig.config().replace("name = \"plain\"", "name = \"plain\"\nhttp3 = true");
    std::fs::write(rig.directory.path().join("plain.toml"), plain).unwrap();

    let (well, said) = rig.command(&["check", "plain.toml"]).await;

    assert!(!well, "{said}");
    assert!(said.contains("http3") && said.contains("needs TLS, and this listener is plain"), "{said}");
    assert!(said.contains("plain.toml:"), "{said}");
}

#[tokio::test]
async fn open_connections_are_counted_by_protocol() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;
    let speaking = |status: &serde_json::Value, protocol: &str| status["listeners"][1]["speaking"][protocol].clone();

    let (mut h1, h2, mut h3) = (rig.secure_client().await, rig.h2().await, rig.h3().await);
    h1.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    h1.response().await;
    h2.get("/").await;
    h3.get("/").await;
    let status = rig.status().await;
    let protocols = ["h1", "h2", "h3"];
    assert_eq!(protocols.map(|protocol| speaking(&status, protocol)), [1, 1, 1].map(serde_json::Value::from));
    assert_eq!(rig.metric("sluicegate_connections_speaking{listener=\"secure\",protocol=\"h3\"}").await, 1.0);

    h3.endpoint.close(quinn::VarInt::from_u32(0x100), b"");

    rig.status_where("its end", |status| speaking(status, "h3") == 0).await;
}
