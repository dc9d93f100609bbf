//! Records reach a topic of Kafka, whatever becomes of its brokers meanwhile.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::rig::kafka::{Brokers, NOT_ENOUGH_REPLICAS, NOT_LEADER};
use crate::rig::{Rig, Upstream, soon};
use crate::sinks::{ask, setup, sink, told, with_sink};

/// Keys of a sink that sends what comes to these brokers, soon; `more` goes among Kafka's own.
fn records_to(brokers: &Brokers, more: &str) -> String {
    let places: Vec<String> = brokers.addresses.iter().map(|place| format!("\"localhost:{}\"", place.port())).collect();
    let places = places.join(", ");
    format!("kafka = {{ brokers = [{places}], topic = \"records\"{more} }}\nbatch = {{ linger = \"20ms\" }}\n")
}

/// Waits until so many records are delivered and none waits.
async fn delivered(rig: &Rig, count: u64) -> Value {
    let status = rig
        .status_long("everything delivered", |status| {
            let sink = sink(status);
            sink["sent"] == count && sink["queue"] == 0 && sink["spool_records"] == 0 && sink["state"] == "working"
        })
        .await;
    sink(&status).clone()
}

const ERRORS: &str = "sluicegate_access_log_write_errors_total{sink=\"central\"}";

#[tokio::test]
async fn every_record_is_there_once_after_all_brokers_were_away() {
    let (upstream, folder) = (Upstream::named("a").await, tempfile::tempdir().unwrap());
    let mut brokers = Brokers::start(3, 4).await;
    let keys = format!("{}spool = {{ dir = \"{}\" }}\n", records_to(&brokers, ""), folder.path().display());
    let rig = with_sink(&upstream, &keys).await;

    ask(&rig, "/before", 20).await;
    delivered(&rig, 20).await;
    for broker in 0..3 {
        brokers.kill(broker).await;
    }
    ask(&rig, "/while", 100).await;
    let status = rig.status_where("the spool", |status| sink(status)["spool_records"] == 100).await;
    assert_eq!((&sink(&status)["state"], &sink(&status)["kind"]), (&json!("failing"), &json!("kafka")), "{status}");
    for broker in 0..3 {
        brokers.revive(broker).await;
    }
    let after = delivered(&rig, 120).await;
    ask(&rig, "/after", 10).await;

    let all = told(&rig, 130).await;
    brokers.have(&all).await;
    let messages = brokers.messages();
    assert_eq!((brokers.keys(), messages.len()), (all, 130));
    assert!(messages.iter().all(|message| message.value["id"] == message.key.as_str()));
    assert_eq!(after["dropped"], json!({}), "{after}");
}

#[tokio::test]
async fn batches_go_to_all_partitions_that_have_a_leader() {
    let upstream = Upstream::named("a").await;
    let brokers = Brokers::start(2, 4).await;
    brokers.lead(2, -1);
    let rig = with_sink(&upstream, &records_to(&brokers, "")).await;

    for batch in 1..=6 {
        ask(&rig, "/x", 2).await;
        delivered(&rig, batch * 2).await;
    }

    brokers.have(&told(&rig, 12).await).await;
    let mut partitions: Vec<usize> = brokers.messages().iter().map(|message| message.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    assert_eq!(partitions, [0, 1, 3]);
    assert_eq!(rig.metric(ERRORS).await, 0.0);
}

#[tokio::test]
async fn connections_to_many_leaders_are_bounded() {
    let upstream = Upstream::named("a").await;
    let brokers = Brokers::start(40, 40).await;
    let rig = with_sink(&upstream, &records_to(&brokers, "")).await;

    for batch in 1..=40 {
        ask(&rig, "/x", 1).await;
        delivered(&rig, batch).await;
    }

    let mut partitions: Vec<usize> = brokers.messages().iter().map(|message| message.partition).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, (0..40).collect::<Vec<_>>());
    let closed = async {
        while brokers.connections() > 32 {
            tokio::task::yield_now().await;
        }
    };
    soon("at most 32 connections", closed).await;
    assert_eq!(rig.metric(ERRORS).await, 0.0);
}

#[tokio::test]
async fn new_leader_is_found_before_anything_has_failed() {
    let upstream = Upstream::named("a").await;
    let brokers = Brokers::start(2, 1).await;
    let rig = with_sink(&upstream, &records_to(&brokers, "")).await;
    ask(&rig, "/x", 2).await;
    delivered(&rig, 2).await;

    brokers.lead(0, 1);
    ask(&rig, "/x", 2).await;
    delivered(&rig, 4).await;
    brokers.refuse(&[NOT_LEADER]);
    ask(&rig, "/x", 2).await;
    delivered(&rig, 6).await;

    brokers.have(&told(&rig, 6).await).await;
    assert_eq!((rig.metric(ERRORS).await, brokers.messages().len()), (0.0, 6));
}

#[tokio::test]
async fn broker_that_died_holds_up_none_of_the_others() {
    let upstream = Upstream::named("a").await;
    let mut brokers = Brokers::start(3, 3).await;
    let rig = with_sink(&upstream, &records_to(&brokers, "")).await;
    for record in 1..=3 {
        ask(&rig, "/x", 1).await;
        delivered(&rig, record).await;
    }

    brokers.kill(1).await;
    for record in 4..=12 {
        ask(&rig, "/x", 1).await;
        delivered(&rig, record).await;
    }

    brokers.have(&told(&rig, 12).await).await;
    assert_eq!(rig.metric(ERRORS).await, 0.0);
}

