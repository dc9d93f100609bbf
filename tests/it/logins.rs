//! Guessing passwords, as Superset shows it; bans that come of it, and those of operators.

use serde_json::Value;

use crate::limits::{from, get_from};
use crate::rig::peer::Request;
use crate::rig::{Gate, Response, Rig, Upstream};

const PROXIED: &str = "proxy_protocol = [\"127.0.0.0/8\"]";

/// Superset, as far as logins go: the password is `right`.
fn superset(request: &Request) -> Vec<u8> {
    let body = String::from_utf8_lossy(&request.body);
    let right = body.contains("right");
    let answer = match (request.method(), request.target()) {
        ("POST", "/login/" | "//login/") if right => "302 Found\r\nLocation: /",
        ("POST", "/login/" | "//login/") => "302 Found\r\nLocation: /login/",
        ("POST", "/api/v1/security/login") if right => "200 OK",
        ("POST", "/api/v1/security/login") => "401 Unauthorized",
        ("POST", "/superset/log/") => "401 Unauthorized",
        _ => "200 OK",
    };
    format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

async fn guarded(lines: &str) -> (Upstream, Rig) {
    let upstream = Upstream::answering(superset).await;
    let rest = format!("{lines}\n[[routes]]\npool = \"app\"\n");
    let rig = Rig::setup().plain(PROXIED).endpoint(&upstream).rest(&rest).start().await;
    (upstream, rig)
}

async fn post(rig: &Rig, address: &str, path: &str, media: &str, body: &str) -> Response {
    let mut client = from(rig, address).await;
    let length = body.len();
    client
        .send(format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    client.response().await
}

async fn form(rig: &Rig, address: &str, user: &str, password: &str) -> u16 {
    let body = format!("csrf_token=x&username={user}&password={password}");
    post(rig, address, "/login/", "application/x-www-form-urlencoded", &body).await.status
}

async fn api(rig: &Rig, address: &str, user: &str, password: &str) -> u16 {
    let body = format!(r#"{{"username": "{user}", "password": "{password}", "provider": "db"}}"#);
    post(rig, address, "/api/v1/security/login", "application/json", &body).await.status
}

#[tokio::test]
async fn guessing_from_one_address_ends_with_429_whatever_names_it_tries() {
    let (upstream, rig) = guarded("[login]\nper_address = \"3/h\"\nburst_per_address = 3").await;

    for user in ["a", "b", "c"] {
        assert_eq!(form(&rig, "10.0.0.1", user, "wrong").await, 302);
    }
    let body = "username=d&password=right";
    let refused = post(&rig, "10.0.0.1", "/login/", "application/x-www-form-urlencoded", body).await;

    assert_eq!(refused.status, 429, "even the right password is not tried");
    assert!(refused.get("retry-after").unwrap().parse::<u32>().unwrap() > 1_000);
    assert_eq!(rig.record_where("the refusal", |record| record["status"] == 429).await["fault"], "login_limited");
    assert_eq!(api(&rig, "10.0.0.1", "e", "right").await, 429, "both ways count together");
    assert_eq!(form(&rig, "10.0.0.2", "d", "right").await, 302, "others are not hurt");
    assert_eq!(upstream.requests().len(), 4);
    assert_eq!(get_from(&rig, "10.0.0.1", "/superset/welcome/", "").await.status, 200, "logging in is all it may not");
    assert_eq!(rig.metric("sluicegate_logins_total{way=\"form\",result=\"failed\"}").await, 3.0);
    assert_eq!(rig.metric("sluicegate_logins_total{way=\"form\",result=\"limited\"}").await, 1.0);
}

#[tokio::test]
async fn outage_locks_nobody_out() {
    let nobody = Upstream::nobody().await;
    let rest = "[login]\nper_address = \"3/h\"\nburst_per_address = 3\nper_user = \"3/h\"\nburst_per_user = 3\n\
                [[routes]]\npool = \"app\"\n";
    let rig = Rig::setup().plain(PROXIED).endpoint_at(nobody, 1).rest(rest).start().await;

    for _ in 0..5 {
        assert_eq!(form(&rig, "10.0.0.1", "alice", "right").await, 502, "no 429");
    }

    assert_eq!(rig.metric("sluicegate_logins_total{way=\"form\",result=\"void\"}").await, 5.0);
}

#[tokio::test]
async fn guessing_one_name_from_many_addresses_ends_with_429_but_not_for_its_owner() {
    let (_upstream, rig) = guarded("[login]\nper_user = \"3/h\"\nburst_per_user = 3").await;
    assert_eq!(form(&rig, "192.0.2.1", "Alice", "right").await, 302);

    for host in 1..=3 {
        assert_eq!(form(&rig, &format!("10.0.0.{host}"), "alice", "wrong").await, 302);
    }

    assert_eq!(form(&rig, "10.0.0.4", "ALICE", "wrong").await, 429);
    assert_eq!(api(&rig, "10.0.0.5", "alice", "wrong").await, 429);
    assert_eq!(form(&rig, "192.0.2.1", "alice", "right").await, 302, "she has logged in from there before");
    assert_eq!(form(&rig, "10.0.0.6", "bob", "right").await, 302);
}

#[tokio::test]
async fn office_that_logs_in_behind_one_address_is_not_limited() {
    let (_upstream, rig) = guarded("").await;

    for user in 0..60 {
        assert_eq!(form(&rig, "10.0.0.1", &format!("user{user}"), "right").await, 302);
        assert_eq!(api(&rig, "10.0.0.1", &format!("user{user}"), "right").await, 200);
    }
    for _ in 0..200 {
        let beacon = post(&rig, "10.0.0.1", "/superset/log/", "application/json", "{}").await;
        assert_eq!(beacon.status, 401, "beacons of ended sessions count for nothing");
    }

    assert_eq!(form(&rig, "10.0.0.1", "late", "right").await, 302);
    assert_eq!(rig.status().await["bans"], 0);
    assert_eq!(rig.metric("sluicegate_logins_total{way=\"api\",result=\"succeeded\"}").await, 60.0);
}

#[tokio::test]
async fn other_spelling_or_encoding_is_no_way_around_the_guard() {
    let (_upstream, rig) = guarded("[login]\nper_user = \"2/h\"\nburst_per_user = 2").await;
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nalice\r\n--x--\r\n";
    let odd = async |address: &str| {
        post(&rig, address, "//login/", "multipart/form-data; boundary=x", multipart).await.status
    };

    assert_eq!((odd("10.0.0.1").await, odd("10.0.0.2").await), (302, 302));
    assert_eq!(odd("10.0.0.3").await, 429, "what cannot be read counts together");
    let long = format!("username=alice&password={}", "x".repeat(70_000));
    assert_eq!(post(&rig, "10.0.0.4", "/login/", "application/x-www-form-urlencoded", &long).await.status, 413);
    let mut client = from(&rig, "10.0.0.5").await;
    client
        .send(
            "POST /login/ HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Transfer-Encoding: chunked\r\n\r\n8\r\nusername\r\n6\r\n=carol\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.status, 302);
}

#[tokio::test]
async fn who_goes_on_guessing_is_banned_from_logging_in_for_longer_and_longer() {
    let bans = "[shield]\nban_private = true\n[bans]\npoints = 5\nfirst = \"2h\"\ngrowth = 3\nlongest = \"10h\"\n";
    let (_upstream, rig) = guarded(&format!("{bans}[login]\nper_address = \"2/h\"\nburst_per_address = 2")).await;

    for _ in 0..10 {
        form(&rig, "10.0.0.1", "x", "wrong").await;
    }

    let event = rig.event("client banned").await;
    assert_eq!(crate::rig::field(&event, "cause"), "login");
    let listed: Value = serde_json::from_slice(&rig.admin("/bans").await.body).unwrap();
    assert_eq!((&listed[0]["who"], &listed[0]["scope"]), (&"10.0.0.1".into(), &"login".into()));
    assert!(listed[0]["seconds_left"].as_u64().unwrap() > 7_000);
    assert_eq!(form(&rig, "10.0.0.1", "x", "right").await, 429);
    assert_eq!(get_from(&rig, "10.0.0.1", "/dashboard", "").await.status, 200);
    assert_eq!(rig.metric("sluicegate_bans_total{cause=\"login\"}").await, 1.0);
    assert_eq!(rig.metric("sluicegate_bans_active").await, 1.0);
}

#[tokio::test]
async fn users_behind_a_load_balancer_are_limited_for_a_guesser_among_them_and_never_banned() {
    let lines = "[bans]\npoints = 5\n[login]\nper_address = \"2/h\"\nburst_per_address = 2";
    let upstream = Upstream::answering(superset).await;
    let rest = format!("{lines}\n[[routes]]\npool = \"app\"\n");
    let setup = Rig::setup().plain(PROXIED).clients("trusted_proxies = [\"192.0.2.0/24\"]");
    let rig = setup.endpoint(&upstream).rest(&rest).start().await;

    // Private, shared by a provider's customers, a trusted proxy itself: all of them may be many.
    for address in ["10.0.0.1", "100.64.0.1", "192.0.2.1"] {
        for _ in 0..30 {
            form(&rig, address, "x", "wrong").await;
        }
        assert_eq!(form(&rig, address, "x", "wrong").await, 429, "{address}");
    }
    assert_eq!(rig.status().await["bans"], 0);

    for _ in 0..30 {
        form(&rig, "198.51.100.1", "x", "wrong").await;
    }
    assert_eq!(rig.status().await["bans"], 1);
}

#[tokio::test]
async fn guard_that_observes_or_is_off_refuses_nobody() {
    for lines in
        ["[login]\nmode = \"observe\"\nper_address = \"1/h\"\nburst_per_address = 1", "[login]\nenabled = false"]
    {
        let (_upstream, rig) = guarded(lines).await;
        for _ in 0..30 {
            assert_eq!(form(&rig, "10.0.0.1", "x", "wrong").await, 302);
        }
    }
}

#[tokio::test]
async fn operator_bans_lists_and_lifts() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup()
        .admin("socket = \"admin.sock\"")
        .plain(PROXIED)
        .rest("[bans]\nnever = [\"192.0.2.0/24\"]\n")
        .endpoint(&upstream)
        .start()
        .await;
    let run = async |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--config", "sluicegate.toml"]);
        rig.command(&all).await
    };

    assert_eq!(
        run(&["ban", "10.0.0.1", "--for", "2h", "--reason", "scans"]).await,
        (true, "10.0.0.1 banned for 2h\n".into())
    );
    let refused = get_from(&rig, "10.0.0.1", "/banned", "").await;
    assert_eq!((refused.status, refused.get("connection").as_deref()), (403, Some("close")));
    assert_eq!(rig.record("/banned").await["fault"], "banned");
    assert_eq!(get_from(&rig, "10.0.0.2", "/", "").await.status, 200);
    let (_, list) = run(&["bans"]).await;
    assert!(list.contains("10.0.0.1") && list.contains("everything") && list.contains("scans"), "{list}");

    assert!(run(&["unban", "10.0.0.1"]).await.0);
    assert_eq!(get_from(&rig, "10.0.0.1", "/", "").await.status, 200);
    let (done, said) = run(&["unban", "10.0.0.1"]).await;
    assert!(!done && said.contains("not banned"), "{said}");
    let (done, said) = run(&["ban", "192.0.2.7"]).await;
    assert!(!done && said.contains("bans.never"), "{said}");
    assert!(!run(&["ban", "nobody"]).await.0);
    assert_eq!(run(&["bans"]).await, (true, "nobody is banned\n".into()));
}

#[tokio::test]
async fn who_is_exempt_from_judgement_is_kept_out_by_no_ban() {
    let upstream = Upstream::answering(superset).await;
    let rig = Rig::setup()
        .admin("socket = \"admin.sock\"")
        .plain(PROXIED)
        .file("token", "open sesame\n")
        .rest("[[routes]]\npool = \"app\"\n")
        .endpoint(&upstream)
        .start()
        .await;
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        assert!(rig.command(&["ban", address, "--for", "2h", "--config", "sluicegate.toml"]).await.0);
        assert_eq!(get_from(&rig, address, "/", "").await.status, 403);
    }

    let shield = "[shield]\nexempt = [\"10.0.0.1\"]\nallow.networks = [\"10.0.0.2\"]\ntoken = { file = \"token\" }\n";
    rig.write_config(&format!("{}\n{shield}", rig.config()));
    rig.status_where("the second generation", |status| status["generation"] == 2).await;

    for (address, fields, status) in [
        ("10.0.0.1", "", 200),
        ("10.0.0.2", "", 200),
        ("10.0.0.3", "X-Shield-Token: open sesame\r\n", 200),
        ("10.0.0.3", "X-Shield-Token: open sesam\r\n", 403),
        ("10.0.0.4", "", 403),
    ] {
        assert_eq!(get_from(&rig, address, "/page", fields).await.status, status, "{address} {fields}");
    }
    assert_eq!(form(&rig, "10.0.0.1", "alice", "right").await, 302, "nor from logging in");
    assert_eq!(upstream.requests().len(), 4);
    assert!(upstream.requests().iter().all(|request| request.head.get("x-shield-token").is_none()));
}

#[tokio::test]
async fn limit_by_user_counts_logins_on_a_name_by_form_and_api_and_nothing_else() {
    let lines = "[login]\nenabled = true\n[limits.names]\nby = \"user\"\nrate = \"3/h\"\ndefault = true";
    let (upstream, rig) = guarded(lines).await;

    assert_eq!(form(&rig, "10.0.0.1", "alice", "right").await, 302);
    assert_eq!(api(&rig, "10.0.0.2", "Alice", "right").await, 200);
    assert_eq!(form(&rig, "10.0.0.3", "ALICE", "right").await, 302);
    let body = r#"{"username": "alice", "password": "right", "provider": "db"}"#;
    let refused = post(&rig, "10.0.0.4", "/api/v1/security/login", "application/json", body).await;

    assert_eq!(refused.status, 429);
    assert!(refused.get("ratelimit").unwrap().starts_with("\"names\";r=0;t="));
    let record = rig.record_where("the refusal", |record| record["status"] == 429).await;
    assert_eq!(record["fault"], "rate_limited");
    assert_eq!(record["limits"], serde_json::json!([{ "limit": "names", "observed": false }]));
    assert_eq!(form(&rig, "10.0.0.1", "alice", "right").await, 429, "the form counts with the API");
    assert_eq!(form(&rig, "10.0.0.1", "bob", "right").await, 302, "another name is counted apart");
    for _ in 0..10 {
        assert_eq!(get_from(&rig, "10.0.0.1", "/superset/welcome/", "").await.status, 200, "no login, no count");
    }
    assert_eq!(upstream.requests().len(), 14, "what was refused reached no endpoint");
}

#[tokio::test]
async fn logins_under_way_are_counted_by_name_and_with_what_else_the_limit_says() {
    let gate = Gate::closed();
    let upstream = Upstream::held("a", &gate).await;
    let rest = "[limits.name]\nby = \"user\"\nconcurrency = 1\n\
                [limits.name-and-address]\nby = [\"user\", \"address\"]\nrate = \"1/h\"\n\
                [[routes]]\npath = \"/a\"\npool = \"app\"\nlimits = [\"name\"]\n\
                [[routes]]\npath = \"/b\"\npool = \"app\"\nlimits = [\"name-and-address\"]\n";
    let rig = Rig::setup().plain(PROXIED).endpoint(&upstream).rest(rest).start().await;
    let media = "application/x-www-form-urlencoded";
    let first = post(&rig, "10.0.0.1", "/a/login/", media, "username=alice&password=x");
    let tries = async {
        upstream.received(1).await;
        let status = async |address, path, body| post(&rig, address, path, media, body).await.status;

        assert_eq!(status("10.0.0.2", "/a/login/", "username=Alice&password=y").await, 429);
        gate.let_pass(100);
        assert_eq!(status("10.0.0.2", "/a/login/", "username=bob&password=y").await, 200);
        assert_eq!(status("10.0.0.1", "/b/login/", "username=alice&password=x").await, 200);
        assert_eq!(status("10.0.0.1", "/b/login/", "username=alice&password=x").await, 429);
        assert_eq!(status("10.0.0.2", "/b/login/", "username=alice&password=x").await, 200);
        assert_eq!(status("10.0.0.1", "/b/login/", "username=bob&password=x").await, 200);
    };

    let (first, ()) = tokio::join!(first, tries);

    assert_eq!(first.status, 200);
}

#[tokio::test]
async fn operator_bans_a_tls_fingerprint_whatever_address_it_comes_from() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").admin("socket = \"admin.sock\"").endpoint(&upstream).start().await;
    assert_eq!(rig.h2().await.get("/first").await.status, 200);
    let fingerprint = rig.record("/first").await["ja4"].as_str().unwrap().to_owned();
    let run = async |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--config", "sluicegate.toml"]);
        rig.command(&all).await
    };

    assert!(run(&["ban", &fingerprint, "--for", "2h"]).await.0);

    assert_eq!(rig.h2().await.get("/banned").await.status, 403);
    assert_eq!(rig.record("/banned").await["fault"], "banned");
    assert_eq!(rig.h3().await.get("/").await.status, 200, "over QUIC the same library looks different");
    assert_eq!(rig.get("/").await.status, 200, "the address is free");
    assert!(run(&["bans"]).await.1.contains(&fingerprint));
    assert!(run(&["unban", &fingerprint]).await.0);
    assert_eq!(rig.h2().await.get("/").await.status, 200);
}
