//! What operators change on a running proxy: who may, and that it holds.

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::rig::{Gate, Peer, Rig, Upstream, field, soon};

const TOKEN: &str = "0123456789abcdefghij";
const JSON: &str = "Content-Type: application/json\r\n";

fn authorized() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n{JSON}")
}

async fn with_token(a: &Upstream, b: &Upstream) -> Rig {
    let pool = format!(
        "endpoints = [{{ address = \"{}\", zone = \"a\" }}, {{ address = \"{}\", zone = \"b\" }}]",
        a.address, b.address
    );
    // The token's file lies beside the configuration.
    Rig::setup()
        .admin("token = { file = \"token\" }\nsocket = \"admin.sock\"")
        .file("token", TOKEN)
        .pool(&pool)
        .start()
        .await
}

fn drain_of(upstream: &Upstream) -> String {
    format!(r#"{{"pool": "app", "endpoint": "{}"}}"#, upstream.address)
}

fn endpoint<'a>(status: &'a Value, upstream: &Upstream) -> &'a Value {
    let endpoints = status["pools"][0]["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["name"] == upstream.address.to_string()).unwrap()
}

#[tokio::test]
async fn nothing_is_changed_over_the_network_without_a_token_configured() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    let answer = rig.change("/drain", JSON, &drain_of(&upstream)).await;

    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("admin.token") && answer.text().contains("admin.socket"), "{}", answer.text());
    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn change_needs_the_token_and_leaves_an_event_in_any_case() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let rig = with_token(&a, &b).await;
    let body = drain_of(&a);

    for wrong in [
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer 0123456789abcdefghiX\r\n",
        "Authorization: Basic eA==\r\n",
    ] {
        let answer = rig.change("/drain", &format!("{wrong}{JSON}"), &body).await;
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.get("www-authenticate").unwrap().starts_with("Bearer"));
    }
    let refused = rig.event("operator change refused").await;
    assert_eq!(field(&refused, "admin.result"), "unauthenticated");
    assert_eq!(rig.change("/drain", &authorized(), &body).await.status, 200);

    let made = rig.event("operator change").await;
    assert_eq!(field(&made, "admin.action"), "drain");
    assert_eq!(*field(&made, "admin.target"), format!("app/{}", a.address));
    assert!(field(&made, "admin.from").as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(rig.events.all().iter().all(|event| !event.to_string().contains(TOKEN)));
    assert!((rig.metric("sluicegate_admin_changes_total{result=\"made\"}").await - 1.0).abs() < 0.1);
    assert!((rig.metric("sluicegate_admin_changes_total{result=\"unauthenticated\"}").await - 4.0).abs() < 0.1);
}

#[tokio::test]
async fn pages_of_other_origins_change_nothing_even_with_the_token() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let rig = with_token(&a, &b).await;
    let body = drain_of(&a);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");

    for (fields, status) in [
        (format!("{bearer}{JSON}Origin: https://evil.example\r\n"), 403),
        (format!("{bearer}{JSON}Origin: null\r\n"), 403),
        (format!("{bearer}{JSON}Sec-Fetch-Site: cross-site\r\n"), 403),
        (format!("{bearer}{JSON}Sec-Fetch-Site: same-site\r\n"), 403),
        // What a form can send.
        (format!("{bearer}Content-Type: text/plain\r\n"), 415),
        (format!("{bearer}Content-Type: application/x-www-form-urlencoded\r\n"), 415),
        (bearer.clone(), 415),
    ] {
        assert_eq!(rig.change("/drain", &fields, &body).await.status, status, "{fields}");
    }
    // DNS rebinding: the browser believes that the page is of this origin.
    let mut page = Peer::connect(rig.admin).await;
    let head = "POST /drain HTTP/1.1\r\nHost: evil.example:9901\r\nOrigin: http://evil.example:9901\r\n";
    page.send(format!("{head}{}Content-Length: {}\r\n\r\n{body}", authorized(), body.len())).await;
    assert_eq!(page.response().await.status, 421);
    let mut got = Peer::connect(rig.admin).await;
    got.send(format!("GET /drain HTTP/1.1\r\nHost: localhost\r\n{}\r\n", authorized())).await;
    assert_eq!(got.response().await.status, 405);

    assert_eq!(rig.status().await["drains"].as_array().unwrap().len(), 0);
    let own = format!("{}Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", authorized(), rig.admin);
    assert_eq!(rig.change("/drain", &own, &body).await.status, 200);
}

