//! What the pure parts of an exchange cost, one by one: pick, route, rewrite, heads, record, limits, address lists.
//!
//! `cargo bench --bench micro`. Two sizes of each table show that the cost does not grow with it.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot go on panics")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderName, Method, Uri};
use ipnet::IpNet;
use sluicegate::balance::{Ask, ClaimKind, Pick, Roster, Rule};
use sluicegate::config::Config;
use sluicegate::config::sink::LogFormat;
use sluicegate::h1::encode::{Delimiting, Persistence, request_head, response_head};
use sluicegate::h1::head::{parse_request, parse_response};
use sluicegate::h1::{HeadLimits, HeadScan};
use sluicegate::head::{Fields, HeaderValue};
use sluicegate::headers::{self, Forwarding, HopFields, Trace};
use sluicegate::lexicon::{ConnectionId, EndpointName, Generation, ListenerName, PoolName, Protocol, RouteName};
use sluicegate::limit::{Key, Rate};
use sluicegate::route::Table;
use sluicegate::telemetry::format::Encoder;
use sluicegate::telemetry::record::{Attempts, End, Kind, Record, Stages};
use sluicegate::telemetry::redact::Redactor;
use sluicegate::waf::Networks;

/// A chart request of Superset's front end, as Chromium writes it.
const REQUEST: &str = "POST /api/v1/chart/data?form_data=%7B%22slice_id%22%3A64%7D HTTP/1.1\r\n\
    Host: bi.example.com\r\n\
    Connection: keep-alive\r\n\
    Content-Length: 2314\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    X-CSRFToken: IjQ5YmZhNTk2NDAyZTJjMDcwMzE4ZTQzNDA0ZDJkMWNiYjMzMDc1MmYi.ZzB6Yg.Kq3sYcJ4m\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
    Accept: application/json\r\n\
    Content-Type: application/json\r\n\
    Origin: https://bi.example.com\r\n\
    Referer: https://bi.example.com/superset/dashboard/3/?native_filters_key=abc\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session=.eJwlzjkOwjAQAMC_uKbYw2s7-Qzay4Q2IRXi70Ri5gPvsq8jzqfYXscZt2L78rIVJ0dwnSl1QJVJg3nCkC\r\n\
    \r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    Server: gunicorn\r\n\
    Date: Sun, 22 Nov 2026 21:38:13 GMT\r\n\
    Connection: keep-alive\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 1024\r\n\
    Vary: Accept-Encoding, Cookie\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: SAMEORIGIN\r\n\
    Referrer-Policy: strict-origin-when-cross-origin\r\n\
    Set-Cookie: session=.eJwlzjkOwjAQAMC_uKbYw2s7-Qzay4Q2IRXi70Ri5gPvsq8j; Secure; HttpOnly; Path=/; SameSite=Lax\r\n\
    \r\n";

const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, target: 16 * 1024, fields: 128 };

fn resolve(text: &str) -> Config {
    match Config::parse(text, Path::new("bench.toml")) {
        Ok(loaded) => loaded.config,
        Err(findings) => panic!("{}", findings.render(false)),
    }
}

fn pool(endpoints: usize, strategy: &str) -> Config {
    let mut text =
        format!("listeners = [{{ address = \"127.0.0.1:8080\" }}]\n[pools.superset]\nstrategy = \"{strategy}\"\n");
    text.push_str("endpoints = [");
    for index in 0..endpoints {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "\"10.0.{}.{}:8088\",", index / 250, index % 250 + 1);
    }
    text.push_str("]\nhealth = { initially_up = true }\n");
    resolve(&text)
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for strategy in ["round-robin", "least-connection"] {
        for endpoints in [3, 1000] {
            let config = pool(endpoints, strategy);
            let pool = config.pool(&PoolName::new("superset")).expect("the pool is in the text");
            let roster = Roster::new(&pool.endpoints);
            let rule = Rule::new(pool, ClaimKind::Exchange);
            group.bench_function(BenchmarkId::new(strategy, endpoints), |bencher| {
                bencher.iter(|| match roster.pick(black_box(&rule), &Ask::default()) {
                    Pick::Claimed(claim) => drop(black_box(claim)),
                    other => panic!("{other:?}"),
                });
            });
        }
    }
    group.finish();
}

fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for routes in [10, 1000] {
        let mut text = String::from(
            "[[listeners]]\naddress = \"127.0.0.1:8080\"\n[pools.superset]\nendpoints = [\"10.0.0.1:8088\"]\n",
        );
        for index in 0..routes {
            let _infallible = write!(
                text,
                "[[routes]]\nhost = \"bi{}.example.com\"\npath = \"/api/v1/part{index}\"\npool = \"superset\"\n",
                index % 10
            );
        }
        let config = resolve(&text);
        let table = Table::new(config.routes.iter().map(|route| (Arc::clone(route), ())));
        let path = format!("/api/v1/part{}/data", routes - 1);
        group.bench_function(BenchmarkId::new("found", routes), |bencher| {
            bencher.iter(|| table.find(black_box("bi9.example.com"), black_box(&path)).expect("the route is there"));
        });
        group.bench_function(BenchmarkId::new("no host", routes), |bencher| {
            bencher.iter(|| table.find(black_box("other.example.org"), black_box(&path)));
        });
    }
    group.finish();
}

/// The pure steps of the pipeline's rewrite of a request, in its order.
fn rewrite(criterion: &mut Criterion) {
    let config =
        resolve("[[listeners]]\naddress = \"127.0.0.1:8080\"\n[pools.superset]\nendpoints = [\"10.0.0.1:8088\"]\n");
    let parsed = parse_request(&Bytes::from_static(REQUEST.as_bytes()), &LIMITS).expect("the request is well formed");
    criterion.bench_function("rewrite/request", |bencher| {
        bencher.iter_batched_ref(
            || parsed.parts.clone(),
            |head| {
                let host = headers::host(head).expect("the host is well formed");
                let hop = HopFields::of(&head.headers).expect("Connection is well formed");
                let facts = Forwarding {
                    client: &headers::address_value([203, 0, 113, 9].into()),
                    scheme: "https",
                    host: Some(host.as_value()),
                    port: &headers::port_value(host.port_or_default("https")),
                    prefix: None,
                    forwarded: None,
                };
                headers::set_forwarded(&mut head.headers, &config.clients.strip, |name| hop.has(name), facts);
                let (id, trace) = headers::request_id(7, Trace::begin(7, 9, 0));
                head.headers.insert(HeaderName::from_static("x-request-id"), id);
                head.headers.insert(HeaderName::from_static("traceparent"), trace);
            },
            BatchSize::SmallInput,
        );
    });
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("h1");
    let request = Bytes::from_static(REQUEST.as_bytes());
    let response = Bytes::from_static(RESPONSE.as_bytes());
    group.bench_function("parse request head", |bencher| {
        bencher.iter(|| {
            HeadScan::default().find_end(black_box(&request)).expect("no bare line feed");
            parse_request(&request, &LIMITS).expect("the request is well formed")
        });
    });
    group.bench_function("parse response head", |bencher| {
        bencher.iter(|| {
            HeadScan::default().find_end(black_box(&response)).expect("no bare line feed");
            parse_response(&response, &Method::GET).expect("the response is well formed")
        });
    });
    let request = parse_request(&request, &LIMITS).expect("the request is well formed").parts;
    let response = parse_response(&response, &Method::GET).expect("the response is well formed").parts;
    let mut out = BytesMut::with_capacity(8192);
    group.bench_function("encode request head", |bencher| {
        bencher.iter(|| {
            out.clear();
            request_head(&mut out, black_box(&request), Delimiting::Length(2314), Persistence::Default);
        });
    });
    group.bench_function("encode response head", |bencher| {
        bencher.iter(|| {
            out.clear();
            response_head(&mut out, black_box(&response), Delimiting::Length(1024), Persistence::Default);
        });
    });
    group.finish();
}

