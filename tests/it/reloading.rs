//! A reload takes effect at once and cuts nothing; one that fails changes nothing.

use crate::rig::dns::{NameServer, Told};
use crate::rig::{Gate, Rig, Upstream, soon};

const NOT_LOADED: &str = "configuration not loaded, the old generation stays";

fn generation(status: &serde_json::Value) -> u64 {
    status["generation"].as_u64().unwrap()
}

#[tokio::test]
async fn signal_puts_the_new_configuration_in_place() {
    let old = Upstream::named("old").await;
    let new = Upstream::named("new").await;
    let rig = Rig::setup().process("watch_files = false").endpoint(&old).start().await;
    let before = generation(&rig.status().await);
    assert_eq!(rig.get("/").await.text(), "old");

    rig.write_config(&rig.config().replace(&old.address.to_string(), &new.address.to_string()));
    rig.signal("HUP").await;
    rig.status_where("the next generation", |status| generation(status) == before + 1).await;

    assert_eq!(rig.get("/").await.text(), "new");
}

#[tokio::test]
async fn request_waits_for_the_first_answer_about_names_that_replace_all_endpoints() {
    let (old, new) = (Upstream::named("old").await, Upstream::named("new").await);
    let dns = NameServer::start().await;
    dns.tell("new.test", Told::Addresses(vec![new.address.ip()], 60));
    let process = format!("watch_files = false\nnameservers = [\"{}\"]", dns.address);
    let rig = Rig::setup().process(&process).endpoint(&old).start().await;
    let before = generation(&rig.status().await);

    dns.hold(true);
    let name = format!("new.test:{}", new.address.port());
    rig.write_config(&rig.config().replace(&old.address.to_string(), &name));
    rig.signal("HUP").await;
    rig.status_where("the next generation", |status| generation(status) == before + 1).await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    rig.status_where("the request", |status| status["pools"][0]["endpoints"][0]["in_flight"] == 1).await;
    dns.hold(false);

    assert_eq!(client.response().await.text(), "new");
}

#[tokio::test]
async fn changed_file_is_enough() {
    let old = Upstream::named("old").await;
    let new = Upstream::named("new").await;
    let rig = Rig::setup().endpoint(&old).start().await;
    let before = generation(&rig.status().await);

    rig.write_config(&rig.config().replace(&old.address.to_string(), &new.address.to_string()));
    rig.status_where("the next generation", |status| generation(status) > before).await;

    assert_eq!(rig.get("/").await.text(), "new");
}

#[tokio::test]
async fn broken_configuration_leaves_the_old_one_in_place() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().process("watch_files = false").endpoint(&upstream).start().await;
    let before = generation(&rig.status().await);
    let good = rig.config();

    rig.write_config(&good.replace("[admin]", "[admin]\nadress = 3"));
    rig.signal("HUP").await;
    let event = rig.event(NOT_LOADED).await;

    assert!(event.to_string().contains("adress"), "{event}");
    assert_eq!(generation(&rig.status().await), before);
    assert_eq!(rig.get("/").await.text(), "a");
    assert_eq!(rig.metric("sluicegate_config_reloads_total{result=\"failed\"}").await, 1.0);
}

#[tokio::test]
async fn exchange_and_connection_under_way_survive_a_reload() {
    let gate = Gate::closed();
    let upstream = Upstream::held("held", &gate).await;
    let other = Upstream::named("other").await;
    let rig = Rig::setup().process("watch_files = false").endpoint(&upstream).start().await;
    let before = generation(&rig.status().await);
    let mut client = rig.client().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;
    let h2 = rig.h2().await;

    // The endpoint that answers is gone from the new configuration.
    rig.write_config(&rig.config().replace(&upstream.address.to_string(), &other.address.to_string()));
    rig.signal("HUP").await;
    rig.status_where("the next generation", |status| generation(status) == before + 1).await;
    gate.let_pass(1);

    assert_eq!(client.response().await.text(), "held");
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "other");
    assert_eq!(h2.get("/").await.body, b"other");
}

#[tokio::test]
async fn endpoint_that_stays_keeps_its_place_and_its_count() {
    let gate = Gate::closed();
    let upstream = Upstream::held("held", &gate).await;
    let rig = Rig::setup().process("watch_files = false").endpoint(&upstream).start().await;
    let before = generation(&rig.status().await);
    let mut client = rig.client().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.received(1).await;

    rig.write_config(&rig.config().replace("weight = 1", "weight = 2"));
    rig.signal("HUP").await;
    let status = rig.status_where("the next generation", |status| generation(status) == before + 1).await;

    assert_eq!(status["pools"][0]["endpoints"][0]["in_flight"], 1);
    gate.let_pass(1);
    assert_eq!(client.response().await.text(), "held");
}

#[tokio::test]
async fn change_that_needs_a_restart_is_said_by_name() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().process("watch_files = false\nworkers = 1").endpoint(&upstream).start().await;

    rig.write_config(&rig.config().replace("workers = 1", "workers = 2"));
    rig.signal("HUP").await;
    let event = rig.event("change takes effect after a restart").await;

    assert!(event.to_string().contains("process.workers"), "{event}");
}

#[tokio::test]
async fn new_certificate_serves_new_connections_and_cuts_no_old_one() {
    let upstream = Upstream::named("a").await;
    let mut rig = Rig::setup().endpoint(&upstream).start().await;
    let mut old = rig.secure_client().await;
    old.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(old.response().await.status, 200);

    let before = generation(&rig.status().await);
    let next = crate::rig::Pki::new();
    next.write(rig.directory.path());
    rig.pki = next;
    rig.status_where("the next generation", |status| generation(status) > before).await;

    // Trusted only if it shows the new one; both files may not have been seen in one reload.
    let mut new = soon("the new certificate", async {
        loop {
            if let Ok(client) = rig.pki.connect(rig.secure, "http/1.1", false).await {
                return client;
            }
        }
    })
    .await;
    new.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(new.response().await.status, 200);
    old.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(old.response().await.status, 200);
}
