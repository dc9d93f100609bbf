//! A load balancer of Pingora's parts, with what the other peers of `benches/compare` have: keep-alive to the origin, active
//! health checks, the forwarded family, a request id both ways, a JSON line for each request (buffered), a limit on
//! requests by address, metrics (counted; this version of it has nothing that serves them). Bodies stream.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use pingora::lb::LoadBalancer;
use pingora::lb::health_check::HttpHealthCheck;
use pingora::lb::selection::RoundRobin;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use pingora_limits::rate::Rate;
use prometheus::{Histogram, IntCounterVec, register_histogram, register_int_counter_vec};

/// Requests of one address in a second.
const MOST: isize = 900_000;

struct Balancer {
    origin: Arc<LoadBalancer<RoundRobin>>,
    /// By the first segment of a path.
    routes: HashMap<String, Arc<LoadBalancer<RoundRobin>>>,
    echo: String,
    rate: Rate,
    log: Arc<Mutex<BufWriter<File>>>,
    ids: (u64, AtomicU64),
    requests: IntCounterVec,
    seconds: Histogram,
}

struct Exchange {
    since: Instant,
    id: String,
    client: Option<IpAddr>,
    endpoint: String,
    first_byte: Option<Duration>,
}

#[derive(serde::Serialize)]
struct Line<'a> {
    time: f64,
    request_id: &'a str,
    client: Option<IpAddr>,
    protocol: &'a str,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    status: u16,
    bytes_in: usize,
    bytes_out: usize,
    first_byte_ms: Option<u128>,
    total_ms: u128,
    endpoint: &'a str,
    user_agent: &'a str,
    referer: &'a str,
    error: Option<String>,
}

fn field<'a>(head: &'a RequestHeader, name: &str) -> &'a str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[async_trait]
impl ProxyHttp for Balancer {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        let number = self.ids.1.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}{number:016x}", self.ids.0);
        Exchange { since: Instant::now(), id, client: None, endpoint: String::new(), first_byte: None }
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        exchange.client = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
        if self.rate.observe(&exchange.client, 1) > MOST {
            session.respond_error(429).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        let path = session.req_header().uri.path();
        if path == "/ws" {
            exchange.endpoint.clone_from(&self.echo);
            return Ok(Box::new(HttpPeer::new(&self.echo, false, String::new())));
        }
        let route = path.split('/').nth(1).and_then(|segment| self.routes.get(segment));
        let endpoint =
            route.unwrap_or(&self.origin).select(b"", 256).ok_or_else(|| Error::new(ErrorType::ConnectNoRoute))?;
        exchange.endpoint = endpoint.addr.to_string();
        let mut peer = Box::new(HttpPeer::new(endpoint, false, String::new()));
        peer.options.idle_timeout = Some(Duration::from_secs(60));
        Ok(peer)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let client = exchange.client.map(|client| client.to_string()).unwrap_or_default();
        let server =
            session.server_addr().and_then(|address| address.as_inet()).map(|address| address.port().to_string());
        let tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let host = field(session.req_header(), "host").to_owned();
        let host =
            if host.is_empty() { session.req_header().uri.authority().map(ToString::to_string) } else { Some(host) };
        let host = host.unwrap_or_default();
        request.insert_header("Host", &host)?;
        request.insert_header("X-Forwarded-For", &client)?;
        request.insert_header("X-Real-IP", &client)?;
        request.insert_header("X-Forwarded-Proto", if tls { "https" } else { "http" })?;
        request.insert_header("X-Forwarded-Host", &host)?;
        request.insert_header("X-Forwarded-Port", server.unwrap_or_default())?;
        request.insert_header("X-Request-Id", &exchange.id)
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.first_byte = Some(exchange.since.elapsed());
        response.insert_header("X-Request-Id", &exchange.id)
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        let head = session.req_header();
        let status = session.response_written().map_or(0, |head| head.status.as_u16());
        let spent = exchange.since.elapsed();
        self.requests.with_label_values(&[&status.to_string()]).inc();
        self.seconds.observe(spent.as_secs_f64());
        let mut line = serde_json::to_vec(&Line {
            time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            request_id: &exchange.id,
            client: exchange.client,
            protocol: if session.is_http2() { "HTTP/2" } else { "HTTP/1.1" },
            method: head.method.as_str(),
            host: field(head, "host"),
            path: head.uri.path_and_query().map_or("", |path| path.as_str()),
            status,
            bytes_in: session.body_bytes_read(),
            bytes_out: session.body_bytes_sent(),
            first_byte_ms: exchange.first_byte.map(|first| first.as_millis()),
            total_ms: spent.as_millis(),
            endpoint: &exchange.endpoint,
            user_agent: field(head, "user-agent"),
            referer: field(head, "referer"),
            error: error.map(ToString::to_string),
        })
        .unwrap_or_default();
        line.push(b'\n');
        let _written = self.log.lock().expect("no writer panics").write_all(&line);
    }
}

fn main() {
    let path = std::env::args().nth(1).expect("a configuration, or -V");
    if path == "-V" {
        println!("pingora {}", env!("CARGO_PKG_VERSION"));
        return;
    }
    let text = std::fs::read_to_string(path).expect("a configuration");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let words: HashMap<&str, &str> = lines.filter_map(|line| line.split_once(' ')).collect();
    let word = |key: &str| *words.get(key).unwrap_or_else(|| panic!("no {key}"));

    let mut server = Server::new_with_opt_and_conf(
        None,
        ServerConf {
            threads: word("workers").parse().expect("a number of workers"),
            upstream_keepalive_pool_size: 2048,
            ..ServerConf::default()
        },
    );
    server.bootstrap();

    let mut origin = LoadBalancer::try_from_iter(word("endpoints").split_whitespace()).expect("endpoints");
    let mut health = HttpHealthCheck::new("localhost", false);
    health.req.set_uri("/health".parse().expect("a path"));
    origin.set_health_check(Box::new(health));
    origin.health_check_frequency = Some(Duration::from_secs(5));
    let checks = background_service("health", origin);

    let log = File::options().append(true).create(true).open(word("log")).expect("the log");
    let log = Arc::new(Mutex::new(BufWriter::with_capacity(64 * 1024, log)));
    let flushed = Arc::clone(&log);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let _flushed = flushed.lock().expect("no writer panics").flush();
        }
    });
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let routes = words.get("routes").copied().unwrap_or_default().split_whitespace();
    let balancer = Balancer {
        origin: checks.task(),
        routes: routes.map(|route| (route.trim_matches('/').to_owned(), checks.task())).collect(),
        echo: word("echo").to_owned(),
        rate: Rate::new(Duration::from_secs(1)),
        log,
        ids: (since.as_nanos() as u64, AtomicU64::new(0)),
        requests: register_int_counter_vec!("requests", "by status", &["status"]).expect("a metric"),
        seconds: register_histogram!("seconds", "of an exchange").expect("a metric"),
    };

    let mut proxy = http_proxy_service(&server.configuration, balancer);
    proxy.add_tcp(word("plain"));
    let mut tls = TlsSettings::intermediate(word("certificate"), word("key")).expect("a certificate");
    tls.enable_h2();
    proxy.add_tls_with_settings(word("tls"), None, tls);
    server.add_service(checks);
    server.add_service(proxy);
    server.run_forever();
}