fn sample(fields: &Fields) -> Record {
    Record {
        id: sluicegate::telemetry::RecordId::default(),
        kind: Kind::Exchange,
        at: SystemTime::now(),
        request_id: headers::request_id(7, Trace::begin(7, 9, 0)).0,
        traceparent: Some(Trace::begin(7, 9, 0).to_value()),
        client: ([203, 0, 113, 9], 50123).into(),
        connection: ConnectionId::next(),
        listener: ListenerName::new("https"),
        protocol: Protocol::Http2,
        tls: Some("TLSv1.3"),
        ja4: None,
        method: Method::POST,
        host: Some(HeaderValue::from_static("bi.example.com")),
        target: Uri::from_static("/api/v1/chart/data?form_data=%7B%22slice_id%22%3A64%7D&token=secret"),
        status: Some(200),
        bytes_in: 2314,
        bytes_out: 1024,
        stages: Stages {
            first_byte: Duration::from_micros(81_002),
            total: Duration::from_micros(83_450),
            ..Stages::default()
        },
        route: Some(RouteName::new("/")),
        pool: Some(PoolName::new("superset")),
        endpoint: Some(EndpointName::new("10.0.0.2:8088")),
        attempts: Attempts::default(),
        gave_up: None,
        parent: None,
        traced: None,
        end: End::COMPLETE,
        fault: None,
        clock: None,
        generation: Generation(1),
        limits: Vec::new(),
        verdicts: Vec::new(),
        ban: None,
        user_agent: fields.get(http::header::USER_AGENT).cloned(),
        referer: fields.get(http::header::REFERER).cloned(),
        messages: None,
    }
}

fn record(criterion: &mut Criterion) {
    let parsed = parse_request(&Bytes::from_static(REQUEST.as_bytes()), &LIMITS).expect("the request is well formed");
    let record = sample(&parsed.parts.headers);
    let mut group = criterion.benchmark_group("record");
    for (name, format) in [("json", LogFormat::Json), ("combined", LogFormat::Combined), ("otel", LogFormat::Otel)] {
        let mut encoder = Encoder::new(format, Redactor::new(&["token".to_owned(), "code".to_owned()]));
        let mut out = Vec::with_capacity(4096);
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| {
                out.clear();
                encoder.encode(black_box(&record), &mut out);
            });
        });
    }
    group.finish();
}

/// What a limit costs, and what a million keys take.
fn limit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limit");
    for keys in [1_000_u64, 1_000_000] {
        let before = resident();
        let count = NonZeroU32::new(10).expect("ten");
        let rate = Rate::new(count, Duration::from_secs(60), count, usize::try_from(keys).expect("a million fits"));
        let key = |at: u64| Key(at.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for at in 0..keys {
            rate.check(key(at), 1);
        }
        let (bytes, kept) = (rate.table().bytes(), rate.table().occupied(1));
        let grown = resident().saturating_sub(before);
        assert!(bytes <= 64 << 20, "a million keys take more than 64 MiB");
        eprintln!("{keys} keys: a table of {bytes} bytes, {grown} KiB resident, {kept} kept apart");
        let (mut at, mut now) = (0, 1);
        group.bench_function(BenchmarkId::new("check", keys), |bencher| {
            bencher.iter(|| {
                (at, now) = ((at + 7_919) % keys, now + 100);
                rate.check(black_box(key(at)), now)
            });
        });
    }
    group.finish();
}

/// What a list of addresses costs a request, and what it takes.
fn lists(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("address list");
    for entries in [100_u32, 100_000] {
        // Spread over all addresses, every other one of a pair, so that nothing merges.
        let at = |entry: u32| Ipv4Addr::from_bits(entry.wrapping_mul(0x9E37_79B1) | 1);
        let before = resident();
        let list = Networks::new((0..entries).map(|entry| IpNet::from(IpAddr::V4(at(entry)))));
        let grown = resident().saturating_sub(before);
        eprintln!("{entries} entries: {} ranges, {grown} KiB resident", list.len());
        for (name, bit) in [("found", 0), ("not found", 1)] {
            let mut entry = 0;
            group.bench_function(BenchmarkId::new(name, entries), |bencher| {
                bencher.iter(|| {
                    entry = (entry + 7_919) % entries;
                    list.contains(black_box(IpAddr::V4(Ipv4Addr::from_bits(at(entry).to_bits() ^ bit))))
                });
            });
        }
    }
    group.finish();
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

criterion_group!(micro, pick, route, rewrite, heads, record, limit, lists);
criterion_main!(micro);
