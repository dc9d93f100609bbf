//! What may be repeated is repeated, what may have had an effect is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::rig::upstream::{Gate, named};
use crate::rig::{Peer, Rig, Upstream, soon};

/// An endpoint that takes requests and closes the connection instead of answering.
async fn mute() -> Upstream {
    Upstream::playing(|mut peer, seen| async move {
        if let Some(request) = peer.request().await {
            seen.note(request);
        }
    })
    .await
}

/// An endpoint that answers the first request of a connection and closes on the second one.
async fn forgetful() -> Upstream {
    Upstream::playing(|mut peer, seen| async move {
        if let Some(request) = peer.request().await {
            seen.note(request);
            peer.send(named("first")).await;
        }
        if let Some(request) = peer.request().await {
            seen.note(request);
        }
    })
    .await
}

#[tokio::test]
async fn dead_endpoint_costs_no_request() {
    let dead = Upstream::nobody().await;
    let alive = Upstream::named("alive").await;
    let rig = Rig::setup().endpoint_at(dead, 1).endpoint(&alive).start().await;
    let mut client = rig.client().await;

    for method in ["GET", "POST", "GET", "POST"] {
        client.send(format!("{method} /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")).await;
        assert_eq!(client.response().await.text(), "alive");
    }

    assert!(alive.requests().iter().all(|request| request.body == b"hi"));
    let record = rig.record_where("a record with an attempt", |record| record["attempts"].is_array()).await;
    assert_eq!(record["attempts"][0]["endpoint"], dead.to_string());
    assert_eq!(record["attempts"][0]["cause"], "connect");
    assert!(rig.metric("sluicegate_retries_total{pool=\"app\",cause=\"connect\"}").await >= 1.0);
}

