//! Guessing passwords, as Superset shows it; bans that come of it, and those of operators.

use serde_json::Value;

use crate::limits::{from, get_from};
use crate::rig::peer::Request;
use crate::rig::{Response, Rig, Upstream};

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
    let bans = "[bans]\npoints = 5\nfirst = \"2h\"\ngrowth = 3\nlongest = \"10h\"\n";
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
