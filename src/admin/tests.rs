//! The admin listener's answers.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::body::{Body, Frame};
use crate::config::listener::{ClientClocks, Http2, Listener, RequestLimits};
use crate::config::objectives::Objectives;
use crate::head::Fields;
use crate::lexicon::{ConnectionId, EndpointName, ListenerName, PoolName, Protocol};
use crate::message::{Connection, Interim, Refusal};
use crate::telemetry::access_log::Consumer as _;
use crate::telemetry::metrics::{Gauges, Standing, State};
use crate::telemetry::{samples, slo};

#[derive(Debug)]
pub(super) struct Process {
    pub(super) status: Status,
    pub(super) phase: Phase,
    pub(super) metrics: Metrics,
    recorder: Recorder,
    redactor: Arc<Redactor>,
}

impl Source for Process {
    fn status(&self) -> Status {
        self.status.clone()
    }

    fn bans(&self) -> Vec<status::Ban> {
        Vec::new()
    }

    fn phase(&self) -> Phase {
        self.phase
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn redactor(&self) -> Arc<Redactor> {
        Arc::clone(&self.redactor)
    }
}

impl Operations for Process {
    fn drain(&self, target: Target, _: Option<Duration>, _: bool) -> Result<(), Wrong> {
        Err(Wrong::Conflict(format!("asked to drain {target}")))
    }

    fn undrain(&self, _: Target) -> Result<(), Wrong> {
        Ok(())
    }

    fn ban(&self, subject: Subject, scope: Scope, lasting: Duration, reason: Cow<'static, str>) -> Result<(), Wrong> {
        Err(Wrong::Conflict(format!("{subject} {} {lasting:?} {reason}", scope.as_str())))
    }

    fn unban(&self, subject: &Subject, _: Scope) -> Result<(), Wrong> {
        Err(Wrong::Unknown(format!("{subject} is not banned")))
    }
}

impl Gauges for Process {
    fn state(&self) -> State {
        self.status.gauges()
    }
}

pub(super) fn process() -> Process {
    Process {
        status: status(),
        phase: Phase::Running,
        metrics: Metrics::new(1),
        recorder: Recorder::new(crate::config::Recorder::default(), Arc::default()),
        redactor: Arc::default(),
    }
}

pub(super) fn status() -> Status {
    let now = UNIX_EPOCH + Duration::from_secs(1_795_383_493);
    Status {
        version: "0.1.0",
        generation: 3,
        loaded_at: Some(now),
        config_file: Path::new("/etc/sluicegate.toml").display().to_string(),
        phase: Phase::Running,
        uptime_seconds: 61,
        workers: 2,
        load: vec![status::Load { busy_seconds: 1.5, connections: 3, tasks: 7 }],
        connections_max: 20_000,
        reloads: status::Reloads { ok: 3, failed: 1 },
        temp_bytes: 0,
        buffered_bytes: 0,
        limits: Vec::new(),
        bans: 0,
        shield: status::Shield::default(),
        fleet: None,
        generations: Vec::new(),
        sinks: Vec::new(),
        exports: Vec::new(),
        listeners: vec![status::Listener {
            name: ListenerName::new("https"),
            addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8443))],
            tls: true,
            connections: 5,
            speaking: [(Protocol::Http1, 1), (Protocol::Http2, 2), (Protocol::Http3, 2)],
            quic_steering: Some("kernel"),
            certificates: vec![status::Certificate::new(
                "/etc/tls/bi.pem".to_owned(),
                now + Duration::from_secs(86_400 * 30 + 5),
                now,
            )],
        }],
        pools: vec![status::Pool {
            name: PoolName::new("superset"),
            strategy: "round_robin",
            discovery: None,
            queue_length: 2,
            queue: vec![status::Lane { lane: "main", waiting: 2, ended: [("served", 5)].into() }],
            panicking: false,
            slo: slo::Meter::default().report(0, &Objectives::default()),
            retries: status::Retries::default(),
            shares: vec![status::Share { priority: 0, zone: "near", percent: 100 }],
            endpoints: vec![status::Endpoint {
                name: EndpointName::new("replica-1:8088"),
                addresses: Vec::new(),
                standing: Standing::Down,
                reason: "3 checks without an answer".to_owned(),
                since: Some(now),
                disabled: false,
                bench: "ejected",
                bench_reason: "5 gateway errors in a row".to_owned(),
                warmth: 100,
                idle_time_ms: None,
                idle_closes: 0,
                drained: false,
                in_flight: 4,
                pending: 1,
                retries: 0,
                limits_reached: status::LimitsReached::default(),
                tunnels: 1,
                weight: 1,
                priority: 0,
                zone: Some("a".to_owned()),
                counts: Metrics::new(1)
                    .pool(&PoolName::new("superset"))
                    .endpoint(&EndpointName::new("replica-1:8088"))
                    .counts(),
            }],
        }],
        drains: Vec::new(),
    }
}

