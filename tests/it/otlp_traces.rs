//! Exchanges as spans: which, with what below them, and what Superset is told of them.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;

use crate::rig::collector::{CLIENT, Collector, Notes, SERVER, attribute, hex};
use crate::rig::peer::Request;
use crate::rig::{Rig, Setup, Upstream, soon};

/// A table of traces to `url`, sent soon, with further keys.
fn traces(url: &str, keys: &str) -> String {
    let linger = if keys.contains("batch") { "" } else { "batch = { linger = \"20ms\" }\n" };
    format!("[otlp.traces]\nto = {{ url = \"{url}\" }}\n{linger}{keys}\n")
}

fn to(collector: &Collector, keys: &str) -> String {
    traces(&format!("http://{}", collector.address), keys)
}

fn with_traces(upstream: &Upstream, keys: &str) -> Setup {
    Rig::setup().endpoint(upstream).rest(keys)
}

/// Trace, span and flags that an endpoint was told.
fn told(request: &Request) -> (String, String, String) {
    let text = request.head.get("traceparent").unwrap();
    let parts: Vec<&str> = text.split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

async fn ask(rig: &Rig, path: &str, fields: &str) {
    let mut client = rig.client().await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: bi.example.com:8443\r\n{fields}\r\n")).await;
    client.response().await;
}

fn of(span: &Span, key: &str) -> String {
    attribute(&span.attributes, key)
}

#[tokio::test]
async fn exchange_is_a_span_with_one_below_for_each_attempt_of_which_the_endpoint_knows() {
    for (protocol, collector) in [("http", Collector::http().await), ("grpc", Collector::grpc().await)] {
        let (dead, upstream) = (Upstream::nobody().await, Upstream::named("a").await);
        let keys = to(&collector, &format!("sample = \"100%\"\nprotocol = \"{protocol}\""));
        let rig = Rig::setup().endpoint_at(dead, 1).endpoint(&upstream).rest(&keys).start().await;

        for number in 0..4 {
            ask(&rig, &format!("/{number}?x=1"), "").await;
        }

        let exchanges = collector.notes.exchanges(4).await;
        let requests = upstream.received(4).await;
        let paths: BTreeSet<String> = exchanges.iter().map(|(exchange, _)| of(exchange, "url.path")).collect();
        assert!(paths.iter().eq(["/0", "/1", "/2", "/3"]), "{paths:?}");
        let mut repeated = 0;
        for (exchange, attempts) in &exchanges {
            let target = format!("{}?x=1", of(exchange, "url.path"));
            let request = requests.iter().find(|request| request.target() == target).unwrap();
            assert_eq!(exchange.name, "GET /", "{exchange:?}");
            assert!(exchange.parent_span_id.is_empty() && exchange.status.is_none(), "{exchange:?}");
            assert_eq!(
                (of(exchange, "url.query"), of(exchange, "http.response.status_code")),
                ("x=1".into(), "200".into())
            );
            assert_eq!(
                (of(exchange, "server.address"), of(exchange, "server.port")),
                ("bi.example.com".into(), "8443".into())
            );
            assert_eq!(
                (of(exchange, "http.request.method"), of(exchange, "url.scheme")),
                ("GET".into(), "http".into())
            );
            assert_eq!(
                (of(exchange, "client.address"), of(exchange, "network.protocol.version")),
                ("127.0.0.1".into(), "1.1".into())
            );
            let last = attempts.last().unwrap();
            assert_eq!(told(request), (hex(&exchange.trace_id), hex(&last.span_id), "01".into()));
            assert_eq!((last.kind, of(last, "http.response.status_code")), (CLIENT, "200".into()));
            assert_eq!(of(last, "server.port"), upstream.address.port().to_string());
            let within = |span: &Span| {
                exchange.start_time_unix_nano <= span.start_time_unix_nano
                    && span.start_time_unix_nano <= span.end_time_unix_nano
                    && span.end_time_unix_nano <= exchange.end_time_unix_nano
            };
            assert!(attempts.iter().all(within), "{exchange:?} {attempts:?}");
            if let [first, second] = &attempts[..] {
                repeated += 1;
                assert_eq!(
                    (of(first, "error.type"), of(second, "http.request.resend_count")),
                    ("connect".into(), "1".into())
                );
                assert_eq!(first.status.as_ref().unwrap().code, 2, "{first:?}");
                assert_eq!(of(first, "server.port"), dead.port().to_string());
                assert_ne!(first.span_id, second.span_id);
            }
        }
        assert!(repeated > 0, "{exchanges:?}");
        let resource = collector.notes.got().resource;
        assert_eq!(attribute(&resource, "service.name"), "sluicegate");
        assert_eq!(attribute(&resource, "service.version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(attribute(&resource, "service.instance.id").len(), 36);
        assert_eq!(collector.notes.got().wrong, Vec::<String>::new());
        // Counted once the collector has said so.
        let all = 4 + 4 + repeated;
        rig.status_where("the answer", |status| status["exports"][0]["sent"] == all).await;
        assert_eq!(rig.metric("sluicegate_otlp_exported_total{signal=\"traces\"}").await, f64::from(all));
    }
}

#[tokio::test]
async fn trace_of_a_trusted_proxy_is_followed_whatever_the_share() {
    let parent = |flags: &str| format!("Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}\r\n");
    let trusted = "trusted_proxies = [\"127.0.0.1/32\"]";

    let (collector, upstream) = (Collector::http().await, Upstream::named("a").await);
    let rig = with_traces(&upstream, &to(&collector, "sample = \"0%\"")).clients(trusted).start().await;
    ask(&rig, "/begun", "").await;
    ask(&rig, "/sampled", &format!("{}Tracestate: vendor=x\r\nTracestate: other=y\r\n", parent("01"))).await;
    let exchanges = collector.notes.exchanges(1).await;
    let [(exchange, attempts)] = &exchanges[..] else { panic!("{exchanges:?}") };
    assert_eq!(
        (of(exchange, "url.path"), hex(&exchange.parent_span_id)),
        ("/sampled".into(), "00f067aa0ba902b7".into())
    );
    assert_eq!(hex(&exchange.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!([exchange, &attempts[0]].iter().all(|span| span.trace_state == "vendor=x,other=y"), "{exchanges:?}");
    // Sampled, and the parent is known to be of another process.
    assert_eq!(exchange.flags, 0x301);
    let seen: Vec<_> = upstream.received(2).await.iter().map(told).collect();
    assert_eq!(seen[0].2, "00");
    assert_eq!(seen[1], ("4bf92f3577b34da6a3ce929d0e0e4736".into(), hex(&attempts[0].span_id), "01".into()));

    let (collector, upstream) = (Collector::http().await, Upstream::named("a").await);
    let rig = with_traces(&upstream, &to(&collector, "sample = \"100%\"")).clients(trusted).start().await;
    ask(&rig, "/unsampled", &parent("00")).await;
    ask(&rig, "/begun", "").await;
    let exchanges = collector.notes.exchanges(1).await;
    let [(exchange, _)] = &exchanges[..] else { panic!("{exchanges:?}") };
    assert_eq!(of(exchange, "url.path"), "/begun");
    let seen: Vec<_> = upstream.received(2).await.iter().map(told).collect();
    assert_eq!((seen[0].0.as_str(), seen[0].2.as_str()), ("4bf92f3577b34da6a3ce929d0e0e4736", "00"));
    assert_eq!(seen[1].2, "01");
}

#[tokio::test]
async fn trace_of_a_stranger_is_not_followed() {
    let (collector, upstream) = (Collector::http().await, Upstream::named("a").await);
    let keys = to(&collector, "sample = \"0%\"");
    let mut rig = with_traces(&upstream, &keys).start().await;

    ask(&rig, "/x", "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n").await;
    rig.event("configuration warning").await;
    rig.signal("TERM").await;
    rig.ended().await;

    let (trace, _, flags) = told(&upstream.received(1).await[0]);
    assert!(trace != "4bf92f3577b34da6a3ce929d0e0e4736" && flags == "00", "{trace} {flags}");
    assert!(collector.notes.got().bodies.is_empty());
}

#[tokio::test]
async fn attempt_tells_what_its_endpoint_was_asked_for_where_the_route_takes_a_prefix_away() {
    let (collector, upstream) = (Collector::http().await, Upstream::named("a").await);
    let route = "[[routes]]\npath = \"/bi\"\nstrip_prefix = \"/bi\"\npool = \"app\"\n";
    let keys = format!("{route}{}", to(&collector, "sample = \"100%\""));
    let rig = with_traces(&upstream, &keys).start().await;

    ask(&rig, "/bi/chart?token=SECRET&x=1", "").await;

    let exchanges = collector.notes.exchanges(1).await;
    let [(exchange, attempts)] = &exchanges[..] else { panic!("{exchanges:?}") };
    assert_eq!(upstream.received(1).await[0].target(), "/chart?token=SECRET&x=1");
    assert_eq!(of(&attempts[0], "url.full"), format!("http://{}/chart?token=***&x=1", upstream.address));
    assert_eq!((of(exchange, "url.path"), of(exchange, "url.full")), ("/bi/chart".into(), String::new()));
}

#[tokio::test]
async fn share_of_the_traces_is_sampled_and_superset_is_told_the_same() {
    let (collector, upstream) = (Collector::http().await, Upstream::named("a").await);
    let mut rig = with_traces(&upstream, &to(&collector, "sample = \"30%\"")).start().await;
    let mut client = rig.client().await;
    for _ in 0..200 {
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.response().await;
    }
    drop(client);
    rig.signal("TERM").await;
    rig.ended().await;

    let seen: Vec<_> = upstream.received(200).await.iter().map(told).collect();
    let sampled: BTreeSet<String> =
        seen.iter().filter(|(.., flags)| flags == "01").map(|told| told.0.clone()).collect();
    let spans = collector.notes.got().spans;
    let exported: BTreeSet<String> = spans.iter().map(|span| hex(&span.trace_id)).collect();
    assert_eq!(exported, sampled);
    // Nine standard deviations about 60.
    assert!((10..120).contains(&sampled.len()), "{}", sampled.len());
}

#[tokio::test]
async fn spans_wait_for_a_collector_that_is_away_up_to_a_bound() {
    let (address, upstream) = (Upstream::nobody().await, Upstream::named("a").await);
    let keys = "sample = \"100%\"\nqueue = 16\nbatch = { linger = \"20ms\", bytes = \"4KiB\" }";
    let rig = with_traces(&upstream, &traces(&format!("http://{address}"), keys)).start().await;
    let export = |status: &serde_json::Value| status["exports"][0].clone();

    for _ in 0..4 {
        for number in 0..50 {
            ask(&rig, &format!("/{number}"), "").await;
        }
    }
    let dropped = |status: &serde_json::Value| export(status)["dropped"]["sink_full"].as_u64();
    let status = rig.status_where("drops", |status| dropped(status).is_some()).await;
    assert_eq!(
        (&export(&status)["signal"], &export(&status)["state"]),
        (&"traces".into(), &"failing".into()),
        "{status}"
    );
    let event = rig.event("export failing").await;
    assert_eq!(crate::rig::field(&event, "signal"), "traces");
    rig.event("spans lost").await;
    let collector = Collector::at(&address.to_string(), false).await;
    let done = |status: &serde_json::Value| {
        let (sent, dropped) = (export(status)["sent"].as_u64().unwrap(), dropped(status).unwrap());
        sent + dropped == 400 && export(status)["queue"] == 0
    };
    let status = rig.status_long("all spans sent or dropped", done).await;

    assert_eq!(export(&status)["state"], "working", "{status}");
    assert_eq!(collector.notes.got().spans.len() as u64, export(&status)["sent"].as_u64().unwrap());
    assert!(collector.notes.got().spans.len() > 32, "{status}");
    rig.event("export recovered").await;
    let sample = "sluicegate_otlp_dropped_total{signal=\"traces\",cause=\"sink_full\"}";
    assert_eq!(rig.metric(sample).await, dropped(&status).unwrap() as f64);
    assert!(rig.metric("sluicegate_otlp_export_errors_total{signal=\"traces\"}").await >= 1.0);
}

#[tokio::test]
async fn process_that_ends_sends_the_spans_that_wait() {
    let (collector, upstream) = (Collector::grpc().await, Upstream::named("a").await);
    let keys = to(&collector, "sample = \"100%\"\nprotocol = \"grpc\"\nbatch = { linger = \"1m\" }");
    let mut rig = with_traces(&upstream, &keys).start().await;
    for _ in 0..5 {
        ask(&rig, "/x", "").await;
    }
    assert!(collector.notes.got().spans.is_empty());

    rig.signal("TERM").await;
    rig.ended().await;

    assert_eq!(collector.notes.got().spans.iter().filter(|span| span.kind == SERVER).count(), 5);
}

#[tokio::test]
async fn reload_begins_and_ends_the_export() {
    let (collector, upstream) = (Collector::http().await, Upstream::named("a").await);
    // One reload for each signal, and none for the file.
    let rig = with_traces(&upstream, "").process("watch_files = false").start().await;
    let plain = rig.config();
    ask(&rig, "/before", "").await;

    rig.write_config(&format!("{plain}{}", to(&collector, "sample = \"100%\"")));
    rig.signal("HUP").await;
    rig.status_where("the first reload", |status| status["generation"] == 2).await;
    ask(&rig, "/traced", "").await;
    let exchanges = collector.notes.exchanges(1).await;
    rig.write_config(&plain);
    rig.signal("HUP").await;
    let status = rig.status_where("the second reload", |status| status["generation"] == 3).await;
    ask(&rig, "/after", "").await;

    assert_eq!((exchanges.len(), of(&exchanges[0].0, "url.path")), (1, "/traced".into()));
    assert_eq!(status["exports"], serde_json::json!([]));
    let flags: Vec<String> = upstream.received(3).await.iter().map(|request| told(request).2).collect();
    assert_eq!(flags, ["00", "01", "00"]);
}

#[tokio::test]
async fn spans_go_over_tls_with_a_certificate_and_a_secret_from_a_file() {
    let upstream = Upstream::named("a").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let tls = "authorities = \"DIR/ca.pem\", certificate = \"DIR/leaf.pem\", key = \"DIR/leaf.key\"";
    let keys = format!(
        "[otlp.traces]\nprotocol = \"grpc\"\nsample = \"100%\"\nbatch = {{ linger = \"20ms\" }}\n[otlp.traces.to]\n\
         url = \"{url}\"\ntls = {{ {tls} }}\nauthorization = {{ file = \"DIR/token\" }}\n"
    );
    let rig = with_traces(&upstream, &keys).file("token", "Bearer s3cr3t-token\n").start().await;
    let notes = Notes::new();

    ask(&rig, "/x", "").await;
    let serving = notes.secure(listener, rig.pki.server_that_asks()).await;

    assert_eq!(notes.exchanges(1).await.len(), 1);
    assert_eq!(notes.got().authorization.as_deref(), Some("Bearer s3cr3t-token"));
    assert!(!rig.status().await.to_string().contains("s3cr3t"));
    serving.abort();

    std::fs::remove_file(rig.directory.path().join("token")).unwrap();
    rig.signal("HUP").await;
    let event = rig.event("configuration not loaded, the old generation stays").await;
    let error = crate::rig::field(&event, "error").as_str().unwrap().to_owned();
    assert!(error.contains("otlp.traces") && error.contains("authorization"), "{error}");
}

#[tokio::test]
async fn no_secret_is_in_a_span() {
    let (collector, upstream) = (Collector::http().await, Upstream::named("a").await);
    let keys = to(&collector, "sample = \"100%\"\nanonymise = { ipv4_prefix = 8 }");
    let rig = with_traces(&upstream, &keys).start().await;

    let fields = "Cookie: session=SECRET3\r\nAuthorization: Bearer SECRET4\r\n\
                  Referer: https://user:SECRET5@a/z?access_token=SECRET6\r\n";
    ask(&rig, "/login?token=SECRET1&x=1&next=%2Fy%3Fcode%3DSECRET2&mail=SECRET7%40example.com", fields).await;

    let exchanges = collector.notes.exchanges(1).await;
    let [(exchange, _)] = &exchanges[..] else { panic!("{exchanges:?}") };
    assert_eq!(of(exchange, "client.address"), "127.0.0.0");
    assert!(of(exchange, "url.query").contains("token=***&x=1"), "{exchange:?}");
    for body in collector.notes.got().bodies {
        assert!(!body.windows(6).any(|window| window == b"SECRET"), "{}", String::from_utf8_lossy(&body));
    }
    soon("the record", rig.records.find(|record| record["method"] == "GET")).await;
}

#[tokio::test]
async fn error_of_an_endpoint_is_an_error_of_both_spans_and_a_refusal_is_none() {
    let collector = Collector::http().await;
    let upstream = Upstream::answering(|request| {
        let status = if request.target() == "/bad" { "503 Bad" } else { "404 None" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let rig = with_traces(&upstream, &to(&collector, "sample = \"100%\"")).start().await;

    ask(&rig, "/bad", "").await;
    ask(&rig, "/none", "").await;

    let code = |span: &Span| span.status.as_ref().map(|status| status.code);
    let exchanges = collector.notes.exchanges(2).await;
    // Each worker hands its own over: they may come in any order.
    let on = |path: &str| exchanges.iter().find(|(exchange, _)| of(exchange, "url.path") == path).unwrap();
    let (bad, none) = (on("/bad"), on("/none"));
    assert_eq!((code(&bad.0), of(&bad.0, "error.type")), (Some(2), "503".into()));
    assert_eq!((code(&bad.1[0]), of(&bad.1[0], "error.type")), (Some(2), "503".into()));
    assert_eq!((code(&none.0), of(&none.0, "error.type")), (None, String::new()));
    // To the conventions a client's 4xx is an error: we are the client there.
    assert_eq!((code(&none.1[0]), of(&none.1[0], "error.type")), (Some(2), "404".into()));
}
