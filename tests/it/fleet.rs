//! Proxies that share what they count through a real Redis, its failover and its absence.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::limits::get_from;
use crate::rig::redis::Redis;
use crate::rig::{Pki, Rig, Upstream, message, soon};

const AWAY: &str = "redis is away, counts are not shared";
const JOINED: &str = "redis answers, counts are shared";
/// What tests have no need to wait for.
const QUICK: &str = "interval = \"5ms\"\npatience = \"300ms\"";
const PROXIED: &str = "proxy_protocol = [\"127.0.0.0/8\"]";

async fn proxy(upstream: &Upstream, redis: &str, limit: &str) -> Rig {
    let rig = starting(upstream, &format!("{redis}\n{QUICK}"), limit).await;
    rig.status_where("redis to answer", |status| status["fleet"] == true).await;
    rig
}

/// A proxy that may not have met its Redis yet.
async fn starting(upstream: &Upstream, redis: &str, limit: &str) -> Rig {
    let rest = format!(
        "[redis]\n{redis}\n\
         [limits.shared]\nstore = \"redis\"\n{limit}\n\
         [[routes]]\npool = \"app\"\nlimits = [\"shared\"]\n"
    );
    let setup = Rig::setup().process("fleet_secret = { file = \"secret\" }").file("secret", "the same for all of them");
    setup.plain(PROXIED).admin("socket = \"admin.sock\"").rest(&rest).endpoint(upstream).start().await
}

fn single(redis: &Redis) -> String {
    format!("addresses = \"{}\"", redis.address)
}

async fn asks(rig: &Rig) -> u16 {
    get_from(rig, "10.0.0.1", "/", "").await.status
}

/// Asks until it is refused; how often it was not.
async fn exhaust(rig: &Rig) -> usize {
    soon("a refusal", async {
        let mut passed = 0;
        while asks(rig).await == 200 {
            passed += 1;
        }
        passed
    })
    .await
}

/// Lets Redis learn what `rig` has counted.
async fn settled(rig: &Rig, redis: &Redis) {
    soon("redis to learn", async { while redis.ask("DBSIZE").await == ":0" {} }).await;
    let calls = rig.metric("sluicegate_fleet_calls_total").await;
    assert!(calls >= 1.0);
}

#[tokio::test]
async fn strict_limit_is_exact_over_two_proxies() {
    let (upstream, redis) = (Upstream::named("a").await, Redis::start(&[]).await);
    let limit = "rate = \"30/d\"\nfleet = { decides = \"redis\", timeout = \"1s\" }";
    let (one, two) = (proxy(&upstream, &single(&redis), limit).await, proxy(&upstream, &single(&redis), limit).await);

    let mut passed = 0;
    for turn in 0..60 {
        passed += usize::from(asks(if turn % 2 == 0 { &one } else { &two }).await == 200);
    }

    assert_eq!(passed, 30);
}

#[tokio::test]
async fn proxy_learns_in_the_background_what_another_let_pass() {
    let (upstream, redis) = (Upstream::named("a").await, Redis::start(&["--requirepass", "s3cret"]).await);
    let config = format!("{}\npassword = {{ file = \"password\" }}", single(&redis));
    let limit = "rate = \"200/d\"";
    let start = async || {
        let rest = format!(
            "[redis]\n{config}\ninterval = \"5ms\"\n[limits.shared]\nstore = \"redis\"\n{limit}\n\
             [[routes]]\npool = \"app\"\nlimits = [\"shared\"]\n"
        );
        let setup = Rig::setup().process("fleet_secret = { file = \"secret\" }").file("secret", "the same for all");
        let setup = setup.file("password", "s3cret\n").plain(PROXIED).rest(&rest).endpoint(&upstream);
        let rig = setup.start().await;
        rig.status_where("redis to answer", |status| status["fleet"] == true).await;
        rig
    };
    let (one, two) = (start().await, start().await);

    let first = exhaust(&one).await;
    let second = exhaust(&two).await;

    assert_eq!(first, 200);
    // By itself it would let 200 pass. What it does let pass is what comes before its first answer from Redis.
    assert!(second < 200, "{second}");
    eprintln!("measured: beyond a limit of 200, {second} passed before the second proxy knew");
    assert_eq!(exhaust(&two).await, 0);
}