#[tokio::test]
async fn batch_without_an_answer_comes_again_under_the_same_keys() {
    let upstream = Upstream::named("a").await;
    let brokers = Brokers::start(1, 1).await;
    brokers.forget_to_answer();
    let rig = with_sink(&upstream, &records_to(&brokers, "").replace("20ms", "500ms")).await;

    ask(&rig, "/x", 5).await;
    let after = delivered(&rig, 5).await;

    let all = told(&rig, 5).await;
    brokers.have(&all).await;
    let twice: Vec<String> = brokers.messages().into_iter().map(|message| message.key).collect();
    assert_eq!((&twice[..5], brokers.keys()), (&twice[5..], all));
    assert_eq!(after["retried"], 1, "{after}");
}

#[tokio::test]
async fn batch_beyond_the_brokers_limit_goes_in_pieces_and_a_message_beyond_it_alone_is_lost() {
    let upstream = Upstream::named("a").await;
    let brokers = Brokers::start(1, 1).await;
    brokers.take_at_most(3_000);
    let keys = records_to(&brokers, ", gzip = false").replace("20ms", "500ms");
    let rig = with_sink(&upstream, &keys).await;

    ask(&rig, "/small", 10).await;
    ask(&rig, &format!("/{}", "large".repeat(800)), 1).await;

    let after = rig.status_long("one lost", |s| sink(s)["sent"] == 10 && sink(s)["dropped"]["refused"] == 1).await;
    assert!(sink(&after)["last_error"].as_str().unwrap().contains("MESSAGE_TOO_LARGE"), "{after}");
    assert!(brokers.batches() > 2 && brokers.messages().len() == 10);
}

#[tokio::test]
async fn what_a_cluster_cannot_take_now_waits_and_says_why() {
    let upstream = Upstream::named("a").await;
    let brokers = Brokers::start(1, 1).await;
    brokers.refuse(&[NOT_ENOUGH_REPLICAS; 2]);
    let rig = with_sink(&upstream, &records_to(&brokers, "")).await;

    ask(&rig, "/x", 3).await;

    let event = rig.event("log sink failing, records wait").await;
    let error = crate::rig::field(&event, "error").as_str().unwrap().to_owned();
    assert_eq!(error, "partition 0: NOT_ENOUGH_REPLICAS");
    assert_eq!(delivered(&rig, 3).await["dropped"], json!({}));
    brokers.have(&told(&rig, 3).await).await;
    rig.event("log sink recovered").await;
}

#[tokio::test]
async fn topic_that_is_not_there_is_told_of() {
    let upstream = Upstream::named("a").await;
    let brokers = Brokers::start(1, 1).await;
    let rig = with_sink(&upstream, &records_to(&brokers, "").replace("\"records\"", "\"nowhere\"")).await;

    ask(&rig, "/x", 1).await;

    let status = rig.status_where("a failure", |status| sink(status)["state"] == "failing").await;
    assert_eq!(sink(&status)["last_error"], "topic nowhere: UNKNOWN_TOPIC_OR_PARTITION", "{status}");
}

/// A user's keys.
fn user(mechanism: &str) -> String {
    format!(
        ", sasl = {{ mechanism = \"{mechanism}\", username = \"proxy\", password = {{ file = \"DIR/password\" }} }}"
    )
}

#[tokio::test]
async fn scram_over_tls_shows_a_certificate_and_proves_the_password() {
    let upstream = Upstream::named("a").await;
    let brokers = Brokers::start(2, 2).await;
    brokers.want("SCRAM-SHA-512", "proxy", "S3CR3T-PASSWORD");
    let tls = ", tls = { authorities = \"DIR/ca.pem\", certificate = \"DIR/client.pem\", key = \"DIR/client.key\" }";
    let keys = records_to(&brokers, &format!("{tls}{}", user("scram-sha-512")));
    let rig = setup(&upstream, &keys).file("password", "S3CR3T-PASSWORD\n").start().await;
    brokers.secure(TlsAcceptor::from(Arc::new(rig.pki.server_that_asks())));

    ask(&rig, "/x", 5).await;

    brokers.have(&told(&rig, 5).await).await;
    assert_eq!(delivered(&rig, 5).await["last_error"], Value::Null);
}

#[tokio::test]
async fn wrong_password_is_told_of_and_never_shown() {
    let upstream = Upstream::named("a").await;
    let brokers = Brokers::start(1, 1).await;
    brokers.want("PLAIN", "proxy", "another");
    let keys = records_to(&brokers, &user("plain"));
    let rig = setup(&upstream, &keys).file("password", "S3CR3T-PASSWORD").start().await;

    ask(&rig, "/x", 3).await;
    let status = rig.status_where("a failure", |status| sink(status)["state"] == "failing").await;
    let error = sink(&status)["last_error"].as_str().unwrap();
    assert!(error.contains("SASL_AUTHENTICATION_FAILED: wrong: ") && !error.contains("S3CR3T"), "{error}");

    brokers.want("PLAIN", "proxy", "S3CR3T-PASSWORD");
    brokers.have(&told(&rig, 3).await).await;
    let events = rig.events.all();
    assert!(events.iter().all(|event| !event.to_string().contains("S3CR3T")));
}
