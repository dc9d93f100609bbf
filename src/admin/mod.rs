//! The operators' face: liveness, readiness, metrics and status on a listener of its own.
//!
//! Floor 6. In: requests of the admin listener. Out: what [`Source`] tells, as text or JSON; `app` implements it over
//! the snapshot and the serving state. Requests that name a foreign host are refused, so that a page in an operator's
//! browser cannot read all this by DNS rebinding. Deliberately absent: anything that changes state, and therefore
//! authentication.

mod answers;
pub mod status;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{ACCEPT, HOST};
use http::{Method, StatusCode, request};

use crate::lifecycle::Phase;
use crate::message::{Answer, Answering, Handler, Refused, Request};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Exposition, phase_word};
use answers::{json, refusal_status, text};
pub use status::Status;

/// What the admin listener shows.
pub trait Source: fmt::Debug + Send + Sync {
    /// Everything about the process now. Called for each `/status`, `/ready` and, through the gauges, `/metrics`.
    fn status(&self) -> Status;

    /// The phase of the process.
    fn phase(&self) -> Phase;

    /// The metrics.
    fn metrics(&self) -> &Metrics;
}

/// Answers requests of the admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    source: Arc<dyn Source>,
    hosts: Arc<[String]>,
}

impl Admin {
    /// Shows `source`. `hosts` are names, beside `localhost`, under which the listener may be asked, such as a service
    /// name in front of it; IP addresses always may, as no DNS answer can make a page have one for its origin.
    pub fn new(source: Arc<dyn Source>, hosts: &[String]) -> Self {
        Self { source, hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    fn answer(&self, head: &request::Parts) -> Answer {
        if !self.is_ours(head) {
            return text(StatusCode::MISDIRECTED_REQUEST, "not a name of this listener\n");
        }
        let place: fn(&Self, &request::Parts) -> Answer = match head.uri.path() {
            "/live" => |_, _| text(StatusCode::OK, "alive\n"),
            "/ready" => |admin, _| admin.ready(),
            "/metrics" => |admin, head| admin.metrics(head),
            "/status" => |admin, _| json(&admin.source.status()),
            _ => return text(StatusCode::NOT_FOUND, "there are /live, /ready, /metrics and /status\n"),
        };
        match head.method {
            Method::GET => place(self, head),
            Method::HEAD => answers::without_body(place(self, head)),
            _ => answers::method_not_allowed(),
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
            || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

impl Handler for Admin {
    fn handle(&self, request: Request) -> Answering {
        let answer = self.answer(&request.head);
        Box::pin(std::future::ready(answer))
    }

    fn refuse(&self, refused: Refused) -> Answer {
        let mut answer = text(refusal_status(refused.refusal), "the request was not understood\n");
        answer.close = true;
        answer
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
    let asks = head.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|accept| {
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