#[tokio::test]
async fn limit_without_redis_does_what_it_says_and_recovers_by_itself() {
    for (when_away, beyond) in [("local", 429), ("allow", 200), ("deny", 429)] {
        let (upstream, mut redis) = (Upstream::named("a").await, Redis::start(&[]).await);
        let limit = format!("rate = \"3/d\"\nfleet = {{ when_away = \"{when_away}\" }}");
        let rig = proxy(&upstream, &single(&redis), &limit).await;
        assert_eq!(asks(&rig).await, 200);

        redis.kill().await;
        rig.event(AWAY).await;
        let without = [asks(&rig).await, asks(&rig).await, asks(&rig).await];
        let expected = match when_away {
            "deny" => [429, 429, 429],
            "allow" => [200, 200, 200],
            _ => [200, 200, 429],
        };
        assert_eq!(without, expected, "{when_away}");
        assert_eq!(asks(&rig).await, beyond, "{when_away}");

        redis.revive().await;
        rig.status_where("redis to be back", |status| status["fleet"] == true).await;
    }
}

#[tokio::test]
async fn request_waits_for_a_frozen_redis_no_longer_than_its_limit_says() {
    let redis = Redis::start(&["--enable-debug-command", "yes"]).await;
    let upstream = Upstream::named("a").await;
    let limit = "rate = \"100/d\"\nfleet = { decides = \"redis\", timeout = \"20ms\" }";
    let rig = proxy(&upstream, &single(&redis), limit).await;
    assert_eq!(asks(&rig).await, 200);

    // Frozen for two seconds, by itself: connections stay, answers do not come.
    let mut sleeper = crate::rig::Peer::connect(redis.address).await;
    sleeper.send("DEBUG SLEEP 2\r\n").await;
    for _ in 0..20 {
        assert_eq!(asks(&rig).await, 200);
    }

    assert!(rig.metric("sluicegate_fleet_late_total").await >= 1.0 || rig.status().await["fleet"] == false);
    rig.status_where("redis to be back", |status| status["fleet"] == true).await;
}

#[tokio::test]
async fn limit_holds_over_a_failover_by_sentinels() {
    let upstream = Upstream::named("a").await;
    let mut master = Redis::start(&[]).await;
    let port = master.address.port().to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]).await;
    soon("the replica to follow", async { while !replica.info("master_link_status").await.contains("up") {} }).await;
    let sentinels =
        [Redis::sentinel(&master, 2).await, Redis::sentinel(&master, 2).await, Redis::sentinel(&master, 2).await];
    soon("the sentinels to know each other and the replica", async {
        for sentinel in &sentinels {
            while !sentinel.info("master0").await.contains("slaves=1,sentinels=3") {}
        }
    })
    .await;
    let places: Vec<String> = sentinels.iter().map(|sentinel| format!("\"{}\"", sentinel.address)).collect();
    let config = format!("kind = \"sentinel\"\naddresses = [{}]", places.join(", "));
    let limit = "rate = \"60/d\"";
    let (one, two) = (proxy(&upstream, &config, limit).await, proxy(&upstream, &config, limit).await);
    let before = exhaust(&one).await;
    settled(&one, &master).await;
    let learnt = exhaust(&two).await;

    master.kill().await;
    for rig in [&one, &two] {
        rig.event(AWAY).await;
        rig.status_long("the new master", |status| status["fleet"] == true).await;
    }
    let after = exhaust(&one).await + exhaust(&two).await;

    assert_eq!((before, after), (60, 0), "what the proxies know outlives the master");
    assert!(learnt < 60);
    eprintln!("measured: beyond a limit of 60, {learnt} before and {after} after a failover");
}

#[tokio::test]
async fn ban_and_its_end_reach_the_other_proxy() {
    let (upstream, redis) = (Upstream::named("a").await, Redis::start(&[]).await);
    let (one, two) = (
        proxy(&upstream, &single(&redis), "rate = \"1000/s\"").await,
        proxy(&upstream, &single(&redis), "rate = \"1000/s\"").await,
    );
    let run = async |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--config", "sluicegate.toml"]);
        one.command(&all).await.0
    };

    assert!(run(&["ban", "10.0.0.1", "--for", "1h"]).await);
    two.status_where("the ban", |status| status["bans"] == 1).await;
    assert_eq!(asks(&two).await, 403);

    assert!(run(&["unban", "10.0.0.1"]).await);
    two.status_where("its end", |status| status["bans"] == 0).await;
    assert_eq!(asks(&two).await, 200);
}

/// Asks from `address`.
async fn asks_from(rig: &Rig, address: &str) -> u16 {
    get_from(rig, address, "/", "").await.status
}