#[tokio::test]
async fn odd_bodies_are_refused_and_say_why() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let rig = with_token(&a, &b).await;

    for (body, status, why) in [
        (String::new(), 400, "not a drain"),
        ("[]".to_owned(), 400, "not a drain"),
        (r#"{"zone": "a", "until": 1}"#.to_owned(), 400, "unknown field"),
        (r#"{"pool": "app"}"#.to_owned(), 400, "`pool` and `endpoint`"),
        (r#"{"pool": "app", "endpoint": "10.0.0.9:1", "for": "1s"}"#.to_owned(), 404, "there is no app/10.0.0.9:1"),
        (r#"{"zone": "c"}"#.to_owned(), 404, "there is no zone c"),
        (r#"{"zone": "a", "for": "15"}"#.to_owned(), 400, "a duration"),
        (r#"{"zone": "a", "for": "0s"}"#.to_owned(), 400, "a duration"),
        (format!("{{\"zone\": \"{}\"}}", "z".repeat(17_000)), 413, "at most"),
    ] {
        let answer = rig.change("/drain", &authorized(), &body).await;
        assert_eq!(answer.status, status, "{body:.60}");
        assert!(answer.text().contains(why), "{body:.60}: {}", answer.text());
    }
}

#[tokio::test]
async fn drained_endpoint_finishes_what_it_has_and_gets_nothing_new_also_after_a_reload() {
    let gate = Gate::closed();
    let a = Upstream::held("a", &gate).await;
    let b = Upstream::named("b").await;
    let rig = with_token(&a, &b).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = rig.client().await;
        client.send("GET /under-way HTTP/1.1\r\nHost: t\r\n\r\n").await;
        clients.push(client);
    }
    a.received(1).await;

    assert_eq!(rig.change("/drain", &authorized(), &drain_of(&a)).await.status, 200);
    rig.event("endpoint drained").await;
    for _ in 0..6 {
        assert_eq!(rig.get("/").await.text(), "b");
    }
    rig.write_config(&format!("{}\n# again\n", rig.config()));
    rig.event("configuration loaded").await;
    for _ in 0..6 {
        assert_eq!(rig.get("/").await.text(), "b");
    }

    let status = rig.status().await;
    assert_eq!((&endpoint(&status, &a)["drained"], &endpoint(&status, &a)["in_flight"]), (&true.into(), &1.into()));
    assert_eq!(status["drains"][0]["target"], format!("app/{}", a.address));
    let gauge = format!("sluicegate_endpoint_drained{{pool=\"app\",endpoint=\"{}\"}}", a.address);
    assert!((rig.metric(&gauge).await - 1.0).abs() < 0.1);
    gate.let_pass(100);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }

    assert_eq!(rig.change("/undrain", &authorized(), &drain_of(&a)).await.status, 200);
    let names: Vec<String> = [rig.get("/").await.text(), rig.get("/").await.text()].into();
    assert!(names.contains(&"a".to_owned()), "{names:?}");
}

#[tokio::test]
async fn drain_ends_by_itself_when_its_time_is_over() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let rig = with_token(&a, &b).await;

    let answer = rig.change("/drain", &authorized(), r#"{"zone": "a", "for": "300ms"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("300ms"));

    rig.event("drain expired").await;
    rig.status_where("it to be back", |status| endpoint(status, &a)["drained"] == false).await;
}

#[tokio::test]
async fn zone_holds_for_endpoints_that_come_later() {
    let (a, b, late) = (Upstream::named("a").await, Upstream::named("b").await, Upstream::named("late").await);
    let rig = with_token(&a, &b).await;
    assert_eq!(rig.change("/drain", &authorized(), r#"{"zone": "a"}"#).await.status, 200);

    let more = format!("endpoints = [{{ address = \"{}\", zone = \"a\" }}, ", late.address);
    let config = rig.config().replace("endpoints = [{ address", &format!("{more}{{ address"));
    rig.write_config(&config);
    rig.event("configuration loaded").await;

    for _ in 0..6 {
        assert_eq!(rig.get("/").await.text(), "b");
    }
    assert!(late.requests().is_empty());
}

#[tokio::test]
async fn last_endpoint_of_a_pool_is_only_taken_by_force() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let rig = with_token(&a, &b).await;
    assert_eq!(rig.change("/drain", &authorized(), r#"{"zone": "a"}"#).await.status, 200);

    let refused = rig.change("/drain", &authorized(), r#"{"zone": "b"}"#).await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("force"), "{}", refused.text());
    assert_eq!(rig.get("/").await.status, 200);

    assert_eq!(rig.change("/drain", &authorized(), r#"{"zone": "b", "force": true}"#).await.status, 200);
    assert_eq!(rig.get("/").await.status, 503);
}

#[tokio::test]
async fn command_line_drains_over_the_socket_and_waits_for_what_is_in_flight() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let rig = with_token(&a, &b).await;
    let socket = rig.directory.path().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    let name = format!("app/{}", a.address);

    let (well, said) = rig.command(&["drain", &name, "--config", "sluicegate.toml", "--wait", "10s"]).await;
    assert!(well && said.contains("drained") && said.contains("nothing in flight"), "{said}");
    let made = rig.event("operator change").await;
    assert!(field(&made, "admin.from").as_str().unwrap().starts_with("uid "), "{made}");
    for _ in 0..4 {
        assert_eq!(rig.get("/").await.text(), "b");
    }

    let (well, said) = rig.command(&["drain", "--zone", "b", "--config", "sluicegate.toml"]).await;
    assert!(!well && said.contains("force"), "{said}");
    let place = format!("unix:{}", socket.display());
    let (well, said) = rig.command(&["undrain", &name, "--admin", &place]).await;
    assert!(well && said.contains("is back"), "{said}");
    assert_eq!(rig.status().await["drains"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn command_line_drains_over_the_network_with_the_token() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let rig = with_token(&a, &b).await;
    let address = rig.admin.to_string();

    let (well, said) = rig.command(&["drain", "--zone", "a", "--admin", &address]).await;
    assert!(!well && said.contains("token"), "{said}");
    let (well, said) =
        rig.command(&["drain", "--zone", "a", "--for", "10m", "--admin", &address, "--token-file", "token"]).await;
    assert!(well && said.contains("zone a drained for 10m"), "{said}");
    assert!(rig.status().await["drains"][0]["seconds_left"].as_u64().unwrap() > 500);
}

#[tokio::test]
async fn new_token_counts_after_a_reload_and_a_bad_one_leaves_the_old() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let rig = with_token(&a, &b).await;
    let file = rig.directory.path().join("token");

    std::fs::write(&file, "short").unwrap();
    rig.event("configuration not loaded, the old generation stays").await;
    assert_eq!(rig.change("/drain", &authorized(), r#"{"zone": "a"}"#).await.status, 200);

    std::fs::write(&file, "another-token-of-good-length\n").unwrap();
    rig.event("configuration loaded").await;
    assert_eq!(rig.change("/undrain", &authorized(), r#"{"zone": "a"}"#).await.status, 401);
    let fields = format!("Authorization: Bearer another-token-of-good-length\r\n{JSON}");
    assert_eq!(rig.change("/undrain", &fields, r#"{"zone": "a"}"#).await.status, 200);
}

#[tokio::test]
async fn unix_socket_goes_with_the_process() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let mut rig = with_token(&a, &b).await;
    let socket = rig.directory.path().join("admin.sock");
    let mut local = Peer::new(UnixStream::connect(&socket).await.unwrap(), 0);
    local.send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(local.response().await.status, 200);

    rig.signal("TERM").await;
    rig.ended().await;

    assert!(!socket.exists());
}

#[tokio::test]
async fn events_that_nobody_reads_wait_up_to_the_bound_and_are_counted_beyond_it() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).process("log_queue = 16").admin("socket = \"first.sock\"").start().await;
    let home = rig.directory.path();
    let silent = home.join("silent.toml");
    let ports = rig.config().replace("first.sock", "silent.sock");
    std::fs::write(&silent, ports).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(["run", "--config"]).arg(&silent).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let _unread = command.spawn().unwrap();
    let socket = home.join("silent.sock");
    let stream = soon("the socket", async {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let mut local = Peer::new(stream.await, 0);

    // Each leaves an event of some 200 bytes: a pipe of 64 KiB takes a third of them.
    for _ in 0..1_000 {
        let fields = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 2";
        local.send(format!("POST /drain HTTP/1.1\r\n{fields}\r\n\r\n{{}}")).await;
        assert_eq!(local.response().await.status, 400);
    }

    local.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let metrics = local.response().await.text();
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("sluicegate_events_dropped_total "));
    let dropped: u64 = dropped.unwrap().parse().unwrap();
    assert!((100..1_000).contains(&dropped), "{dropped}");
}
