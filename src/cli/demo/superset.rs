//! An endpoint that behaves like a Superset replica, as far as a proxy can tell.
//!
//! Implements [`Handler`], so that the same engine serves it that serves clients. What it imitates on purpose: a session
//! cookie on first contact, CSRF tokens with the strict `Referer` check over HTTPS, relative redirects, failed logins
//! answered 302, a nonce in each page's policy, streamed CSV with `X-Accel-Buffering: no`, hashed assets with a year's
//! life, and `/version`, which no edge should let through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::charts;
use super::export::Export;
use super::pages::{Page, Pages};
use super::session::{Keys, Session, nonce};
use super::socket;
use crate::body::{Body, Frame};
use crate::head::{Fields, HeaderValue};
use crate::message::{Answer, Answering, Handler, Refused, Request};

/// Longest form or query that is read, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// What the slow query takes.
const SLOW_QUERY: Duration = Duration::from_secs(3);

/// How long a killed replica stays away, unless `?seconds=` says otherwise.
const KILLED_FOR: u64 = 20;

/// Longest absence that can be asked for, in seconds.
const LONGEST_ABSENCE: u64 = 600;

/// Rows of an export, unless `?rows=` says otherwise; 20 MB.
const EXPORT_ROWS: u64 = 500_000;

/// Most rows that can be asked for; 2 GB.
const MOST_ROWS: u64 = 50_000_000;

/// Asks the replica's socket to go away for so many seconds; counts up, so that each kill is news.
pub(super) type Kill = watch::Sender<(u64, Duration)>;

/// One replica.
#[derive(Clone, Debug)]
pub(super) struct Replica(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    keys: Arc<Keys>,
    pages: Arc<Pages>,
    kill: Kill,
    served: Arc<AtomicU64>,
}

impl Replica {
    pub(super) fn new(name: &'static str, keys: Arc<Keys>, pages: Arc<Pages>, kill: Kill) -> Self {
        Self(Arc::new(Inner { name, keys, pages, kill, served: Arc::default() }))
    }

    /// Counts the requests that it has taken, checks included.
    pub(super) fn served(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.served)
    }
}

impl Handler for Replica {
    fn handle(&self, request: Request) -> Answering {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.served.fetch_add(1, Ordering::Relaxed);
            let mut answer = inner.answer(request).await;
            answer.head.headers.insert("x-demo-replica", HeaderValue::from_static(inner.name));
            answer
        })
    }

    fn refuse(&self, _: Refused) -> Answer {
        text(StatusCode::BAD_REQUEST, "Bad Request\n")
    }
}

impl Inner {
    async fn answer(&self, mut request: Request) -> Answer {
        let uri = request.head.uri.clone();
        let method = request.head.method.clone();
        let session = self.keys.find(&request.head.headers);
        match (method.as_str(), uri.path()) {
            ("GET" | "HEAD", "/health" | "/healthcheck" | "/ping") => {
                let mut answer = text(StatusCode::OK, "OK");
                // Superset writes a session for each client without one; the proxy's probes must keep theirs.
                if session.is_none() {
                    self.remember(&mut answer, &Session::begin(""));
                }
                answer
            }
            ("GET" | "HEAD", "/") => redirect("/superset/welcome/"),
            ("GET" | "HEAD", "/login/") => self.login_form(session, uri.query()),
            ("POST", "/login/") => self.log_in(&mut request, session).await,
            ("GET" | "POST", "/logout/") => {
                let mut answer = redirect("/login/");
                self.remember(&mut answer, &Session::begin(""));
                answer
            }
            ("GET" | "HEAD", path @ ("/superset/welcome/" | "/superset/dashboard/1/")) => match session {
                Some(session) if !session.user.is_empty() => {
                    self.page(if path == "/superset/welcome/" { Page::Welcome } else { Page::Dashboard }, &session)
                }
                Some(_) | None => redirect(&format!("/login/?next={path}")),
            },
            ("GET" | "HEAD", "/api/v1/me/") => match session {
                Some(session) if !session.user.is_empty() => {
                    json(StatusCode::OK, &json!({ "result": { "username": session.user, "is_active": true } }))
                }
                Some(_) | None => json(StatusCode::UNAUTHORIZED, &json!({ "message": "Not authorized" })),
            },
            ("POST", "/api/v1/chart/data") => match collect(&mut request.body).await {
                Some(body) => {
                    let query = serde_json::from_slice(&body).unwrap_or(Value::Null);
                    json(StatusCode::OK, &charts::answer(&query, self.name, SystemTime::now()))
                }
                None => text(StatusCode::BAD_REQUEST, "query too long\n"),
            },
            ("POST", "/api/v1/sqllab/execute/") => {
                drop(collect(&mut request.body).await);
                tokio::time::sleep(SLOW_QUERY).await;
                json(StatusCode::OK, &json!({ "status": "success", "data": [{ "answer": 42 }], "replica": self.name }))
            }
            ("POST", "/api/v1/sqllab/export_streaming/") | ("GET", "/demo/export.csv") => self.export(uri.query()),
            ("POST", "/api/v1/database/1/upload/" | "/demo/upload") => self.upload(&mut request).await,
            ("GET" | "HEAD", path) if path.starts_with("/static/") => self.pages.asset(path, &request.head.headers),
            ("GET", "/ws") if request.upgrade.is_some() => socket::accept(&request.head.headers, self.name)
                .unwrap_or_else(|| text(StatusCode::BAD_REQUEST, "not a WebSocket handshake\n")),
            ("GET", "/ws") => text(StatusCode::UPGRADE_REQUIRED, "WebSocket only\n"),
            ("GET", "/demo/who") => json(StatusCode::OK, &self.who(&request.head.headers)),
            ("POST", "/demo/kill") => self.die(uri.query()),
            ("GET", "/version") => json(StatusCode::OK, &json!({ "gitsha": "0123456789abcdef", "version": "demo" })),
            _ => text(StatusCode::NOT_FOUND, "Not Found\n"),
        }
    }