/// How many of `turns` requests from each of several addresses pass, in turns over two proxies.
async fn passed_in_turns(proxies: [&Rig; 2], turns: usize) -> Vec<usize> {
    let mut passed = vec![0; 6];
    for turn in 0..turns {
        for (host, passed) in passed.iter_mut().enumerate() {
            let status = asks_from(proxies[(turn + host) % 2], &format!("10.0.{host}.1")).await;
            *passed += usize::from(status == 200);
        }
    }
    passed
}

fn seeds(nodes: &[Redis]) -> String {
    let places: Vec<String> = nodes.iter().take(3).map(|node| format!("\"{}\"", node.address)).collect();
    format!("kind = \"cluster\"\naddresses = [{}]", places.join(", "))
}

#[tokio::test]
async fn strict_limit_is_exact_over_two_proxies_and_a_cluster_also_when_one_of_its_masters_dies() {
    let (upstream, mut nodes) = (Upstream::named("a").await, Redis::cluster().await);
    let limit = "rate = \"10/d\"\nfleet = { decides = \"redis\", timeout = \"1s\" }";
    let config = seeds(&nodes);
    let (one, two) = (proxy(&upstream, &config, limit).await, proxy(&upstream, &config, limit).await);

    assert_eq!(passed_in_turns([&one, &two], 20).await, [10; 6], "keys of all slots");

    // A master that has keys; its replica has them as well once it says so.
    let mut holder = None;
    for (at, node) in nodes.iter().enumerate() {
        if node.info("role").await.contains("master") && node.ask("DBSIZE").await != ":0" {
            holder = Some(at);
        }
    }
    let holder = holder.expect("somebody has the keys");
    assert_eq!(nodes[holder].ask("WAIT 1 5000").await, ":1");
    nodes[holder].kill().await;
    nodes.remove(holder);
    soon("the replica to take over", async {
        for node in &nodes {
            while !node.ask("CLUSTER KEYSLOT x").await.starts_with(':') {}
        }
        loop {
            let mut masters = 0;
            for node in &nodes {
                masters += usize::from(node.info("role").await.contains("master"));
            }
            if masters == 3 {
                break;
            }
        }
    })
    .await;
    for rig in [&one, &two] {
        rig.status_long("redis to answer", |status| status["fleet"] == true).await;
    }
    let after = passed_in_turns([&one, &two], 5).await;

    assert_eq!(after, [0; 6]);
}

#[tokio::test]
async fn proxies_learn_through_a_cluster_what_others_let_pass_and_whom_they_banned() {
    let (upstream, nodes) = (Upstream::named("a").await, Redis::cluster().await);
    let config = seeds(&nodes);
    let limit = "rate = \"200/d\"";
    let (one, two) = (proxy(&upstream, &config, limit).await, proxy(&upstream, &config, limit).await);

    let first = exhaust(&one).await;
    let second = exhaust(&two).await;

    assert_eq!(first, 200);
    assert!(second < 200, "{second}");
    eprintln!("measured: beyond a limit of 200 in a cluster, {second} passed before the second proxy knew");
    assert!(one.command(&["ban", "10.0.0.7", "--for", "1h", "--config", "sluicegate.toml"]).await.0);
    two.status_where("the ban", |status| status["bans"] == 1).await;
    assert_eq!(asks_from(&two, "10.0.0.7").await, 403);
}

#[tokio::test]
async fn redis_over_tls_with_a_password_is_trusted_by_its_authority_and_by_no_other() {
    let (upstream, pki) = (Upstream::named("a").await, Pki::new());
    let redis = Redis::secure(&pki, &["--requirepass", "s3cret"]).await;
    let authorities = pki.authority();
    let start = async |authorities: &str, password: &str| {
        let rest = format!(
            "[redis]\naddresses = \"{}\"\ntls = {{ authorities = \"redis-ca.pem\" }}\n\
             password = {{ file = \"password\" }}\ninterval = \"5ms\"\n\
             [limits.shared]\nstore = \"redis\"\nrate = \"20/d\"\n\
             fleet = {{ decides = \"redis\", timeout = \"1s\" }}\n[[routes]]\npool = \"app\"\nlimits = [\"shared\"]\n",
            redis.address
        );
        let setup = Rig::setup().process("fleet_secret = { file = \"secret\" }").file("secret", "the same for all");
        let setup = setup.file("password", password).file("redis-ca.pem", authorities);
        setup.plain(PROXIED).rest(&rest).endpoint(&upstream).start().await
    };

    let (one, two) = (start(&authorities, "s3cret").await, start(&authorities, "s3cret").await);
    for rig in [&one, &two] {
        rig.status_where("redis to answer", |status| status["fleet"] == true).await;
    }
    let mut passed = 0;
    for turn in 0..40 {
        passed += usize::from(asks(if turn % 2 == 0 { &one } else { &two }).await == 200);
    }
    assert_eq!(passed, 20);

    for (authorities, password) in [(Pki::new().authority(), "s3cret"), (authorities, "wr0ng")] {
        let rig = start(&authorities, password).await;
        let event = rig.event(AWAY).await;
        assert_eq!(rig.status().await["fleet"], false);
        assert!(!event.to_string().contains(password), "{event}");
        assert_eq!(asks(&rig).await, 200, "it serves all the same");
    }
}

