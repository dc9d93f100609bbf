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
async fn zone_is_known_from_the_environment_too() {
    let upstreams = three().await;
    let rest = tiers(&[(&upstreams[0], "zone = \"south\""), (&upstreams[1], "zone = \"north\"")], "health = false");
    let rig = Rig::setup().environment("SLUICEGATE_ZONE", "north").endpoint(&upstreams[0]).rest(&rest).start().await;

    for _ in 0..4 {
        assert_eq!(rig.get("/").await.text(), "b");
    }
}