    fn remember(&self, answer: &mut Answer, session: &Session) {
        if let Some(cookie) = self.keys.cookie(session) {
            answer.head.headers.append(header::SET_COOKIE, cookie);
        }
    }

    fn page(&self, page: Page, session: &Session) -> Answer {
        let nonce = nonce();
        let facts = [("replica", self.name), ("nonce", &nonce), ("user", &session.user)];
        let mut answer = html(self.pages.fill(page, &facts));
        secure(&mut answer, &nonce);
        answer
    }

    fn login_form(&self, session: Option<Session>, query: Option<&str>) -> Answer {
        let (session, new) = session.map_or_else(|| (Session::begin(""), true), |session| (session, false));
        let nonce = nonce();
        let failed = parameter(query, "failed").is_some();
        let csrf = self.keys.csrf(&session);
        let facts = [
            ("replica", self.name),
            ("nonce", nonce.as_str()),
            ("csrf", &csrf),
            ("message", if failed { "Invalid login. Please try again." } else { "" }),
        ];
        let mut answer = html(self.pages.fill(Page::Login, &facts));
        secure(&mut answer, &nonce);
        if new {
            self.remember(&mut answer, &session);
        }
        answer
    }

    async fn log_in(&self, request: &mut Request, session: Option<Session>) -> Answer {
        let Some(form) = collect(&mut request.body).await else {
            return text(StatusCode::BAD_REQUEST, "too long\n");
        };
        let form = String::from_utf8_lossy(&form).into_owned();
        let csrf = parameter(Some(&form), "csrf_token");
        let Some(session) = session.filter(|session| csrf.is_some_and(|csrf| csrf == self.keys.csrf(session))) else {
            return text(
                StatusCode::BAD_REQUEST,
                "Bad Request: the CSRF session token is missing or does not match.\n",
            );
        };
        // What Flask-WTF does over HTTPS: a proxy that loses the port or the Referer breaks the login right here.
        if !comes_from_here(&request.head.headers) {
            return text(StatusCode::BAD_REQUEST, "Bad Request: the referrer does not match the host.\n");
        }
        drop(session);
        if parameter(Some(&form), "username").is_some_and(|user| user == "admin")
            && parameter(Some(&form), "password").is_some_and(|password| password == "admin")
        {
            let mut answer = redirect("/superset/welcome/");
            // A new session at login, so that a planted one is worth nothing.
            self.remember(&mut answer, &Session::begin("admin"));
            answer
        } else {
            redirect("/login/?failed=1")
        }
    }

    fn export(&self, query: Option<&str>) -> Answer {
        let rows = number(query, "rows").unwrap_or(EXPORT_ROWS).min(MOST_ROWS);
        let mut answer = Answer::new(StatusCode::OK, Body::stream(Export::new(rows, self.name)));
        let fields = &mut answer.head.headers;
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
        fields.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=export.csv"));
        fields.insert("x-accel-buffering", HeaderValue::from_static("no"));
        answer
    }