#[tokio::test]
async fn sentinels_and_their_master_speak_tls_and_ask_for_passwords() {
    let (upstream, pki) = (Upstream::named("a").await, Pki::new());
    let master = Redis::secure(&pki, &["--requirepass", "s3cret", "--masterauth", "s3cret"]).await;
    let sentinel = Redis::secure_sentinel(&pki, &master, "s3cret", "s3ntinel").await;
    let config = format!(
        "kind = \"sentinel\"\naddresses = [\"{}\"]\ntls = {{ authorities = \"redis-ca.pem\" }}\n\
         password = {{ file = \"password\" }}\nsentinel_password = {{ file = \"sentinel-password\" }}",
        sentinel.address
    );
    let rest = format!(
        "[redis]\n{config}\ninterval = \"5ms\"\n[limits.shared]\nstore = \"redis\"\nrate = \"5/d\"\n\
         [[routes]]\npool = \"app\"\nlimits = [\"shared\"]\n"
    );
    let setup = Rig::setup().process("fleet_secret = { file = \"secret\" }").file("secret", "the same for all");
    let setup = setup.file("password", "s3cret").file("sentinel-password", "s3ntinel");
    let setup = setup.file("redis-ca.pem", &pki.authority()).plain(PROXIED).rest(&rest).endpoint(&upstream);
    let rig = setup.start().await;

    rig.status_where("redis to answer", |status| status["fleet"] == true).await;

    assert_eq!(exhaust(&rig).await, 5);
}

/// What the server says to a command that has a number for an answer.
async fn number(redis: &Redis, command: &str) -> usize {
    redis.ask(command).await.trim_start_matches(':').parse().unwrap()
}

#[tokio::test]
async fn every_key_of_a_round_is_told_however_few_are_told_at_once() {
    let (upstream, redis) = (Upstream::named("a").await, Redis::start(&[]).await);
    let interval = Duration::from_secs(4);
    let config = format!("{}\ninterval = \"4s\"\npatience = \"300ms\"\nmax_calls = 16", single(&redis));
    let rig = starting(&upstream, &config, "rate = \"1000/d\"").await;
    rig.status_where("redis to answer", |status| status["fleet"] == true).await;
    asks(&rig).await;
    soon("a round of one", async { while number(&redis, "DBSIZE").await < 1 {} }).await;

    join_all((0..300).map(|host| asks_in_vain(&rig, host))).await;
    soon("a round of many", async { while number(&redis, "DBSIZE").await < 2 {} }).await;
    let begun = Instant::now();
    soon("all of them", async { while number(&redis, "DBSIZE").await < 301 {} }).await;

    assert!(begun.elapsed() < interval / 2, "not in one round: {:?}", begun.elapsed());
}

async fn asks_in_vain(rig: &Rig, host: usize) {
    asks_from(rig, &format!("10.1.{}.{}", host / 250, host % 250 + 1)).await;
}

#[tokio::test]
async fn redis_that_takes_no_writes_is_away_and_is_asked_less_and_less_often() {
    for (breaks, mends) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("ACL SETUSER default -eval -evalsha", "ACL SETUSER default +@all"),
        ("ACL SETUSER default resetkeys ~{sluicegate}:*", "ACL SETUSER default allkeys"),
    ] {
        let (upstream, redis) = (Upstream::named("a").await, Redis::start(&[]).await);
        assert_eq!(redis.ask(breaks).await, "+OK");
        let rig = starting(&upstream, &format!("{}\n{QUICK}", single(&redis)), "rate = \"1000/d\"").await;
        let failures = async || rig.metric("sluicegate_fleet_failures_total").await;

        rig.event(AWAY).await;
        let since = Instant::now();
        soon("five attempts", async {
            while failures().await < 5.0 {
                assert_eq!(asks(&rig).await, 200, "it serves all the same");
            }
        })
        .await;
        // The waits before the second attempt to the fifth take 750 ms at least; the first may be over by now.
        assert!(since.elapsed() >= Duration::from_millis(600), "{breaks}: {:?}", since.elapsed());
        assert_eq!(rig.status().await["fleet"], false, "{breaks}");
        assert_eq!(said(&rig, JOINED), 0, "{breaks}");

        assert_eq!(redis.ask(mends).await, "+OK");
        rig.status_where("redis to take writes", |status| status["fleet"] == true).await;
    }
}

