//! `[[routes]]` as written; header edits have their own file.

use std::time::Duration;

use http::StatusCode;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::super::route::{Action, HeaderEdits, RequestBuffer, Route, RouteClocks, RouteRetry, WebSocket};
use super::edits::{REQUEST_EDITS, RESPONSE_EDITS, request_edits, response_edits};
use super::key::{Entry, Key, May, Must, Or, Section, Table, section};
use super::kinds::{
    Bytes, DAY, Flag, GIB, HOUR, KIB, Lasting, MIB, MINUTE, Parsed, SECOND, TIB, Whole, bytes, lasting, parsed, whole,
};
use super::shapes::{Brief, List, Sub, Switch, brief, list, sub, switch, values};
use super::sheet::{Place, Words};
use super::words::{
    FINAL, REDIRECT, SERVER_ERROR, SILENT_CLOSE, Status, header_value, host_pattern, long_text, name, prefix,
};
use crate::lexicon::{LimitName, PoolName, RouteName};

section! {
    /// Which requests go where, under which limits. Of the routes that match, the one with the longer host, then with
    /// the longer path counts. With one pool and no routes, everything goes to the pool.
    pub(super) ROUTE: RouteKeys {
        /// Unique name; a metric label and the record's word for it.
        name: Parsed<String> = parsed("name", name), May("host and path as written");
        /// Host or list of hosts that it serves, without a port: exact, or `*.example.com` for one or more labels.
        host: List<Parsed<String>> = list(parsed("host", host_pattern)).or_one(), May("every host");
        /// Path prefix on segment borders: `/ws` serves `/ws` and `/ws/x`, not `/wsx`. Superset's is its `SUPERSET_APP_ROOT`.
        path: Parsed<String> = parsed("path prefix", prefix), Or("'/'");
        /// Whether only the path itself matches, no deeper one.
        exact: Flag = Flag, Or("false");
        /// Pool to forward to. A route has one of `pool`, `redirect` and `answer`.
        pool: Parsed<String> = parsed("name of a pool", name), May("none");
        /// Answer with a redirect: the place, or a table.
        redirect: Brief<Parsed<Action>, Sub<Action>> =
            brief(parsed("URL or path", redirect_text), sub(&REDIRECT_TABLE, redirect)), May("none");
        /// Answer as is, without an endpoint.
        answer: Sub<Action> = sub(&ANSWER, answer), May("none");
        /// Longest request body. Beyond it: 413 `body_too_large`.
        max_body: Bytes<u64> =
            bytes(0, 64 * TIB), May("16MiB; 200MiB on Superset's upload and import paths, for which routes are added");
        /// Collect request bodies before an endpoint is leased, so that a slow client holds no Gunicorn thread. `false`
        /// streams them under the listener's `min_body_rate`.
        request_buffer: Switch<Sub<RequestBuffer>> = switch(sub(&BUFFER, buffer)), Or("true");
        /// Clocks of the exchange.
        timeouts: Sub<RouteClocks> = sub(&TIMEOUTS, timeouts), Or("{}");
        /// Edits of the request's fields, applied in the order remove, set, add.
        request_headers: Sub<HeaderEdits> = sub(&REQUEST_EDITS, request_edits), Or("{}");
        /// Edits of the response's fields, applied in the order remove, set, add.
        response_headers: Sub<HeaderEdits> = sub(&RESPONSE_EDITS, response_edits), Or("{}");
        /// Whether the shield's built-in checks are asked of its requests. They know Superset: switch them off for
        /// other software. Lists and `[[rules]]` count in any case.
        shield: Flag = Flag, Or("true");
        /// Media types that request bodies may have, as `multipart/form-data`. Others: 415 `content_type`.
        content_types: List<Parsed<String>> = list(parsed("media type", media_type)),
            May("every one; `multipart/form-data` on Superset's import paths, for which routes are added");
        /// Tunnels for WebSockets. `false` answers upgrade requests 403 `upgrade_refused`.
        websocket: Switch<Sub<WebSocket>> = switch(sub(&WEBSOCKET, websocket)), Or("true");
        /// Prefix removed before forwarding, then also sent as `X-Forwarded-Prefix`. Superset wants its application
        /// root kept: leave it out.
        strip_prefix: Parsed<String> = parsed("path prefix", prefix), May("the path is kept");
        /// POST paths, whole ones, that only read and may be retried like GET. Never SQL Lab's `execute`.
        read_only_posts: List<Parsed<String>> =
            list(parsed("path", prefix)),
            Or("['/api/v1/chart/data', '/datasource/samples', '/superset/explore_json']");
        /// Names of the limits (`[limits.NAME]`) that hold for it, in this order.
        limits: List<Parsed<String>> = list(parsed("name of a limit", name)), May("those with `default = true`");
        /// Answers that another endpoint may know better.
        retry: Sub<RouteRetry> = sub(&RETRY, retry), Or("{}");
    }
}

