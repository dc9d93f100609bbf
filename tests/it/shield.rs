//! The shield: lists and rules, as clients and operators see them.

use std::fs;
use std::net::SocketAddr;

use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::limits::{PROXIED, from, get_from};
use crate::rig::countries::database;
use crate::rig::dns::{NameServer, Told};
use crate::rig::h2::{request, try_reply};
use crate::rig::{Peer, Rig, Upstream, soon};

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
async fn tag_names_itself_and_goes_on_and_allow_passes_what_a_check_would_refuse() {
    let upstream = Upstream::named("a").await;
    let rig = rig(
        &upstream,
        "[[rules]]\nname = \"export\"\npath = \"/**.php\"\naction = \"tag\"\n\
         [[rules]]\nname = \"office\"\npath = \"/office\"\naction = \"allow\"\n\
         [[rules]]\nname = \"nobody\"\npath = \"/office\"\naction = \"deny\"\n",
    )
    .await;

    let statuses = [rig.get("/office/a.php").await.status, rig.get("/elsewhere/a.php").await.status];

    assert_eq!(statuses, [200, 403]);
    let verdict = |rule: &str, action: &str| json!({ "rule": rule, "action": action, "mode": "enforced" });
    let allowed = rig.record("/office/a.php").await;
    assert_eq!(allowed["verdicts"], json!([verdict("export", "tag"), verdict("office", "allow")]));
    let denied = rig.record("/elsewhere/a.php").await;
    assert_eq!(denied["verdicts"], json!([verdict("export", "tag"), verdict("shield.probe", "deny")]));
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
async fn rule_for_a_country_meets_its_clients_and_follows_the_database_when_it_changes() {
    let upstream = Upstream::named("a").await;
    let shared = tempfile::tempdir().unwrap();
    let file = shared.path().join("countries.mmdb");
    fs::write(&file, database(&[([203, 0, 113, 0], 24, "DE"), ([198, 51, 100, 0], 24, "FR")])).unwrap();
    let rest = format!(
        "[[routes]]\npool = \"app\"\n[shield]\ncountry_database = {:?}\n\
         [[rules]]\nname = \"not-from-there\"\ncountry = [\"FR\", \"IT\"]\naction = \"deny\"\n",
        file.display().to_string(),
    );
    let rig = Rig::setup().plain(PROXIED).endpoint(&upstream).rest(&rest).start().await;

    assert_eq!(get_from(&rig, "203.0.113.7", "/", "").await.status, 200);
    assert_eq!(get_from(&rig, "192.0.2.7", "/", "").await.status, 200, "of no country");
    assert_eq!(get_from(&rig, "198.51.100.7", "/denied", "").await.status, 403);
    assert_eq!(rig.record("/denied").await["verdicts"][0]["rule"], "not-from-there");

    let next = shared.path().join("next.mmdb");
    fs::write(&next, database(&[([203, 0, 113, 0], 24, "FR")])).unwrap();
    fs::rename(&next, &file).unwrap();
    rig.status_where("the second generation", |status| status["generation"] == 2).await;

    assert_eq!(get_from(&rig, "203.0.113.7", "/", "").await.status, 403);
    assert_eq!(get_from(&rig, "198.51.100.7", "/", "").await.status, 200);
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
async fn trusted_proxy_itself_is_never_banned_for_those_behind_it() {
    let upstream = Upstream::named("a").await;
    let setup = Rig::setup().endpoint(&upstream).plain(PROXIED).clients("trusted_proxies = [\"192.0.2.0/24\"]");
    let rig = setup.start().await;
    let probes = async |address: &str| {
        for _ in 0..10 {
            assert_eq!(get_from(&rig, address, "/.env", "").await.status, 403);
        }
        get_from(&rig, address, "/", "").await.status
    };

    assert_eq!((probes("192.0.2.1").await, probes("100.64.0.1").await), (200, 200));
    assert_eq!(probes("198.51.100.1").await, 403);
}

#[tokio::test]
async fn exempt_networks_are_judged_by_nothing_and_others_are() {
    let upstream = Upstream::named("a").await;
    let rest = "[shield]\nprofile = \"strict\"\nexempt = [\"10.0.9.0/24\", \"2001:db8::7\"]\ndeny.networks = [\"10.0.0.0/8\"]\n\
                [[rules]]\nname = \"nobody\"\npath = \"/closed\"\naction = \"deny\"\n[[routes]]\npool = \"app\"\n";
    let rig = Rig::setup().endpoint(&upstream).plain(PROXIED).rest(rest).start().await;

    for path in ["/.env", "/closed", "/superset/welcome/"] {
        assert_eq!(get_from(&rig, "10.0.9.1", path, "").await.status, 200, "{path}");
        assert_eq!(get_from(&rig, "2001:db8::7", path, "").await.status, 200, "{path}");
        assert_eq!(get_from(&rig, "10.0.8.1", path, "").await.status, 403, "{path}");
        assert_eq!(get_from(&rig, "2001:db8::8", path, "").await.status, 403, "{path}");
    }
    let scanner = "User-Agent: sqlmap/1.8\r\n";
    assert_eq!(get_from(&rig, "10.0.9.1", "/exempt", scanner).await.status, 200);
    assert!(rig.record("/exempt").await["verdicts"].is_null());
}

#[tokio::test]
async fn page_without_a_user_agent_or_for_a_browser_that_is_none_is_refused_in_strict() {
    const CHROME: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                          Chrome/140.0.0.0 Safari/537.36\r\n";
    let upstream = Upstream::named("a").await;
    let whole = format!("{CHROME}Accept: */*\r\nAccept-Encoding: gzip\r\nAccept-Language: de\r\n");
    let contradicted = format!("{whole}Sec-CH-UA: \"HeadlessChrome\";v=\"140\"\r\n");
    for (profile, status, mode) in [("strict", 403, "enforced"), ("standard", 200, "observed")] {
        let rig = rig(&upstream, &format!("[shield]\nprofile = \"{profile}\"\n")).await;
        let asks = async |path: &str, fields: &str| {
            let mut client = rig.client().await;
            client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).await;
            client.response().await.status
        };

        for (path, fields, rule) in [
            ("/superset/welcome/?anonymous", "", "shield.anonymous"),
            ("/superset/welcome/?bare", CHROME, "shield.pretended"),
            ("/superset/welcome/?contradicted", &contradicted, "shield.pretended"),
        ] {
            assert_eq!(asks(path, fields).await, status, "{path}");
            let verdict = rig.record(path).await["verdicts"][0].clone();
            assert_eq!(verdict, json!({ "rule": rule, "action": "deny", "mode": mode }));
        }
        assert_eq!(asks("/superset/welcome/?person", &whole).await, 200);
        for path in ["/api/v1/me/", "/static/assets/a.js", "/health"] {
            assert_eq!((asks(path, "").await, asks(path, CHROME).await), (200, 200), "no page: {path}");
        }
    }
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
        "[[rules]]\nname = \"any-tls\"\nfingerprint = [\"t13d*h2_*\", \"q13d*h3_*\"]\npath = \"/x\"\naction = \"deny\"\n",
    )
    .await;

    let mut h1 = rig.secure_client().await;
    h1.send("GET /x?h1 HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let over_h1 = h1.response().await.status;
    let over_h2 = rig.h2().await.get("/x?h2").await.status;
    let over_h3 = rig.h3().await.get("/x?h3").await.status;
    let plain = rig.get("/x?plain").await.status;

    assert_eq!((over_h1, over_h2.as_u16(), over_h3.as_u16(), plain), (200, 403, 403, 200));
    let fingerprint = rig.record("/x?h2").await["ja4"].as_str().unwrap().to_owned();
    assert!(fingerprint.len() == 36 && fingerprint.starts_with("t13d"), "{fingerprint}");
    assert!(rig.record("/x?h1").await["ja4"].as_str().unwrap().contains("h1_"));
    assert!(rig.record("/x?plain").await["ja4"].is_null());
    let over_quic = rig.record("/x?h3").await["ja4"].as_str().unwrap().to_owned();
    assert!(over_quic.len() == 36 && over_quic.starts_with("q13d"), "{over_quic}");
}

#[tokio::test]
async fn method_that_is_not_let_through_is_405_and_told_which_are() {
    let upstream = Upstream::named("a").await;
    let narrow = rig(&upstream, "[shield]\nmethods = [\"GET\", \"POST\"]\n").await;
    let wide = rig(&upstream, "").await;
    let ask = async |rig: &Rig, method: &str| {
        let mut client = rig.client().await;
        client.send(format!("{method} /{method} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")).await;
        client.response().await
    };

    let refused = ask(&narrow, "DELETE").await;
    let over_h2 = narrow.h2().await.start(request(Method::PATCH, "/over-h2"), true).await.0;

    assert_eq!((refused.status, refused.get("allow").as_deref()), (405, Some("GET, POST")));
    assert_eq!(soon("an answer", try_reply(over_h2)).await.unwrap().status, 405);
    let record = narrow.record("/DELETE").await;
    assert_eq!((&record["fault"], &record["end"]), (&"method".into(), &"CR".into()));
    assert_eq!(ask(&narrow, "POST").await.status, 200);
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert_eq!(ask(&wide, method).await.status, 200, "{method}");
    }
    assert_eq!(ask(&wide, "PROPFIND").await.status, 405);
    assert_eq!(upstream.requests().len(), 6);
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
async fn storm_of_pages_without_what_belongs_to_them_is_banned_in_strict_and_a_person_is_not() {
    let upstream = Upstream::named("a").await;
    let rest = "[shield]\nprofile = \"strict\"\nban_private = true\n[bans]\npoints = 8\n[[routes]]\npool = \"app\"\n";
    let rig = Rig::setup().endpoint(&upstream).plain("proxy_protocol = [\"127.0.0.0/8\"]").rest(rest).start().await;
    let asks = async |client: &mut Peer, path: &str| {
        let agent = "User-Agent: python-requests/2.32\r\n";
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{agent}\r\n")).await;
        client.response().await.status
    };

    let mut person = from(&rig, "10.0.0.1").await;
    for page in 0..100 {
        assert_eq!(asks(&mut person, &format!("/superset/dashboard/{page}/")).await, 200);
        for part in ["/static/assets/a.js", "/static/assets/b.css", "/api/v1/chart/1"] {
            assert_eq!(asks(&mut person, part).await, 200);
        }
    }
    let mut robot = from(&rig, "10.0.0.2").await;
    let mut pages = 0;
    while asks(&mut robot, &format!("/superset/dashboard/{pages}/")).await == 200 {
        pages += 1;
        assert!(pages < 200, "never banned");
    }

    assert!(pages >= 60, "{pages}");
    let record = rig.record_where("a page too many", |record| record["verdicts"][0]["rule"] == "shield.pages").await;
    assert_eq!(
        (&record["verdicts"][0]["mode"], &record["verdicts"][0]["action"]),
        (&"enforced".into(), &"offence".into())
    );
    assert_eq!(crate::rig::field(&rig.event("client banned").await, "cause"), "shield.pages");
    assert_eq!(asks(&mut person, "/superset/welcome/").await, 200);
}

#[tokio::test]
async fn superset_below_a_path_is_judged_by_what_lies_below_it() {
    let upstream = Upstream::answering(|request| {
        let status = if request.target().contains("/old.") { "404 Not Found" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let rest = "[shield]\nprofile = \"strict\"\nban_private = true\n[bans]\npoints = 8\n\
                [[routes]]\npath = \"/analytics\"\npool = \"app\"\n";
    let rig = Rig::setup().endpoint(&upstream).plain(PROXIED).rest(rest).start().await;
    let asks = async |client: &mut Peer, path: &str, agent: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{agent}\r\n")).await;
        client.response().await.status
    };
    let tool = "User-Agent: python-requests/2.32\r\n";

    let mut person = from(&rig, "10.0.0.1").await;
    for page in 0..100 {
        assert_eq!(asks(&mut person, &format!("/analytics/superset/dashboard/{page}/"), tool).await, 200);
        for part in ["static/assets/a.js", "api/v1/chart/1"] {
            assert_eq!(asks(&mut person, &format!("/analytics/{part}"), tool).await, 200);
        }
        assert_eq!(asks(&mut person, "/analytics/static/assets/old.js", tool).await, 404, "of an older release");
    }
    assert_eq!(asks(&mut person, "/analytics/api/v1/me/", "").await, 200, "a client of the API needs no name");
    assert_eq!(asks(&mut person, "/analytics/superset/welcome/", "").await, 403);

    let mut scanner = from(&rig, "10.0.0.2").await;
    assert_eq!(asks(&mut scanner, "/analytics/wp-admin/install", tool).await, 403);
    assert_eq!(rig.record("/analytics/wp-admin/install").await["verdicts"][0]["rule"], "shield.probe");
    let mut robot = from(&rig, "10.0.0.3").await;
    let mut pages = 0;
    while asks(&mut robot, &format!("/analytics/superset/dashboard/{pages}/"), tool).await == 200 {
        pages += 1;
        assert!(pages < 200, "never banned");
    }
}

#[tokio::test]
async fn operator_says_how_many_misses_and_pages_are_too_many() {
    let upstream = Upstream::answering(|request| {
        let status = if request.target().contains("missing") { "404 Not Found" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let rest = "[shield]\nmode = \"observe\"\nban_private = true\nmisses = \"3/h\"\npages = \"2/d\"\n[[routes]]\npool = \"app\"\n";
    let rig = Rig::setup().endpoint(&upstream).plain(PROXIED).rest(rest).start().await;
    let tool = "User-Agent: curl/8\r\n";
    let verdict = async |address: &str, path: &str| {
        get_from(&rig, address, path, tool).await;
        rig.record(path).await["verdicts"][0]["rule"].clone()
    };

    for miss in 1..=3 {
        assert!(verdict("198.51.100.1", &format!("/api/missing/{miss}")).await.is_null(), "{miss}");
    }
    assert_eq!(verdict("198.51.100.1", "/api/missing/4").await, "shield.misses");
    for page in 1..=2 {
        assert!(verdict("198.51.100.2", &format!("/superset/dashboard/{page}/")).await.is_null(), "{page}");
    }
    assert_eq!(verdict("198.51.100.2", "/superset/dashboard/3/").await, "shield.pages");
}

const GOOGLE: &str = "User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)\r\n";

#[tokio::test]
async fn search_engine_is_known_by_its_name_and_who_only_says_so_is_not() {
    let (upstream, dns) = (Upstream::named("a").await, NameServer::start().await);
    let names = |name| Told::Names(vec![name], 300);
    dns.tell("1.2.0.192.in-addr.arpa", names("crawl-192-0-2-1.googlebot.com"));
    dns.tell("crawl-192-0-2-1.googlebot.com", Told::Addresses(vec!["192.0.2.1".parse().unwrap()], 300));
    // Whoever owns an address can give it any name, but not that name the address.
    dns.tell("2.2.0.192.in-addr.arpa", names("crawl-192-0-2-2.googlebot.com"));
    dns.tell("crawl-192-0-2-2.googlebot.com", Told::Addresses(vec!["198.51.100.9".parse().unwrap()], 300));
    dns.tell("3.2.0.192.in-addr.arpa", names("googlebot.com.evil.example"));
    dns.tell("googlebot.com.evil.example", Told::Addresses(vec!["192.0.2.3".parse().unwrap()], 300));
    dns.tell("4.2.0.192.in-addr.arpa", Told::Failure);
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    dns.tell(six, names("crawl.googlebot.com"));
    dns.tell("crawl.googlebot.com", Told::Addresses(vec!["2001:db8::1".parse().unwrap()], 300));
    let rest = "[shield]\nprofile = \"strict\"\ncrawlers.networks = [\"192.0.2.7\"]\n[[routes]]\npool = \"app\"\n";
    let rig = Rig::setup()
        .process(&format!("nameservers = [\"{}\"]", dns.address))
        .endpoint(&upstream)
        .plain("proxy_protocol = [\"127.0.0.0/8\"]")
        .rest(rest)
        .start()
        .await;
    let asks = async |address: &str, path: &str| get_from(&rig, address, path, GOOGLE).await.status;

    // Nobody waits for a name server.
    assert_eq!(asks("192.0.2.1", "/first").await, 200);
    let verdict = rig.record("/first").await["verdicts"][0].clone();
    assert_eq!(verdict, json!({ "rule": "shield.crawler", "action": "deny", "mode": "observed" }));
    let answered = |result: &str| format!("sluicegate_crawler_proofs_total{{result=\"{result}\"}}");
    soon("the proof", async { while rig.metric(&answered("proven")).await < 1.0 {} }).await;
    assert_eq!(asks("192.0.2.1", "/second").await, 200);
    assert!(rig.record("/second").await["verdicts"].is_null(), "it is what it says");
    assert_eq!(asks("2001:db8::1", "/six").await, 200);
    soon("the proof", async { while rig.metric(&answered("proven")).await < 2.0 {} }).await;
    assert_eq!(asks("2001:db8::1", "/six-again").await, 200);
    assert!(rig.record("/six-again").await["verdicts"].is_null());

    for (count, address) in [(1.0, "192.0.2.2"), (2.0, "192.0.2.3"), (3.0, "192.0.2.9")] {
        asks(address, "/").await;
        soon("the answer", async { while rig.metric(&answered("refuted")).await < count {} }).await;
        assert_eq!(asks(address, &format!("/{address}")).await, 403);
        let verdict = rig.record(&format!("/{address}")).await["verdicts"][0].clone();
        assert_eq!(verdict, json!({ "rule": "shield.crawler", "action": "deny", "mode": "enforced" }));
    }
    asks("192.0.2.4", "/").await;
    soon("no answer", async { while rig.metric(&answered("unanswered")).await < 1.0 {} }).await;
    assert_eq!(asks("192.0.2.4", "/").await, 403, "name servers that fail prove nothing");
    assert_eq!(asks("192.0.2.7", "/listed").await, 200, "published networks need no name server");
    assert!(rig.record("/listed").await["verdicts"].is_null());
    let shield = rig.status().await["shield"].clone();
    assert_eq!(shield["crawlers_proven"], 2);
}

#[tokio::test]
async fn status_tells_what_the_shield_has_found_and_how_full_it_is() {
    let upstream = Upstream::named("a").await;
    let rest = "[shield]\nmode = \"observe\"\nmax_tarpits = 7\n\
                [[rules]]\nname = \"no-secrets\"\npath = \"/api/secret\"\naction = \"deny\"\n\
                [[rules]]\nname = \"look\"\npath = \"/look\"\naction = \"drop\"\nmode = \"observe\"\n";
    let rig = rig(&upstream, rest).await;
    for path in ["/api/secret", "/api/secret", "/look", "/.env"] {
        rig.get(path).await;
    }

    let shield = rig.status().await["shield"].clone();

    assert_eq!((&shield["profile"], &shield["mode"]), (&"standard".into(), &"observed".into()));
    let of = |name: &str| {
        let rules = shield["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["rule"] == name).unwrap().clone()
    };
    let shown = |rule: &str, action: &str, mode: &str, enforced: u8, observed: u8| json!({ "rule": rule, "action": action, "mode": mode, "enforced": enforced, "observed": observed });
    assert_eq!(of("no-secrets"), shown("no-secrets", "deny", "enforced", 2, 0));
    assert_eq!(of("look"), shown("look", "drop", "observed", 0, 1));
    assert_eq!(of("shield.probe"), shown("shield.probe", "deny", "observed", 0, 1));
    assert_eq!(of("shield.deny_list")["mode"], "enforced", "a list is no guess");
    assert_eq!((&shield["max_tarpits"], &shield["tarpits"], &shield["bans"]), (&7.into(), &0.into(), &0.into()));
    let tables: Vec<_> = shield["tables"].as_array().unwrap().iter().map(|table| table["name"].clone()).collect();
    assert_eq!(tables, ["misses", "pages", "resets"]);
}