fn said(rig: &Rig, what: &str) -> usize {
    rig.events.all().iter().filter(|event| message(event) == what).count()
}

#[tokio::test]
async fn redis_that_lets_in_and_refuses_what_is_counted_is_away_once_and_asked_less_and_less_often() {
    let (upstream, redis) = (Upstream::named("a").await, Redis::start(&[]).await);
    let rig = proxy(&upstream, &single(&redis), "rate = \"1000000/d\"").await;
    let failures = async || rig.metric("sluicegate_fleet_failures_total").await;

    assert_eq!(redis.ask("ACL SETUSER default resetkeys ~{sluicegate}:* ~sluicegate:probe").await, "+OK");
    let since = Instant::now();
    soon("five links to fail", async {
        while failures().await < 5.0 {
            assert_eq!(asks(&rig).await, 200, "it serves all the same");
        }
    })
    .await;

    assert!(since.elapsed() >= Duration::from_millis(600), "{:?}", since.elapsed());
    assert_eq!((said(&rig, JOINED), said(&rig, AWAY)), (1, 1));
    assert_eq!(redis.ask("ACL SETUSER default allkeys").await, "+OK");
    soon("redis to last", rig.events.find_many(2, |event| message(event) == JOINED)).await;
    assert_eq!(rig.status().await["fleet"], true);
}

#[tokio::test]
async fn questions_that_redis_does_not_answer_wait_in_the_queue_beyond_those_that_it_may_be_asked_at_once() {
    let redis = Redis::start(&["--enable-debug-command", "yes"]).await;
    let upstream = Upstream::named("a").await;
    let config = format!("{}\npatience = \"10s\"\nmax_calls = 3", single(&redis));
    let limit = "rate = \"1000/d\"\nfleet = { decides = \"redis\", timeout = \"20ms\" }";
    let rig = starting(&upstream, &config, limit).await;
    rig.status_where("redis to answer", |status| status["fleet"] == true).await;
    let metric = async |name: &str| rig.metric(&format!("sluicegate_fleet_{name}_total")).await;

    let mut sleeper = crate::rig::Peer::connect(redis.address).await;
    sleeper.send("DEBUG SLEEP 2\r\n").await;
    soon("a late answer", async {
        while metric("late").await < 1.0 {
            asks(&rig).await;
        }
    })
    .await;
    let (asked, late) = (metric("calls").await, metric("late").await);
    for _ in 0..10 {
        assert_eq!(asks(&rig).await, 200);
    }

    assert_eq!(metric("late").await, late + 10.0, "redis sleeps");
    assert_eq!(metric("calls").await, asked + 2.0, "three at once");
    soon("those in the queue to be asked", async { while metric("calls").await < asked + 10.0 {} }).await;
}

#[tokio::test]
async fn key_that_holds_something_else_is_counted_here_alone_and_hurts_no_other() {
    let (upstream, redis) = (Upstream::named("a").await, Redis::start(&[]).await);
    let limit = "rate = \"6/d\"\nfleet = { decides = \"redis\", timeout = \"1s\" }";
    let (one, two) = (proxy(&upstream, &single(&redis), limit).await, proxy(&upstream, &single(&redis), limit).await);
    assert_eq!(asks_from(&one, "10.0.0.1").await, 200);
    let key = redis.bulk("RANDOMKEY").await;
    assert!(key.starts_with("sluicegate:shared:"), "{key}");
    redis.ask(&format!("DEL {key}")).await;
    assert_eq!(number(&redis, &format!("RPUSH {key} x")).await, 1);

    for _ in 0..5 {
        assert_eq!(asks_from(&one, "10.0.0.1").await, 200);
    }
    let mut passed = 0;
    for turn in 0..12 {
        passed += usize::from(asks_from(if turn % 2 == 0 { &one } else { &two }, "10.0.0.2").await == 200);
    }

    assert_eq!(passed, 6, "another key is decided by Redis as before");
    assert_eq!(asks_from(&one, "10.0.0.1").await, 429, "its own count holds");
    assert!(one.metric("sluicegate_fleet_counts_dropped_total{cause=\"key\"}").await >= 5.0);
    assert_eq!(one.metric("sluicegate_fleet_failures_total").await, 0.0);
    assert_eq!(one.status().await["fleet"], true);
}

