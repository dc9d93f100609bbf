//! What live traffic shows of an endpoint counts, whatever its checks say; and never so much that nobody is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use serde_json::Value;

use crate::rig::upstream::named;
use crate::rig::{Gate, Rig, Upstream, field};

/// An endpoint that is well by `/health` and answers everything else with the status that the switch holds.
async fn shallow(name: &'static str, status: &Arc<AtomicU16>) -> Upstream {
    switched(name, &Arc::default(), status).await
}

/// An endpoint that answers `/health` and everything else with the statuses that the switches hold; 0 is 200.
async fn switched(name: &'static str, health: &Arc<AtomicU16>, status: &Arc<AtomicU16>) -> Upstream {
    let (health, status) = (Arc::clone(health), Arc::clone(status));
    let answer = move |target: &str| {
        let switch = if target == "/health" { &health } else { &status };
        match (target, switch.load(Ordering::Relaxed)) {
            ("/health", 0 | 200) => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK".to_vec(),
            (_, 0 | 200) => named(name),
            (_, status) => format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        }
    };
    Upstream::answering(move |request| answer(request.target())).await
}

fn status(code: u16) -> Arc<AtomicU16> {
    Arc::new(AtomicU16::new(code))
}

fn bench(status: &Value, endpoint: usize) -> &str {
    status["pools"][0]["endpoints"][endpoint]["bench"].as_str().unwrap()
}

fn served(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| request.target() != "/health").count()
}

/// Short ejections; everything else as it is by default.
const SHORT: &str = "outliers = { time = \"300ms\" }\nslow_start = false\n\
    health = { interval = \"100ms\", fast_interval = \"100ms\" }";

async fn up(rig: &Rig) {
    rig.status_where("all up", |status| {
        status["pools"][0]["endpoints"].as_array().unwrap().iter().all(|endpoint| endpoint["standing"] == "up")
    })
    .await;
}

#[tokio::test]
async fn replica_that_is_well_by_its_check_and_fails_everything_is_ejected_and_comes_back() {
    let codes = [status(200), status(200), status(200)];
    let upstreams = [shallow("a", &codes[0]).await, shallow("b", &codes[1]).await, shallow("c", &codes[2]).await];
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).endpoint(&upstreams[2]);
    let rig = setup.pool(SHORT).start().await;
    up(&rig).await;
    let mut client = rig.client().await;
    let mut ask = async |count: usize| {
        let mut statuses = Vec::new();
        for _ in 0..count {
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
            statuses.push(client.response().await.status);
        }
        statuses
    };

    codes[1].store(500, Ordering::Relaxed);
    while ask(1).await != [500] {}
    let mut failed = 1;
    while bench(&rig.status().await, 1) == "in" {
        failed += ask(1).await.iter().filter(|status| **status == 500).count();
    }

    assert!((5..=40).contains(&failed), "{failed} failed");
    let event = rig.event("endpoint ejected").await;
    assert_eq!(field(&event, "endpoint"), &upstreams[1].address.to_string());
    assert_eq!(field(&event, "cause"), "error_rate");
    assert!(!field(&event, "reason").as_str().unwrap().is_empty());
    let endpoint = rig.status().await["pools"][0]["endpoints"][1].clone();
    assert_eq!(
        (endpoint["standing"].as_str(), endpoint["counts"]["ejections"].as_u64() >= Some(1)),
        (Some("up"), true)
    );

    codes[1].store(200, Ordering::Relaxed);
    while bench(&rig.status().await, 1) != "in" {
        ask(3).await;
    }
    rig.event("endpoint returned").await;
    let before = served(&upstreams[1]);
    assert!(ask(9).await.iter().all(|status| *status == 200));
    assert_eq!(served(&upstreams[1]), before + 3, "its whole share");
}

#[tokio::test]
async fn errors_that_only_one_replica_gives_cost_no_read_and_eject_it() {
    let codes = [status(200), status(500), status(200)];
    let upstreams = [shallow("a", &codes[0]).await, shallow("b", &codes[1]).await, shallow("c", &codes[2]).await];
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).endpoint(&upstreams[2]);
    let rig = setup.pool("outliers = { time = \"1h\", max_time = \"1h\" }\nslow_start = false").start().await;

    for _ in 0..30 {
        assert_eq!(rig.get("/").await.status, 200);
    }

    let event = rig.event("endpoint ejected").await;
    assert_eq!(
        (field(&event, "endpoint"), field(&event, "cause")),
        (&upstreams[1].address.to_string().into(), &"gateway_errors".into())
    );
    let met = served(&upstreams[1]);
    assert!((5..15).contains(&met), "{met}: each that was answered elsewhere counts");
}

