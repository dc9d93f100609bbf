//! The page that operators look at: what it is allowed to do, that it lives, and what it never shows.

use crate::rig::{Peer, Response, Rig, Upstream, soon};
use crate::sinks::ask;

const TOKEN: &str = "0123456789abcdefghij";

async fn rig(upstreams: &[&Upstream]) -> Rig {
    let rig = Rig::setup().admin("token = { file = \"token\" }").file("token", TOKEN);
    upstreams.iter().fold(rig, |rig, upstream| rig.endpoint(upstream)).start().await
}

fn authorized() -> String {
    format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n")
}

/// A viewer's stream, its head read.
async fn watch(rig: &Rig) -> (Peer, Response) {
    let mut viewer = Peer::connect(rig.admin).await;
    viewer.send(format!("GET /dashboard/live HTTP/1.1\r\nHost: {}\r\n\r\n", rig.admin)).await;
    let head = viewer.response_head().await;
    (viewer, head)
}

/// The next event of a fragment, when `wanted` is in it.
async fn fragment(viewer: &mut Peer, id: &str, wanted: &str) -> String {
    soon(&format!("{wanted} in {id}"), async {
        let mut event = String::new();
        let mut ours = false;
        loop {
            // Up to the end of a chunk, which has lines of its own.
            for line in viewer.line().await.split('\n') {
                if let Some(name) = line.strip_prefix("event: ") {
                    (ours, event) = (name.trim() == id, String::new());
                } else if ours && line.starts_with("data: ") {
                    event.push_str(line);
                    if event.contains(wanted) {
                        return event;
                    }
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn page_runs_nothing_that_the_proxy_did_not_serve() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&[&upstream]).await;

    let page = rig.admin("/").await;

    assert_eq!(page.status, 200);
    assert_eq!(page.get("content-type").unwrap(), "text/html; charset=utf-8");
    let policy = page.get("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (field, value) in
        [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("cache-control", "no-store")]
    {
        assert_eq!(page.get(field).unwrap(), value);
    }
    let text = page.text();
    for inline in [" style=", "<style", " onclick=", "javascript:", "//cdn", "https://"] {
        assert!(!text.contains(inline), "{inline} in the page");
    }
    assert!(text.contains(&upstream.address.to_string()) && text.contains("id=\"tiles\""), "{text}");
    for (path, kind) in
        [("/dashboard.js", "text/javascript"), ("/dashboard.css", "text/css"), ("/dashboard.svg", "image/svg+xml")]
    {
        let asset = rig.admin(path).await;
        assert_eq!(asset.status, 200, "{path}");
        assert!(asset.get("content-type").unwrap().starts_with(kind), "{path}");
    }
}

#[tokio::test]
async fn page_is_refused_under_a_foreign_name_and_never_changed_by_a_request_for_it() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&[&upstream]).await;

    for path in ["/", "/dashboard/live", "/overview"] {
        let mut rebound = Peer::connect(rig.admin).await;
        rebound.send(format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n")).await;
        assert_eq!(rebound.response().await.status, 421, "{path}");
        assert_eq!(rig.change(path, &authorized(), "{}").await.status, 405, "{path}");
    }
}

#[tokio::test]
async fn viewer_sees_a_drain_and_a_ban_as_they_happen() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let rig = rig(&[&a, &b]).await;
    let (mut viewer, head) = watch(&rig).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.get("content-type").unwrap(), "text/event-stream");
    fragment(&mut viewer, "pools", "is-unknown").await;

    let drain = format!(r#"{{"pool": "app", "endpoint": "{}"}}"#, a.address);
    assert_eq!(rig.change("/drain", &authorized(), &drain).await.status, 200);
    fragment(&mut viewer, "pools", "badge is-drained").await;
    fragment(&mut viewer, "events", "drained: by an operator").await;

    let ban = r#"{"who": "203.0.113.9", "reason": "<script>alert(1)</script>"}"#;
    assert_eq!(rig.change("/ban", &authorized(), ban).await.status, 200);

    let bans = fragment(&mut viewer, "bans", "203.0.113.9").await;
    assert!(!bans.contains("<script"), "{bans}");
}

#[tokio::test]
async fn viewer_sees_a_sink_that_fails_fills_its_spool_loses_records_and_recovers() {
    let (upstream, folder) = (Upstream::named("a").await, tempfile::tempdir().unwrap());
    let address = Upstream::nobody().await;
    let dir = folder.path().display();
    let sink = format!(
        "[[access_log.sinks]]\nname = \"central\"\nspool = {{ dir = \"{dir}\", size = \"64KiB\" }}\n\
         http = {{ to = {{ url = \"http://{address}/\" }} }}\nbatch = {{ linger = \"20ms\" }}\n"
    );
    let rig = Rig::setup().endpoint(&upstream).rest(&sink).start().await;
    let (mut viewer, _) = watch(&rig).await;

    ask(&rig, "/x", 60).await;
    let alerts = fragment(&mut viewer, "alerts", "The spool of central is ").await;
    assert!(alerts.contains("The sink central is failing."), "{alerts}");
    // Some 700 bytes each: more than there is room for.
    for _ in 0..4 {
        ask(&rig, "/x", 40).await;
        rig.status_where("an empty queue", |status| crate::sinks::sink(status)["queue"] == 0).await;
    }
    fragment(&mut viewer, "alerts", "central loses records, ").await;
    let _receiver = Upstream::named_at(&address.to_string(), "r").await.unwrap();
    // Its next attempt may be ten seconds away.
    rig.status_long("a recovery", |status| crate::sinks::sink(status)["state"] == "working").await;
    fragment(&mut viewer, "events", "works again").await;

    let alerts = fragment(&mut viewer, "alerts", "central has lost ").await;
    assert!(!alerts.contains("is failing") && !alerts.contains("full"), "{alerts}");
    let overview: serde_json::Value = serde_json::from_slice(&rig.admin("/overview").await.body).unwrap();
    let notes: Vec<&str> =
        overview["events"].as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap()).collect();
    assert!(notes[0] == "works again" && notes[1].starts_with("is failing: "), "{notes:?}");
}

#[tokio::test]
async fn viewers_are_bounded_and_give_their_places_back() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&[&upstream]).await;
    let mut viewers = Vec::new();
    for _ in 0..32 {
        let (viewer, head) = watch(&rig).await;
        assert_eq!(head.status, 200);
        viewers.push(viewer);
    }

    let (_, refused) = watch(&rig).await;
    assert_eq!(refused.status, 503);
    assert!(refused.get("retry-after").is_some());
    assert_eq!(rig.admin("/ready").await.status, 200);

    drop(viewers);
    soon("a free place", async { while watch(&rig).await.1.status != 200 {} }).await;
}