#[tokio::test]
async fn all_endpoints_dead_is_a_502_that_says_so() {
    let dead = [Upstream::nobody().await, Upstream::nobody().await];
    let rig = Rig::setup().endpoint_at(dead[0], 1).endpoint_at(dead[1], 1).start().await;

    let response = rig.get("/dead").await;

    assert_eq!(response.status, 502);
    assert!(response.get("retry-after").is_some());
    let record = rig.record("/dead").await;
    assert_eq!((&record["fault"], &record["end"]), (&"connect".into(), &"UC".into()));
    assert_eq!(record["attempts"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn get_moves_on_when_an_endpoint_closes_before_it_answers() {
    let mute = mute().await;
    let alive = Upstream::named("alive").await;
    let rig = Rig::setup().endpoint(&mute).endpoint(&alive).start().await;

    for _ in 0..2 {
        assert_eq!(rig.get("/").await.text(), "alive");
    }

    assert_eq!(alive.requests().len(), 2);
}

#[tokio::test]
async fn post_is_not_repeated_once_it_was_sent() {
    let mute = mute().await;
    let rig = Rig::setup().endpoint(&mute).start().await;
    let mut client = rig.client().await;

    client.send("POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;

    assert_eq!(client.response().await.status, 502);
    assert_eq!(mute.requests().len(), 1);
    assert_eq!(rig.record("/once").await["fault"], "upstream_closed");
}

#[tokio::test]
async fn chart_data_post_is_repeated_since_it_only_reads() {
    let mute = mute().await;
    let alive = Upstream::named("alive").await;
    let rig = Rig::setup().endpoint(&mute).endpoint(&alive).start().await;
    let mut client = rig.client().await;

    for _ in 0..2 {
        client.send("POST /api/v1/chart/data HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(client.response().await.text(), "alive");
    }

    assert!(!mute.requests().is_empty());
    assert!(alive.requests().iter().all(|request| request.body == b"hi"));
}

#[tokio::test]
async fn sql_is_never_run_twice_however_its_path_is_written() {
    for path in ["/api/v1/sqllab/execute/", "/api/v1/sqllab/%65xecute/"] {
        let mute = mute().await;
        let alive = Upstream::named("alive").await;
        let rest = "[[routes]]\npool = \"app\"\nread_only_posts = [\"/api/v1/chart/data\", \"/api/v1/sqllab/results\"]";
        let rig = Rig::setup().endpoint(&mute).endpoint(&alive).rest(rest).start().await;
        let mut client = rig.client().await;

        let mut statuses = Vec::new();
        for _ in 0..2 {
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")).await;
            statuses.push(client.response().await.status);
        }

        statuses.sort_unstable();
        assert_eq!((statuses, mute.requests().len(), alive.requests().len()), (vec![200, 502], 1, 1), "{path}");
    }
}

#[tokio::test]
async fn endpoint_takes_no_more_repeats_at_once_than_its_limit() {
    let gate = Gate::closed();
    let (mute, held) = (mute().await, Upstream::held("held", &gate).await);
    let pool = "outliers = false\nmax_retries = 1\nqueue = { length = 0 }";
    let rig = Rig::setup().endpoint(&mute).endpoint(&held).pool(pool).start().await;
    let client = rig.h2().await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        let reached = mute.requests().len() + held.requests().len();
        let (response, _) = client.start(crate::rig::h2::request(http::Method::GET, "/x"), true).await;
        answers.push(tokio::spawn(crate::rig::h2::reply(response)));
        soon("an endpoint to have it", async {
            while mute.requests().len() + held.requests().len() == reached {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let refused = rig.record_where("a refused one", |record| record["status"] != 200).await;
    gate.let_pass(4);

    let mut statuses = Vec::new();
    for answer in answers {
        statuses.push(answer.await.unwrap().status);
    }
    let served = statuses.iter().filter(|status| **status == 200).count();

    // All but one of those that the first endpoint did not answer were one too many.
    assert_eq!((refused["status"].as_u64(), refused["fault"].as_str()), (Some(503), Some("queue_full")), "{refused}");
    assert_eq!((held.requests().len(), mute.requests().len()), (served, 4 - served + 1), "{statuses:?}");
    let reached = rig.status().await["pools"][0]["endpoints"][1]["limits_reached"]["retries"].as_u64();
    assert!(reached >= Some(1));
}

#[tokio::test]
async fn reused_connection_that_dies_is_replaced_by_a_fresh_one() {
    let upstream = forgetful().await;
    let rig = Rig::setup().process("workers = 1").endpoint(&upstream).pool("retry = { attempts = 0 }").start().await;
    let mut client = rig.client().await;

    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "first");
    }

    assert_eq!(upstream.connections(), 2);
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn post_on_a_reused_connection_that_dies_is_not_repeated() {
    let upstream = forgetful().await;
    let setup = Rig::setup().process("workers = 1").endpoint(&upstream);
    let rig = setup.pool("fresh_writes = false").start().await;
    let mut client = rig.client().await;

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.response().await;
    client.send("POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;

    assert_eq!(client.response().await.status, 502);
    let posts = upstream.requests().iter().filter(|request| request.method() == "POST").count();
    assert_eq!(posts, 1);
    assert_eq!(rig.metric("sluicegate_keepalive_races_total{pool=\"app\",outcome=\"lost\"}").await, 1.0);
}

#[tokio::test]
async fn answer_on_a_reused_connection_that_is_no_http_is_no_lost_race() {
    let upstream = Upstream::playing(|mut peer, seen| async move {
        for answer in [named("first"), b"nonsense\r\n\r\n".to_vec()] {
            let Some(request) = peer.request().await else { return };
            seen.note(request);
            peer.send(answer).await;
        }
        peer.rest().await;
    })
    .await;
    let setup = Rig::setup().process("workers = 1").endpoint(&upstream);
    let rig = setup.pool("fresh_writes = false").start().await;
    let mut client = rig.client().await;

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.response().await;
    client.send("POST /odd HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;

    assert_eq!(client.response().await.status, 502);
    assert_eq!(rig.record("/odd").await["fault"], "upstream_malformed");
    assert_eq!(upstream.connections(), 1);
    assert_eq!(rig.metric("sluicegate_keepalive_races_total{pool=\"app\",outcome=\"lost\"}").await, 0.0);
}

/// Whether somebody has asked `address`, of IPv4, for a connection and has no answer yet (SYN-SENT, RFC 9293 §3.3.2).
fn is_opening(address: SocketAddr) -> bool {
    let remote = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|line| line.get(2).is_some_and(|place| place.ends_with(&remote)) && line.get(3) == Some(&"02"))
}

#[tokio::test]
async fn write_goes_out_on_a_connection_that_lost_no_packet_when_it_was_opened() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // One connection may wait to be accepted; the kernel lets the packets of others vanish.
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = TcpStream::connect(address).await.unwrap();
    let rig = Rig::setup().endpoint_at(address, 1).start().await;
    let mut client = rig.client().await;

    let asked = Instant::now();
    client.send("POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    // The kernel sends it again after a second.
    soon("a first packet", async {
        while !is_opening(address) {
            tokio::task::yield_now().await
        }
    })
    .await;
    drop((listener.accept().await.unwrap(), waiting));
    let (slow, _) = soon("the slow connection", listener.accept()).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(900), "{:?}", asked.elapsed());
    let (prompt, _) = soon("another connection", listener.accept()).await.unwrap();
    let mut prompt = Peer::new(prompt, 2);
    assert_eq!(prompt.request().await.unwrap().target(), "/write");
    prompt.send(named("prompt")).await;

    assert_eq!(client.response().await.text(), "prompt");
    assert_eq!(Peer::new(slow, 1).rest().await, b"", "nothing was asked there");
}

#[tokio::test]
async fn safe_request_survives_a_response_head_that_breaks_off() {
    let dying = Upstream::playing(|mut peer, seen| async move {
        if let Some(request) = peer.request().await {
            seen.note(request);
            peer.send("HTTP/1.1 200 OK\r\nContent-Le").await;
        }
    })
    .await;
    let well = Upstream::named("well").await;
    let rig = Rig::setup().process("workers = 1").endpoint(&dying).endpoint(&well).start().await;
    let mut client = rig.client().await;

    for _ in 0..4 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "well");
    }

    assert!(!dying.requests().is_empty());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    client.response().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    client.response().await;
    let posts = |upstream: &Upstream| upstream.requests().iter().filter(|request| request.method() == "POST").count();
    assert_eq!(posts(&dying) + posts(&well), 2, "a POST was repeated");
}

#[tokio::test]
async fn slow_answer_is_never_asked_for_again() {
    let slow = || async {
        Upstream::playing(|mut peer, seen| async move {
            if let Some(request) = peer.request().await {
                seen.note(request);
            }
            peer.rest().await;
        })
        .await
    };
    let upstreams = [slow().await, slow().await];
    let rest = "[[routes]]\npool = \"app\"\ntimeouts = { first_byte = \"150ms\" }";
    let rig = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).rest(rest).start().await;

    let response = rig.get("/slow").await;

    assert_eq!(response.status, 504);
    let record = rig.record("/slow").await;
    assert_eq!((&record["fault"], &record["end"]), (&"first_byte".into(), &"UH".into()));
    assert_eq!(upstreams[0].requests().len() + upstreams[1].requests().len(), 1);
}

#[tokio::test]
async fn retries_end_with_their_budget() {
    // A floor of 3 a second and nothing beyond it.
    let dying = || async {
        Upstream::playing(|mut peer, seen| async move {
            if let Some(request) = peer.request().await {
                seen.note(request);
            }
        })
        .await
    };
    let upstreams = [dying().await, dying().await];
    let setup = Rig::setup().process("workers = 1").endpoint(&upstreams[0]).endpoint(&upstreams[1]);
    let rig = setup.pool("retry = { attempts = 1, budget_percent = 0 }").start().await;
    let mut client = rig.client().await;

    for _ in 0..50 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 502);
    }

    assert!(rig.metric("sluicegate_retries_refused_total{pool=\"app\"}").await > 0.0);
    assert!(upstreams[0].requests().len() + upstreams[1].requests().len() < 100);
}

#[tokio::test]
async fn request_of_which_nothing_was_sent_needs_no_budget() {
    let well = Upstream::named("well").await;
    let dead = [Upstream::nobody().await, Upstream::nobody().await];
    let setup = Rig::setup().process("workers = 1").endpoint_at(dead[0], 1).endpoint_at(dead[1], 1).endpoint(&well);
    let rig = setup.pool("retry = { attempts = 0, budget_percent = 0 }").start().await;
    let mut client = rig.client().await;

    for _ in 0..50 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(client.response().await.text(), "well");
    }

    assert_eq!(well.requests().len(), 50);
}

#[tokio::test]
async fn idle_connection_closed_by_the_endpoint_costs_no_post() {
    // As Gunicorn does after its keep-alive time, and whenever a worker ends.
    let upstream = forgetful().await;
    let rig = Rig::setup().process("workers = 1").endpoint(&upstream).start().await;
    let mut client = rig.client().await;

    for index in 1..=20 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(client.response().await.status, 200);
        assert_eq!((upstream.requests().len(), upstream.connections()), (index, index));
    }

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(upstream.requests().len(), 22, "a read was sent on an idle one first");
}

