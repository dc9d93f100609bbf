//! Metrics as a scrape shows them.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::config::objectives::Objectives;
use crate::telemetry::record::{End, Kind as RecordKind, Record, Stage, Stages, Who};
use crate::telemetry::{samples, slo};

fn record(status: Option<u16>) -> Record {
    Record {
        listener: ListenerName::new("main"),
        status,
        bytes_in: 3,
        bytes_out: 10,
        stages: Stages { first_byte: Duration::from_millis(20), total: Duration::from_millis(30), ..Stages::default() },
        end: End { who: Who::Client, stage: Stage::Data },
        ..samples::exchange()
    }
}

#[derive(Debug)]
struct Fixed;

impl Gauges for Fixed {
    fn state(&self) -> State {
        State {
            generation: 7,
            loaded_at: Some(UNIX_EPOCH + Duration::from_secs(1_795_000_000)),
            workers: vec![WorkerState { busy: Duration::from_millis(1_500), connections: 9, tasks: 11 }],
            connections_max: 20_000,
            phase: Phase::Draining,
            listeners: vec![ListenerState {
                name: ListenerName::new("main"),
                connections: 12,
                speaking: [(Protocol::Http1, 3), (Protocol::Http2, 4), (Protocol::Http3, 5)],
                certificates: vec![("/etc/tls/a.pem".to_owned(), UNIX_EPOCH + Duration::from_secs(1_800_000_000))],
            }],
            pools: vec![PoolState {
                name: PoolName::new("superset"),
                queue_length: 4,
                waits: vec![("main", "served", 7)],
                shares: vec![TierShare { priority: 0, far: true, percent: 40 }],
                panicking: true,
                slo: slo::Meter::default().report(0, &Objectives::default()),
                endpoints: vec![EndpointState {
                    name: EndpointName::new("10.0.0.1:8088"),
                    standing: Standing::Late,
                    disabled: false,
                    drained: false,
                    in_flight: 19,
                    pending: 3,
                    retries: 1,
                    reached: [("in_flight", 2), ("pending", 0), ("retries", 0)],
                    ejected: true,
                    warmth: 55,
                    idle_closes: 3,
                    tunnels: 2,
                }],
            }],
            temp_bytes: 4096,
            buffered_bytes: 64,
            limits: vec![LimitState { name: LimitName::new("api"), keys: 3, pushed_out: 1 }],
            bans: 2,
            fleet: Some(true),
        }
    }
}

