//! What files mean: defaults, short forms, added routes.

use std::time::Duration;

use super::*;
use crate::config::listener::TlsVersion;
use crate::config::objectives::Objectives;
use crate::config::pool::{Check, HttpCheck, SlowStart, Strategy, WhenAllDown};
use crate::config::route::Action;
use crate::config::sink::{Destination, LogFormat};

const SECOND: Duration = Duration::from_secs(1);
const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;

fn shipped(name: &str) -> Loaded {
    let file = repository("config").join(name);
    Config::load(&file).unwrap_or_else(|findings| panic!("{}", findings.render(false)))
}

fn route<'a>(loaded: &'a Loaded, name: &str) -> &'a Route {
    loaded.config.routes.iter().find(|route| route.name.as_str() == name).unwrap_or_else(|| panic!("no route {name}"))
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.config.routes.iter().map(|route| route.name.as_str()).collect()
}

#[test]
fn every_shipped_file_is_without_findings() {
    for entry in std::fs::read_dir(repository("config")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".toml") {
            let warnings = shipped(&name).warnings.to_string();
            // In a pod, probes and scrapes come from outside of it; a network policy stands around.
            let of_pods = matches!(name.as_str(), "kubernetes.toml" | "sidecar.toml")
                && warnings.lines().count() == 1
                && warnings.contains("`admin.address` shows everything");
            assert!(warnings.is_empty() || of_pods, "{name}: {warnings}");
        }
    }
}

#[test]
fn the_process_has_its_documented_defaults() {
    let Config { process, clients, admin, access_log, fault_pages, recorder, .. } = with("").config;

    assert_eq!(process.workers, std::thread::available_parallelism().unwrap());
    assert_eq!((process.max_connections, process.fleet_secret), (20_000, None));
    assert_eq!((process.unready_for, process.drain_timeout), (Duration::ZERO, 30 * SECOND));
    assert_eq!((process.temp_dir, process.temp_bytes), (std::env::temp_dir(), 4096 * MIB));
    assert_eq!((process.buffer_memory, process.file_threads), (256 * MIB, 4));
    assert_eq!((process.log.as_str(), process.log_json, process.watch_files), ("info", false, true));
    assert_eq!((process.log_queue, recorder.queue), (4_096, 1_024));
    assert_eq!((clients.trusted_proxies.len(), clients.forwarded), (0, false));
    assert!(clients.strip.iter().any(|name| name == "x-proxy-remote-user"));
    assert!(
        ["token", "code", "state", "password"].iter().all(|key| clients.secret_query_keys.iter().any(|k| k == key))
    );
    assert_eq!((clients.ipv6_prefix, clients.max_tracked), (64, 100_000));
    let admin = admin.unwrap();
    assert_eq!(
        (admin.address.to_string().as_str(), admin.max_connections, admin.max_streams),
        ("127.0.0.1:9901", 64, 32)
    );
    let [sink] = &access_log.sinks[..] else { panic!("{:?}", access_log.sinks) };
    assert_eq!((&sink.to, &sink.format, sink.name.as_str()), (&Destination::Stdout, &LogFormat::Json, "local"));
    assert_eq!((sink.redact_emails, sink.anonymise, sink.queue, access_log.queue), (true, None, 8_192, 8_192));
    assert_eq!((fault_pages.html, fault_pages.json), (None, None));
}

#[test]
fn a_listener_has_its_documented_defaults() {
    let loaded = shipped("minimal.toml");
    let listener = loaded.config.listeners[0].as_ref();

    assert_eq!(listener.name.as_str(), "0.0.0.0:443");
    assert_eq!((listener.max_connections, listener.max_connections_per_client), (10_000, 1_000));
    assert_eq!((listener.max_tunnels_per_client, listener.proxy_protocol.len()), (200, 0));
    assert!(listener.redirect_to_https.is_none() && listener.hsts.is_none());
    assert_eq!((listener.limits.head_bytes, listener.limits.uri_bytes), (64 * KIB, 32 * KIB));
    assert_eq!((listener.limits.fields, listener.limits.trailer_bytes), (100, 8 * KIB));
    assert_eq!((listener.clocks.head, listener.clocks.body_idle), (10 * SECOND, 30 * SECOND));
    assert_eq!((listener.clocks.write_idle, listener.clocks.keep_alive), (60 * SECOND, 75 * SECOND));
    assert_eq!((listener.clocks.min_body_rate, listener.max_connection_age), (240, 3_600 * SECOND));
    assert_eq!((listener.http2.enabled, listener.http2.cleartext, listener.http2.max_streams), (true, false, 128));
    assert_eq!((listener.http2.stream_window, listener.http2.connection_window), (256 << 10, 1 << 20));
    assert_eq!((listener.http2.send_buffer, listener.http2.max_frame), (64 * KIB, 16 << 10));
    assert_eq!((listener.http2.max_pending_resets, listener.http2.max_error_resets), (20, 256));
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].key, Path::new("/etc/sluicegate/tls/privkey.pem"));
    assert_eq!((tls.min_version, tls.max_handshakes), (TlsVersion::V1_2, 1_000));
    assert_eq!((tls.handshake_timeout, tls.client_certificates.is_none()), (10 * SECOND, true));
}