#[tokio::test]
async fn errors_are_shown_by_cause_and_rates_by_pool() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&[&upstream]).await;
    for _ in 0..5 {
        assert_eq!(rig.get("/").await.status, 200);
    }
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);

    let seen = soon("the next look", async {
        loop {
            let overview: serde_json::Value = serde_json::from_slice(&rig.admin("/overview").await.body).unwrap();
            if overview["errors"][0]["total"] == 1 && overview["pools"][0]["per_second"].as_f64().unwrap() > 0.0 {
                return overview;
            }
        }
    })
    .await;

    assert_eq!(seen["errors"][0]["last_minute"], 1);
    assert!(seen["latency"]["p99_ms"].as_f64().unwrap() > 0.0, "{seen}");
    assert!(seen["pools"][0]["endpoints"][0]["per_second"].as_f64().unwrap() > 0.0, "{seen}");
    assert_eq!(seen["pools"][0]["endpoints"][0]["mark"], "unknown");
}

#[tokio::test]
async fn reload_says_what_it_changed_and_a_refused_one_why() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().process("watch_files = false\ndrain_timeout = \"20s\"").endpoint(&upstream).start().await;
    let config = rig.config();

    rig.write_config(&config.replace("drain_timeout = \"20s\"", "drain_timeout = \"25s\""));
    rig.signal("HUP").await;
    let status =
        rig.status_where("two generations", |status| status["generations"].as_array().unwrap().len() == 2).await;
    assert_eq!(status["generations"][0]["changes"], serde_json::json!(["process.drain_timeout: 20s → 25s"]));
    rig.write_config("nonsense = 1");
    rig.signal("HUP").await;
    let status = rig.status_where("a refusal", |status| status["generations"].as_array().unwrap().len() == 3).await;

    assert!(status["generations"][0]["error"].as_str().unwrap().contains("nonsense"), "{status}");
    assert!(rig.admin("/").await.text().contains("The configuration on disk was refused"));
}

#[tokio::test]
async fn top_prints_a_picture_for_a_pipe() {
    let upstream = Upstream::named("a").await;
    let rig = rig(&[&upstream]).await;

    let (well, said) = rig.command(&["top", "--once", "--admin", &rig.admin.to_string()]).await;

    assert!(well, "{said}");
    let line =
        said.lines().find(|line| line.contains(&upstream.address.to_string())).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(" unknown "), "{said}");
    assert!(said.contains("POOL / ENDPOINT") && !said.contains('\x1b'), "{said}");
}
