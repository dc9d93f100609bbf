//! Metrics that are pushed are those of a scrape.

use std::sync::atomic::{AtomicUsize, Ordering};

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};

use crate::rig::collector::{Collector, attribute, hex};
use crate::rig::{Rig, Upstream, message, soon};

/// A sampled trace.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn to(url: &str, keys: &str) -> String {
    format!("[otlp.metrics]\nto = {{ url = \"{url}\" }}\n{keys}\n")
}

/// A metric of a push by its name in OpenTelemetry's form.
fn named<'a>(push: &'a [Metric], name: &str) -> &'a Metric {
    push.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn number(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(Number::AsInt(whole)) => whole as f64,
        Some(Number::AsDouble(real)) => real,
        None => panic!("{point:?}"),
    }
}

/// What exchanges with status 2xx on the plain listener add up to in a push.
fn exchanges(push: &[Metric]) -> f64 {
    let Some(Data::Sum(sum)) = &named(push, "sluicegate_exchanges").data else { panic!("no sum") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "cumulative");
    let point = sum.data_points.iter().find(|point| {
        let of = |key: &str| attribute(&point.attributes, key);
        (of("listener"), of("protocol"), of("status")) == ("plain".into(), "h1".into(), "2xx".into())
    });
    let point = point.unwrap();
    assert!(0 < point.start_time_unix_nano && point.start_time_unix_nano < point.time_unix_nano, "{point:?}");
    number(point)
}

/// Every sample of a push as a scrape shows it, but for the exemplars and what a scrape itself changes.
fn as_scraped(push: &[Metric]) -> Vec<String> {
    let mut lines = Vec::new();
    for metric in push {
        let unit = match metric.unit.as_str() {
            "s" => "_seconds",
            "By" => "_bytes",
            "1" => "_ratio",
            _ => "",
        };
        let (suffix, points) = match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => ("_total", &sum.data_points),
            Data::Gauge(gauge) => ("", &gauge.data_points),
            _ => continue,
        };
        for point in points {
            let labels: Vec<String> = point
                .attributes
                .iter()
                .map(|pair| format!("{}=\"{}\"", pair.key, attribute(std::slice::from_ref(pair), &pair.key)))
                .collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            lines.push(format!("{}{unit}{suffix}{labels} {}", metric.name, number(point)));
        }
    }
    lines
}

#[tokio::test]
async fn pushed_counters_are_those_of_a_scrape() {
    for (protocol, collector) in [("http", Collector::http().await), ("grpc", Collector::grpc().await)] {
        let upstream = Upstream::named("a").await;
        let keys =
            to(&format!("http://{}", collector.address), &format!("interval = \"1s\"\nprotocol = \"{protocol}\""));
        let trusted = "trusted_proxies = [\"127.0.0.1/32\"]";
        let rig = Rig::setup().endpoint(&upstream).clients(trusted).rest(&keys).start().await;
        for _ in 0..6 {
            rig.get("/x").await;
        }
        let mut client = rig.client().await;
        client.send(format!("GET /x HTTP/1.1\r\nHost: a\r\nTraceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n\r\n")).await;
        client.response().await;
        rig.record("/x").await;

        let got =
            collector.notes.until("a push", |got| got.pushes.last().is_some_and(|push| exchanges(push) == 7.0)).await;

        let push = got.pushes.last().unwrap();
        let sample = "sluicegate_exchanges_total{listener=\"plain\",protocol=\"h1\",status=\"2xx\"}";
        assert_eq!(rig.metric(sample).await, exchanges(push));
        let Some(Data::Histogram(histogram)) = &named(push, "sluicegate_exchange_duration").data else {
            panic!("none")
        };
        let total =
            histogram.data_points.iter().find(|point| attribute(&point.attributes, "stage") == "total").unwrap();
        assert_eq!((total.count, total.bucket_counts.iter().sum::<u64>()), (7, 7));
        assert_eq!(total.explicit_bounds.len() + 1, total.bucket_counts.len());
        // A trace that somebody keeps leads from the histogram to the exchange.
        let [exemplar] = &total.exemplars[..] else { panic!("{total:?}") };
        assert_eq!(hex(&exemplar.trace_id), TRACE);
        // Whatever does not move by itself, nor by the scrape's own connection, is the same line for line.
        let moving = [
            "sluicegate_admin_open",
            "process_",
            "sluicegate_worker_",
            "sluicegate_otlp_",
            "sluicegate_slo_observed",
            "sluicegate_connections_",
        ];
        let scraped = rig.admin("/metrics").await.text();
        let still: Vec<String> =
            as_scraped(push).into_iter().filter(|line| !moving.iter().any(|name| line.starts_with(name))).collect();
        let there = |line: &String| {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let found = scraped.lines().find_map(|known| known.strip_prefix(sample)?.strip_prefix(' '));
            found.and_then(|found| found.trim().parse::<f64>().ok()) == value.parse::<f64>().ok()
        };
        let different: Vec<&String> = still.iter().filter(|line| !there(line)).collect();
        assert!(still.len() > 100 && different.is_empty(), "{} of {}: {different:#?}", different.len(), still.len());
        assert_eq!(attribute(&got.resource, "service.name"), "sluicegate");
        assert_eq!(got.wrong, Vec::<String>::new());
    }
}

