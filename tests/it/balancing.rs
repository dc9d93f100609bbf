//! Each request goes where it should, whatever connection it came on.

use std::collections::BTreeMap;

use crate::rig::{Gate, Rig, Upstream};

async fn three() -> [Upstream; 3] {
    [Upstream::named("a").await, Upstream::named("b").await, Upstream::named("c").await]
}

#[tokio::test]
async fn requests_of_one_connection_are_spread_exactly() {
    let upstreams = three().await;
    let rig = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).endpoint(&upstreams[2]).start().await;
    let mut client = rig.client().await;

    for _ in 0..30 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: session=same\r\n\r\n").await;
        client.response().await;
    }

    assert_eq!(upstreams.each_ref().map(|upstream| upstream.requests().len()), [10, 10, 10]);
}

#[tokio::test]
async fn streams_of_one_connection_are_spread_exactly() {
    let upstreams = three().await;
    let rig = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).endpoint(&upstreams[2]).start().await;
    let client = rig.h2().await;

    let answers = futures_util::future::join_all((0..30).map(|_| client.get("/"))).await;

    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(upstreams.each_ref().map(|upstream| upstream.requests().len()), [10, 10, 10]);
}

#[tokio::test]
async fn shares_are_exact_over_connections_and_workers() {
    let upstreams = three().await;
    let setup = Rig::setup().process("workers = 4");
    let rig = setup.endpoint(&upstreams[0]).endpoint(&upstreams[1]).endpoint(&upstreams[2]).start().await;

    for _ in 0..30 {
        rig.get("/").await;
    }

    assert_eq!(upstreams.each_ref().map(|upstream| upstream.requests().len()), [10, 10, 10]);
}

#[tokio::test]
async fn weights_are_met_exactly() {
    let upstreams = three().await;
    let mut setup = Rig::setup();
    for (upstream, weight) in upstreams.iter().zip([5, 3, 2]) {
        setup = setup.endpoint_at(upstream.address, weight);
    }
    let rig = setup.start().await;
    let mut client = rig.client().await;
    let mut names: BTreeMap<String, usize> = BTreeMap::new();

    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        *names.entry(client.response().await.text()).or_default() += 1;
    }

    assert_eq!(names.into_iter().collect::<Vec<_>>(), [("a".into(), 10), ("b".into(), 6), ("c".into(), 4)]);
}

#[tokio::test]
async fn busy_endpoint_gets_less_with_least_connection() {
    let gate = Gate::closed();
    let busy = Upstream::held("busy", &gate).await;
    let idle = Upstream::named("idle").await;
    let setup = Rig::setup().endpoint(&busy).endpoint(&idle).pool("strategy = \"least-connection\"");
    let rig = setup.start().await;
    // Until the busy one holds a request, it may be either's turn.
    let held = async {
        let mut clients = Vec::new();
        while busy.requests().is_empty() {
            let mut client = rig.client().await;
            client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
            tokio::select! {
                _ = client.response() => {}
                _ = busy.received(1) => {}
            }
            clients.push(client);
        }
        clients
    }
    .await;

    for _ in 0..10 {
        assert_eq!(rig.get("/").await.text(), "idle");
    }

    assert_eq!(busy.requests().len(), 1);
    gate.let_pass(1);
    drop(held);
}

#[tokio::test]
async fn disabled_endpoint_gets_nothing() {
    let upstreams = [Upstream::named("a").await, Upstream::named("b").await];
    let rest = format!(
        "[[routes]]\npool = \"two\"\n[pools.two]\nhealth = false\nendpoints = [\"{}\", {{ address = \"{}\", disabled = true }}]",
        upstreams[0].address, upstreams[1].address
    );
    let rig = Rig::setup().endpoint(&upstreams[0]).rest(&rest).start().await;

    for _ in 0..4 {
        assert_eq!(rig.get("/").await.text(), "a");
    }

    assert_eq!(upstreams[1].connections(), 0);
}

#[tokio::test]
async fn upstream_connections_are_used_again() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().process("workers = 1").endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    for _ in 0..10 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.response().await;
    }

    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn nothing_is_connected_before_it_is_needed() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    rig.status().await;
    let _client = rig.client().await;

    assert_eq!(upstream.connections(), 0);
}

/// A pool `tiers` of endpoints with these further settings, and a route to it.
fn tiers(endpoints: &[(&Upstream, &str)], pool: &str) -> String {
    let list: Vec<String> =
        endpoints.iter().map(|(upstream, more)| format!("{{ address = \"{}\", {more} }}", upstream.address)).collect();
    format!("[[routes]]\npool = \"tiers\"\n[pools.tiers]\nendpoints = [{}]\n{pool}\n", list.join(", "))
}