/// A route, with what checks across routes and the added routes need to know.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) route: Route,
    /// Place of `strip_prefix`.
    pub(super) strip: Place,
    /// Whether these keys are written.
    pub(super) has_name: bool,
    pub(super) has_max_body: bool,
    pub(super) has_content_types: bool,
    pub(super) has_read_only_posts: bool,
    pub(super) has_assets: bool,
}

/// Longest body where nothing else is said.
const MAX_BODY: u64 = 16 * MIB;

/// What a route means.
pub(super) fn route(table: &Table<'_>) -> Option<Draft> {
    let name = table.get(&ROUTE.name);
    let hosts = table.get(&ROUTE.host).map(|hosts| hosts.map(values).unwrap_or_default());
    let path = table.get(&ROUTE.path);
    let exact = table.get(&ROUTE.exact);
    let action = action(table);
    let max_body = table.get(&ROUTE.max_body);
    let (shield, content_types) = (table.get(&ROUTE.shield), table.get(&ROUTE.content_types));
    let request_buffer = table.get(&ROUTE.request_buffer);
    let clocks = table.get(&ROUTE.timeouts);
    let request_headers = table.get(&ROUTE.request_headers);
    let response_headers = table.get(&ROUTE.response_headers);
    let websocket = table.get(&ROUTE.websocket);
    let (strip_prefix, read_only_posts) = (table.get(&ROUTE.strip_prefix), table.get(&ROUTE.read_only_posts));
    let retry = table.get(&ROUTE.retry);
    let limits = table.get(&ROUTE.limits);

    let known = &table.written.sheet.limits;
    for limit in limits.iter().flatten().flatten().filter(|limit| !known.contains(&limit.value)) {
        let expected = if known.is_empty() { "a limit; there is none".into() } else { known.join(" or ") };
        let words = Words::new("is not a limit of this file").found(format!("{:?}", limit.value)).expected(expected);
        let words = words.near(&limit.value, known.iter().map(String::as_str));
        table.written.sheet.report(super::super::findings::Severity::Error, &limit.place, words);
    }

    for post in read_only_posts.iter().flatten().filter(|post| covers_execute(&post.value)) {
        let words = Words::new("covers SQL Lab's `execute`, which may change data: it must never be repeated");
        table.written.sheet.report(super::super::findings::Severity::Error, &post.place, words);
    }
    if let (Some(Some(strip)), Some(path)) = (&strip_prefix, &path)
        && !is_below(path, strip)
    {
        let words = Words::new("is no prefix of the route's path: it never applies").found(format!("{strip:?}"));
        table.error(&ROUTE.strip_prefix, words.expected(format!("{path:?} or a part of it")));
    }
    if let (Some(Some(max_body)), Some(Some(buffer))) = (&max_body, &request_buffer)
        && *max_body > buffer.max
    {
        let words = Words::new("is more than `request_buffer.max`: the rest of such a body holds an endpoint's thread");
        table.warn(&ROUTE.max_body, words.expected("at most `request_buffer.max`"));
    }

    let (hosts, path): (Vec<String>, String) = (hosts?, path?);
    let written = if hosts.is_empty() { path.clone() } else { format!("{}{path}", hosts.join(",")) };
    let name = name?.unwrap_or(written);
    Some(Draft {
        strip: table.place(&ROUTE.strip_prefix),
        has_name: table.has(&ROUTE.name),
        has_max_body: table.has(&ROUTE.max_body),
        has_content_types: table.has(&ROUTE.content_types),
        has_read_only_posts: table.has(&ROUTE.read_only_posts),
        has_assets: table.has(&ROUTE.retry),
        route: Route {
            name: RouteName::new(&name),
            hosts,
            path,
            exact: exact?,
            root: String::new(),
            action: action?,
            max_body: max_body?.unwrap_or(MAX_BODY),
            request_buffer: request_buffer?,
            shield: shield?,
            content_types: values(content_types?.unwrap_or_default()),
            clocks: clocks?,
            request_headers: request_headers?,
            response_headers: response_headers?,
            websocket: websocket?,
            strip_prefix: strip_prefix?,
            read_only_posts: values(read_only_posts?),
            limits: limits?.map(|limits| values(limits).iter().map(|name| LimitName::new(name)).collect()),
            retry: retry?,
        },
    })
}