#[test]
fn switches_have_their_documented_settings() {
    let tls = "certificate = 'a'\nkey = 'b'\nhsts = true\ntls.client_certificates = { authorities = 'c' }";
    let loaded = parse(&format!(
        "[[listeners]]\naddress = '127.0.0.1:80'\nredirect_to_https = true\n[[listeners]]\naddress = '[::1]:443'\n{tls}\n\
         [pools.a]\nendpoints = ['a:1']\ntls = true\nhealth.deep = true\n"
    ));
    let config = loaded.unwrap().config;
    let (redirect, hsts) = (config.listeners[0].redirect_to_https.clone().unwrap(), config.listeners[1].hsts.clone());
    let (tls, pool) = (config.listeners[1].tls.clone().unwrap(), config.pools[0].as_ref().clone());

    assert_eq!((redirect.port, redirect.except), (443, vec!["/health".to_owned()]));
    assert_eq!(hsts.map(|hsts| (hsts.max_age, hsts.include_subdomains)), Some((31_536_000 * SECOND, false)));
    assert!(tls.client_certificates.unwrap().required);
    let upstream = pool.tls.unwrap();
    assert!(upstream.verify && upstream.server_name.is_none() && upstream.authorities.is_none());
    let deep = pool.health.unwrap().deep.unwrap();
    assert_eq!((deep.path.as_str(), deep.body), ("/api/v1/me/", None));
    assert_eq!(deep.statuses, [200, 401].map(|code| http::StatusCode::from_u16(code).unwrap()));
}

#[test]
fn a_pool_has_its_documented_defaults() {
    let pool = with("").config.pools[0].as_ref().clone();
    let endpoint = &pool.endpoints[0];

    assert_eq!((endpoint.name.as_str(), endpoint.host.as_str(), endpoint.port), ("a:8088", "a", 8088));
    assert_eq!((endpoint.weight, endpoint.zone.is_none(), endpoint.disabled), (1, true, false));
    assert_eq!((pool.strategy, pool.when_all_down), (Strategy::RoundRobin, WhenAllDown::Reject));
    assert_eq!((pool.max_in_flight, pool.max_tunnels, pool.max_idle), (20, 2_000, 8));
    assert_eq!((pool.queue.length, pool.queue.timeout), (128, 10 * SECOND));
    assert_eq!((pool.queue.per_client, pool.queue.express_length), (64, 32));
    assert!(pool.queue.is_express("/login/") && pool.queue.is_express("/health") && !pool.queue.is_express("/loginx"));
    assert_eq!((pool.max_pending, pool.max_retries, pool.spill_below), (10, 10, 50));
    assert_eq!(pool.slow_start, Some(SlowStart { window: 30 * SECOND, from: 10 }));
    assert_eq!((pool.zones.prefer, pool.zones.fill, endpoint.near, endpoint.priority), (true, 75, false, 0));
    let outliers = pool.outliers.as_ref().unwrap();
    assert_eq!((outliers.gateway_errors, outliers.connect_failures, outliers.timeouts), (5, 3, 3));
    assert_eq!((outliers.error_points, outliers.min_requests, outliers.max_ejected), (30, 5, 50));
    assert_eq!((outliers.window, outliers.time, outliers.max_time), (10 * SECOND, 10 * SECOND, 300 * SECOND));
    assert_eq!((pool.clocks.connect, pool.clocks.write_idle), (2 * SECOND, 60 * SECOND));
    assert_eq!((pool.clocks.idle, pool.tls.is_none()), (Duration::from_millis(1_500), true));
    assert_eq!((pool.retry.attempts, pool.retry.budget_percent), (1, 10));
    assert_eq!((pool.retry.per_try, pool.retry.back_off), (None, Duration::from_millis(25)));
    assert_eq!((pool.panic_threshold, pool.head_bytes), (50, 64 * KIB));
    assert_eq!(pool.objectives, Objectives::default());
    assert_eq!(
        (pool.objectives.availability.to_string(), pool.objectives.latency_threshold),
        ("99.9%".into(), 10 * SECOND)
    );
}

