//! Every exchange leaves exactly one record, complete and without secrets.

use crate::rig::{Rig, Upstream};

#[tokio::test]
async fn record_tells_what_happened() {
    let upstream = Upstream::named("content").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.secure_client().await;

    client.send("POST /x?a=1 HTTP/1.1\r\nHost: bi.example.com\r\nUser-Agent: browser\r\nReferer: https://bi.example.com/y\r\nContent-Length: 3\r\n\r\nabc").await;
    let response = client.response().await;
    let record = rig.record("/x?a=1").await;

    for (field, value) in [
        ("v", 1.into()),
        ("kind", "exchange".into()),
        ("request_id", response.get("x-request-id").unwrap().into()),
        ("client", "127.0.0.1".into()),
        ("listener", "secure".into()),
        ("protocol", "h1".into()),
        ("tls", "TLSv1.3".into()),
        ("method", "POST".into()),
        ("host", "bi.example.com".into()),
        ("status", 200.into()),
        ("bytes_in", 3.into()),
        ("bytes_out", 7.into()),
        ("pool", "app".into()),
        ("endpoint", upstream.address.to_string().into()),
        ("end", "--".into()),
        ("user_agent", "browser".into()),
        ("referer", "https://bi.example.com/y".into()),
    ] {
        let value: serde_json::Value = value;
        assert_eq!(record[field], value, "{field} in {record}");
    }
    for field in ["total_ms", "first_byte_ms", "connect_ms", "queue_ms", "receive_ms", "client_port"] {
        assert!(record[field].is_number(), "{field} in {record}");
    }
    assert!(
        record.get("fault").is_none() && record.get("attempts").is_none_or(|all| all.as_array().unwrap().is_empty())
    );
    assert!(record["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn secrets_stay_out_of_records_and_events() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().process("log = \"trace\"").endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client
        .send(
            "GET /login?token=SECRET1&x=1&next=%2Fy%3Fcode%3DSECRET2 HTTP/1.1\r\nHost: a\r\nCookie: session=SECRET3\r\n\
             Authorization: Bearer SECRET4\r\nReferer: https://user:SECRET5@a/z?access_token=SECRET6\r\n\r\n",
        )
        .await;
    client.response().await;
    let record = rig.record_where("the record", |record| record["method"] == "GET").await;

    assert!(record["path"].as_str().unwrap().contains("x=1"), "{record}");
    assert!(!record.to_string().contains("SECRET"), "{record}");
    for event in rig.events.all() {
        assert!(!event.to_string().contains("SECRET"), "{event}");
    }
}

#[tokio::test]
async fn each_exchange_leaves_exactly_one_record() {
    let upstream = Upstream::named("a").await;
    let mut rig = Rig::setup().endpoint(&upstream).start().await;
    let h2 = rig.h2().await;
    futures_util::future::join_all((0..20).map(|_| h2.get("/many"))).await;
    for _ in 0..20 {
        rig.get("/many").await;
    }

    drop(h2);
    rig.signal("TERM").await;
    rig.ended().await;
    crate::rig::soon("40 records", rig.records.find_many(40, |record| record["path"] == "/many")).await;

    let ids: std::collections::BTreeSet<String> =
        rig.records.all().iter().map(|record| record["request_id"].to_string()).collect();
    assert_eq!((rig.records.all().len(), ids.len()), (40, 40));
}

#[tokio::test]
async fn client_cannot_break_a_line() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    client.send(b"GET /odd HTTP/1.1\r\nHost: a\r\nUser-Agent: \"\\\xff\xe4 \tx\r\n\r\n").await;
    client.response().await;

    assert!(rig.record("/odd").await["user_agent"].is_string());
}

#[tokio::test]
async fn faults_are_told_in_the_format_that_is_asked_for() {
    let dead = Upstream::nobody().await;
    let rig = Rig::setup().endpoint_at(dead, 1).start().await;
    let mut client = rig.client().await;

    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html,application/xhtml+xml\r\n\r\n").await;
    let html = client.response().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n").await;
    let json = client.response().await;

    assert!(html.get("content-type").unwrap().starts_with("text/html"));
    assert!(html.text().contains("connect") && html.text().contains(&html.get("x-request-id").unwrap()));
    let body: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!((&body["status"], &body["code"]), (&502.into(), &"connect".into()));
}

#[tokio::test]
async fn own_fault_pages_are_used() {
    let dead = Upstream::nobody().await;
    let page = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(page.path(), "<p>{status} {code} {request_id}</p>").unwrap();
    let rest = format!("[fault_pages]\nhtml = \"{}\"", page.path().display());
    let rig = Rig::setup().endpoint_at(dead, 1).rest(&rest).start().await;
    let mut client = rig.client().await;

    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n").await;
    let response = client.response().await;

    assert_eq!(response.text(), format!("<p>502 connect {}</p>", response.get("x-request-id").unwrap()));
}

#[tokio::test]
async fn records_go_to_a_file_if_wanted() {
    let upstream = Upstream::named("a").await;
    let rest = "[access_log]\npath = \"DIR/access.log\"\nformat = \"combined\"";
    let mut rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;

    rig.get("/filed").await;
    rig.signal("TERM").await;
    rig.ended().await;

    let text = std::fs::read_to_string(rig.directory.path().join("access.log")).unwrap();
    assert!(text.contains("\"GET /filed HTTP/1.1\" 200 1 "), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[tokio::test]
async fn metrics_count_what_was_served() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    for _ in 0..3 {
        rig.get("/").await;
    }
    rig.records.find_many(3, |record| record["kind"] == "exchange").await;

    let sample = "sluicegate_exchanges_total{listener=\"plain\",protocol=\"h1\",status=\"2xx\"}";
    assert_eq!(rig.metric(sample).await, 3.0);
    let text = rig.admin("/metrics").await.text();
    assert!(text.trim_end().ends_with("# EOF") || text.contains("# TYPE"), "{text}");
}
