//! The operators' listener as a stranger, a browser and an operator meet it.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::rig::{Lines, Peer, Rig, Upstream, field, soon};

/// The token in its file.
const TOKEN: &str = "SECRET-token-of-operators";

/// What must not be shown to anybody, each with a way to bring it in.
const QUERY: &str = "/login/?guest_token=SECRET-guest&next=%2Fchart%3Ftoken%3DSECRET-nested&password=SECRET-query&x=1";
const FIELDS: &str = "Cookie: session=SECRET-session; token=SECRET-cookie\r\nAuthorization: Bearer SECRET-bearer\r\n\
                      X-GuestToken: SECRET-header\r\nX-CSRFToken: SECRET-csrf\r\nX-Shield-Token: SECRET-shield\r\n\
                      Referer: https://ana:SECRET-user@bi.example.com/?access_token=SECRET-referer#SECRET-fragment\r\n";

/// What comes of `GET path`, of a stream its first event.
async fn shown(rig: &Rig, path: &str) -> String {
    let mut client = Peer::connect(rig.admin).await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    let head = client.response_head().await;
    assert!(head.status < 500 || path == "/ready", "{path}: {}", head.status);
    if head.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        return event(&mut client).await;
    }
    assert!(!format!("{:?}", head.head).contains("SECRET"), "{path}: {head:?}");
    let length = head.get("content-length").unwrap().parse().unwrap();
    String::from_utf8(client.exactly(length).await).unwrap()
}

/// The data of the next event of a stream.
async fn event(client: &mut Peer) -> String {
    loop {
        let piece = client.line().await;
        if let Some((_, data)) = piece.split_once("data: ") {
            return data.to_owned();
        }
    }
}