#[test]
fn exchange_appears_under_its_listener_route_pool_and_endpoint() {
    let metrics = Metrics::new(2);
    let listener = metrics.listener(&ListenerName::new("main"));
    let route = metrics.route(&RouteName::new("/"));
    let pool = metrics.pool(&PoolName::new("superset"));
    let endpoint = pool.endpoint(&EndpointName::new("10.0.0.1:8088"));

    let record = record(Some(200));
    listener.exchange(&record);
    route.exchange(&record);
    pool.exchange(&record);
    endpoint.exchange(&record);

    let text = metrics.expose(Exposition::OpenMetrics).unwrap();
    for line in [
        r#"sluicegate_exchanges_total{listener="main",protocol="h2",status="2xx"} 1"#,
        r#"sluicegate_exchange_ends_total{listener="main",end="CD"} 1"#,
        r#"sluicegate_request_body_bytes_total{listener="main"} 3"#,
        r#"sluicegate_response_body_bytes_total{listener="main"} 10"#,
        r#"sluicegate_route_exchanges_total{route="/",status="2xx"} 1"#,
        r#"sluicegate_pool_exchanges_total{pool="superset",status="2xx"} 1"#,
        r#"sluicegate_endpoint_exchanges_total{pool="superset",endpoint="10.0.0.1:8088",status="2xx"} 1"#,
        r#"sluicegate_exchange_duration_seconds_bucket{le="0.025",pool="superset",stage="first_byte"} 1"#,
        r#"sluicegate_exchange_duration_seconds_bucket{le="0.025",pool="superset",stage="total"} 0"#,
        r#"sluicegate_exchange_duration_seconds_count{pool="superset",stage="connect"} 0"#,
        r#"sluicegate_exchange_duration_seconds_sum{pool="superset",stage="total"} 0.03"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn client_gone_before_an_answer_is_status_none() {
    let metrics = Metrics::new(1);
    let listener = metrics.listener(&ListenerName::new("main"));

    listener.exchange(&record(None));

    let text = metrics.expose(Exposition::OpenMetrics).unwrap();
    assert!(text.contains(r#"exchanges_total{listener="main",protocol="h2",status="none"} 1"#));
}

#[test]
fn bytes_of_a_tunnel_belong_to_its_pool_and_not_to_bodies() {
    let metrics = Metrics::new(1);
    let listener = metrics.listener(&ListenerName::new("main"));
    let pool = metrics.pool(&PoolName::new("ws"));
    let end = Record { kind: RecordKind::TunnelEnd, messages: Some((2, 5)), ..record(Some(101)) };

    pool.tunnel_opened();
    pool.tunnel_ended(&end);
    listener.exchange(&end);

    let text = metrics.expose(Exposition::OpenMetrics).unwrap();
    for line in [
        r#"sluicegate_tunnels_total{pool="ws"} 1"#,
        r#"sluicegate_tunnel_messages_total{pool="ws",direction="to_client"} 5"#,
        r#"sluicegate_tunnel_bytes_total{pool="ws",direction="from_client"} 3"#,
        r#"sluicegate_request_body_bytes_total{listener="main"} 0"#,
        r#"sluicegate_exchanges_total{listener="main",protocol="h2",status="1xx"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn every_family_of_the_table_is_exposed_once_and_in_order() {
    let metrics = Metrics::new(1);
    let text = metrics.expose(Exposition::OpenMetrics).unwrap();

    let heads: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let expected: Vec<String> = FAMILIES
        .iter()
        .map(|family| family.full_name().trim_end_matches("_total").trim_end_matches("_info").to_owned())
        .collect();

    let mut sorted = heads.clone();
    sorted.sort_unstable();
    let mut expected_sorted: Vec<&str> = expected.iter().map(String::as_str).collect();
    expected_sorted.sort_unstable();
    assert_eq!(sorted, expected_sorted);
}

#[test]
fn gauges_are_read_from_state_at_the_scrape() {
    let metrics = Metrics::new(1);
    let state: Arc<dyn Gauges> = Arc::new(Fixed);
    metrics.read_gauges_from(&state);

    let text = metrics.expose(Exposition::Prometheus).unwrap();

    for line in [
        "sluicegate_config_generation 7",
        r#"sluicegate_phase{phase="draining"} 1"#,
        "sluicegate_config_loaded_seconds 1795000000",
        "sluicegate_config_reload_failed 0",
        r#"sluicegate_worker_busy_seconds_total{worker="0"} 1.5"#,
        r#"sluicegate_worker_connections_open{worker="0"} 9"#,
        "sluicegate_connections_max 20000",
        r#"sluicegate_slo_objective_ratio{pool="superset",objective="availability"} 0.999"#,
        r#"sluicegate_slo_burn_rate{pool="superset",objective="latency",window="3d"} 0.0"#,
        r#"sluicegate_slo_alert{pool="superset",objective="latency",alert="page"} 0"#,
        r#"sluicegate_connections_open{listener="main"} 12"#,
        r#"sluicegate_connections_speaking{listener="main",protocol="h3"} 5"#,
        r#"sluicegate_queue_length{pool="superset"} 4"#,
        r#"sluicegate_endpoint_standing{pool="superset",endpoint="10.0.0.1:8088",standing="late"} 1"#,
        r#"sluicegate_endpoint_standing{pool="superset",endpoint="10.0.0.1:8088",standing="up"} 0"#,
        r#"sluicegate_endpoint_in_flight{pool="superset",endpoint="10.0.0.1:8088"} 19"#,
        r#"sluicegate_tls_certificate_expiry_seconds{listener="main",certificate="/etc/tls/a.pem"} 1800000000"#,
        "sluicegate_request_buffer_temp_bytes 4096",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    drop(state);
    assert!(metrics.expose(Exposition::Prometheus).unwrap().contains("sluicegate_config_generation 0"));
}

#[test]
fn prometheus_text_names_counters_with_their_suffix() {
    let metrics = Metrics::new(1);
    metrics.reload(Reload::Ok);

    let text = metrics.expose(Exposition::Prometheus).unwrap();

    assert!(text.contains("# TYPE sluicegate_config_reloads_total counter\n"));
    assert!(text.contains("# TYPE sluicegate_build_info gauge\n"));
    assert!(text.contains("sluicegate_config_reloads_total{result=\"ok\"} 1\n"));
    assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
}

#[test]
fn counts_survive_a_reload_and_end_with_the_last_holder() {
    let metrics = Metrics::new(1);
    let name = PoolName::new("superset");
    let old = metrics.pool(&name);
    old.retry(RetryCause::Race);

    let new = metrics.pool(&name);
    drop(old);
    new.retry(RetryCause::Race);
    assert!(
        metrics.expose(Exposition::OpenMetrics).unwrap().contains(r#"retries_total{pool="superset",cause="race"} 2"#)
    );

    drop(new);
    assert!(!metrics.expose(Exposition::OpenMetrics).unwrap().contains("superset"));
}

#[test]
fn endpoints_that_left_the_roster_leave_the_exposition() {
    let metrics = Metrics::new(1);
    let pool = metrics.pool(&PoolName::new("superset"));
    let (stays, leaves) = (EndpointName::new("a:1"), EndpointName::new("b:1"));
    pool.endpoint(&stays).probe(ProbeResult::Good);
    pool.endpoint(&leaves).probe(ProbeResult::Good);

    pool.keep_only([&stays]);

    let text = metrics.expose(Exposition::OpenMetrics).unwrap();
    assert!(text.contains(r#"probes_total{pool="superset",endpoint="a:1",result="good"} 1"#));
    assert!(!text.contains("b:1"));
}

#[test]
fn names_from_the_configuration_are_escaped_in_labels() {
    let metrics = Metrics::new(1);
    let _route = metrics.route(&RouteName::new("a\"b\\c\nd"));

    let text = metrics.expose(Exposition::OpenMetrics).unwrap();

    assert!(text.contains(r#"route="a\"b\\c\nd""#));
}

#[test]
fn faults_of_all_workers_are_summed_by_code() {
    let metrics = Metrics::new(2);
    let listener = metrics.listener(&ListenerName::new("main"));
    for worker in 0..2 {
        let listener = Arc::clone(&listener);
        std::thread::spawn(move || {
            set_worker(worker);
            listener.fault("no_route");
            listener.fault("first_byte");
            listener.fault("no_route");
        })
        .join()
        .unwrap();
    }

    let text = metrics.expose(Exposition::OpenMetrics).unwrap();
    assert!(text.contains(r#"faults_total{listener="main",code="no_route"} 4"#));
    assert!(text.contains(r#"faults_total{listener="main",code="first_byte"} 2"#));
}

#[test]
fn figures_of_the_process_have_the_names_that_everybody_knows() {
    let text = Metrics::new(1).expose(Exposition::Prometheus).unwrap();

    for name in ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} is not in\n{text}");
    }
    assert!(!text.contains("sluicegate_process"));
}

#[test]
fn sampled_traces_are_exemplars_where_the_format_has_them() {
    let metrics = Metrics::new(1);
    let pool = metrics.pool(&PoolName::new("superset"));
    pool.exchange(&record(Some(200)));

    let sample = r#"sluicegate_exchange_duration_seconds_bucket{le="0.05",pool="superset",stage="total"} 1"#;
    let open = metrics.expose(Exposition::OpenMetrics).unwrap();
    let found: Vec<&str> = open.lines().filter(|line| line.contains("trace_id")).collect();
    let [line] = found.as_slice() else { panic!("{found:?}") };
    assert!(
        line.starts_with(&format!("{sample} # {{trace_id=\"0af7651916cd43dd8448eb211c80319c\"}} 0.03 1795383493."))
    );
    let older = metrics.expose(Exposition::Prometheus).unwrap();
    assert!(older.lines().any(|line| line == sample) && !older.contains("trace_id"));
}

#[test]
fn values_are_those_of_the_text() {
    let metrics = Metrics::new(1);
    let pool = metrics.pool(&PoolName::new("superset"));
    pool.exchange(&record(Some(200)));

    let values = metrics.values();

    assert_eq!(values.len(), FAMILIES.len());
    let of = |name: &str| values.iter().find(|values| values.family.full_name() == name).unwrap();
    let exchanges = of("sluicegate_pool_exchanges_total");
    let ok = exchanges.points.iter().find(|point| point.labels == ["superset", "2xx"]).unwrap();
    assert!(matches!(ok.value, Value::Whole(1)));
    let total =
        of("sluicegate_exchange_duration_seconds").points.iter().find(|point| point.labels[1] == "total").unwrap();
    let Value::Histogram { sum, bounds, counts, exemplars } = &total.value else { panic!() };
    assert!((sum - 0.03).abs() < 1e-9 && bounds.len() + 1 == counts.len() && counts.iter().sum::<u64>() == 1);
    assert_eq!(exemplars.len(), 1);
}

#[test]
fn sink_that_ends_is_not_shown_in_place_of_the_one_that_follows_it() {
    let metrics = LogMetrics::default();
    let waiting = |queue| Waiting { queue, ..Waiting::default() };
    let before = metrics.begin(1_000);
    metrics.show(before, waiting(7));
    metrics.fail_spool("full");
    assert!(metrics.waiting() == waiting(7) && metrics.spool_fails());

    let after = metrics.begin(0);
    metrics.show(before, waiting(8));
    metrics.fail_spool("full");

    assert!(metrics.waiting() == Waiting::default() && !metrics.spool_fails());
    metrics.show(after, waiting(9));
    assert_eq!(metrics.waiting(), waiting(9));
}