fn admin(change: impl FnOnce(&mut Process)) -> Admin {
    let mut process = process();
    change(&mut process);
    let process = Arc::new(process);
    let hosts = vec!["sluicegate.internal".to_owned()];
    Admin::new(Arc::clone(&process) as _, process, Access { hosts, token: None, guard_reads: false, max_streams: 32 })
}

fn connection() -> Arc<Connection> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9901));
    let second = Duration::from_secs(1);
    let listener = Listener {
        http3: None,
        name: ListenerName::new("admin"),
        addresses: vec![address],
        tls: None,
        proxy_protocol: Vec::new(),
        max_connections: 10,
        max_connections_per_client: 10,
        max_tunnels_per_client: 0,
        max_streams_per_client: 1_000,
        max_resets_per_client: 1_000,
        redirect_to_https: None,
        hsts: None,
        limits: RequestLimits { head_bytes: 8_192, uri_bytes: 1_024, fields: 50, trailer_bytes: 0 },
        clocks: ClientClocks {
            head: second,
            body_idle: second,
            write_idle: second,
            keep_alive: second,
            min_body_rate: 240,
            min_response_rate: 240,
        },
        http2: Http2 {
            enabled: false,
            cleartext: false,
            max_streams: 1,
            stream_window: 65_535,
            connection_window: 65_535,
            send_buffer: 1_024,
            max_pending_resets: 1,
            max_error_resets: 1,
            max_frame: 16_384,
        },
        max_connection_age: second,
    };
    Arc::new(Connection {
        id: ConnectionId::next(),
        listener: Arc::new(listener),
        peer: address,
        local: address,
        proxied: None,
        protocol: Protocol::Http1,
        tls: None,
        alternative: None,
    })
}

struct Got {
    status: u16,
    fields: Fields,
    body: String,
}

async fn ask(admin: &Admin, method: &str, path: &str, fields: &[(&str, &str)]) -> Got {
    let mut builder = http::Request::builder().method(method).uri(path);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    let head = request::Parts::from(builder.body(()).unwrap());
    let request =
        Request { head, body: Body::empty(), connection: connection(), interim: Interim::default(), upgrade: None };
    let mut answer = admin.handle(request).await;
    let mut body = Vec::new();
    while let Some(frame) = answer.body.frame().await {
        if let Frame::Data(content) = frame.unwrap() {
            body.extend_from_slice(&content);
        }
    }
    Got { status: answer.head.status.as_u16(), fields: answer.head.headers, body: String::from_utf8(body).unwrap() }
}

async fn get(admin: &Admin, path: &str) -> Got {
    ask(admin, "GET", path, &[("host", "127.0.0.1:9901")]).await
}

#[tokio::test]
async fn live_in_every_phase() {
    for phase in [Phase::Running, Phase::Unready, Phase::Draining, Phase::Ending] {
        assert_eq!(get(&admin(|process| process.phase = phase), "/live").await.status, 200);
    }
}

#[tokio::test]
async fn ready_only_while_running_with_a_generation_and_a_listener() {
    let ready = admin(|_| {});
    assert_eq!(get(&ready, "/ready").await.status, 200);

    for (unready, reason) in [
        (admin(|process| process.phase = Phase::Unready), "unready"),
        (admin(|process| process.phase = Phase::Draining), "draining"),
        (admin(|process| process.status.generation = 0), "no configuration"),
        (admin(|process| process.status.listeners.clear()), "no listener"),
        (admin(|process| process.status.listeners[0].addresses.clear()), "no listener"),
    ] {
        let got = get(&unready, "/ready").await;
        assert_eq!(got.status, 503);
        assert!(got.body.contains(reason), "{}", got.body);
    }
}

#[tokio::test]
async fn status_is_json_with_endpoints_and_reasons() {
    let got = get(&admin(|_| {}), "/status").await;

    assert_eq!(got.fields["content-type"], "application/json");
    let status: serde_json::Value = serde_json::from_str(&got.body).unwrap();
    assert_eq!(status["generation"], 3);
    assert_eq!(status["phase"], "running");
    assert_eq!(status["loaded_at"], "2026-11-22T21:38:13Z");
    assert_eq!(status["listeners"][0]["speaking"]["h3"], 2);
    assert_eq!(status["listeners"][0]["certificates"][0]["days_left"], 30);
    assert_eq!(status["listeners"][0]["addresses"][0], "127.0.0.1:8443");
    let endpoint = &status["pools"][0]["endpoints"][0];
    assert_eq!(endpoint["standing"], "down");
    assert_eq!(endpoint["reason"], "3 checks without an answer");
    assert_eq!(endpoint["zone"], "a");
    assert_eq!(endpoint["counts"]["exchanges"], 0);
}

#[tokio::test]
async fn follower_that_does_not_read_misses_what_its_queue_does_not_take() {
    let settings = crate::config::Recorder { queue: 16, ..crate::config::Recorder::default() };
    let admin = admin(|process| process.recorder = Recorder::new(settings, Arc::default()));
    let head = request::Parts::from(http::Request::get("/records").body(()).unwrap());
    let request =
        Request { head, body: Body::empty(), connection: connection(), interim: Interim::default(), upgrade: None };

    let _unread = admin.handle(request).await;
    for _ in 0..20 {
        admin.source.recorder().take(&Arc::new(samples::exchange()));
    }

    assert_eq!(admin.source.metrics().recorder().missed.get(), 4);
}

