//! A rolling update: replicas that are ending, and replicas of two releases side by side, lose no request.

use std::collections::BTreeSet;

use crate::rig::upstream::named;
use crate::rig::{Gate, Rig, Upstream};

const ASSET: &str = "/static/assets/vendors.6a1b2c3d4e5f67890abc.entry.js";

fn with_status(status: &str, text: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

async fn ending() -> Upstream {
    Upstream::answering(|_| with_status("503 Service Unavailable", "ending")).await
}

/// A replica of a release that does not have `ASSET`.
async fn newer() -> Upstream {
    Upstream::answering(|request| match request.target() {
        target if target.starts_with("/static/") => with_status("404 Not Found", "not mine"),
        _ => named("newer"),
    })
    .await
}

#[tokio::test]
async fn replica_that_answers_503_costs_no_read_and_repeats_no_write() {
    let (ending, well) = (ending().await, Upstream::named("well").await);
    // Live traffic would eject it, and then nothing has to be repeated.
    let rig = Rig::setup().pool("outliers = false").endpoint(&ending).endpoint(&well).start().await;

    for _ in 0..6 {
        assert_eq!(rig.get("/read").await.text(), "well");
    }
    assert!(!ending.requests().is_empty());
    assert!(rig.metric("sluicegate_retries_total{pool=\"app\",cause=\"status\"}").await >= 1.0);
    let record = rig.record_where("a repeated one", |record| record["attempts"].is_array()).await;
    assert_eq!(record["attempts"][0]["cause"], "status");

    let mut client = rig.client().await;
    let mut answers = BTreeSet::new();
    for _ in 0..2 {
        client.send("POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        answers.insert(client.response().await.text());
    }
    assert_eq!(answers, ["ending".to_owned(), "well".to_owned()].into());
    let writes = [&ending, &well].map(|upstream| upstream.requests()).concat();
    assert_eq!(writes.iter().filter(|request| request.method() == "POST").count(), 2);
}

#[tokio::test]
async fn answer_of_the_endpoint_counts_when_nobody_knows_better() {
    let (first, second) = (ending().await, ending().await);
    let rig = Rig::setup().endpoint(&first).endpoint(&second).start().await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "ending"));
    assert_eq!(first.requests().len() + second.requests().len(), 2, "each was asked once");

    // The other one cannot even be reached: what the first said is better than nothing.
    let (ending, dead) = (ending().await, Upstream::nobody().await);
    let rig = Rig::setup().endpoint(&ending).endpoint_at(dead, 1).start().await;
    for _ in 0..4 {
        let answer = rig.get("/again").await;
        assert_eq!((answer.status, answer.text().as_str()), (503, "ending"));
        assert_eq!(
            rig.record_where("it", |record| record["path"] == "/again").await["endpoint"],
            ending.address.to_string()
        );
    }
}

#[tokio::test]
async fn asset_of_the_release_before_is_found_where_it_still_is() {
    let (one, two) = (newer().await, newer().await);
    let older = Upstream::named("older").await;
    let rig = Rig::setup().endpoint(&one).endpoint(&two).endpoint(&older).start().await;

    for _ in 0..9 {
        let answer = rig.get(ASSET).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "older"));
    }

    assert!(rig.metric("sluicegate_retries_total{pool=\"app\",cause=\"asset\"}").await >= 1.0);
    let asked = one.requests().len() + two.requests().len() + older.requests().len();
    assert!(asked <= 9 * 3, "{asked}");
}

#[tokio::test]
async fn asset_that_nobody_has_is_a_404_and_other_404s_are_final() {
    let (one, two, three) = (newer().await, newer().await, newer().await);
    let rig = Rig::setup().endpoint(&one).endpoint(&two).endpoint(&three).start().await;
    let asked = || one.requests().len() + two.requests().len() + three.requests().len();

    assert_eq!(rig.get(ASSET).await.status, 404);
    assert_eq!(asked(), 3);
    assert_eq!(rig.get("/static/assets/favicon.png").await.status, 404);
    assert_eq!(asked(), 4);
}

#[tokio::test]
async fn route_says_what_is_asked_for_again() {
    let (ending, well) = (ending().await, Upstream::named("well").await);
    let rest = "[[routes]]\npool = \"app\"\nretry = { statuses = [] }";
    let rig = Rig::setup().endpoint(&ending).endpoint(&well).rest(rest).start().await;

    let both = [rig.get("/").await.status, rig.get("/").await.status];

    assert!(both.contains(&503) && both.contains(&200), "{both:?}");
}

/// An endpoint that takes more than half a second for each answer.
async fn slow() -> Upstream {
    Upstream::playing(|mut peer, seen| async move {
        while let Some(request) = peer.request().await {
            seen.note(request);
            tokio::time::sleep(std::time::Duration::from_millis(600)).await;
            drop(peer.try_send(named("slow")).await);
        }
    })
    .await
}

#[tokio::test]
async fn time_of_one_attempt_moves_a_read_on_and_leaves_the_last_endpoint_its_time() {
    let (lame, well) = (slow().await, Upstream::named("well").await);
    let rig = Rig::setup().endpoint(&lame).endpoint(&well).pool("retry = { per_try = \"100ms\" }").start().await;
    for _ in 0..4 {
        assert_eq!(rig.get("/").await.text(), "well");
    }
    assert!(rig.metric("sluicegate_retries_total{pool=\"app\",cause=\"slow\"}").await >= 1.0);

    let alone = slow().await;
    let rig = Rig::setup().endpoint(&alone).pool("retry = { per_try = \"100ms\" }").start().await;
    assert_eq!(rig.get("/").await.text(), "slow");
}

#[tokio::test]
async fn slow_attempt_keeps_its_endpoint_while_the_others_are_full() {
    let gate = Gate::closed();
    let (lame, full) = (slow().await, Upstream::held("full", &gate).await);
    let pool = "retry = { per_try = \"100ms\" }\nmax_in_flight = 1\nqueue = { length = 0 }";
    let rig = Rig::setup().endpoint(&lame).endpoint(&full).pool(pool).start().await;
    let mut clients = [rig.client().await, rig.client().await];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }

    let first = rig.record_where("the slow one", |record| record["kind"] == "exchange").await;
    gate.let_pass(1);
    let mut answers = Vec::new();
    for mut client in clients {
        answers.push(client.response().await.text());
    }

    answers.sort();
    assert_eq!((answers, &first["status"]), (vec!["full".to_owned(), "slow".to_owned()], &200.into()));
}
