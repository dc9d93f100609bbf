//! The page and its stream over a made-up process.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::admin::tests::{Process, status};
use crate::body::Frame as Step;
use crate::lifecycle::Phase;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Standing;

fn process() -> Process {
    Process { status: status(), phase: Phase::Running, metrics: Metrics::new(1) }
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_383_500 + second)
}

fn watch(dashboard: &Dashboard) -> Body {
    let seat = Arc::clone(&dashboard.0.seats).try_acquire_owned().unwrap();
    Body::stream(Live::new(dashboard.0.frames.subscribe(), seat))
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
fn alerts_name_what_is_out_first() {
    let (dashboard, process) = (Dashboard::new(), process());

    let frame = dashboard.draw(&process);

    let alerts = frame.html("alerts");
    assert!(alerts.contains("The only endpoint of superset is out."), "{alerts}");
    assert!(alerts.contains("2 exchanges wait for an endpoint of superset."), "{alerts}");
}
