//! What clients may have over time and at once, and how they are told.

use futures_util::future::join_all;

use crate::rig::upstream::named;
use crate::rig::{Gate, Peer, Response, Rig, Upstream};

/// Any client address may be claimed by a PROXY header from loopback.
pub(crate) const PROXIED: &str = "proxy_protocol = [\"127.0.0.0/8\"]";

/// GET on a connection of its own from `address`, with further fields.
pub(crate) async fn get_from(rig: &Rig, address: &str, path: &str, fields: &str) -> Response {
    let mut client = from(rig, address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).await;
    client.response().await
}

/// A connection from `address`.
pub(crate) async fn from(rig: &Rig, address: &str) -> Peer {
    let mut client = rig.client().await;
    let family = if address.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    client.send(format!("PROXY {} {address} {} 1000 80\r\n", family.0, family.1)).await;
    client
}

async fn limited(upstream: &Upstream, limit: &str) -> Rig {
    let rest = format!("[limits.few]\n{limit}\n[[routes]]\npool = \"app\"\nlimits = [\"few\"]\n");
    Rig::setup().plain(PROXIED).endpoint(upstream).rest(&rest).start().await
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let upstream = Upstream::named("a").await;
    let rig = limited(&upstream, "rate = \"3/h\"").await;

    for _ in 0..3 {
        let answer = get_from(&rig, "10.0.0.1", "/", "").await;
        assert_eq!((answer.status, answer.get("ratelimit")), (200, None), "it is told on refusals only");
    }
    let refused = get_from(&rig, "10.0.0.1", "/too-many", "").await;
    let other = get_from(&rig, "10.0.0.2", "/", "").await;

    assert_eq!(refused.status, 429);
    let wait: u32 = refused.get("retry-after").unwrap().parse().unwrap();
    assert!((1_100..=1_200).contains(&wait), "{wait}");
    assert_eq!(refused.get("ratelimit-policy").unwrap(), "\"few\";q=3;w=3600");
    assert_eq!(refused.get("ratelimit").unwrap(), format!("\"few\";r=0;t={wait}"));
    assert_eq!(other.status, 200);
    let record = rig.record("/too-many").await;
    assert_eq!((&record["fault"], &record["end"]), (&"rate_limited".into(), &"PR".into()));
    assert_eq!(record["limits"], serde_json::json!([{ "limit": "few", "observed": false }]));
    assert_eq!(upstream.requests().len(), 4, "the endpoint has not heard of it");
    assert!(rig.metric("sluicegate_limit_requests_total{limit=\"few\",result=\"limited\"}").await >= 1.0);
}

#[tokio::test]
async fn rule_counts_what_it_matches_on_a_limit_and_once_only() {
    let upstream = Upstream::named("a").await;
    let rest = "[limits.few]\nrate = \"2/h\"\n\
                [[rules]]\nname = \"exports\"\npath = \"/export\"\naction = \"limit\"\nlimit = \"few\"\n\
                [[rules]]\nname = \"again\"\npath = \"/export\"\naction = \"limit\"\nlimit = \"few\"\n\
                [[routes]]\npool = \"app\"\n";
    let rig = Rig::setup().plain(PROXIED).endpoint(&upstream).rest(rest).start().await;

    let mut statuses = Vec::new();
    for path in ["/export", "/export", "/export", "/page"] {
        statuses.push(get_from(&rig, "10.0.0.1", path, "").await.status);
    }

    assert_eq!(statuses, [200, 200, 429, 200]);
}

#[tokio::test]
async fn workers_together_let_no_more_pass_than_the_limit() {
    let upstream = Upstream::named("a").await;
    let rig = limited(&upstream, "rate = \"40/d\"").await;

    let asked = join_all((0..120).map(|_| get_from(&rig, "10.0.0.1", "/", ""))).await;

    assert_eq!(asked.iter().filter(|answer| answer.status == 200).count(), 40);
    assert_eq!(asked.iter().filter(|answer| answer.status == 429).count(), 80);
}