#[test]
fn checks_have_their_documented_defaults() {
    let health = with("").config.pools[0].health.clone().unwrap();
    let Check::Http(HttpCheck { method, path, host, statuses, body, headers }) = health.check else { panic!() };

    assert_eq!((method, path.as_str(), host), (http::Method::GET, "/health", None));
    assert_eq!((statuses.as_slice(), body.as_deref()), (&[http::StatusCode::OK][..], Some("OK")));
    assert!(headers.is_empty() && health.deep.is_none() && !health.initially_up);
    assert_eq!((health.interval, health.fast_interval, health.jitter_percent), (5 * SECOND, SECOND, 20));
    assert_eq!((health.late_after, health.timeout), (2 * SECOND, 5 * SECOND));
    assert_eq!((health.rise, health.fall), (2, 3));
}

#[test]
fn ok_is_expected_of_supersets_own_paths_only() {
    let body = |line: &str| match with(line).config.pools[0].health.clone().unwrap().check {
        Check::Http(check) => check.body,
        Check::Tcp | Check::WebSocket { .. } => panic!(),
    };

    assert_eq!(body("health.path = '/ping'").as_deref(), Some("OK"));
    assert_eq!(body("health.path = '/login/'"), None);
    assert_eq!(body("health.body = ''"), None);
    assert_eq!(body("health = { path = '/x', body = 'fine' }").as_deref(), Some("fine"));
}

#[test]
fn a_route_has_its_documented_defaults() {
    let loaded = with("");
    let route = route(&loaded, "/");

    assert!(matches!(&route.action, Action::Forward(pool) if pool.as_str() == "superset"));
    assert_eq!((route.hosts.len(), route.path.as_str(), route.exact), (0, "/", false));
    assert_eq!((route.max_body, route.strip_prefix.is_none()), (16 * MIB, true));
    let buffer = route.request_buffer.as_ref().unwrap();
    assert_eq!((buffer.memory, buffer.max), (64 * KIB, 200 * MIB));
    assert_eq!((route.clocks.first_byte, route.clocks.between_bytes), (300 * SECOND, 120 * SECOND));
    assert_eq!(route.clocks.exchange, None);
    let websocket = route.websocket.as_ref().unwrap();
    assert_eq!((websocket.idle, websocket.max_frame, websocket.origins.len()), (90 * SECOND, 16 * MIB, 0));
    assert_eq!(websocket.on_silent_close, http::StatusCode::UNAUTHORIZED);
    assert_eq!(route.read_only_posts, ["/api/v1/chart/data", "/datasource/samples", "/superset/explore_json"]);
}

#[test]
fn uploads_have_room_and_the_version_is_hidden() {
    let loaded = with("");

    let version = &route(&loaded, "/version").action;
    assert!(matches!(version, Action::Answer { status, .. } if *status == http::StatusCode::NOT_FOUND));
    assert_eq!(route(&loaded, "/api/v1/database").max_body, 200 * MIB);
    assert_eq!(route(&loaded, "/api/v1/dashboard/import").max_body, 200 * MIB);
    assert_eq!(loaded.config.routes.len(), 9);
}

#[test]
fn a_written_route_counts_more_than_an_added_one() {
    let routes = "[[routes]]\npool = 'superset'\n[[routes]]\npath = '/version'\npool = 'superset'\n\
                  [[routes]]\npath = '/api/v1/database'\npool = 'superset'\nmax_body = '1GiB'\nrequest_buffer = false\n\
                  [[routes]]\npath = '/api/v1/chart'\npool = 'superset'\ntimeouts.first_byte = '600s'\n";
    let loaded = with(routes);

    assert!(matches!(route(&loaded, "/version").action, Action::Forward(_)));
    assert_eq!(route(&loaded, "/api/v1/database").max_body, 1024 * MIB);
    // Copied from the route that serves the path, not from the root.
    assert_eq!(route(&loaded, "/api/v1/chart/import").clocks.first_byte, 600 * SECOND);
    assert_eq!(route(&loaded, "/api/v1/chart").max_body, 16 * MIB);
}

#[test]
fn a_written_limit_counts_for_uploads_too() {
    let loaded = with("[[routes]]\npool = 'superset'\nmax_body = '1MiB'\n");

    assert_eq!(names(&loaded), ["/", "/version"]);
}