#[tokio::test]
async fn backup_serves_when_no_other_can() {
    let upstreams = [Upstream::named("a").await, Upstream::named("backup").await];
    let first = format!("weight = 1, disabled = false, priority = {}", 0);
    let rest = tiers(&[(&upstreams[0], &first), (&upstreams[1], "priority = 1")], "health = false");
    let rig = Rig::setup().endpoint(&upstreams[0]).rest(&rest).start().await;
    for _ in 0..6 {
        assert_eq!(rig.get("/").await.text(), "a");
    }

    rig.write_config(&rig.config().replace("disabled = false", "disabled = true"));
    rig.status_where("the second generation", |status| status["generation"].as_u64() >= Some(2)).await;

    for _ in 0..6 {
        assert_eq!(rig.get("/").await.text(), "backup");
    }
}

#[tokio::test]
async fn endpoints_of_the_own_zone_are_preferred_until_they_are_gone() {
    let upstreams = three().await;
    let near = [(&upstreams[0], "zone = \"north\", disabled = false"), (&upstreams[1], "zone = \"south\"")];
    let rest = tiers(&[near[0], near[1], (&upstreams[2], "zone = \"west\"")], "health = false");
    let rig = Rig::setup().process("zone = \"north\"").endpoint(&upstreams[0]).rest(&rest).start().await;
    for _ in 0..6 {
        assert_eq!(rig.get("/").await.text(), "a");
    }

    rig.write_config(&rig.config().replace("disabled = false", "disabled = true"));
    rig.status_where("the second generation", |status| status["generation"].as_u64() >= Some(2)).await;
    for _ in 0..6 {
        rig.get("/").await;
    }

    assert_eq!(upstreams.each_ref().map(|upstream| upstream.requests().len()), [6, 3, 3]);
}

#[tokio::test]
async fn own_zone_that_is_half_gone_gives_the_others_their_part() {
    let upstreams =
        [Upstream::named("OK near").await, Upstream::named("OK far").await, Upstream::named("OK far").await];
    let mute = Upstream::playing(|peer, _| async move { drop(peer) }).await;
    let list = [
        (&upstreams[0], "zone = \"north\""),
        (&mute, "zone = \"north\""),
        (&upstreams[1], "zone = \"south\""),
        (&upstreams[2], "zone = \"south\""),
    ];
    let pool = "panic_threshold = 0\nslow_start = false\nhealth = { interval = \"100ms\", fast_interval = \"100ms\" }";
    let rest = tiers(&list, pool);
    let rig = Rig::setup().process("zone = \"north\"").endpoint(&upstreams[0]).rest(&rest).start().await;
    let near = |status: &serde_json::Value| {
        let pool = status["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == "tiers").unwrap();
        let shares = pool["shares"].as_array().unwrap();
        shares.iter().find(|share| share["zone"] == "near").and_then(|share| share["percent"].as_u64()).unwrap_or(0)
    };
    let settled = |status: &serde_json::Value| {
        let pool = status["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == "tiers").unwrap();
        let standings: Vec<&str> =
            pool["endpoints"].as_array().unwrap().iter().map(|each| each["standing"].as_str().unwrap()).collect();
        standings == ["up", "down", "up", "up"]
    };
    let status = rig.status_where("one of the own zone's two is down", settled).await;

    let share = near(&status);
    assert!((1..100).contains(&share), "{status}");
    let mut served = 0;
    for _ in 0..100 {
        served += u64::from(rig.get("/").await.text() == "OK near");
    }
    assert!(served.abs_diff(share) <= 10, "{served} of 100 with a share of {share} %");
}

#[tokio::test]
async fn zone_of_the_environment_that_is_no_name_is_refused_and_said() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let binary = env!("CARGO_BIN_EXE_sluicegate");
    let check = |zone: &'static str| {
        let config = rig.directory.path().join("sluicegate.toml");
        let mut command = tokio::process::Command::new(binary);
        async move { command.arg("check").arg(config).env("SLUICEGATE_ZONE", zone).output().await.unwrap() }
    };

    let refused = check("eu west").await;

    let said = String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).into_owned();
    assert!(!refused.status.success() && said.contains("SLUICEGATE_ZONE") && said.contains("eu west"), "{said}");
    assert!(check("").await.status.success(), "empty says nothing");
}

#[tokio::test]
async fn zone_is_known_from_the_environment_too() {
    let upstreams = three().await;
    let rest = tiers(&[(&upstreams[0], "zone = \"south\""), (&upstreams[1], "zone = \"north\"")], "health = false");
    let rig = Rig::setup().environment("SLUICEGATE_ZONE", "north").endpoint(&upstreams[0]).rest(&rest).start().await;

    for _ in 0..4 {
        assert_eq!(rig.get("/").await.text(), "b");
    }
}