#[tokio::test]
async fn idle_time_of_an_endpoint_is_learned_from_its_closes_and_undercut() {
    // Well above the quarter of a second in which the proxy looks through its idle connections.
    const KEPT: Duration = Duration::from_secs(2);
    let (gave_up, mut given_up) = tokio::sync::watch::channel(0);
    let upstream = Upstream::playing(move |mut peer, seen| {
        let gave_up = gave_up.clone();
        async move {
            loop {
                match tokio::time::timeout(KEPT, peer.request()).await {
                    Ok(Some(request)) => {
                        seen.note(request);
                        peer.send(named("a")).await;
                    }
                    Ok(None) => break gave_up.send_modify(|times| *times += 1),
                    Err(_) => break,
                }
            }
        }
    })
    .await;
    let setup = Rig::setup().process("workers = 1").endpoint(&upstream);
    let rig = setup.pool("health = false\ntimeouts = { idle = \"60s\" }").start().await;
    let mut client = rig.client().await;
    let mut rounds = 0;

    // Each time the endpoint closes first teaches; from the second one on the proxy does, unless a busy machine holds it up.
    let status = loop {
        let closes = endpoint(&rig.status().await)["idle_closes"].as_u64();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
        tokio::select! {
            _ = given_up.changed() => break rig.status().await,
            _ = rig.status_where("a close", |status| endpoint(status)["idle_closes"].as_u64() > closes) => {}
            // It closed before the connection came to rest.
            () = tokio::time::sleep(2 * KEPT) => {}
        }
        rounds += 1;
        assert!(rounds < 10, "the proxy never closes first");
    };
    let (learned, closes) = (endpoint(&status)["idle_time_ms"].as_u64(), endpoint(&status)["idle_closes"].as_u64());

    assert!(closes >= Some(2), "one close teaches nothing");
    assert!(learned.is_some_and(|learned| (100..=2_000).contains(&learned)), "{learned:?}");
    let sample = format!("sluicegate_endpoint_idle_closes_total{{pool=\"app\",endpoint=\"{}\"}}", upstream.address);
    assert!(rig.metric(&sample).await >= 2.0);
}

