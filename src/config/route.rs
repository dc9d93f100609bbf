//! `[[routes]]`: which requests go where, under which limits.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::head::HeaderValue;
use crate::lexicon::{LimitName, PoolName, RouteName};

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Unique name; the record's and metrics' word for it. Default: host and path as written.
    pub name: RouteName,
    /// Hosts it serves: exact, or `*.example.com` (one or more labels). Without port, lower case. Empty: any.
    pub hosts: Vec<String>,
    /// Path prefix on segment borders: `/ws` serves `/ws` and `/ws/x`, not `/wsx`. Default `/`.
    pub path: String,
    /// Whether only the path itself matches, no deeper one. Default false.
    pub exact: bool,
    /// Where the application that it serves begins (`SUPERSET_APP_ROOT`), without a slash at its end: empty for `/`.
    /// Not written: it is the path of the outermost route to the application, see `raw::built_in`.
    pub root: String,
    /// What happens.
    pub action: Action,
    /// Longest request body in bytes. Default 16 MiB, 200 MiB on upload paths. Beyond: 413 `body_too_large`.
    pub max_body: u64,
    /// Whether bodies are collected before an endpoint is leased. Default on.
    pub request_buffer: Option<RequestBuffer>,
    /// Clocks of the exchange.
    pub clocks: RouteClocks,
    /// Edits on the way in.
    pub request_headers: HeaderEdits,
    /// Edits on the way out.
    pub response_headers: HeaderEdits,
    /// Whether the shield's built-in checks are asked. Default true; not for other software than Superset.
    pub shield: bool,
    /// Media types that request bodies may have; empty for every one. 415 `content_type`. Default: every one, and
    /// `multipart/form-data` on Superset's import paths.
    pub content_types: Vec<String>,
    /// Tunnels; `None` answers upgrade requests 403 `upgrade_refused`.
    pub websocket: Option<WebSocket>,
    /// Prefix removed before forwarding; then also sent as `X-Forwarded-Prefix`. Default none: Superset wants its
    /// application root kept.
    pub strip_prefix: Option<String>,
    /// POST paths that only read and may be retried like GET. Never SQL Lab's `execute`.
    pub read_only_posts: Vec<String>,
    /// Limits that hold for it; `None` for those that hold by default.
    pub limits: Option<Vec<LimitName>>,
    /// Which answers are asked for again on another endpoint.
    pub retry: RouteRetry,
}

impl Route {
    /// `path` as the application knows it: what is left of it below the application's root.
    pub fn below<'p>(&self, path: &'p str) -> &'p str {
        let below = path.strip_prefix(self.root.as_str());
        below.filter(|below| below.is_empty() || below.starts_with('/')).unwrap_or(path)
    }
}

/// First segments of Superset's paths, below its root, that nobody looks at in a browser: of its API, of the parts of
/// its pages, of its other services and of probes.
pub const NO_PAGES: [&str; 9] =
    ["api", "static", "health", "healthcheck", "ping", "ws", "mcp", "favicon.ico", "robots.txt"];

/// Answers that another endpoint may know better. What is repeated is read-only and goes to an endpoint not yet asked;
/// when that one cannot be reached, the first answer counts.
#[derive(Clone, Debug)]
pub struct RouteRetry {
    /// Statuses, within the pool's attempts and budget. Default 500, and 502 and 503: a replica that
    /// is ill, and one that is ending.
    pub statuses: Vec<StatusCode>,
    /// Path prefixes of assets whose names carry a hash of their content, so that a 404 only says "not in my release".
    /// Default `/static/`.
    pub assets: Vec<String>,
    /// Further endpoints asked for such an asset. Default 2; 0 to 5.
    pub asset_attempts: u32,
    /// Percentile of the times to the first byte beyond which a safe request without content is asked for on a second
    /// endpoint as well. Default: never; 50 to 99.
    pub hedge_percentile: Option<u8>,
}

/// What happens to a matching request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward to a pool.
    Forward(PoolName),
    /// Answer with a redirect. `{path}` in the target stands for path and query.
    Redirect {
        /// 301, 302, 303, 307 or 308. Default 308.
        status: StatusCode,
        /// Absolute URL or path.
        to: String,
    },
    /// Answer as is. The default route for `/version` is one, with 404.
    Answer {
        /// Default 200.
        status: StatusCode,
        /// Default empty.
        body: String,
        /// Default `text/plain; charset=utf-8`.
        content_type: HeaderValue,
    },
}

/// Collecting a request body before an endpoint is leased.
#[derive(Clone, Debug)]
pub struct RequestBuffer {
    /// Bytes kept in memory per request; the rest goes to a temporary file. Default 64 KiB.
    pub memory: usize,
    /// Bytes collected per request; beyond it the rest streams under the minimum body rate. Default 200 MiB.
    pub max: u64,
}

/// Clocks of an exchange on its route.
#[derive(Clone, Debug)]
pub struct RouteClocks {
    /// From the last request byte sent to the response head. Default 300 s. 504 `first_byte`.
    pub first_byte: Duration,
    /// Longest pause in a response body. Default 120 s. The response is broken off visibly.
    pub between_bytes: Duration,
    /// Whole exchange, request head to last byte. Default none. 504 `exchange` before the head, broken off after.
    pub exchange: Option<Duration>,
}

/// Header edits, applied in the order remove, set, add.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    /// Removed.
    pub remove: Vec<HeaderName>,
    /// Replaced or added.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Added beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// Tunnels on a route.
#[derive(Clone, Debug)]
pub struct WebSocket {
    /// Longest silence in both directions. Default 90 s; superset-websocket pings every 20 s.
    pub idle: Duration,
    /// Largest frame payload in bytes. Default 16 MiB. Beyond: Close 1009.
    pub max_frame: u64,
    /// Allowed `Origin`s; empty allows every one. `same` stands for the request's own host.
    pub origins: Vec<String>,
    /// Status when the endpoint closes without an answer (bad or missing token). 401 (default) or 502.
    pub on_silent_close: StatusCode,
}