#[tokio::test]
async fn nobody_waits_for_redis_while_bans_are_told_to_it_again() {
    const MANY: usize = 5_000;
    let (upstream, mut redis) = (Upstream::named("a").await, Redis::start(&[]).await);
    let fill = format!(
        "EVAL \"local now = redis.call('TIME')[1] * 1000 for at = 1, {MANY} do redis.call('ZADD', KEYS[1], now + 3600000, \
         'everything a 10.9.' .. math.floor(at / 250) .. '.' .. at % 250) end return redis.call('INCR', KEYS[2])\" \
         2 {{sluicegate}}:bans {{sluicegate}}:version"
    );
    assert_eq!(redis.ask(&fill).await, ":1");
    let limit = "rate = \"100000/d\"\nfleet = { decides = \"redis\", timeout = \"100ms\" }\n[bans]\nmax = 20_000";
    let rig = proxy(&upstream, &single(&redis), limit).await;
    rig.status_where("all bans", |status| status["bans"] == MANY).await;

    redis.kill().await;
    rig.event(AWAY).await;
    redis.revive().await;
    soon("the bans to be told, and redis to decide again", async {
        loop {
            assert_eq!(asks(&rig).await, 200);
            let told = number(&redis, "ZCARD {sluicegate}:bans").await;
            if told == MANY && rig.status().await["fleet"] == true {
                return;
            }
        }
    })
    .await;

    assert_eq!(asks(&rig).await, 200);
    assert_eq!(rig.metric("sluicegate_fleet_late_total").await, 0.0);
}

#[tokio::test]
async fn limit_of_redis_does_what_it_says_when_the_answer_is_late() {
    for (when_away, expected) in [("allow", 200), ("deny", 429)] {
        let redis = Redis::start(&["--enable-debug-command", "yes"]).await;
        let upstream = Upstream::named("a").await;
        let limit = format!(
            "rate = \"1000/d\"\nfleet = {{ decides = \"redis\", timeout = \"20ms\", when_away = \"{when_away}\" }}"
        );
        let rig = proxy(&upstream, &single(&redis), &limit).await;
        assert_eq!(asks(&rig).await, 200);
        let mut sleeper = crate::rig::Peer::connect(redis.address).await;
        sleeper.send("DEBUG SLEEP 2\r\n").await;

        soon("a late answer", async {
            while rig.metric("sluicegate_fleet_late_total").await < 1.0 {
                asks(&rig).await;
            }
        })
        .await;
        assert!(rig.metric("sluicegate_fleet_without_total").await >= 1.0, "{when_away}");
        assert_eq!(asks(&rig).await, expected);

        rig.status_where("redis to be back", |status| status["fleet"] == true).await;
        soon("redis to decide", async { while asks(&rig).await != 200 {} }).await;
    }
}

#[tokio::test]
async fn ban_of_a_tls_fingerprint_reaches_the_other_proxy() {
    let (upstream, redis) = (Upstream::named("a").await, Redis::start(&[]).await);
    let limit = "rate = \"1000/s\"";
    let (one, two) = (proxy(&upstream, &single(&redis), limit).await, proxy(&upstream, &single(&redis), limit).await);
    assert_eq!(two.h2().await.get("/first").await.status, 200);
    let fingerprint = two.record("/first").await["ja4"].as_str().unwrap().to_owned();
    let run = async |verb: &str| one.command(&[verb, &fingerprint, "--config", "sluicegate.toml"]).await.0;

    assert!(run("ban").await);
    two.status_where("the ban", |status| status["bans"] == 1).await;
    assert_eq!(two.h2().await.get("/banned").await.status, 403);
    assert_eq!(two.record("/banned").await["fault"], "banned");
    assert_eq!(asks(&two).await, 200, "what has no such fingerprint passes");

    assert!(run("unban").await);
    two.status_where("its end", |status| status["bans"] == 0).await;
    assert_eq!(two.h2().await.get("/").await.status, 200);
}
