//! Endpoints as DNS names them: they come, leave politely, and stay when name servers fail.

use std::net::SocketAddr;

use serde_json::Value;

use crate::rig::dns::{NameServer, Told};
use crate::rig::{Gate, Rig, Upstream, field, soon};

const NAME: &str = "superset.test";

/// Endpoints of one port on addresses of their own.
async fn upstreams() -> (Upstream, Upstream) {
    loop {
        let first = Upstream::named_at("127.0.0.1:0", "a").await.unwrap();
        let second = SocketAddr::from(([127, 0, 0, 2], first.address.port()));
        if let Ok(second) = Upstream::named_at(&second.to_string(), "b").await {
            return (first, second);
        }
    }
}

async fn discovering(dns: &NameServer, port: u16, more: &str) -> Rig {
    let pool =
        format!("discover = {{ name = \"{NAME}.\", port = {port}, min_ttl = \"100ms\", max_ttl = \"200ms\"{more} }}");
    Rig::setup().process(&format!("nameservers = [\"{}\"]", dns.address)).pool(&pool).start().await
}

fn names(status: &Value) -> Vec<String> {
    let endpoints = status["pools"][0]["endpoints"].as_array().unwrap();
    endpoints.iter().map(|endpoint| endpoint["name"].as_str().unwrap().to_owned()).collect()
}

fn addresses(list: &[&Upstream]) -> Told {
    Told::Addresses(list.iter().map(|upstream| upstream.address.ip()).collect(), 0)
}

#[tokio::test]
async fn endpoints_come_and_those_that_leave_finish_what_they_have() {
    let gate = Gate::closed();
    let (a, b) = upstreams().await;
    let slow = Upstream::held_at(&format!("127.0.0.3:{}", a.address.port()), "slow", &gate).await.unwrap();
    let dns = NameServer::start().await;
    dns.tell(NAME, addresses(&[&slow]));
    let rig = discovering(&dns, a.address.port(), "").await;
    let mut client = rig.client().await;
    client.send("GET /under-way HTTP/1.1\r\nHost: t\r\n\r\n").await;
    slow.received(1).await;

    dns.tell(NAME, addresses(&[&b, &a]));
    rig.event("endpoint left").await;
    rig.status_where("both endpoints", |status| names(status).len() == 2).await;

    for _ in 0..2 {
        let both = [rig.get("/").await.text(), rig.get("/").await.text()];
        assert!(both.contains(&"a".to_owned()) && both.contains(&"b".to_owned()), "{both:?}");
    }
    gate.let_pass(1);
    assert_eq!(client.response().await.text(), "slow");
    let discovered = rig.event("endpoint discovered").await;
    assert_eq!(field(&discovered, "pool"), "app");
    assert!(rig.metric("sluicegate_discovery_answers_total{pool=\"app\",result=\"found\"}").await >= 2.0);
    let text = rig.admin("/metrics").await.text();
    assert!(!text.contains(&format!("endpoint=\"{}\"", slow.address)), "its series went with it");
}

#[tokio::test]
async fn addresses_of_both_families_are_endpoints() {
    let (old, new) = loop {
        let old = Upstream::named_at("127.0.0.1:0", "v4").await.unwrap();
        if let Ok(new) = Upstream::named_at(&format!("[::1]:{}", old.address.port()), "v6").await {
            break (old, new);
        }
    };
    let dns = NameServer::start().await;
    dns.tell(NAME, addresses(&[&old, &new]));
    let rig = discovering(&dns, old.address.port(), "").await;
    rig.status_where("both", |status| names(status).len() == 2).await;

    let mut answers = [rig.get("/").await.text(), rig.get("/").await.text()];

    answers.sort();
    assert_eq!(answers, ["v4", "v6"]);
}

