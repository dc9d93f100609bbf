//! The shield: lists and rules, as clients and operators see them.

use std::fs;

use http::Method;
use serde_json::json;

use crate::rig::h2::{request, try_reply};
use crate::rig::{Rig, Upstream, soon};

async fn rig(upstream: &Upstream, rest: &str) -> Rig {
    Rig::setup().endpoint(upstream).rest(&format!("[[routes]]\npool = \"app\"\n{rest}")).start().await
}

#[tokio::test]
async fn denied_request_reaches_no_endpoint_and_its_record_names_the_rule() {
    let upstream = Upstream::named("a").await;
    let rig = rig(
        &upstream,
        "[[rules]]\nname = \"seen\"\nmode = \"observe\"\npath = \"/secret\"\naction = \"drop\"\n\
         [[rules]]\nname = \"no-secrets\"\npath = \"/secret\"\naction = \"deny\"\nstatus = 404\n",
    )
    .await;

    let denied = rig.get("/secret/plan").await;
    let other = rig.get("/secretary").await;

    assert_eq!((denied.status, other.status), (404, 200));
    assert!(denied.text().contains("denied") && !denied.text().contains("no-secrets"), "{}", denied.text());
    let record = rig.record("/secret/plan").await;
    assert_eq!(record["fault"], "denied");
    assert_eq!(
        record["verdicts"],
        json!([
            { "rule": "seen", "action": "drop", "mode": "observed" },
            { "rule": "no-secrets", "action": "deny", "mode": "enforced" },
        ])
    );
    assert_eq!(record["request_id"], denied.get("x-request-id").unwrap());
    assert!(rig.record("/secretary").await["verdicts"].is_null());
    assert_eq!(upstream.requests().len(), 1);
    let verdicts = |rule: &str, action: &str, mode: &str| {
        format!("sluicegate_verdicts_total{{rule=\"{rule}\",action=\"{action}\",mode=\"{mode}\"}}")
    };
    assert_eq!(rig.metric(&verdicts("no-secrets", "deny", "enforced")).await, 1.0);
    assert_eq!(rig.metric(&verdicts("seen", "drop", "observed")).await, 1.0);
    assert_eq!(rig.metric(&verdicts("seen", "drop", "enforced")).await, 0.0);
}

#[tokio::test]
async fn dropped_request_gets_no_byte_and_a_record() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&upstream, "[[rules]]\nname = \"gone\"\npath = \"/gone\"\naction = \"drop\"\n").await;

    let mut client = rig.client().await;
    client.send("GET /gone?1 HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(client.rest().await.is_empty());
    let h2 = rig.h2().await;
    let (response, _) = h2.start(request(Method::GET, "/gone?2"), true).await;
    assert!(soon("a reset", try_reply(response)).await.is_err());

    for path in ["/gone?1", "/gone?2"] {
        let record = rig.record(path).await;
        assert_eq!(record["fault"], "dropped");
        assert!(record["status"].is_null());
        assert_eq!(record["verdicts"][0]["rule"], "gone");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn tarpit_holds_back_as_many_as_it_may_and_denies_the_others_at_once() {
    let upstream = Upstream::named("a").await;
    let rig = rig(
        &upstream,
        "[shield]\nmax_tarpits = 1\n[[rules]]\nname = \"slow\"\npath = \"/slow\"\naction = \"tarpit\"\ndelay = \"1s\"\n",
    )
    .await;

    let (first, second) = tokio::join!(rig.get("/slow?1"), rig.get("/slow?2"));

    assert_eq!((first.status, second.status), (403, 403));
    let mut waits = Vec::new();
    for path in ["/slow?1", "/slow?2"] {
        waits.push(rig.record(path).await["total_ms"].as_f64().unwrap());
    }
    assert_eq!(waits.iter().filter(|wait| **wait >= 1_000.0).count(), 1, "{waits:?}");
}

#[tokio::test]
async fn list_in_a_file_is_read_again_when_it_changes() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    assert_eq!(rig.get("/").await.status, 200);
    fs::write(rig.directory.path().join("deny.txt"), "# nobody\n").unwrap();
    rig.write_config(&format!("{}\n[shield]\ndeny.files = [\"deny.txt\"]\n", rig.config()));
    rig.status_where("the second generation", |status| status["generation"] == 2).await;
    assert_eq!(rig.get("/").await.status, 200);

    fs::write(rig.directory.path().join("deny.txt"), "127.0.0.0/8 # everybody\n").unwrap();
    rig.status_where("the third generation", |status| status["generation"] == 3).await;

    assert_eq!(rig.get("/denied").await.status, 403);
    assert_eq!(rig.record("/denied").await["verdicts"][0]["rule"], "shield.deny_list");
}

#[tokio::test]
async fn token_passes_whom_nobody_else_would_let_and_goes_no_further() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    fs::write(rig.directory.path().join("token"), "open sesame\n").unwrap();
    let shield = "[shield]\ntoken = { file = \"token\" }\ndeny.networks = [\"127.0.0.1\"]\n";
    rig.write_config(&format!("{}\n{shield}", rig.config()));
    rig.status_where("the second generation", |status| status["generation"] == 2).await;
    let ask = async |token: &str| {
        let mut client = rig.client().await;
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-Shield-Token: {token}\r\n\r\n")).await;
        client.response().await.status
    };

    assert_eq!(ask("open sesame").await, 200);
    assert_eq!(ask("open sesam").await, 403);

    assert_eq!(upstream.requests().len(), 1);
    assert!(upstream.requests()[0].head.get("x-shield-token").is_none());
}
