//! `[pools.NAME.health]` as written.

use http::{Method, StatusCode};

use super::super::pool::{Check, Health, HttpCheck};
use super::key::{Entry, Key, May, Or, Section, Table, section};
use super::kinds::{Choice, Flag, HOUR, Lasting, MINUTE, Parsed, Whole, choice, lasting, parsed, whole};
use super::shapes::{List, Sub, Switch, list, sub, switch, values};
use super::sheet::Words;
use super::words::{FINAL, Fields, Status, host_name, host_with_port, path_and_query, short_text};
use crate::head;

/// What is checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sort {
    Http,
    Tcp,
    WebSocket,
}

/// Methods that a check may use.
const METHODS: &[(&str, Method)] =
    &[("GET", Method::GET), ("HEAD", Method::HEAD), ("OPTIONS", Method::OPTIONS), ("POST", Method::POST)];

/// Paths at which Superset answers `OK`.
const SUPERSET_HEALTH: [&str; 3] = ["/health", "/healthcheck", "/ping"];

section! {
    /// Active checks of a pool's endpoints.
    pub(super) HEALTH: HealthKeys {
        /// `http`: a request. `tcp`: a connection; not for Gunicorn, which accepts and never answers while it starts or
        /// stops. `websocket`: a handshake, for superset-websocket.
        kind: Choice<Sort> =
            choice(&[("http", Sort::Http), ("tcp", Sort::Tcp), ("websocket", Sort::WebSocket)]), Or("'http'");
        /// Method of the request.
        method: Choice<Method> = choice(METHODS), Or("'GET'");
        /// Path, perhaps with a query.
        path: Parsed<String> = parsed("path", path_and_query), Or("'/health'");
        /// `Host` that is sent.
        host: Parsed<String> = parsed("host, perhaps with a port", authority), May("the endpoint's host and port");
        /// Good statuses.
        statuses: List<Status> = list(FINAL).some(), Or("[200]");
        /// Text that the first 4 KiB of the body must contain; `\"\"` asks for none.
        body: Parsed<String> =
            parsed("text", body_text), May("`OK` on `/health`, `/healthcheck` and `/ping`, none elsewhere");
        /// Further header fields. For a secret, prefer a path that needs none.
        headers: Fields = Fields { sensitive: true }, Or("{}");
        /// Time between two checks of a settled endpoint.
        interval: Lasting = lasting(100, HOUR), Or("'5s'");
        /// Time between checks while the endpoint is on its way up or down.
        fast_interval: Lasting = lasting(100, HOUR), Or("'1s'");
        /// Share of the interval, in percent, by which each wait varies, so that replicas of the proxy do not check in
        /// step.
        jitter_percent: Whole<u8> = whole(0, 90), Or("20");
        /// An answer after this is `late` and does not count as death: a busy Superset answers late.
        late_after: Lasting = lasting(10, 5 * MINUTE), Or("'2s'");
        /// No answer by then is a failure. Above `late_after`.
        timeout: Lasting = lasting(20, 10 * MINUTE), Or("'5s'");
        /// Consecutive good answers until up.
        rise: Whole<u32> = whole(1, 100), Or("2");
        /// Consecutive failures until down.
        fall: Whole<u32> = whole(1, 100), Or("3");
        /// Whether an endpoint counts as up before its first check.
        initially_up: Flag = Flag, Or("false");
        /// A deeper check that degrades an endpoint but does not alone eject it: `/health` answers 200 although
        /// PostgreSQL is away, `/api/v1/me/` does not.
        deep: Switch<Sub<HttpCheck>> = switch(sub(&DEEP, deep)), Or("false");
    }
}