#[tokio::test]
async fn last_push_is_made_at_the_end() {
    let (collector, upstream) = (Collector::http().await, Upstream::named("a").await);
    let keys = to(&format!("http://{}", collector.address), "interval = \"1h\"");
    let mut rig = Rig::setup().endpoint(&upstream).rest(&keys).start().await;
    for _ in 0..3 {
        rig.get("/x").await;
    }
    assert!(collector.notes.got().pushes.is_empty());

    rig.signal("TERM").await;
    rig.ended().await;

    let pushes = collector.notes.got().pushes;
    assert_eq!((pushes.len(), exchanges(&pushes[0])), (1, 3.0));
}

#[tokio::test]
async fn push_that_fails_is_counted_and_the_next_one_tells_the_same() {
    let asked = AtomicUsize::new(0);
    let receiver = Upstream::answering(move |_| {
        let status = if asked.fetch_add(1, Ordering::Relaxed) < 2 { "503 Busy" } else { "200 Fine" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let upstream = Upstream::named("a").await;
    let keys = to(&format!("http://{}", receiver.address), "interval = \"1s\"");
    let rig = Rig::setup().endpoint(&upstream).rest(&keys).start().await;

    let recovered = |status: &serde_json::Value| {
        let export = &status["exports"][0];
        export["state"] == "working" && export["sent"] != 0
    };
    let status = rig.status_long("a push that is taken", recovered).await;

    let event = rig.event("export failing").await;
    assert_eq!(crate::rig::field(&event, "signal"), "metrics");
    rig.event("export recovered").await;
    assert_eq!(rig.metric("sluicegate_otlp_export_errors_total{signal=\"metrics\"}").await, 2.0);
    let export = &status["exports"][0];
    assert_eq!(
        (&export["signal"], &export["state"], &export["failed"]),
        (&"metrics".into(), &"working".into(), &2.into())
    );
    assert!(export["last_error"].as_str().unwrap().contains("503"), "{export}");
    assert!(export["sent"].as_u64().unwrap() > 100, "{export}");
    assert!(receiver.requests().iter().all(|request| request.target() == "/v1/metrics"));
}

#[tokio::test]
async fn failure_of_another_collector_after_a_reload_is_told_of() {
    let upstream = Upstream::named("a").await;
    let (first, second) = (Upstream::nobody().await, Upstream::nobody().await);
    let rest = to(&format!("http://{first}"), "interval = \"1s\"");
    // One reload for the signal, and none for the file.
    let rig = Rig::setup().endpoint(&upstream).process("watch_files = false").rest(&rest).start().await;
    rig.event("export failing").await;

    rig.write_config(&rig.config().replace(&first.to_string(), &second.to_string()));
    rig.signal("HUP").await;
    rig.status_where("the reload", |status| status["generation"] == 2).await;

    soon("another event", rig.events.find_many(2, |event| message(event) == "export failing")).await;
}