#[tokio::test]
async fn requests_are_counted_by_what_the_limit_says() {
    let upstream = Upstream::named("a").await;
    let rest = "[limits.household]\nrate = \"1/h\"\n\
                [limits.network]\nby = \"network\"\nrate = \"1/h\"\n\
                [limits.key]\nby = \"header:X-Api-Key\"\nrate = \"1/h\"\n\
                [limits.cookie]\nby = \"cookie:session\"\nrate = \"1/h\"\n\
                [limits.both]\nby = [\"address\", \"route\"]\nrate = \"1/h\"\n\
                [[routes]]\npath = \"/household\"\npool = \"app\"\nlimits = [\"household\"]\n\
                [[routes]]\npath = \"/network\"\npool = \"app\"\nlimits = [\"network\"]\n\
                [[routes]]\npath = \"/key\"\npool = \"app\"\nlimits = [\"key\"]\n\
                [[routes]]\npath = \"/cookie\"\npool = \"app\"\nlimits = [\"cookie\"]\n\
                [[routes]]\npath = \"/one\"\npool = \"app\"\nlimits = [\"both\"]\n\
                [[routes]]\npath = \"/two\"\npool = \"app\"\nlimits = [\"both\"]\n";
    let rig = Rig::setup().plain(PROXIED).endpoint(&upstream).rest(rest).start().await;
    let asks = async |address: &str, path: &str, fields: &str| get_from(&rig, address, path, fields).await.status;

    assert_eq!(asks("2001:db8::1", "/household", "").await, 200);
    assert_eq!(asks("2001:db8::2", "/household", "").await, 429);
    assert_eq!(asks("2001:db8:0:1::1", "/household", "").await, 200);
    assert_eq!(asks("10.0.0.1", "/network", "").await, 200);
    assert_eq!(asks("10.0.0.250", "/network", "").await, 429);
    assert_eq!(asks("10.0.1.1", "/network", "").await, 200);
    assert_eq!(asks("10.0.0.1", "/key", "X-Api-Key: one\r\n").await, 200);
    assert_eq!(asks("10.0.0.2", "/key", "X-Api-Key: one\r\n").await, 429);
    assert_eq!(asks("10.0.0.2", "/key", "X-Api-Key: two\r\n").await, 200);
    assert_eq!(asks("10.0.0.2", "/key", "").await, 200);
    assert_eq!(asks("10.0.0.2", "/key", "").await, 429, "without the field the address counts");
    assert_eq!(asks("10.0.0.1", "/cookie", "Cookie: a=b; session=x\r\n").await, 200);
    assert_eq!(asks("10.0.0.2", "/cookie", "Cookie: session=x\r\n").await, 429);
    assert_eq!(asks("10.0.0.1", "/one", "").await, 200);
    assert_eq!(asks("10.0.0.1", "/two", "").await, 200);
    assert_eq!(asks("10.0.0.1", "/two", "").await, 429);
}

#[tokio::test]
async fn observing_limit_lets_pass_what_it_would_refuse_and_says_so() {
    let upstream = Upstream::named("a").await;
    let rig = limited(&upstream, "rate = \"1/h\"\nmode = \"observe\"").await;

    assert_eq!(get_from(&rig, "10.0.0.1", "/", "").await.status, 200);
    assert_eq!(get_from(&rig, "10.0.0.1", "/observed", "").await.status, 200);

    let record = rig.record("/observed").await;
    assert_eq!(record["limits"], serde_json::json!([{ "limit": "few", "observed": true }]));
    assert!(record.get("fault").is_none());
    assert_eq!(rig.metric("sluicegate_limit_requests_total{limit=\"few\",result=\"observed\"}").await, 1.0);
}

#[tokio::test]
async fn default_limit_holds_where_none_is_named_and_tells_what_is_left() {
    let upstream = Upstream::named("a").await;
    let rest = "[limits.all]\nrate = \"10/h\"\nburst = 5\ndefault = true\nannounce = true\n\
                [[routes]]\npool = \"app\"\n[[routes]]\npath = \"/free\"\npool = \"app\"\nlimits = []\n";
    let rig = Rig::setup().plain(PROXIED).endpoint(&upstream).rest(rest).start().await;

    let first = get_from(&rig, "10.0.0.1", "/", "").await;
    let second = get_from(&rig, "10.0.0.1", "/", "").await;
    let free = get_from(&rig, "10.0.0.1", "/free", "").await;

    assert_eq!(first.get("ratelimit-policy").unwrap(), "\"all\";q=5;w=1800");
    assert_eq!(first.get("ratelimit").unwrap(), "\"all\";r=4");
    assert_eq!(second.get("ratelimit").unwrap(), "\"all\";r=3");
    assert_eq!(free.get("ratelimit"), None);
}

#[tokio::test]
async fn place_among_those_at_once_is_held_to_the_last_byte() {
    let gate = Gate::closed();
    let (held, script) = (gate.clone(), gate.clone());
    let upstream = Upstream::playing(move |mut peer, seen| {
        let gate = script.clone();
        async move {
            while let Some(request) = peer.request().await {
                seen.note(request);
                if peer.try_send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await.is_err() {
                    return;
                }
                gate.pass().await;
                drop(peer.try_send("lf").await);
            }
        }
    })
    .await;
    let rig = limited(&upstream, "concurrency = 2").await;
    let mut clients = Vec::new();
    for count in 1..=2 {
        let mut client = from(&rig, "10.0.0.1").await;
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        assert_eq!(client.response_head().await.status, 200);
        upstream.received(count).await;
        clients.push(client);
    }

    let refused = get_from(&rig, "10.0.0.1", "/third", "").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.get("ratelimit-policy").unwrap(), "\"few\";q=2;qu=\"concurrent-requests\"");
    assert!(refused.get("retry-after").is_some());
    assert_eq!(rig.record("/third").await["fault"], "concurrency_limited");

    held.let_pass(1);
    // Whoever of the two gets its end: the place is free once the client has it.
    let one = futures_util::future::select_all(clients.iter_mut().map(|client| Box::pin(client.exactly(4)))).await;
    assert_eq!(one.0, b"half");
    held.let_pass(10);
    crate::rig::soon("a free place", async { while get_from(&rig, "10.0.0.1", "/again", "").await.status != 200 {} })
        .await;
}