#[tokio::test]
async fn no_place_shows_a_secret_of_superset_or_of_the_configuration() {
    let upstream = Upstream::playing(|mut peer, seen| async move {
        while let Some(request) = peer.request().await {
            seen.note(request);
            peer.send("HTTP/1.1 200 OK\r\nSet-Cookie: session=SECRET-fresh\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let rig = Rig::setup()
        .process("fleet_secret = { file = \"fleet\" }")
        .admin("token = { file = \"token\" }")
        .file("token", TOKEN)
        .file("fleet", "SECRET-of-the-fleet-0123456789abcdef")
        .file("redis", "SECRET-of-redis")
        .file("shield", "SECRET-shield-0123456789")
        .endpoint(&upstream)
        .rest("[recorder]\nsample = 1\n[redis]\naddresses = [\"127.0.0.1:1\"]\npassword = { file = \"redis\" }\n[shield]\ntoken = { file = \"shield\" }")
        .start()
        .await;
    let mut follower = Peer::connect(rig.admin).await;
    follower.send("GET /records HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(follower.response_head().await.status, 200);

    let body = "username=ana&password=SECRET-form";
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    let mut client = rig.client().await;
    client
        .send(format!(
            "POST {QUERY} HTTP/1.1\r\nHost: bi\r\n{FIELDS}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    let answer = client.response().await;
    assert_eq!(answer.status, 200);
    let id = answer.get("x-request-id").unwrap();
    let streamed = event(&mut follower).await;
    assert!(streamed.contains(&id) && streamed.contains("x=1"), "{streamed}");
    rig.change("/drain", "Authorization: Bearer SECRET-guessed\r\nContent-Type: application/json\r\n", "{}").await;
    rig.get("/wp-login.php?token=SECRET-scan").await;
    // A configuration that is refused is told in events, on the dashboard and in the status.
    let url = "https://svc:SECRET-in-a-url@logs.example.com/";
    let sink = format!("[[access_log.sinks]]\nname = \"s\"\nhttp = {{ to = {{ url = \"{url}\" }} }}\n");
    let redis = "addresses = [\"svc:SECRET-of-redis@127.0.0.1:1\"]";
    rig.write_config(&format!("{}\n{sink}", rig.config().replace("addresses = [\"127.0.0.1:1\"]", redis)));
    rig.signal("HUP").await;
    let refused = rig.event("configuration not loaded, the old generation stays").await.to_string();
    assert!(refused.contains("must not hold a user"), "{refused}");

    let document: Value = serde_json::from_str(&shown(&rig, "/openapi.json").await).unwrap();
    let mut walked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if methods["get"].is_object() && path != "/records" {
            let text = shown(&rig, &path.replace("{request-id}", &id)).await;
            assert!(!text.contains("SECRET"), "{path} shows {text}");
            walked += 1;
        }
    }
    assert!(walked >= 8, "only {walked} places");
    assert!(!streamed.contains("SECRET"), "{streamed}");
    for told in rig.events.all() {
        assert!(!told.to_string().contains("SECRET"), "{told}");
    }
}

#[tokio::test]
async fn where_a_sink_hides_addresses_nobody_shows_them() {
    let upstream = Upstream::named("a").await;
    let sink = "[[access_log.sinks]]\nname = \"s\"\nfile = { path = \"DIR/log\" }\nanonymise = { ipv4_prefix = 8 }\n";
    let rest = format!("[recorder]\nsample = 1\n{sink}");
    let rig = Rig::setup().endpoint(&upstream).rest(&rest).start().await;
    let mut follower = Peer::connect(rig.admin).await;
    follower.send("GET /records HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(follower.response_head().await.status, 200);

    let id = rig.get("/x").await.get("x-request-id").unwrap();

    let streamed = event(&mut follower).await;
    let kept = soon("the record", async {
        loop {
            let answer = rig.admin(&format!("/exchanges/{id}")).await;
            if answer.status == 200 {
                return answer.text();
            }
        }
    })
    .await;
    let (_, why) = rig.command(&["why", &id, "--admin", &rig.admin.to_string()]).await;
    for text in [streamed, kept, rig.admin("/exchanges").await.text(), why] {
        // The endpoint's address is not a client's.
        let text = text.replace(&upstream.address.to_string(), "");
        assert!(!text.contains("127.0.0.1"), "{text}");
    }
}

#[tokio::test]
async fn page_of_another_origin_reads_nothing() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).admin("hosts = [\"proxy.internal\"]").start().await;

    for (fields, status) in [
        (format!("Host: {}\r\n", rig.admin), 200),
        ("Host: proxy.internal\r\n".to_owned(), 200),
        ("Host: evil.example\r\n".to_owned(), 421),
        ("Host: localhost\r\nSec-Fetch-Site: same-origin\r\n".to_owned(), 200),
        ("Host: localhost\r\nSec-Fetch-Site: none\r\n".to_owned(), 200),
        (
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"
                .to_owned(),
            403,
        ),
        ("Host: localhost\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n".to_owned(), 403),
        // A link that an operator follows.
        (
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
                .to_owned(),
            200,
        ),
        // A frame around it.
        (
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n"
                .to_owned(),
            403,
        ),
    ] {
        for path in ["/status", "/exchanges", "/openapi.json"] {
            let mut client = Peer::connect(rig.admin).await;
            client.send(format!("GET {path} HTTP/1.1\r\n{fields}\r\n")).await;
            let answer = client.response().await;
            assert_eq!(answer.status, status, "{path} {fields}");
            assert!(answer.get("access-control-allow-origin").is_none());
            let policy = answer.get("content-security-policy").unwrap();
            assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        }
    }
}

#[tokio::test]
async fn guarded_reads_need_the_token_but_health_does_not() {
    let upstream = Upstream::named("a").await;
    let admin = "guard_reads = true\ntoken = { file = \"token\" }\nsocket = \"admin.sock\"";
    let rig = Rig::setup().endpoint(&upstream).admin(admin).file("token", TOKEN).start().await;

    for (path, status) in
        [("/live", 200), ("/ready", 200), ("/status", 401), ("/metrics", 401), ("/records", 401), ("/exchanges/x", 401)]
    {
        assert_eq!(rig.admin(path).await.status, status, "{path}");
    }
    let mut client = Peer::connect(rig.admin).await;
    client.send(format!("GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 200);

    let socket = format!("unix:{}", rig.directory.path().join("admin.sock").display());
    let (well, said) = rig.command(&["bans", "--admin", &socket]).await;
    assert!(well && said.contains("nobody is banned"), "{said}");
    let (well, said) = rig.command(&["bans", "--admin", &rig.admin.to_string()]).await;
    assert!(!well && said.contains("token"), "{said}");
    let (well, said) = rig.command(&["bans", "--admin", &rig.admin.to_string(), "--token-file", "token"]).await;
    assert!(well, "{said}");
}

#[tokio::test]
async fn commands_reach_a_listener_with_tls_that_knows_them_by_their_certificate() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let tls = "certificate = \"leaf.pem\"\nkey = \"leaf.key\"\nclient_authorities = \"ca.pem\"";
    let rig = Rig::setup().endpoint(&a).endpoint(&b).admin(tls).start().await;
    let place = format!("https://localhost:{}", rig.admin.port());
    let trust = ["--admin", &place, "--authorities", "ca.pem"];
    let papers = ["--certificate", "client.pem", "--key", "client.key"];
    let run = |words: &'static [&'static str], with: &'static str| {
        let mut all = words.to_vec();
        all.extend(trust);
        if with == "papers" {
            all.extend(papers);
        }
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let command = |all: Vec<String>| {
        let rig = &rig;
        async move { rig.command(&all.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };

    let (well, said) = command(run(&["health"], "papers")).await;
    assert!(well && said.contains("ready"), "{said}");
    let (well, said) = command(run(&["health"], "")).await;
    assert!(!well, "{said}");
    let drained = format!("app/{}", a.address);
    let all = [vec!["drain".to_owned(), drained.clone()], run(&[], "papers")].concat();
    let (well, said) = command(all).await;
    assert!(well && said.contains("drained"), "{said}");
    let made = rig.event("operator change").await;
    assert!(field(&made, "admin.from").as_str().unwrap().contains("client of a test"), "{made}");

    // Who vouches for it is not asked when the configuration tells which certificate it has.
    let known = rig.config().replacen("127.0.0.1:0", &rig.admin.to_string(), 1);
    std::fs::write(rig.directory.path().join("known.toml"), known).unwrap();
    let known = ["undrain", &drained, "--config", "known.toml", papers[0], papers[1], papers[2], papers[3]];
    let (well, said) = rig.command(&known).await;
    assert!(well && said.contains("is back"), "{said}");
    let (well, said) = rig.command(&["bans", "--admin", &place, papers[0], papers[1], papers[2], papers[3]]).await;
    assert!(!well && said.contains("no answer"), "{said}");

    // A page that came without TLS is of another origin.
    for (origin, status) in [(format!("http://{}", rig.admin), 403), (format!("https://{}", rig.admin), 200)] {
        let mut client = rig.pki.connect(rig.admin, "http/1.1", true).await.unwrap();
        let body = r#"{"zone": "nowhere"}"#;
        client
            .send(format!(
                "POST /undrain HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                rig.admin,
                body.len()
            ))
            .await;
        let answered = client.response().await.status;
        assert_eq!(answered == 403, status == 403, "{origin}: {answered}");
    }
}

/// Asks over a connection that stays, and gives the answer's text.
async fn over(peer: &mut Peer, path: &str) -> String {
    peer.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    peer.response().await.text()
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_until_one_ends() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).admin("max_connections = 4\nmax_streams = 1").start().await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut peer = Peer::connect(rig.admin).await;
        assert_eq!(over(&mut peer, "/live").await, "alive\n");
        open.push(peer);
    }

    let mut fifth = Peer::connect(rig.admin).await;
    fifth.send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let first = &mut open[0];
    let metrics = soon("one that waits", async {
        loop {
            let metrics = over(first, "/metrics").await;
            if metrics.contains("sluicegate_admin_full_total{kind=\"address\"} 1") {
                return metrics;
            }
        }
    })
    .await;
    for line in ["sluicegate_admin_open{kind=\"address\"} 4", "sluicegate_admin_places{kind=\"address\"} 4"] {
        assert!(metrics.lines().any(|known| known == line), "{line} is not in\n{metrics}");
    }
    drop(open.pop());

    assert_eq!(fifth.response().await.text(), "alive\n");
    assert!(over(&mut open[0], "/metrics").await.contains("sluicegate_admin_open{kind=\"address\"} 4"));
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused_and_a_reload_moves_it() {
    let upstream = Upstream::named("a").await;
    // One reload for the signal, and none for the file.
    let watch = "watch_files = false";
    let rig = Rig::setup().endpoint(&upstream).process(watch).admin("max_streams = 1").start().await;
    let follow = async || {
        let mut peer = Peer::connect(rig.admin).await;
        peer.send("GET /records HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        (peer.response_head().await, peer)
    };

    let (first, _first) = follow().await;
    let (second, _) = follow().await;

    assert_eq!((first.status, second.status), (200, 503));
    assert_eq!(second.get("retry-after").as_deref(), Some("10"));
    assert_eq!(rig.metric("sluicegate_admin_full_total{kind=\"stream\"}").await, 1.0);
    assert_eq!(rig.metric("sluicegate_admin_open{kind=\"stream\"}").await, 1.0);
    rig.write_config(&rig.config().replace("max_streams = 1", "max_streams = 2"));
    rig.signal("HUP").await;
    rig.status_where("the reload", |status| status["generation"] == 2).await;
    let (third, _third) = follow().await;
    assert_eq!((third.status, rig.metric("sluicegate_admin_places{kind=\"stream\"}").await), (200, 2.0));
}

#[tokio::test]
async fn logs_follow_what_a_filter_lets_through() {
    let upstream = Upstream::named("a").await;
    let routes = "[[routes]]\npool = \"app\"\npath = \"/a\"";
    let rig = Rig::setup().endpoint(&upstream).rest(routes).start().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    let admin = rig.admin.to_string();
    command.args(["logs", "--json", "--status", "404", "--admin", &admin]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut followed = command.spawn().unwrap();
    let lines = Lines::read(followed.stdout.take().unwrap());
    soon("the follower", async { while rig.metric("sluicegate_record_followers").await < 0.5 {} }).await;

    rig.get("/a").await;
    rig.get("/b").await;

    let record = soon("a record", lines.find(|_| true)).await;
    assert_eq!((&record["path"], &record["status"], &record["v"]), (&"/b".into(), &404.into(), &1.into()));

    let (well, said) = rig.command(&["logs", "--status", "wrong", "--admin", &admin]).await;
    assert!(!well && said.contains("`status` must be"), "{said}");
}

#[tokio::test]
async fn why_tells_the_story_of_an_id_from_a_page() {
    let dead = Upstream::nobody().await;
    let rig = Rig::setup().endpoint_at(dead, 1).start().await;
    let page = rig.get("/chart").await;
    let id = page.get("x-request-id").unwrap();
    rig.record("/chart").await;
    let admin = rig.admin.to_string();

    let (well, said) = rig.command(&["why", &id, "--admin", &admin]).await;
    assert!(well, "{said}");
    for expected in [
        "GET test/chart: 502 (exchange, kept as error)".to_owned(),
        format!("asks {dead}: it was its turn"),
        "it failed: connect".to_owned(),
        "nobody else was there to ask".to_owned(),
        "the endpoint ended it while a connection was opened: connect".to_owned(),
    ] {
        assert!(said.contains(&expected), "{expected}\n{said}");
    }
    let (well, said) = rig.command(&["why", &id, "--json", "--admin", &admin]).await;
    let told: Value = serde_json::from_str(&said).unwrap();
    assert!(well && told[0]["record"]["request_id"] == id.as_str(), "{said}");

    let (well, said) = rig.command(&["why", "0197-unknown", "--admin", &admin]).await;
    assert!(!well && said.contains("nothing is known of it"), "{said}");
}

#[tokio::test]
async fn id_stands_in_the_field_and_on_the_page_of_every_fault() {
    let dead = Upstream::nobody().await;
    let rest = "[[routes]]\npool = \"app\"\npath = \"/app\"\ncontent_types = [\"application/json\"]\n[[rules]]\nname = \"no\"\npath = \"/denied\"\naction = \"deny\"";
    let rig = Rig::setup().endpoint_at(dead, 1).rest(rest).start().await;

    for (request, status) in [
        ("GET /app HTTP/1.1\r\nHost: a\r\n", 502),
        ("GET /other HTTP/1.1\r\nHost: a\r\n", 404),
        ("GET /denied HTTP/1.1\r\nHost: a\r\n", 403),
        ("TRACE /app HTTP/1.1\r\nHost: a\r\n", 405),
        ("POST /app HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n", 415),
        ("GET /app HTTP/1.1\r\n", 400),
        ("GET /app HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n", 501),
        ("GET /app HTTP/1.1\r\nHost: a\r\nno field\r\n", 400),
    ] {
        for accept in ["text/html", "application/json"] {
            let mut client = rig.client().await;
            client.send(format!("{request}Accept: {accept}\r\n\r\n")).await;
            let answer = client.response().await;
            assert_eq!(answer.status, status, "{request}");
            let id = answer.get("x-request-id").unwrap_or_default();
            assert!(id.len() > 8 && answer.text().contains(&id), "{request} {accept}: {id} {}", answer.text());
        }
    }
}