fn endpoint(status: &serde_json::Value) -> &serde_json::Value {
    &status["pools"][0]["endpoints"][0]
}

/// Two endpoints; whoever is first asked for `/slow` keeps it until the gate opens, the other answers.
async fn one_of_two_is_slow(gate: &Gate) -> [Upstream; 2] {
    let asked = Arc::new(AtomicUsize::new(0));
    let endpoint = |name: &'static str| {
        let (asked, gate) = (Arc::clone(&asked), gate.clone());
        Upstream::playing(move |mut peer, seen| {
            let (asked, gate) = (Arc::clone(&asked), gate.clone());
            async move {
                while let Some(request) = peer.request().await {
                    let slow = request.target() == "/slow" && asked.fetch_add(1, Ordering::SeqCst) == 0;
                    seen.note(request);
                    if slow {
                        gate.pass().await;
                    }
                    if peer.try_send(named(name)).await.is_err() {
                        return;
                    }
                }
            }
        })
    };
    [endpoint("a").await, endpoint("b").await]
}

#[tokio::test]
async fn slow_answer_is_asked_for_elsewhere_as_well_where_a_route_wants_that() {
    let gate = Gate::closed();
    let upstreams = one_of_two_is_slow(&gate).await;
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]);
    let rig = setup.rest("[[routes]]\npool = \"app\"\nretry = { hedge_percentile = 90 }").start().await;
    let mut client = rig.client().await;
    for _ in 0..120 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
    }

    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);

    assert!(rig.metric("sluicegate_hedges_total{pool=\"app\",outcome=\"won\"}").await >= 1.0);
    let idle = |status: &serde_json::Value| {
        status["pools"][0]["endpoints"].as_array().unwrap().iter().all(|endpoint| endpoint["in_flight"] == 0)
    };
    let status = rig.status_where("both endpoints to be free", idle).await;
    assert!(status["pools"][0]["retries"]["made"]["hedge"].as_u64() >= Some(1), "{status}");
}