#[tokio::test]
async fn limit_that_stays_keeps_its_counts_over_a_reload() {
    let upstream = Upstream::named("a").await;
    let rig = limited(&upstream, "rate = \"1/h\"").await;
    assert_eq!(get_from(&rig, "10.0.0.1", "/", "").await.status, 200);

    rig.write_config(&format!("# changed\n{}", rig.config()));
    rig.event("configuration loaded").await;

    assert_eq!(get_from(&rig, "10.0.0.1", "/", "").await.status, 429);
}

#[tokio::test]
async fn refused_request_does_not_hurt_its_connection() {
    let upstream = Upstream::answering(|_| named("a")).await;
    let rig = limited(&upstream, "rate = \"1/h\"").await;
    let mut client = from(&rig, "10.0.0.1").await;

    for status in [200, 429, 429] {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        assert_eq!(client.response().await.status, status);
    }
}

#[tokio::test]
async fn flood_of_addresses_does_not_free_the_worst_offender() {
    let upstream = Upstream::named("a").await;
    let rig = limited(&upstream, "rate = \"5/h\"\nmax_keys = 16").await;
    for _ in 0..5 {
        assert_eq!(get_from(&rig, "10.9.9.9", "/", "").await.status, 200);
    }

    for round in 0..10 {
        for host in 0..40 {
            get_from(&rig, &format!("10.1.{round}.{host}"), "/", "").await;
        }
        assert_eq!(get_from(&rig, "10.9.9.9", "/", "").await.status, 429, "round {round}");
    }

    let status = rig.status().await;
    let limit = status["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == "few").unwrap().clone();
    assert!(limit["pushed_out"].as_u64().unwrap() > 0 && limit["bytes"].as_u64().unwrap() <= 2048, "{limit}");
}

#[tokio::test]
async fn keys_combine_and_a_network_is_as_wide_as_the_limit_says() {
    let upstream = Upstream::named("a").await;
    let rest = "[limits.wide]\nby = \"network\"\nnetwork_v4 = 16\nnetwork_v6 = 32\nrate = \"1/h\"\n\
                [limits.who-and-where]\nby = [\"header:X-Api-Key\", \"network\"]\nrate = \"1/h\"\n\
                [limits.all]\nby = [\"cookie:session\", \"header:X-Api-Key\", \"route\"]\nrate = \"1/h\"\n\
                [limits.route]\nby = \"route\"\nrate = \"1/h\"\n\
                [[routes]]\npath = \"/wide\"\npool = \"app\"\nlimits = [\"wide\"]\n\
                [[routes]]\npath = \"/two\"\npool = \"app\"\nlimits = [\"who-and-where\"]\n\
                [[routes]]\npath = \"/three\"\npool = \"app\"\nlimits = [\"all\"]\n\
                [[routes]]\npath = \"/route\"\npool = \"app\"\nlimits = [\"route\"]\n";
    let rig = Rig::setup().plain(PROXIED).endpoint(&upstream).rest(rest).start().await;
    let asks = async |address: &str, path: &str, fields: &str| get_from(&rig, address, path, fields).await.status;

    assert_eq!(asks("10.1.0.1", "/wide", "").await, 200);
    assert_eq!(asks("10.1.255.1", "/wide", "").await, 429);
    assert_eq!(asks("10.2.0.1", "/wide", "").await, 200);
    assert_eq!(asks("2001:db8:1::1", "/wide", "").await, 200);
    assert_eq!(asks("2001:db8:ffff::1", "/wide", "").await, 429);
    assert_eq!(asks("2001:db9::1", "/wide", "").await, 200);

    assert_eq!(asks("10.0.0.1", "/two", "X-Api-Key: one\r\n").await, 200);
    assert_eq!(asks("10.0.0.99", "/two", "X-Api-Key: one\r\n").await, 429, "the same key from the same network");
    assert_eq!(asks("10.0.0.1", "/two", "X-Api-Key: two\r\n").await, 200);
    assert_eq!(asks("10.0.9.1", "/two", "X-Api-Key: one\r\n").await, 200);

    assert_eq!(asks("10.0.0.1", "/three", "Cookie: session=s\r\nX-Api-Key: one\r\n").await, 200);
    assert_eq!(asks("10.0.9.1", "/three", "Cookie: session=s\r\nX-Api-Key: one\r\n").await, 429);
    assert_eq!(asks("10.0.0.1", "/three", "Cookie: session=t\r\nX-Api-Key: one\r\n").await, 200);
    assert_eq!(asks("10.0.0.1", "/three", "Cookie: session=s\r\nX-Api-Key: two\r\n").await, 200);

    assert_eq!(asks("10.0.0.1", "/route", "").await, 200);
    assert_eq!(asks("10.9.9.9", "/route", "").await, 429, "everybody together");
}

#[tokio::test]
async fn what_is_under_way_is_counted_by_what_the_limit_says() {
    let gate = Gate::closed();
    let upstream = Upstream::held("a", &gate).await;
    let kinds = ["address", "network", "header:X-Api-Key", "cookie:session", "route"];
    let mut rest = String::new();
    for (at, by) in kinds.iter().enumerate() {
        rest += &format!("[limits.l{at}]\nby = \"{by}\"\nconcurrency = 1\n");
        rest += &format!("[[routes]]\npath = \"/{at}\"\npool = \"app\"\nlimits = [\"l{at}\"]\n");
    }
    rest += "[limits.both]\nby = [\"address\", \"cookie:session\"]\nconcurrency = 1\n\
             [[routes]]\npath = \"/5\"\npool = \"app\"\nlimits = [\"both\"]\n\
             [[routes]]\npath = \"/6\"\npool = \"app\"\n";
    let rig = Rig::setup().plain(PROXIED).endpoint(&upstream).rest(&rest).start().await;
    // A request, one that is counted with it, and one that is not: address, path, fields.
    let rows = [
        [("10.0.0.1", "/0?a", ""), ("10.0.0.1", "/0?b", ""), ("10.0.0.2", "/0?c", "")],
        [("10.0.0.1", "/1?a", ""), ("10.0.0.2", "/1?b", ""), ("10.0.1.1", "/1?c", "")],
        [
            ("10.0.0.1", "/2?a", "X-Api-Key: one\r\n"),
            ("10.0.0.2", "/2?b", "X-Api-Key: one\r\n"),
            ("10.0.0.1", "/2?c", "X-Api-Key: two\r\n"),
        ],
        [
            ("10.0.0.1", "/3?a", "Cookie: session=s\r\n"),
            ("10.0.0.2", "/3?b", "Cookie: a=b; session=s\r\n"),
            ("10.0.0.1", "/3?c", "Cookie: session=t\r\n"),
        ],
        [("10.0.0.1", "/4?a", ""), ("10.9.9.9", "/4?b", ""), ("10.0.0.1", "/6?c", "")],
        [
            ("10.0.0.1", "/5?a", "Cookie: session=s\r\n"),
            ("10.0.0.1", "/5?b", "Cookie: session=s\r\n"),
            ("10.0.0.2", "/5?c", "Cookie: session=s\r\n"),
        ],
    ];

    let mut under_way = Vec::new();
    for [first, same, other] in rows {
        for (address, path, fields) in [first, other] {
            let mut client = from(&rig, address).await;
            client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).await;
            under_way.push(client);
            upstream.received(under_way.len()).await;
        }
        let (address, path, fields) = same;
        assert_eq!(get_from(&rig, address, path, fields).await.status, 429, "{path}");
        assert_eq!(rig.record(path).await["fault"], "concurrency_limited");
    }

    gate.let_pass(under_way.len());
    for client in &mut under_way {
        assert_eq!(client.response().await.status, 200);
    }
}

#[tokio::test]
async fn limit_over_time_and_at_once_is_two_policies_to_a_client() {
    let gate = Gate::closed();
    let upstream = Upstream::held("a", &gate).await;
    let rig = limited(&upstream, "rate = \"2/h\"\nconcurrency = 1").await;
    let mut first = from(&rig, "10.0.0.1").await;
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    upstream.received(1).await;

    let crowded = get_from(&rig, "10.0.0.1", "/crowded", "").await;
    let limited = get_from(&rig, "10.0.0.1", "/limited", "").await;

    let told = |answer: &Response, name| answer.get(name).unwrap();
    assert_eq!(told(&crowded, "ratelimit-policy"), "\"few.concurrency\";q=1;qu=\"concurrent-requests\"");
    assert_eq!(told(&crowded, "ratelimit"), "\"few.concurrency\";r=0;t=1");
    assert_eq!(told(&limited, "ratelimit-policy"), "\"few\";q=2;w=3600");
    assert!(told(&limited, "ratelimit").starts_with("\"few\";r=0;t="));
    gate.let_pass(1);
    assert_eq!(first.response().await.status, 200);
}