#[tokio::test]
async fn last_good_answer_holds_while_name_servers_fail_or_know_nothing() {
    let (a, b) = upstreams().await;
    let dns = NameServer::start().await;
    dns.tell(NAME, addresses(&[&a]));
    let rig = discovering(&dns, a.address.port(), "").await;
    assert_eq!(rig.get("/").await.text(), "a");

    dns.tell(NAME, Told::Failure);
    rig.status_where("a failure", |status| status["pools"][0]["discovery"]["last_answer"] == "failed").await;
    assert_eq!(rig.get("/").await.text(), "a");
    dns.forget(NAME);
    rig.status_where("emptiness", |status| status["pools"][0]["discovery"]["last_answer"] == "empty").await;
    assert_eq!(rig.get("/").await.text(), "a");
    let told = rig.event("discovery found nothing").await;
    assert_eq!(field(&told, "kept"), true);

    dns.tell(NAME, addresses(&[&b]));
    rig.event("discovery answers again").await;
    rig.status_where("the other endpoint", |status| names(status) == [b.address.to_string()]).await;
    assert_eq!(rig.get("/").await.text(), "b");
}

#[tokio::test]
async fn empty_answer_empties_the_pool_where_that_is_wanted() {
    let (a, _b) = upstreams().await;
    let dns = NameServer::start().await;
    dns.tell(NAME, addresses(&[&a]));
    let rig = discovering(&dns, a.address.port(), ", on_empty = \"remove\"").await;
    assert_eq!(rig.get("/").await.status, 200);

    dns.tell(NAME, Told::NoRecord);
    rig.event("endpoint left").await;

    assert_eq!(rig.get("/").await.status, 503);
}

#[tokio::test]
async fn services_tell_host_port_and_priority() {
    let a = Upstream::named("a").await;
    let backup = Upstream::named("backup").await;
    let dns = NameServer::start().await;
    let services = vec![(10, 5, a.address.port(), "pod-0.test"), (20, 5, backup.address.port(), "pod-1.test")];
    dns.tell("_http._tcp.superset.test", Told::Services(services, 0));
    dns.tell("pod-0.test", addresses(&[&a]));
    dns.tell("pod-1.test", addresses(&[&backup]));
    let pool = "discover = { name = \"_http._tcp.superset.test.\", min_ttl = \"100ms\", max_ttl = \"200ms\" }";

    let rig = Rig::setup().process(&format!("nameservers = [\"{}\"]", dns.address)).pool(pool).start().await;

    rig.status_where("its address", |status| {
        status["pools"][0]["endpoints"][0]["addresses"].as_array().is_some_and(|addresses| !addresses.is_empty())
    })
    .await;
    let wanted = [format!("pod-0.test:{}", a.address.port()), format!("pod-1.test:{}", backup.address.port())];
    assert_eq!(names(&rig.status().await), wanted);
    for _ in 0..3 {
        assert_eq!(rig.get("/").await.text(), "a");
    }
}

#[tokio::test]
async fn reload_keeps_what_was_found_with_its_health() {
    let (a, b) = upstreams().await;
    let dns = NameServer::start().await;
    dns.tell(NAME, addresses(&[&a, &b]));
    let rig = discovering(&dns, a.address.port(), "").await;
    let before = rig.status_where("both", |status| names(status).len() == 2).await;
    rig.get("/").await;

    dns.tell(NAME, Told::Failure);
    rig.status_where("a failure", |status| status["pools"][0]["discovery"]["last_answer"] == "failed").await;
    rig.write_config(&format!("{}\n# again\n", rig.config()));
    rig.event("configuration loaded").await;

    let after = rig.status().await;
    assert_eq!(names(&after), names(&before));
    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn answer_that_comes_after_its_question_was_taken_back_changes_nothing() {
    let (a, b) = upstreams().await;
    let dns = NameServer::start().await;
    dns.tell(NAME, addresses(&[&a]));
    let rig = discovering(&dns, a.address.port(), "").await;
    assert_eq!(rig.get("/").await.text(), "a");

    dns.tell(NAME, addresses(&[&a, &b]));
    dns.hold(true);
    dns.asked().await;
    let config = rig.config();
    let line = config.lines().find(|line| line.starts_with("discover = ")).unwrap();
    rig.write_config(&config.replace(line, &format!("endpoints = [\"{}\"]", a.address)));
    rig.status_where("the next generation", |status| status["generation"] == 2).await;
    let answers = "sluicegate_discovery_answers_total{pool=\"app\",result=\"found\"}";
    let before = rig.metric(answers).await;
    dns.hold(false);
    soon("the answer", async { while rig.metric(answers).await <= before {} }).await;

    assert_eq!(names(&rig.status().await), [a.address.to_string()]);
}