#[test]
fn added_routes_stand_below_the_application_root() {
    let loaded =
        with("[[routes]]\nhost = 'BI.example.com'\npath = '/bi/'\npool = 'superset'\n[[routes]]\nredirect = '/bi/'\n");

    let upload = route(&loaded, "bi.example.com/bi/api/v1/database");
    assert_eq!(
        (upload.hosts.as_slice(), upload.path.as_str()),
        (&["bi.example.com".to_owned()][..], "/bi/api/v1/database")
    );
    assert_eq!(route(&loaded, "bi.example.com/bi").read_only_posts[0], "/bi/api/v1/chart/data");
    assert_eq!(upload.read_only_posts[0], "/bi/api/v1/chart/data");
    assert!(!names(&loaded).contains(&"/version"));
}

#[test]
fn hosts_with_routes_of_their_own_have_added_routes_of_their_own() {
    let loaded = with(
        "[[routes]]\nhost = ['a', 'b', 'c']\npool = 'superset'\n\
         [[routes]]\nhost = 'a'\npath = '/api/v1'\npool = 'superset'\ntimeouts.first_byte = '600s'\n",
    );

    assert_eq!(route(&loaded, "a/api/v1/database").clocks.first_byte, 600 * SECOND);
    assert_eq!(route(&loaded, "b,c/api/v1/database").clocks.first_byte, 300 * SECOND);
    assert_eq!(route(&loaded, "b,c/version").hosts, ["b", "c"]);
    assert_eq!(loaded.config.routes.len(), 2 + 2 * 8);
}

#[test]
fn endpoints_are_texts_or_tables() {
    let text = "[[listeners]]\naddress = '127.0.0.1:80'\n[pools.a]\nendpoints = ['[::1]:1', { address = 'b.internal:2', \
                weight = 256, zone = 'z', disabled = true }]\n";
    let endpoints = parse(text).unwrap().config.pools[0].endpoints.clone();

    assert_eq!((endpoints[0].name.as_str(), endpoints[0].host.as_str(), endpoints[0].port), ("[::1]:1", "::1", 1));
    assert_eq!((endpoints[1].host.as_str(), endpoints[1].weight, endpoints[1].disabled), ("b.internal", 256, true));
    assert_eq!(endpoints[1].zone.as_ref().map(|zone| zone.as_str()), Some("z"));
}

#[test]
fn files_belong_to_the_directory_of_the_configuration() {
    let text = "[process]\nfleet_secret = { file = 'secret' }\n[access_log]\npath = 'log/access.log'\n\
                [fault_pages]\nhtml = '/pages/fault.html'\n";
    let loaded = with(text);

    let file = loaded.config.access_log.sinks[0].to.file().unwrap();
    assert_eq!((file.path.as_path(), file.rotate_size), (Path::new("/etc/sluicegate/log/access.log"), 100 * MIB));
    // What the proxy writes is not watched.
    let watched = ["/etc/sluicegate/superset.toml", "/etc/sluicegate/secret", "/pages/fault.html"];
    assert_eq!(loaded.files, watched.map(PathBuf::from));
}

#[test]
fn files_of_a_spool_are_an_eighth_of_it_at_most() {
    let segment = |keys: &str| {
        let sink = "[[access_log.sinks]]\nname = 's'\nhttp = { to = { url = 'http://a' } }\n";
        let loaded = with(&format!("health = false\n{sink}spool = {{ dir = '/s'{keys} }}\n"));
        loaded.config.access_log.sinks[0].spool.as_ref().unwrap().segment
    };

    assert_eq!((segment(""), segment(", segment = '64MiB'")), (8 * MIB, 64 * MIB));
    assert_eq!((segment(", size = '16MiB'"), segment(", size = '16MiB', segment = '1MiB'")), (2 * MIB, MIB));
}

#[test]
fn listeners_on_any_free_port_have_names_of_their_own() {
    let listener = "[[listeners]]\naddress = '127.0.0.1:0'\n";
    let loaded = parse(&format!("{listener}{listener}[pools.a]\nendpoints = ['a:1']\n")).unwrap();

    let names: Vec<&str> = loaded.config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1:0", "127.0.0.1:0#2"]);
}