#[tokio::test]
async fn document_has_every_place_with_its_method_and_no_other() {
    let document: serde_json::Value = serde_json::from_str(&get(&admin(|_| {}), "/openapi.json").await.body).unwrap();

    let described: Vec<(&str, Vec<&str>)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, methods)| (path.as_str(), methods.as_object().unwrap().keys().map(String::as_str).collect()))
        .collect();
    let method = |act: &Act| if matches!(act, Act::Look(_)) { "get" } else { "post" };
    let mut there: Vec<(&str, Vec<&str>)> = PLACES.iter().map(|(path, act)| (*path, vec![method(act)])).collect();
    there.sort_unstable();
    assert_eq!(described, there);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let status = serde_json::to_value(status()).unwrap();
    for field in status.as_object().unwrap().keys() {
        let schema = &document["components"]["schemas"]["Status"]["properties"][field];
        assert!(schema.is_object(), "{field} of /status is not described");
    }
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let admin = admin(|_| {});

    let plain = get(&admin, "/metrics").await;
    assert!(plain.fields["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));

    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    let open = ask(&admin, "GET", "/metrics", &[("accept", accept)]).await;
    assert!(open.fields["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(open.body.ends_with("# EOF\n"));

    let refused = ask(&admin, "GET", "/metrics", &[("accept", "application/openmetrics-text;q=0")]).await;
    assert!(refused.fields["content-type"].to_str().unwrap().starts_with("text/plain"));
}

#[tokio::test]
async fn gauges_agree_with_status() {
    let process: Arc<Process> = Arc::new(process());
    let gauges: Arc<dyn Gauges> = Arc::clone(&process) as Arc<dyn Gauges>;
    process.metrics.read_gauges_from(&gauges);

    let got = get(&Admin::new(Arc::clone(&process) as _, process, Access::default()), "/metrics").await;

    for line in [
        "sluicegate_config_generation 3",
        r#"sluicegate_connections_open{listener="https"} 5"#,
        r#"sluicegate_queue_length{pool="superset"} 2"#,
        r#"sluicegate_endpoint_standing{pool="superset",endpoint="replica-1:8088",standing="down"} 1"#,
    ] {
        assert!(got.body.lines().any(|found| found == line), "{line} is not in\n{}", got.body);
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let admin = admin(|_| {});

    assert_eq!(get(&admin, "/nothing").await.status, 404);
    assert_eq!(get(&admin, "/live/").await.status, 404);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let got = ask(&admin, method, "/status", &[]).await;
        assert_eq!(got.status, 405);
        assert_eq!(got.fields["allow"], "GET, HEAD");
    }
    assert_eq!(ask(&admin, "POST", "/nothing", &[]).await.status, 404);
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_no_body() {
    let admin = admin(|_| {});
    let got = get(&admin, "/status").await;

    let head = ask(&admin, "HEAD", "/status", &[]).await;

    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.fields["content-length"].to_str().unwrap(), got.body.len().to_string());
    assert_eq!(head.fields["content-type"], got.fields["content-type"]);
}

#[tokio::test]
async fn foreign_host_names_are_misdirected() {
    let admin = admin(|_| {});
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:9901", 200),
        ("127.0.0.1:9901", 200),
        ("[::1]:9901", 200),
        ("10.1.2.3:9901", 200),
        ("sluicegate.internal:9901", 200),
        ("evil.example", 421),
        ("localhost.evil.example:9901", 421),
        ("127.0.0.1.evil.example", 421),
        ("[::1", 421),
        ("", 421),
    ] {
        assert_eq!(ask(&admin, "GET", "/status", &[("host", host)]).await.status, status, "{host}");
    }
    assert_eq!(ask(&admin, "GET", "/status", &[]).await.status, 200);
    let absolute = ask(&admin, "GET", "http://evil.example/status", &[("host", "127.0.0.1")]).await;
    assert_eq!(absolute.status, 421);
}

#[test]
fn refused_bytes_get_their_status_and_the_connection_ends() {
    let admin = admin(|_| {});
    for (refusal, status) in [
        (Refusal::MalformedHead("x"), 400),
        (Refusal::HeadTooLarge("x"), 431),
        (Refusal::UriTooLong, 414),
        (Refusal::UnknownVersion, 505),
    ] {
        let answer = admin.refuse(Refused { refusal, connection: connection(), head: None });
        assert_eq!(answer.head.status.as_u16(), status);
        assert!(answer.close);
    }
}

#[test]
fn expired_certificate_has_negative_days() {
    let now = SystemTime::now();
    let expired = status::Certificate::new(String::new(), now - Duration::from_secs(60), now);
    let last_day = status::Certificate::new(String::new(), now + Duration::from_secs(60), now);

    assert_eq!((expired.days_left, last_day.days_left), (-1, 0));
}