#[tokio::test]
async fn slow_answer_to_a_post_is_waited_for() {
    let gate = Gate::closed();
    let upstreams = one_of_two_is_slow(&gate).await;
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]);
    let rig = setup.rest("[[routes]]\npool = \"app\"\nretry = { hedge_percentile = 50 }").start().await;
    let mut client = rig.client().await;
    for _ in 0..120 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
    }
    let asked = |path: &'static str| {
        upstreams.iter().flat_map(Upstream::requests).filter(|request| request.target() == path).count()
    };

    client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    for _ in 0..20 {
        // Later than any hedge: these have been asked and answered meanwhile.
        let mut other = rig.client().await;
        other.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        other.response().await;
    }
    gate.let_pass(1);

    assert_eq!(client.response().await.status, 200);
    assert_eq!(asked("/slow"), 1);
}

#[tokio::test]
async fn second_question_under_way_is_the_repeat_of_a_first_one_that_fails() {
    let (dies, answers) = (Gate::closed(), Gate::closed());
    let asked = Arc::new(AtomicUsize::new(0));
    let endpoint = || {
        let (asked, dies, answers) = (Arc::clone(&asked), dies.clone(), answers.clone());
        Upstream::playing(move |mut peer, seen| {
            let (asked, dies, answers) = (Arc::clone(&asked), dies.clone(), answers.clone());
            async move {
                while let Some(request) = peer.request().await {
                    let slow = request.target() == "/slow";
                    seen.note(request);
                    if slow && asked.fetch_add(1, Ordering::SeqCst) == 0 {
                        dies.pass().await;
                        let mut io = peer.into_io();
                        io.shutdown().await.unwrap();
                        // The proxy closes when it has seen that; only then comes the other answer.
                        drop(io.read_to_end(&mut Vec::new()).await);
                        return answers.let_pass(1);
                    }
                    if slow {
                        answers.pass().await;
                    }
                    peer.send(named("well")).await;
                }
            }
        })
    };
    let upstreams = [endpoint().await, endpoint().await];
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]);
    let rig = setup.rest("[[routes]]\npool = \"app\"\nretry = { hedge_percentile = 99 }").start().await;
    let mut client = rig.client().await;
    for _ in 0..120 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
    }

    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon("both to be asked", async {
        while asked.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    dies.let_pass(1);

    assert_eq!(client.response().await.text(), "well");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "nobody is asked a third time");
}

#[tokio::test]
async fn slow_first_one_keeps_its_place_while_a_second_question_is_under_way_and_fails() {
    let (asked, fails) = (Arc::new(AtomicUsize::new(0)), Gate::closed());
    let endpoint = || {
        let (asked, fails) = (Arc::clone(&asked), fails.clone());
        Upstream::playing(move |mut peer, seen| {
            let (asked, fails) = (Arc::clone(&asked), fails.clone());
            async move {
                while let Some(request) = peer.request().await {
                    let slow = request.target() == "/slow";
                    seen.note(request);
                    match slow.then(|| asked.fetch_add(1, Ordering::SeqCst)) {
                        Some(0) => fails.pass().await,
                        Some(_) => {
                            // Longer than an attempt may be silent.
                            tokio::time::sleep(Duration::from_millis(600)).await;
                            peer.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await;
                            fails.let_pass(1);
                            continue;
                        }
                        None => {}
                    }
                    drop(peer.try_send(named("first")).await);
                }
            }
        })
    };
    let upstreams = [endpoint().await, endpoint().await];
    let setup = Rig::setup().endpoint(&upstreams[0]).endpoint(&upstreams[1]).pool("retry = { per_try = \"300ms\" }");
    let rig = setup.rest("[[routes]]\npool = \"app\"\nretry = { hedge_percentile = 99 }").start().await;
    let mut client = rig.client().await;
    for _ in 0..120 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
    }

    // On a busy machine one of those may have been slow enough to be asked twice.
    let hedges = async || rig.status().await["pools"][0]["retries"]["made"]["hedge"].as_u64().unwrap_or(0);
    let before = hedges().await;
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.response().await;

    assert_eq!((answer.status, answer.text().as_str()), (200, "first"));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert_eq!(hedges().await, before + 1);
    let made = &rig.status().await["pools"][0]["retries"]["made"];
    assert_eq!(made.as_object().unwrap().len(), 1, "hedges alone: {made}");
}