#[tokio::test]
async fn replica_that_answers_nothing_in_time_is_ejected_and_the_others_serve() {
    let gate = Gate::closed();
    let mute = Upstream::held("mute", &gate).await;
    let upstreams = [Upstream::named("a").await, Upstream::named("b").await];
    let rest = "[[routes]]\npool = \"app\"\ntimeouts = { first_byte = \"100ms\" }";
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint(&mute).endpoint(&upstreams[1]);
    let rig = setup.pool("outliers = { time = \"1h\", max_time = \"1h\" }").rest(rest).start().await;

    let mut late = 0;
    while mute.requests().len() < 3 {
        late += usize::from(rig.get("/").await.status == 504);
    }

    let event = rig.event("endpoint ejected").await;
    assert_eq!(
        (field(&event, "endpoint"), field(&event, "cause")),
        (&mute.address.to_string().into(), &"timeouts".into())
    );
    assert_eq!((late, mute.requests().len()), (3, 3));
    assert_ne!(bench(&rig.status().await, 1), "in");
    for _ in 0..6 {
        assert_eq!(rig.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn ejected_endpoint_is_no_step_towards_panic_and_takes_part_in_it() {
    let (healths, codes) = ([status(200), status(200), status(200)], [status(200), status(200), status(500)]);
    let a = switched("a", &healths[0], &codes[0]).await;
    let b = switched("b", &healths[1], &codes[1]).await;
    let c = switched("c", &healths[2], &codes[2]).await;
    let pool = "outliers = { time = \"1h\", max_time = \"1h\" }\npanic_threshold = 50\nslow_start = false\n\
        health = { interval = \"100ms\", fast_interval = \"100ms\", rise = 1, fall = 1 }";
    let rig = Rig::setup().endpoint(&a).endpoint(&b).endpoint(&c).pool(pool).start().await;
    up(&rig).await;
    while bench(&rig.status().await, 2) == "in" {
        rig.get("/").await;
    }
    let panicking = |status: &Value| status["pools"][0]["panicking"] == true;

    healths[0].store(503, Ordering::Relaxed);
    let status = rig
        .status_where("one of three is down", |status| status["pools"][0]["endpoints"][0]["standing"] == "down")
        .await;
    assert!(!panicking(&status), "two of three are up: {status}");
    let before = served(&c);
    for _ in 0..6 {
        assert_eq!(rig.get("/").await.text(), "b");
    }
    assert_eq!(served(&c), before);

    healths[1].store(503, Ordering::Relaxed);
    rig.status_where("panic", panicking).await;
    rig.event("too few endpoints up, all are used").await;
    for _ in 0..6 {
        assert_eq!(rig.get("/").await.status, 200);
    }
    let event = rig.metric("sluicegate_retries_total{pool=\"app\",cause=\"status\"}").await;
    assert!(event >= 1.0);
}

#[tokio::test]
async fn read_that_waits_for_a_replica_that_hangs_is_asked_for_elsewhere() {
    let gate = Gate::closed();
    let (hung, well) = (Upstream::held("hung", &gate).await, shallow("well", &status(200)).await);
    let pool = "retry = { hung_after = \"50ms\" }\npanic_threshold = 0\n\
        health = { initially_up = true, interval = \"100ms\", fast_interval = \"100ms\", late_after = \"100ms\", \
        timeout = \"200ms\" }";
    let rig = Rig::setup().endpoint(&hung).endpoint(&well).pool(pool).start().await;
    let waits = |method: &str| {
        hung.requests().iter().any(|request| request.method() == method && request.target() != "/health")
    };
    let mut clients = Vec::new();
    while !(waits("GET") && waits("POST")) {
        let method = if waits("GET") { "POST" } else { "GET" };
        let before = hung.requests().len() + well.requests().len();
        let mut client = rig.client().await;
        client.send(format!("{method} /{method} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
        clients.push((method, client));
        while hung.requests().len() + well.requests().len() == before {
            tokio::task::yield_now().await;
        }
    }

    let mut answers = Vec::new();
    for (method, mut client) in clients {
        if method == "GET" {
            answers.push(client.response().await.text());
        }
    }

    assert!(answers.iter().all(|answer| answer == "well"), "{answers:?}");
    let record = rig.record_where("the repeated one", |record| record["attempts"].is_array()).await;
    assert_eq!(
        (&record["attempts"][0]["endpoint"], &record["attempts"][0]["cause"], &record["path"]),
        (&hung.address.to_string().into(), &"upstream_hangs".into(), &"/GET".into())
    );
    assert_eq!(rig.metric("sluicegate_retries_total{pool=\"app\",cause=\"hangs\"}").await, 1.0);
    assert!(well.requests().iter().filter(|request| request.method() == "POST").count() <= 1);
}

#[tokio::test]
async fn failure_that_all_share_ejects_nobody() {
    let shared = status(200);
    let upstreams = [shallow("a", &shared).await, shallow("b", &shared).await, shallow("c", &shared).await];
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).endpoint(&upstreams[2]);
    let rig = setup.pool(SHORT).start().await;
    up(&rig).await;
    for _ in 0..30 {
        assert_eq!(rig.get("/").await.status, 200);
    }

    shared.store(500, Ordering::Relaxed);
    for _ in 0..60 {
        assert_eq!(rig.get("/").await.status, 500);
    }

    let status = rig.status().await;
    assert!((0..3).all(|endpoint| status["pools"][0]["endpoints"][endpoint]["counts"]["ejections"] == 0), "{status}");
}

#[tokio::test]
async fn endpoint_that_refuses_connections_is_ejected_without_any_check() {
    let upstreams = [Upstream::named("a").await, Upstream::named("b").await];
    let nobody = Upstream::nobody().await;
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint_at(nobody, 1).endpoint(&upstreams[1]);
    let rig = setup.start().await;

    for _ in 0..30 {
        assert_eq!(rig.get("/").await.status, 200);
    }

    let event = rig.event("endpoint ejected").await;
    assert_eq!(
        (field(&event, "endpoint"), field(&event, "cause")),
        (&nobody.to_string().into(), &"connect_failures".into())
    );
    let sample =
        format!("sluicegate_endpoint_ejections_total{{pool=\"app\",endpoint=\"{nobody}\",cause=\"connect_failures\"}}");
    assert_eq!(rig.metric(&sample).await, 1.0);
}

#[tokio::test]
async fn busy_endpoint_stays_in() {
    let gate = Gate::closed();
    let busy = Upstream::held("busy", &gate).await;
    let quick = Upstream::named("quick").await;
    let rig = Rig::setup().endpoint(&busy).endpoint(&quick).start().await;
    let client = rig.h2().await;

    let asking = futures_util::future::join_all((0..20).map(|_| client.get("/")));
    let watching = async {
        busy.received(10).await;
        quick.received(10).await;
        let status = rig.status().await;
        gate.let_pass(20);
        status
    };
    let (answers, status) = futures_util::future::join(asking, watching).await;

    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((bench(&status, 0), bench(&status, 1)), ("in", "in"));
}

#[tokio::test]
async fn tunnels_closed_without_an_answer_never_count() {
    // As superset-websocket does with a bad token.
    let closing = || {
        Upstream::playing(|mut peer, seen| async move {
            if let Some(request) = peer.request().await {
                seen.note(request);
            }
        })
    };
    let upstreams = [closing().await, closing().await];
    let rig = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).start().await;

    for _ in 0..20 {
        let mut client = rig.client().await;
        client
            .send(
                "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .await;
        assert_eq!(client.response().await.status, 401);
    }

    let status = rig.status().await;
    assert!((0..2).all(|index| status["pools"][0]["endpoints"][index]["counts"]["ejections"] == 0), "{status}");
}

#[tokio::test]
async fn recovered_endpoint_grows_into_its_share() {
    let well = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&well);
    let second = Upstream::answering(move |request| match request.target() {
        "/health" if !switch.load(Ordering::Relaxed) => b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/health" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK".to_vec(),
        _ => named("b"),
    })
    .await;
    let first = shallow("a", &status(200)).await;
    // Long enough that it is not over while the test looks.
    let pool = "slow_start = { window = \"10s\", from = 10 }\npanic_threshold = 0\n\
        health = { interval = \"100ms\", fast_interval = \"100ms\", rise = 1, fall = 1 }";
    let rig = Rig::setup().endpoint(&first).endpoint(&second).pool(pool).start().await;
    up(&rig).await;
    let warmth = |status: &Value| status["pools"][0]["endpoints"][1]["warmth"].as_u64().unwrap();
    assert_eq!(warmth(&rig.status().await), 100, "at the start all begin alike");

    // The pool has served for longer than the window once the first one has grown up; until then nobody is held back.
    let mut cold = false;
    while !cold {
        well.store(false, Ordering::Relaxed);
        rig.status_where("down", |status| status["pools"][0]["endpoints"][1]["standing"] == "down").await;
        well.store(true, Ordering::Relaxed);
        rig.status_where("up", |status| status["pools"][0]["endpoints"][1]["standing"] == "up").await;
        cold = crate::rig::soon("a look of the umpire", async {
            for _ in 0..20 {
                if warmth(&rig.status().await) < 100 {
                    return true;
                }
            }
            false
        })
        .await;
    }

    let event = rig.event("endpoint warming").await;
    assert_eq!(field(&event, "endpoint"), &second.address.to_string());
    let before = served(&second);
    for _ in 0..20 {
        rig.get("/").await;
    }
    assert!(served(&second) - before < 10, "less than its share");
}

#[tokio::test]
async fn endpoint_that_never_takes_connections_holds_few_exchanges() {
    // A listener whose backlog nobody empties still accepts; TLS to it is what never comes about.
    let mute = Upstream::playing(|mut peer, _| async move { drop(peer.rest().await) }).await;
    let pool = "max_pending = 2\ntls = { verify = false }\nqueue = { length = 0 }\noutliers = false\ntimeouts = { connect = \"30s\" }";
    let rig = Rig::setup().endpoint(&mute).pool(pool).start().await;
    let mut clients = Vec::new();
    for index in 1..=2_u64 {
        let mut client = rig.client().await;
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
        rig.status_where("it is without a connection", |status| status["pools"][0]["endpoints"][0]["pending"] == index)
            .await;
    }

    let refused = rig.get("/third").await;

    assert_eq!((refused.status, rig.record("/third").await["fault"].as_str()), (503, Some("queue_full")));
    let reached = rig.status().await["pools"][0]["endpoints"][0]["limits_reached"]["pending"].as_u64();
    assert_eq!(reached, Some(1));
    rig.event("endpoint at its limit").await;
}