    async fn upload(&self, request: &mut Request) -> Answer {
        let mut bytes = 0_u64;
        let mut lines = 0_u64;
        while let Some(frame) = request.body.frame().await {
            match frame {
                Ok(Frame::Data(data)) => {
                    bytes += data.len() as u64;
                    lines += memchr::memchr_iter(b'\n', &data).count() as u64;
                }
                Ok(Frame::Trailers(_)) => {}
                Err(_) => return text(StatusCode::BAD_REQUEST, "upload broken off\n"),
            }
        }
        json(StatusCode::CREATED, &json!({ "bytes": bytes, "lines": lines, "replica": self.name }))
    }

    fn die(&self, query: Option<&str>) -> Answer {
        let seconds = number(query, "seconds").unwrap_or(KILLED_FOR).min(LONGEST_ABSENCE);
        self.kill.send_modify(|(count, absence)| (*count, *absence) = (*count + 1, Duration::from_secs(seconds)));
        let mut answer = json(StatusCode::OK, &json!({ "killed": self.name, "seconds": seconds }));
        answer.close = true;
        answer
    }

    /// What this replica was told about the client: shows the forwarded fields at work.
    fn who(&self, fields: &Fields) -> Value {
        let told = |name: &str| fields.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        json!({
            "replica": self.name,
            "served": self.served.load(Ordering::Relaxed),
            "host": told("host"),
            "x-forwarded-for": told("x-forwarded-for"),
            "x-forwarded-proto": told("x-forwarded-proto"),
            "x-forwarded-host": told("x-forwarded-host"),
            "x-forwarded-port": told("x-forwarded-port"),
            "x-real-ip": told("x-real-ip"),
            "x-request-id": told("x-request-id"),
            "traceparent": told("traceparent"),
        })
    }
}

/// Over HTTPS the `Referer` must name the host that the client sees, port included; over HTTP nothing is checked.
fn comes_from_here(fields: &Fields) -> bool {
    let field = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    if field("x-forwarded-proto") != Some("https") {
        return true;
    }
    let host = field("x-forwarded-host").or_else(|| field("host"));
    let referer = field("referer").and_then(|referer| referer.strip_prefix("https://"));
    match (host, referer) {
        (Some(host), Some(referer)) => referer.split('/').next() == Some(host),
        _ => false,
    }
}

/// Reads a small body; `None` when it is not small or broke off.
async fn collect(body: &mut Body) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(Frame::Data(data)) if content.len() + data.len() <= MAX_FORM => content.extend_from_slice(&data),
            Ok(Frame::Trailers(_)) => {}
            Ok(Frame::Data(_)) | Err(_) => return None,
        }
    }
    Some(content)
}

/// A value of a query or form; none of ours needs decoding.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| (key == name).then_some(value))
}

fn number(query: Option<&str>, name: &str) -> Option<u64> {
    parameter(query, name)?.parse().ok()
}

pub(super) fn text(status: StatusCode, body: &'static str) -> Answer {
    typed(status, "text/plain; charset=utf-8", Body::full(body))
}

fn json(status: StatusCode, value: &Value) -> Answer {
    typed(status, "application/json; charset=utf-8", Body::full(value.to_string()))
}

fn html(page: String) -> Answer {
    typed(StatusCode::OK, "text/html; charset=utf-8", Body::full(page))
}

pub(super) fn typed(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Answer::new(status, body);
    answer.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.head.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Cookie"));
    answer
}

fn redirect(to: &str) -> Answer {
    let mut answer = Answer::new(StatusCode::FOUND, Body::empty());
    if let Ok(to) = HeaderValue::try_from(to) {
        answer.head.headers.insert(header::LOCATION, to);
    }
    answer
}

/// What Talisman adds to a page.
fn secure(answer: &mut Answer, nonce: &str) {
    let policy = format!(
        "default-src 'self'; script-src 'self' 'strict-dynamic' 'nonce-{nonce}'; style-src 'self'; \
         connect-src 'self' wss:; img-src 'self' data:; object-src 'none'; base-uri 'self'"
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        answer.head.headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer.head.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer.head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

#[cfg(test)]
#[path = "superset_tests.rs"]
mod tests;
