//! The shield: lists and rules, as clients and operators see them.

use std::fs;
use std::net::SocketAddr;

use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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
        "[[rules]]\nname = \"seen\"\nmode = \"observe\"\npath = \"/api/secret\"\naction = \"drop\"\n\
         [[rules]]\nname = \"no-secrets\"\npath = \"/api/secret\"\naction = \"deny\"\nstatus = 404\n",
    )
    .await;

    let denied = rig.get("/api/secret/plan").await;
    let other = rig.get("/api/secretary").await;

    assert_eq!((denied.status, other.status), (404, 200));
    assert!(denied.text().contains("denied") && !denied.text().contains("no-secrets"), "{}", denied.text());
    let record = rig.record("/api/secret/plan").await;
    assert_eq!(record["fault"], "denied");
    assert_eq!(
        record["verdicts"],
        json!([
            { "rule": "seen", "action": "drop", "mode": "observed" },
            { "rule": "no-secrets", "action": "deny", "mode": "enforced" },
        ])
    );
    assert_eq!(record["request_id"], denied.get("x-request-id").unwrap());
    assert!(rig.record("/api/secretary").await["verdicts"].is_null());
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

    // More than once: a change that comes before the new file is watched tells nobody.
    let mut list = "127.0.0.0/8 # everybody\n".to_owned();
    soon("a third generation", async {
        while rig.status().await["generation"].as_u64() < Some(3) {
            list.push_str("# still everybody\n");
            fs::write(rig.directory.path().join("deny.txt"), &list).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    })
    .await;

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

#[tokio::test]
async fn probes_add_up_to_a_ban_and_honest_requests_do_not() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&upstream, "[shield]\nban_private = true\n").await;

    for _ in 0..50 {
        assert_eq!(rig.get("/api/v1/chart/?q=(filters:!((value:'a')))").await.status, 200);
    }
    let mut refused = Vec::new();
    for path in ["/.env", "/wp-login.php", "/.git/config", "/a.php", "/actuator/env"] {
        refused.push(rig.get(path).await.status);
    }
    let banned = rig.get("/superset/welcome/").await;

    assert_eq!(refused, [403; 5]);
    assert_eq!(banned.status, 403);
    assert_eq!(rig.record("/superset/welcome/").await["fault"], "banned");
    assert_eq!(rig.record("/.env").await["verdicts"][0]["rule"], "shield.probe");
    let event = rig.event("client banned").await;
    assert_eq!(crate::rig::field(&event, "cause"), "shield.probe");
}