/// What `health` means.
pub(super) fn health(table: &Table<'_>) -> Option<Health> {
    let kind = table.get(&HEALTH.kind);
    let method = table.get(&HEALTH.method);
    let path = table.get(&HEALTH.path);
    let host = table.get(&HEALTH.host);
    let statuses = table.get(&HEALTH.statuses).map(values);
    let body = table.get(&HEALTH.body);
    let headers = table.get(&HEALTH.headers);
    let interval = table.get(&HEALTH.interval);
    let fast_interval = table.get(&HEALTH.fast_interval);
    let jitter_percent = table.get(&HEALTH.jitter_percent);
    let late_after = table.get(&HEALTH.late_after);
    let timeout = table.get(&HEALTH.timeout);
    let rise = table.get(&HEALTH.rise);
    let fall = table.get(&HEALTH.fall);
    let initially_up = table.get(&HEALTH.initially_up);
    let deep = table.get(&HEALTH.deep);

    kind.into_iter().for_each(|kind| useless(table, kind));
    if late_after.zip(timeout).is_some_and(|(late, timeout)| timeout <= late) {
        let words = Words::new("leaves no time to be late").expected("more than `late_after`");
        table.error(&HEALTH.timeout, words);
    }
    if interval.zip(fast_interval).is_some_and(|(interval, fast)| fast > interval) {
        let words = Words::new("is slower than `interval`").expected("at most `interval`");
        table.warn(&HEALTH.fast_interval, words);
    }
    let (path, host, body): (String, Option<String>, Option<String>) = (path?, host?, body?);
    let default_body = || SUPERSET_HEALTH.contains(&path.as_str()).then(|| "OK".to_owned());
    let check = match kind? {
        Sort::Http => {
            let body = body.map_or_else(default_body, |body| Some(body).filter(|body| !body.is_empty()));
            let (method, statuses, headers) = (method?, statuses?, headers?);
            Check::Http(HttpCheck { method, path, host, statuses, body, headers })
        }
        Sort::Tcp => Check::Tcp,
        Sort::WebSocket => {
            let path = if table.has(&HEALTH.path) { path } else { "/".into() };
            Check::WebSocket { path, host }
        }
    };
    Some(Health {
        check,
        interval: interval?,
        fast_interval: fast_interval?,
        jitter_percent: jitter_percent?,
        late_after: late_after?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
        initially_up: initially_up?,
        deep: deep?,
    })
}

/// Reports keys that the sort of check does not heed.
fn useless(table: &Table<'_>, kind: Sort) {
    let words = || Words::new("has no effect on this kind of check").help("it belongs to `kind = \"http\"`");
    let (http, tcp) = (kind == Sort::Http, kind == Sort::Tcp);
    if !http && table.has(&HEALTH.method) {
        table.error(&HEALTH.method, words());
    }
    if !http && table.has(&HEALTH.statuses) {
        table.error(&HEALTH.statuses, words());
    }
    if !http && table.has(&HEALTH.body) {
        table.error(&HEALTH.body, words());
    }
    if !http && table.has(&HEALTH.headers) {
        table.error(&HEALTH.headers, words());
    }
    if tcp && table.has(&HEALTH.path) {
        table.error(&HEALTH.path, words());
    }
    if tcp && table.has(&HEALTH.host) {
        table.error(&HEALTH.host, words());
    }
}

section! {
    /// A deeper check.
    DEEP: DeepKeys {
        /// Method of the request.
        method: Choice<Method> = choice(METHODS), Or("'GET'");
        /// Path, perhaps with a query.
        path: Parsed<String> = parsed("path", path_and_query), Or("'/api/v1/me/'");
        /// `Host` that is sent.
        host: Parsed<String> = parsed("host, perhaps with a port", authority), May("the endpoint's host and port");
        /// Good statuses. `/api/v1/me/` answers 401 to a stranger when all is well.
        statuses: List<Status> = list(FINAL).some(), Or("[200, 401]");
        /// Text that the first 4 KiB of the body must contain.
        body: Parsed<String> = parsed("text", short_text), May("none");
        /// Further header fields.
        headers: Fields = Fields { sensitive: true }, Or("{}");
    }
}

fn deep(table: &Table<'_>) -> Option<HttpCheck> {
    let (method, path, host) = (table.get(&DEEP.method), table.get(&DEEP.path), table.get(&DEEP.host));
    let statuses: Option<Vec<StatusCode>> = table.get(&DEEP.statuses).map(values);
    let body = table.get(&DEEP.body);
    let headers: Option<head::Fields> = table.get(&DEEP.headers);
    Some(HttpCheck { method: method?, path: path?, host: host?, statuses: statuses?, body: body?, headers: headers? })
}

fn authority(text: &str) -> Result<String, String> {
    if host_with_port(text).is_some() { Ok(text.to_owned()) } else { host_name(text) }
}

fn body_text(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { short_text(text) }
}
