//! The operators' face: liveness, readiness, metrics, status and changes on a listener of its own.
//!
//! Floor 6. In: requests of the admin listener. Out: what [`Source`] tells, as text or JSON, and what [`Operations`]
//! does; `app` implements both over the snapshot and the serving state. [`PLACES`] is the one table of what there is: a
//! place is looked at (GET) or changes something (POST), never both, so that no GET can change anything. Requests that
//! name a foreign host are refused, so that a page in an operator's browser cannot read all this by DNS rebinding; who
//! may change things is in [`changes`].

mod answers;
mod bans;
pub mod changes;
mod dashboard;
mod drains;
mod exchanges;
pub mod feed;
pub mod status;
mod wanted;
pub mod words;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{ACCEPT, HOST};
use http::{Method, StatusCode};

use crate::balance::drain::Target;
use crate::head::request;
use crate::lifecycle::Phase;
use crate::limit::{Scope, Subject};
use crate::message::{Answer, Answering, Handler, Refused, Request};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Exposition, phase_word};
use crate::telemetry::recorder::Recorder;
use crate::telemetry::redact::Redactor;
use answers::{json, refusal_status, text};
use changes::Change;
pub use changes::{Access, Caller, Wrong};
use dashboard::Dashboard;
use feed::Feeds;
pub use status::Status;

/// What the admin listener shows.
pub trait Source: fmt::Debug + Send + Sync {
    /// Everything about the process now. Called for each `/status`, `/ready` and, through the gauges, `/metrics`.
    fn status(&self) -> Status;

    /// All bans, those that end last first.
    fn bans(&self) -> Vec<status::Ban>;

    /// The phase of the process.
    fn phase(&self) -> Phase;

    /// The metrics.
    fn metrics(&self) -> &Metrics;

    /// The flight recorder.
    fn recorder(&self) -> &Recorder;

    /// Keeps secrets out of what is shown of a record; another one once another configuration is in use.
    fn redactor(&self) -> Arc<Redactor>;
}

/// What an operator may do. Called on the control runtime: must not block.
pub trait Operations: fmt::Debug + Send + Sync {
    /// Takes endpoints out of service, for a while or until they are put back.
    ///
    /// # Errors
    /// Why it was not done.
    fn drain(&self, target: Target, lasting: Option<Duration>, even_the_last: bool) -> Result<(), Wrong>;

    /// Puts endpoints back.
    ///
    /// # Errors
    /// Why it was not done.
    fn undrain(&self, target: Target) -> Result<(), Wrong>;

    /// Shuts somebody out for a while.
    ///
    /// # Errors
    /// Why it was not done.
    fn ban(&self, subject: Subject, scope: Scope, lasting: Duration, reason: Cow<'static, str>) -> Result<(), Wrong>;

    /// Lets somebody in again.
    ///
    /// # Errors
    /// Why it was not done.
    fn unban(&self, subject: &Subject, scope: Scope) -> Result<(), Wrong>;
}

/// Answers requests of the admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    source: Arc<dyn Source>,
    operations: Arc<dyn Operations>,
    access: Arc<ArcSwap<Access>>,
    dashboard: Dashboard,
    feeds: Feeds,
    caller: Caller,
}

/// What happens at a place.
#[derive(Clone, Copy)]
enum Act {
    /// GET and HEAD show something.
    Look(fn(&Admin, &request::Parts) -> Answer),
    /// POST changes something.
    Change(Change),
}

/// What there is and what it says, for people and programs: OpenAPI 3.1. A test compares it with [`PLACES`].
const OPENAPI: &str = include_str!("openapi.json");

/// Everything there is, in the order in which an unknown path is told of it.
const PLACES: &[(&str, Act)] = &[
    ("/", Act::Look(Admin::page)),
    ("/dashboard/live", Act::Look(|admin, _| admin.watch())),
    ("/dashboard.css", Act::Look(|_, _| dashboard::stylesheet())),
    ("/dashboard.js", Act::Look(|_, _| dashboard::script())),
    ("/dashboard.svg", Act::Look(|_, _| dashboard::icon())),
    ("/overview", Act::Look(|admin, _| admin.overview())),
    ("/live", Act::Look(|_, _| text(StatusCode::OK, "alive\n"))),
    ("/ready", Act::Look(|admin, _| admin.ready())),
    ("/metrics", Act::Look(Admin::metrics)),
    ("/status", Act::Look(|admin, _| json(&admin.source.status()))),
    ("/drain", Act::Change(drains::drain)),
    ("/undrain", Act::Change(drains::undrain)),
    ("/bans", Act::Look(|admin, _| json(&admin.source.bans()))),
    ("/ban", Act::Change(bans::ban)),
    ("/unban", Act::Change(bans::unban)),
    ("/exchanges", Act::Look(exchanges::list)),
    ("/exchanges/{request-id}", Act::Look(exchanges::find)),
    ("/records", Act::Look(exchanges::follow)),
    ("/openapi.json", Act::Look(|_, _| answers::typed(StatusCode::OK, "application/json", OPENAPI.to_owned()))),
];