/// The route of a file that has none: every key at its default.
pub(super) fn to_pool(root: &Table<'_>, pool: &str) -> Option<Draft> {
    let mut keys = DeTable::new();
    let text = |text: &str| DeString::Owned(text.to_owned());
    keys.insert(Spanned::new(0..0, text("pool")), Spanned::new(0..0, DeValue::String(text(pool))));
    let value = DeValue::Table(keys);
    let mut written = root.written.below("routes", 0..0, &value);
    written.implied = true;
    route(&Table::open(&written, &ROUTE)?)
}

/// Whether a path is a prefix itself, or lies below it.
pub(super) fn is_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn covers_execute(path: &str) -> bool {
    // Superset decodes paths, however they are written.
    let lower = percent_encoding::percent_decode_str(path).decode_utf8_lossy().to_ascii_lowercase();
    is_below("/api/v1/sqllab/execute", &lower) || lower.contains("sqllab/execute")
}

/// The one thing that a route does.
fn action(table: &Table<'_>) -> Option<Action> {
    let pool = table.get(&ROUTE.pool);
    let redirect = table.get(&ROUTE.redirect);
    let answer = table.get(&ROUTE.answer);
    let known = &table.written.sheet.pools;
    if let Some(Some(pool)) = &pool
        && !known.contains(pool)
    {
        let expected = if known.is_empty() { "a pool; there is none".into() } else { known.join(" or ") };
        let words = Words::new("is not a pool of this file").found(format!("{pool:?}")).expected(expected);
        table.error(&ROUTE.pool, words.near(pool, known.iter().map(String::as_str)));
        return None;
    }
    match (pool?, redirect?, answer?) {
        (Some(pool), None, None) => Some(Action::Forward(PoolName::new(&pool))),
        (None, Some(action), None) | (None, None, Some(action)) => Some(action),
        (None, None, None) => {
            table.written.error(Words::new("does nothing").expected("one of `pool`, `redirect` and `answer`"));
            None
        }
        _ => {
            let words = Words::new("does several things at once");
            table.written.error(words.expected("one of `pool`, `redirect` and `answer`"));
            None
        }
    }
}

section! {
    /// A redirect.
    REDIRECT_TABLE: RedirectKeys {
        /// Absolute URL or path. `{path}` in it stands for the request's path and query.
        to: Parsed<String> = parsed("URL or path", place), Must();
        /// 301, 302, 303, 307 or 308.
        status: Status = REDIRECT, Or("308");
    }
}

fn redirect(table: &Table<'_>) -> Option<Action> {
    let (to, status) = (table.get(&REDIRECT_TABLE.to), table.get(&REDIRECT_TABLE.status));
    Some(Action::Redirect { status: status?, to: to? })
}

fn redirect_text(text: &str) -> Result<Action, String> {
    place(text).map(|to| Action::Redirect { status: StatusCode::PERMANENT_REDIRECT, to })
}

