//! What became of a request can be asked for by its id, and followed as it happens.

use serde_json::Value;

use crate::rig::{Peer, Rig, Upstream, soon};

/// Keeps everything.
const ALL: &str = "[recorder]\nsample = 1";

/// What is told of the request with this id, once its record has come.
async fn story(rig: &Rig, id: &str) -> Value {
    rig.record_where("the record", |record| record["request_id"] == id).await;
    let told = rig.admin(&format!("/exchanges/{id}")).await;
    assert_eq!(told.status, 200, "{}", told.text());
    serde_json::from_slice(&told.body).unwrap()
}

#[tokio::test]
async fn story_tells_who_was_asked_why_and_what_came_of_it() {
    let dead = Upstream::nobody().await;
    let alive = Upstream::named("alive").await;
    let rig = Rig::setup().endpoint_at(dead, 1).endpoint(&alive).rest(ALL).start().await;
    let mut client = rig.client().await;

    let mut stories = Vec::new();
    for _ in 0..2 {
        client.send("GET /chart?token=SECRET HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let id = client.response().await.get("x-request-id").unwrap();
        stories.push(story(&rig, &id).await);
    }

    let told = stories.iter().find(|told| told[0]["story"]["asked"][1].is_object()).expect("one had to be repeated");
    let (first, second) = (&told[0]["story"]["asked"][0], &told[0]["story"]["asked"][1]);
    assert_eq!((&first["endpoint"], &first["cause"]), (&dead.to_string().into(), &"connect".into()), "{told}");
    assert_eq!((&first["why"], &first["choice"]), (&"first".into(), &"round_robin".into()), "{told}");
    assert_eq!((&first["connection"], &first["status"]), (&"none".into(), &Value::Null), "{told}");
    assert_eq!(second["endpoint"], alive.address.to_string(), "{told}");
    assert_eq!((&second["why"], &second["status"]), (&"repeat".into(), &200.into()), "{told}");
    assert!(second["began_ms"].as_f64() >= first["connect_ms"].as_f64(), "{told}");
    assert!(second["waited_ms"].as_f64() > Some(0.0), "{told}");
    assert_eq!((&told[0]["kept"], &told[0]["story"]["generation"]), (&"sample".into(), &1.into()), "{told}");
    assert_eq!(told[0]["record"]["path"], "/chart?token=***");
    assert!(!told.to_string().contains("SECRET"), "{told}");
}

#[tokio::test]
async fn failure_says_why_nobody_else_was_asked_and_which_clock_ran_out() {
    let silent = Upstream::playing(|mut peer, seen| async move {
        while let Some(request) = peer.request().await {
            seen.note(request);
        }
    })
    .await;
    let routes = "[[routes]]\npool = \"app\"\ntimeouts = { first_byte = \"100ms\" }";
    let rig = Rig::setup().endpoint(&silent).rest(routes).start().await;

    let id = rig.get("/slow").await.get("x-request-id").unwrap();
    let told = story(&rig, &id).await;

    assert_eq!((&told[0]["kept"], &told[0]["record"]["status"]), (&"error".into(), &504.into()), "{told}");
    assert_eq!(told[0]["record"]["clock"], "first_byte", "{told}");
    assert_eq!(
        (&told[0]["story"]["gave_up"], &told[0]["story"]["asked"][0]["clock"]),
        (&"unsafe".into(), &"first_byte".into())
    );
    assert!(told[0]["story"]["asked"][0]["waited_ms"].as_f64() >= Some(100.0), "{told}");
}

#[tokio::test]
async fn errors_are_kept_without_an_access_log_and_others_by_the_sample() {
    let upstream = Upstream::named("a").await;
    let rest = "[access_log]\ntarget = \"off\"\n[recorder]\nsample = 0\n[[routes]]\npool = \"app\"\npath = \"/a\"";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;

    let fault = rig.get("/b").await;
    rig.get("/a").await;

    let id = fault.get("x-request-id").unwrap();
    assert_eq!(fault.status, 404);
    let told = soon("the exchange", async {
        loop {
            let told = rig.admin(&format!("/exchanges/{id}")).await;
            if told.status == 200 {
                return serde_json::from_slice::<Value>(&told.body).unwrap();
            }
        }
    })
    .await;
    assert_eq!((&told[0]["kept"], &told[0]["record"]["fault"]), (&"refused".into(), &"no_route".into()));
    let listed: Value = serde_json::from_slice(&rig.admin("/exchanges").await.body).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
}

#[tokio::test]
async fn list_is_filtered_bounded_and_newest_first() {
    let upstream = Upstream::named("a").await;
    let rest = format!("{ALL}\n[[routes]]\npool = \"app\"\npath = \"/a\"");
    let rig = Rig::setup().endpoint(&upstream).rest(&rest).start().await;
    for path in ["/a/1", "/b/1", "/a/2", "/b/2"] {
        rig.get(path).await;
        rig.record(path).await;
    }

    for (query, paths) in [
        ("", &["/b/2", "/a/2", "/b/1", "/a/1"][..]),
        ("?limit=1", &["/b/2"]),
        ("?status=4xx", &["/b/2", "/b/1"]),
        ("?status=200&limit=1", &["/a/2"]),
        ("?kept=sample&client=127.0.0.0/8", &["/a/2", "/a/1"]),
        ("?client=192.0.2.0/24", &[]),
    ] {
        let listed: Value = serde_json::from_slice(&rig.admin(&format!("/exchanges{query}")).await.body).unwrap();
        let listed: Vec<&str> =
            listed.as_array().unwrap().iter().map(|told| told["record"]["path"].as_str().unwrap()).collect();
        assert_eq!(listed, paths, "{query}");
    }
    for query in ["?limit=0", "?limit=1001", "?states=4xx", "?kept=all"] {
        assert_eq!(rig.admin(&format!("/exchanges{query}")).await.status, 400, "{query}");
    }
    assert_eq!(rig.admin("/exchanges/unknown").await.status, 404);
}

#[tokio::test]
async fn records_stream_as_they_come_through_a_filter() {
    let upstream = Upstream::named("a").await;
    let rest = "[[routes]]\npool = \"app\"\npath = \"/a\"";
    let mut rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;
    let mut follower = Peer::connect(rig.admin).await;
    follower.send("GET /records?status=404 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = follower.response_head().await;
    assert_eq!((head.status, head.get("content-type").as_deref()), (200, Some("text/event-stream")));
    assert_eq!(rig.metric("sluicegate_record_followers").await as u64, 1);

    rig.get("/a").await;
    rig.get("/b?code=SECRET").await;

    let event = soon("an event", async {
        loop {
            let line = follower.line().await;
            if let Some(data) = line.strip_prefix("data: ") {
                return data.lines().next().unwrap().to_owned();
            }
            if let Some((_, data)) = line.split_once("\ndata: ") {
                return data.lines().next().unwrap().to_owned();
            }
        }
    })
    .await;
    let record: Value = serde_json::from_str(&event).unwrap();
    assert_eq!((&record["path"], &record["status"]), (&"/b?code=***".into(), &404.into()));

    // A stream keeps no process from ending.
    rig.signal("TERM").await;
    assert!(rig.ended().await.success());
}

#[tokio::test]
async fn places_for_those_who_follow_are_bounded_and_come_back() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;
    let follow = || async {
        let mut follower = Peer::connect(rig.admin).await;
        follower.send("GET /records HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let status = follower.response_head().await.status;
        (follower, status)
    };

    let mut followers = Vec::new();
    for _ in 0..32 {
        let (follower, status) = follow().await;
        assert_eq!(status, 200);
        followers.push(follower);
    }
    assert_eq!(follow().await.1, 503);

    followers.clear();
    soon("a free place", async { while follow().await.1 != 200 {} }).await;
}
