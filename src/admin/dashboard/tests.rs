//! The page and its stream over a made-up process.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::admin::feed::Feeds;
use crate::admin::status::Sink;
use crate::admin::tests::process;
use crate::body::Frame as Step;
use crate::lexicon::{EndpointName, SinkName};
use crate::telemetry::metrics::Standing;

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_383_500 + second)
}

fn watch(dashboard: &Dashboard) -> Body {
    let feeds = Feeds::new(Arc::default());
    feeds.bound(1);
    Body::stream(Live::new(dashboard.0.frames.subscribe(), feeds.admit().unwrap()))
}

/// What a viewer is sent until it would have to wait.
async fn sent(body: &mut Body) -> String {
    let mut text = String::new();
    while let Ok(step) = tokio::time::timeout(Duration::from_millis(1), body.frame()).await {
        let Some(Ok(Step::Data(data))) = step else { panic!("the stream ended") };
        text.push_str(std::str::from_utf8(&data).unwrap());
    }
    text
}

#[test]
fn nothing_is_drawn_while_nobody_looks() {
    let (dashboard, process) = (Dashboard::new(), process());

    dashboard.look(&process, at(0));
    dashboard.look(&process, at(1));

    assert!(dashboard.0.frames.borrow().fragments.is_empty());
}

#[tokio::test]
async fn viewer_is_sent_everything_once_and_then_what_changed() {
    let (dashboard, mut process) = (Dashboard::new(), process());
    dashboard.look(&process, at(0));
    dashboard.draw(&process);
    let mut viewer = watch(&dashboard);
    let first = sent(&mut viewer).await;
    assert!(first.starts_with("retry: 2000\n\n"), "{first}");
    for id in
        ["state", "tiles", "charts-short", "pools", "budget", "errors", "bans", "listeners", "generations", "events"]
    {
        assert!(first.contains(&format!("event: {id}\ndata: ")), "{id} in {first}");
    }

    process.status.uptime_seconds += 1;
    dashboard.look(&process, at(1));
    let then = sent(&mut viewer).await;

    assert!(then.contains("event: state\n") && !then.contains("event: listeners\n"), "{then}");
}

#[tokio::test]
async fn slow_viewer_misses_frames_and_no_fragment() {
    let (dashboard, mut process) = (Dashboard::new(), process());
    dashboard.look(&process, at(0));
    dashboard.draw(&process);
    let mut viewer = watch(&dashboard);
    sent(&mut viewer).await;

    process.status.pools[0].endpoints[0].standing = Standing::Up;
    process.status.pools[0].endpoints[0].bench = "in";
    dashboard.look(&process, at(1));
    process.status.uptime_seconds += 1;
    dashboard.look(&process, at(2));
    let then = sent(&mut viewer).await;

    assert_eq!(then.matches("event: state\n").count(), 1, "{then}");
    assert!(then.contains("event: pools\n") && then.contains("event: events\n"), "{then}");
}

#[test]
fn what_others_wrote_is_text_on_the_page() {
    let (dashboard, mut process) = (Dashboard::new(), process());
    process.status.config_file = "<script>alert(1)</script>".to_owned();
    process.status.pools[0].endpoints[0].reason = "<img src=x onerror=alert(1)>".to_owned();

    let frame = dashboard.draw(&process);
    let page = pages::page(&frame).unwrap();

    assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{page}");
    assert!(page.contains("onerror=alert(1)"), "{page}");
}

#[test]
fn exchanges_before_the_first_look_count_for_their_endpoint() {
    let (dashboard, mut process) = (Dashboard::new(), process());
    let mut rate = |second, exchanges| {
        process.status.pools[0].endpoints[0].counts.exchanges = exchanges;
        dashboard.look(&process, at(second));
        words::rate(dashboard.overview(&process).pools[0].endpoints[0].per_second)
    };

    assert_eq!([rate(0, 6), rate(1, 8)], ["6.0", "4.0"]);
}

#[test]
fn endpoint_that_comes_in_sight_has_no_rate_of_its_whole_life() {
    let (dashboard, mut process) = (Dashboard::new(), process());
    let endpoints = &mut process.status.pools[0].endpoints;
    let one = endpoints.remove(0);
    *endpoints = (0..=history::ENDPOINTS)
        .map(|number| {
            let mut each = one.clone();
            each.name = EndpointName::new(&format!("e{number}"));
            each.counts.exchanges = 1_000;
            each
        })
        .collect();
    dashboard.look(&process, at(0));

    process.status.pools[0].endpoints.remove(0);
    dashboard.look(&process, at(1));

    let shown = dashboard.overview(&process).pools[0].endpoints.last().unwrap().clone();
    assert_eq!((shown.name.as_str(), words::rate(shown.per_second).as_str()), ("e1024", "0"));
}

#[test]
fn alerts_name_what_is_out_first() {
    let (dashboard, process) = (Dashboard::new(), process());

    let frame = dashboard.draw(&process);

    let alerts = frame.html("alerts");
    assert!(alerts.contains("The only endpoint of superset is out."), "{alerts}");
    assert!(alerts.contains("2 exchanges wait for an endpoint of superset."), "{alerts}");
}

#[test]
fn alerts_name_sinks_that_fail_fill_and_lose() {
    let (dashboard, mut process) = (Dashboard::new(), process());
    let sink = Sink {
        name: SinkName::new("central"),
        kind: "kafka",
        state: "working",
        queue: 0,
        spool_bytes: 0,
        spool_max_bytes: 1_000,
        spool_records: 0,
        oldest_age_seconds: 0,
        sent: 0,
        retried: 0,
        dropped: [("sink_full", 0)].into(),
        last_error: None,
    };
    process.status.sinks = vec![sink];
    let mut shown = |second: u64, change: fn(&mut Sink)| {
        change(&mut process.status.sinks[0]);
        dashboard.look(&process, at(second));
        let frame = dashboard.draw(&process);
        (frame.html("alerts").to_owned(), frame.html("events").to_owned())
    };

    let (well, _) = shown(0, |_| ());
    assert!(!well.contains("central"), "{well}");

    let (alerts, events) = shown(1, |sink| {
        (sink.state, sink.spool_bytes, sink.last_error) = ("failing", 500, Some("<b>away</b>".to_owned()));
    });
    assert!(alerts.contains("The sink central is failing."), "{alerts}");
    assert!(alerts.contains("The spool of central is 50 % full."), "{alerts}");
    assert!(events.contains("is failing: ") && !events.contains("<b>away"), "{events}");

    let (alerts, _) = shown(2, |sink| {
        (sink.spool_bytes, sink.dropped) = (900, [("spool_full", 7)].into());
    });
    assert!(alerts.contains("is 90 % full; then the oldest records go."), "{alerts}");
    assert!(alerts.contains("central loses records, 7 so far."), "{alerts}");

    let (alerts, events) = shown(62, |sink| (sink.state, sink.spool_bytes) = ("working", 0));
    assert!(alerts.contains("central has lost 7 records, the last 1 min ago."), "{alerts}");
    assert!(!alerts.contains("is failing") && !alerts.contains("full"), "{alerts}");
    assert!(events.contains("works again"), "{events}");

    let (alerts, _) = shown(700, |_| ());
    assert!(!alerts.contains("central"), "{alerts}");
}