impl Admin {
    /// Shows `source` and has `operations` do what operators ask for.
    pub fn new(source: Arc<dyn Source>, operations: Arc<dyn Operations>, access: Access) -> Self {
        let feeds = Feeds::new(Arc::clone(&source.metrics().admin().streams));
        feeds.bound(access.max_streams);
        let (access, dashboard) = (Arc::new(ArcSwap::from_pointee(access)), Dashboard::new());
        Self { source, operations, access, dashboard, feeds, caller: Caller::Network }
    }

    /// The same for a connection of this caller.
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { caller, ..self.clone() }
    }

    /// Other rules about who may do what, for all clones.
    pub fn renew(&self, access: Access) {
        self.feeds.bound(access.max_streams);
        self.access.store(Arc::new(access));
    }

    async fn answer(self, request: Request) -> Answer {
        let head = &request.head;
        if !self.is_ours(head) {
            return text(StatusCode::MISDIRECTED_REQUEST, "not a name of this listener\n");
        }
        let path = head.uri.path();
        let Some((path, act)) = PLACES.iter().find(|(known, _)| is_at(known, path)) else {
            let paths: Vec<&str> = PLACES.iter().map(|(path, _)| *path).collect();
            return text(StatusCode::NOT_FOUND, &format!("there are {}\n", paths.join(" ")));
        };
        if matches!(act, Act::Look(_))
            && let Some(denied) = self.deny_look(path, head)
        {
            return denied;
        }
        match (act, &head.method) {
            (Act::Look(look), &Method::GET) => look(&self, head),
            (Act::Look(look), &Method::HEAD) => answers::without_body(look(&self, head)),
            (Act::Look(_), _) => answers::method_not_allowed("GET, HEAD"),
            (Act::Change(change), &Method::POST) => {
                let action = path.trim_start_matches('/');
                self.change(action, head, request.body, &request.connection, *change).await
            }
            (Act::Change(_), _) => answers::method_not_allowed("POST"),
        }
    }

    /// 200 while new connections are welcome.
    fn ready(&self) -> Answer {
        match unready_because(self.source.phase(), &self.source.status()) {
            None => text(StatusCode::OK, "ready\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {reason}\n")),
        }
    }

    fn metrics(&self, head: &request::Parts) -> Answer {
        let form = exposition(head);
        match self.source.metrics().expose(form) {
            Ok(exposed) => answers::typed(StatusCode::OK, form.content_type(), exposed),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n"),
        }
    }

    /// Whether the request names this listener. One without a host is not from a browser.
    fn is_ours(&self, head: &request::Parts) -> bool {
        let host = match (head.uri.authority(), head.headers.get(HOST)) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => match host.to_str() {
                Ok(host) => host,
                Err(_) => return false,
            },
            (None, None) => return true,
        };
        let name = without_port(host);
        name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.access.load().hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

impl Handler for Admin {
    fn handle(&self, request: Request) -> Answering {
        Box::pin(self.clone().answer(request))
    }

    fn refuse(&self, refused: Refused) -> Answer {
        let mut answer = text(refusal_status(refused.refusal), "the request was not understood\n");
        answer.close = true;
        answer
    }
}

/// Whether `path` is the place `known`, whose last part may be a name in braces that stands for any other.
fn is_at(known: &str, path: &str) -> bool {
    match known.split_once('{') {
        Some((before, _)) => path.strip_prefix(before).is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
        None => known == path,
    }
}

/// Why the process is not ready; `None` when it is.
fn unready_because(phase: Phase, status: &Status) -> Option<&'static str> {
    if phase >= Phase::Unready {
        Some(phase_word(phase))
    } else if status.generation == 0 {
        Some("no configuration loaded")
    } else if status.listeners.iter().all(|listener| listener.addresses.is_empty()) {
        Some("no listener is up")
    } else {
        None
    }
}

/// OpenMetrics for those who ask for it, which scrapers do by name.
fn exposition(head: &request::Parts) -> Exposition {
    let asks = head.headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok()).any(|accept| {
        accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            // RFC 9110 §12.4.2: a weight of zero means "not acceptable".
            named && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    });
    if asks { Exposition::OpenMetrics } else { Exposition::Prometheus }
}

/// The host of `host[:port]`, brackets of an IPv6 address removed.
fn without_port(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split_once(']').map_or(host, |(address, _)| address);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests;