#[test]
fn sections_can_be_switched_off() {
    let loaded = with(
        "health = false\n[admin]\nenabled = false\n[access_log]\ntarget = 'off'\n\
         [[routes]]\npool = 'superset'\nwebsocket = false\nrequest_buffer = false\n",
    );

    assert!(loaded.config.admin.is_none() && loaded.config.pools[0].health.is_none());
    assert!(loaded.config.access_log.sinks.is_empty());
    assert!(route(&loaded, "/").websocket.is_none() && route(&loaded, "/").request_buffer.is_none());
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_file() {
    let text = format!("\u{feff}{PREAMBLE}");

    assert!(Config::parse_bytes(text.as_bytes(), Path::new("x")).is_ok());
}

#[test]
fn application_begins_at_the_outermost_route_to_it() {
    let roots = |routes: &[(&str, &str)]| -> Vec<String> {
        let written = routes.iter().map(|(path, pool)| format!("[[routes]]\npath = \"{path}\"\npool = \"{pool}\"\n"));
        let loaded = with(&format!("[pools.ws]\nendpoints = [\"a:8080\"]\n{}", written.collect::<String>()));
        loaded.config.routes.iter().take(routes.len()).map(|route| route.root.clone()).collect()
    };

    assert_eq!(roots(&[("/", "superset"), ("/ws", "ws"), ("/superset/sqllab", "superset")]), ["", "", ""]);
    assert_eq!(roots(&[("/analytics", "superset"), ("/analytics/ws", "ws")]), ["/analytics", "/analytics"]);
    assert_eq!(roots(&[("/analytics/", "superset"), ("/analytics/login", "superset")]), ["/analytics", "/analytics"]);
    assert_eq!(
        roots(&[("/", "ws"), ("/analytics", "superset"), ("/analytics/ws", "ws")]),
        ["", "/analytics", "/analytics"]
    );
    assert_eq!(roots(&[("/api", "superset"), ("/static", "superset")]), ["", ""], "services of Superset's");
}

#[test]
fn application_of_a_host_begins_where_it_does_for_wider_hosts() {
    let roots = |routes: &[(&str, &str, &str)]| -> Vec<String> {
        let written = routes.iter().map(|(host, path, pool)| {
            let host = if host.is_empty() { String::new() } else { format!("host = \"{host}\"\n") };
            format!("[[routes]]\n{host}path = \"{path}\"\npool = \"{pool}\"\n")
        });
        let loaded = with(&format!("[pools.ws]\nendpoints = [\"a:8080\"]\n{}", written.collect::<String>()));
        loaded.config.routes.iter().take(routes.len()).map(|route| route.root.clone()).collect()
    };

    let narrow = [("", "/", "superset"), ("bi.example.com", "/superset/sqllab", "superset")];
    assert_eq!(roots(&narrow), ["", ""]);
    let wild = [("*.example.com", "/bi", "superset"), ("a.example.com", "/bi/superset/sqllab", "superset")];
    assert_eq!(roots(&wild), ["/bi", "/bi"]);
    let other = [("", "/", "superset"), ("bi.example.org", "/analytics", "ws"), ("", "/analytics/x", "superset")];
    assert_eq!(roots(&other), ["", "/analytics", ""], "what is a host's own is nothing to the others");
    let hidden = [("", "/x", "superset"), ("bi", "/", "superset"), ("bi", "/x/y", "superset")];
    assert_eq!(roots(&hidden), ["/x", "", ""], "its own route gets what is below `/x`");
    let unlike = [("*.example.com", "/bi", "superset"), ("example.com", "/bi/x", "superset")];
    assert_eq!(roots(&unlike), ["/bi", "/bi/x"]);
}

#[test]
fn a_hosts_own_route_is_completed_as_the_application_around_it_wants() {
    let loaded = with(
        "[[routes]]\npool = 'superset'\n[[routes]]\nhost = 'bi'\npath = '/api/v1'\npool = 'superset'\n\
         [[routes]]\nhost = 'bi'\npath = '/superset'\npool = 'superset'\n",
    );

    let own = route(&loaded, "bi/api/v1");
    assert_eq!((own.read_only_posts[0].as_str(), own.retry.assets[0].as_str()), ("/api/v1/chart/data", "/static"));
    assert_eq!(route(&loaded, "bi/api/v1/database").max_body, 200 * MIB);
    // The route for every host answers it.
    assert!(!names(&loaded).contains(&"bi/version"));
    assert_eq!(loaded.config.routes.len(), 3 + 8 + 7);
}

#[test]
fn path_below_the_root_is_what_the_application_knows() {
    let loaded = with("[[routes]]\npath = \"/analytics\"\npool = \"superset\"");
    let below = |path| route(&loaded, "/analytics").below(path);

    assert_eq!((below("/analytics/static/a.js"), below("/analytics")), ("/static/a.js", ""));
    assert_eq!((below("/analyticsx/a"), below("*")), ("/analyticsx/a", "*"));
}