fn place(text: &str) -> Result<String, String> {
    let absolute = ["https://", "http://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    // `//host` would be another host, not a path.
    let path = text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\");
    match absolute || path {
        true if text.len() <= 2048 && text.chars().all(|c| c.is_ascii_graphic()) => Ok(text.to_owned()),
        true => Err("has characters that a URL cannot have".into()),
        false => Err("is neither a URL nor a path".into()),
    }
}

section! {
    /// A fixed answer.
    ANSWER: AnswerKeys {
        /// Status of the answer.
        status: Status = FINAL, Or("200");
        /// Body of the answer, at most 64 KiB.
        body: Parsed<String> = parsed("text", long_text), Or("''");
        /// `Content-Type` of the answer.
        content_type: Parsed<crate::head::HeaderValue> = parsed("content type", header_value), Or("'text/plain; charset=utf-8'");
    }
}

fn answer(table: &Table<'_>) -> Option<Action> {
    let (status, body) = (table.get(&ANSWER.status), table.get(&ANSWER.body));
    let content_type = table.get(&ANSWER.content_type);
    Some(Action::Answer { status: status?, body: body?, content_type: content_type? })
}

section! {
    /// Collecting a request body before an endpoint is leased.
    BUFFER: BufferKeys {
        /// Kept in memory per request; the rest goes to a temporary file.
        memory: Bytes<usize> = bytes(0, GIB), Or("'64KiB'");
        /// Collected per request; beyond it the rest streams under the listener's `min_body_rate`.
        max: Bytes<u64> = bytes(KIB, 64 * TIB), Or("'200MiB'");
    }
}

fn buffer(table: &Table<'_>) -> Option<RequestBuffer> {
    let (memory, max) = (table.get(&BUFFER.memory), table.get(&BUFFER.max));
    Some(RequestBuffer { memory: memory?, max: max? })
}

section! {
    /// Answers to read-only requests that another endpoint may know better. The request goes to an endpoint that was
    /// not asked yet, if one is free; when that one fails, the first answer counts.
    RETRY: RetryKeys {
        /// Statuses that are asked for again, within the pool's `retry.attempts` and budget. An error that only one endpoint
        /// gives counts against it like a gateway's.
        statuses: List<Status> = list(SERVER_ERROR), Or("[500, 502, 503]");
        /// Path prefixes of assets with a hash of their content in their names. A 404 for one says that the endpoint has
        /// another release, as during a rolling update: others are asked. `[]` switches it off.
        assets: List<Parsed<String>> = list(parsed("path prefix", prefix)), Or("['/static/']");
        /// Further endpoints that are asked for such an asset, at most as many as exchanges in the last 10 s.
        asset_attempts: Whole<u32> = whole(0, 5), Or("2");
        /// A safe request without content that has waited longer for its first byte than this percentage of those before
        /// it is asked for on a second endpoint as well; the first answer counts. Within the pool's budget of retries. Not
        /// where queries run: they would run twice.
        hedge_percentile: Whole<u8> = whole(50, 99), May("never");
    }
}

fn retry(table: &Table<'_>) -> Option<RouteRetry> {
    let (statuses, assets) = (table.get(&RETRY.statuses).map(values), table.get(&RETRY.assets).map(values));
    let (asset_attempts, hedge_percentile) = (table.get(&RETRY.asset_attempts), table.get(&RETRY.hedge_percentile));
    if statuses.iter().flatten().any(|status| *status == StatusCode::GATEWAY_TIMEOUT) {
        let words = Words::new("repeats what took too long: a slow query then runs once more");
        table.warn(&RETRY.statuses, words.expected("500, 502 and 503"));
    }
    Some(RouteRetry {
        statuses: statuses?,
        assets: assets?,
        asset_attempts: asset_attempts?,
        hedge_percentile: hedge_percentile?,
    })
}

section! {
    /// Clocks of an exchange.
    TIMEOUTS: TimeoutsKeys {
        /// From the last request byte sent to the response head. 504 `first_byte`.
        first_byte: Lasting = lasting(100, DAY), Or("'300s'");
        /// Longest pause in a response body. The response is broken off visibly.
        between_bytes: Lasting = lasting(100, DAY), Or("'120s'");
        /// Whole exchange, request head to last byte. 504 `exchange` before the response head, broken off after it.
        exchange: Lasting = lasting(100, 7 * DAY), May("no limit");
    }
}

fn timeouts(table: &Table<'_>) -> Option<RouteClocks> {
    let first_byte = table.get(&TIMEOUTS.first_byte);
    let between_bytes = table.get(&TIMEOUTS.between_bytes);
    let exchange = table.get(&TIMEOUTS.exchange);
    let minute = Duration::from_millis(MINUTE);
    if first_byte.is_some_and(|first_byte| first_byte < minute) {
        let words = Words::new("ends before Superset's own limit, and browsers then repeat the query");
        table.warn(&TIMEOUTS.first_byte, words.expected("more than 60s (SUPERSET_WEBSERVER_TIMEOUT)"));
    }
    if let (Some(first_byte), Some(Some(exchange))) = (first_byte, exchange)
        && exchange < first_byte
        && table.has(&TIMEOUTS.exchange)
    {
        let words = Words::new("ends before `first_byte` can").expected("at least `first_byte`");
        table.warn(&TIMEOUTS.exchange, words);
    }
    Some(RouteClocks { first_byte: first_byte?, between_bytes: between_bytes?, exchange: exchange? })
}

section! {
    /// Tunnels of a route.
    WEBSOCKET: WebSocketKeys {
        /// Longest silence in both directions. superset-websocket pings every 20 s.
        idle: Lasting = lasting(SECOND, HOUR), Or("'90s'");
        /// Largest frame payload. Beyond it: Close 1009.
        max_frame: Bytes<u64> = bytes(125, GIB), Or("'16MiB'");
        /// Allowed `Origin`s, as `https://bi.example.com`; `same` stands for the request's own host. Empty: every one.
        origins: List<Parsed<String>> = list(parsed("origin, or `same`", origin)), Or("[]");
        /// Status when the endpoint closes without an answer, as superset-websocket does for a bad or missing token.
        on_silent_close: Status = SILENT_CLOSE, Or("401");
    }
}

fn websocket(table: &Table<'_>) -> Option<WebSocket> {
    let (idle, max_frame) = (table.get(&WEBSOCKET.idle), table.get(&WEBSOCKET.max_frame));
    let origins = table.get(&WEBSOCKET.origins).map(values);
    let on_silent_close = table.get(&WEBSOCKET.on_silent_close);
    if idle.is_some_and(|idle| idle.as_millis() <= u128::from(20 * SECOND)) {
        let words = Words::new("ends quiet tunnels between two pings of superset-websocket");
        table.warn(&WEBSOCKET.idle, words.expected("more than 20s"));
    }
    Some(WebSocket { idle: idle?, max_frame: max_frame?, origins: origins?, on_silent_close: on_silent_close? })
}

/// A media type without parameters, in lower case (RFC 9110 §8.3.1).
fn media_type(text: &str) -> Result<String, String> {
    let token = |token: &str| !token.is_empty() && token.bytes().all(in_name);
    match text.split_once('/') {
        Some((main, sub)) if text.len() <= 128 && token(main) && token(sub) => Ok(text.to_ascii_lowercase()),
        _ => Err("is no media type such as multipart/form-data".into()),
    }
}

/// Whether a byte may stand in a token (RFC 9110 §5.6.2), but for those that no registered type has.
const fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#' | b'$' | b'&' | b'-' | b'^' | b'_' | b'.' | b'+')
}

/// An origin (RFC 6454 §6.2) in lower case, as browsers send it.
fn origin(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if lower == "same" {
        return Ok(lower);
    }
    let host = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    match host {
        Some(host) if host.contains('/') => Err("must not have a path".into()),
        Some(host) if super::words::host_with_port(host).is_some() => Ok(lower),
        Some(host) => super::words::host_name(host).map(|_| lower.clone()),
        None => Err("is no origin".into()),
    }
}