#[tokio::test]
async fn private_address_is_refused_but_never_banned_unless_that_is_wanted() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&upstream, "").await;

    for _ in 0..20 {
        assert_eq!(rig.get("/.env").await.status, 403);
    }

    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn client_that_mostly_misses_is_banned_and_one_that_misses_at_times_is_not() {
    let upstream = Upstream::answering(|request| {
        let status = if request.target().contains("missing") { "404 Not Found" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let rig = rig(&upstream, "[shield]\nban_private = true\n").await;
    let mut client = rig.client().await;
    let mut ask = async |path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nUser-Agent: curl/8\r\n\r\n")).await;
        client.response().await.status
    };

    for _ in 0..60 {
        assert_eq!(ask("/api/v1/missing").await, 404);
        for _ in 0..10 {
            assert_eq!(ask("/api/v1/me/").await, 200);
        }
    }
    let mut last = 404;
    for _ in 0..60 {
        last = ask("/api/v1/missing").await;
        if last == 403 {
            break; // a ban ends the connection
        }
    }

    assert_eq!(last, 403);
    let record = rig.record_where("a miss too many", |record| record["verdicts"][0]["rule"] == "shield.misses").await;
    assert_eq!(record["verdicts"][0]["mode"], "enforced");
}

#[tokio::test]
async fn tls_fingerprint_is_in_the_record_and_a_rule_can_ask_for_it() {
    let upstream = Upstream::named("a").await;
    let rig = rig(
        &upstream,
        "[[rules]]\nname = \"any-tls\"\nfingerprint = \"t13d*h2_*\"\npath = \"/x\"\naction = \"deny\"\n",
    )
    .await;

    let mut h1 = rig.secure_client().await;
    h1.send("GET /x?h1 HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let over_h1 = h1.response().await.status;
    let over_h2 = rig.h2().await.get("/x?h2").await.status;
    let plain = rig.get("/x?plain").await.status;

    assert_eq!((over_h1, over_h2.as_u16(), plain), (200, 403, 200));
    let fingerprint = rig.record("/x?h2").await["ja4"].as_str().unwrap().to_owned();
    assert!(fingerprint.len() == 36 && fingerprint.starts_with("t13d"), "{fingerprint}");
    assert!(rig.record("/x?h1").await["ja4"].as_str().unwrap().contains("h1_"));
    assert!(rig.record("/x?plain").await["ja4"].is_null());
}

/// The address of a relay that passes on at most seven bytes at a time.
async fn in_pieces(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(to).await.unwrap();
        server.set_nodelay(true).unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut piece = [0; 7];
        while let Ok(length @ 1..) = from_client.read(&mut piece).await {
            to_server.write_all(&piece[..length]).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    address
}

#[tokio::test]
async fn client_hello_in_small_pieces_is_still_understood() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&upstream, "").await;

    let mut client = rig.pki.connect(in_pieces(rig.secure).await, "http/1.1", false).await.unwrap();
    client.send("GET /pieces HTTP/1.1\r\nHost: test\r\n\r\n").await;

    assert_eq!(client.response().await.status, 200);
    assert!(rig.record("/pieces").await["ja4"].as_str().unwrap().starts_with('t'));
}

#[tokio::test]
async fn host_of_nobody_is_misdirected_and_upload_of_another_type_not_taken() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup()
        .endpoint(&upstream)
        .rest("[[routes]]\npool = \"app\"\nhost = [\"bi.test\", \"*.bi.test\"]\n")
        .start()
        .await;
    let ask = async |host: &str, rest: &str| {
        let mut client = rig.client().await;
        client
            .send(format!("POST /api/v1/chart/import/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n{rest}\r\n{{}}"))
            .await;
        client.response().await.status
    };

    assert_eq!(ask("other.test", "").await, 421);
    assert_eq!(ask("bi.test", "Content-Type: application/x-php\r\n").await, 415);
    assert_eq!(ask("bi.test", "").await, 415);
    assert_eq!(ask("a.bi.test", "Content-Type: Multipart/Form-Data; boundary=x\r\n").await, 200);
}

#[tokio::test]
async fn route_to_other_software_is_not_measured_by_superset() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&upstream, "[[routes]]\npath = \"/blog\"\npool = \"app\"\nshield = false\n").await;

    assert_eq!(rig.get("/blog/wp-login.php").await.status, 200);
    assert_eq!(rig.get("/wp-login.php").await.status, 403);
}

#[tokio::test]
async fn flood_over_http2_is_an_offence() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup()
        .endpoint(&upstream)
        .secure("http2 = { max_error_resets = 3 }")
        .rest("[shield]\nban_private = true\n[bans]\npoints = 5\n")
        .start()
        .await;
    let h2 = rig.h2().await;

    let mut sender = h2.ready().await;
    for _ in 0..8 {
        let mut odd = request(Method::GET, "/x");
        odd.headers_mut().insert("x", http::HeaderValue::from_static(" a"));
        match sender.send_request(odd, true) {
            Ok((response, _)) => drop(try_reply(response).await),
            Err(_) => break,
        }
        match sender.clone().ready().await {
            Ok(ready) => sender = ready,
            Err(_) => break,
        }
    }

    let event = rig.event("client banned").await;
    assert_eq!(crate::rig::field(&event, "cause"), "shield.flood");
    assert_eq!(rig.get("/").await.status, 403);
}
