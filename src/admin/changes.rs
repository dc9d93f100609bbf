//! What an operator may change, and who counts as one.
//!
//! Part of `admin`. A change is a POST with a JSON body of at most [`MOST`] bytes. It is let through when it comes over
//! the Unix socket, which its file mode guards, from the holder of a certificate that the configured authorities vouch
//! for, or carries the token; without any of them configured nothing is changed over the network. A page in an operator's browser gets nowhere: it would need the token, its origin is refused (RFC 6454),
//! and so is every content type that a form can send, so that a browser would have to ask first and is told no. Whatever
//! comes of it, one event tells who, what and how.

use std::net::SocketAddr;

use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use serde_json::Value;

use super::answers::{json, text};
use super::{Admin, Operations};
use crate::body::{Body, BodyError, Frame};
use crate::config::Secret;
use crate::head::{HeaderValue, request};
use crate::message::{Answer, Connection};
use crate::telemetry::events;
use crate::telemetry::metrics::AdminChange;

/// Longest body of a change.
pub const MOST: usize = 16 * 1024;

/// Shortest token. What is guessed a thousand times a second is not guessed in a lifetime from here on.
pub const SHORTEST_TOKEN: usize = 16;

/// Carries out a change: reads the body, does it, says what was done.
pub(super) type Change = fn(&dyn Operations, &[u8]) -> Result<Done, Wrong>;

/// What was done.
#[derive(Debug)]
pub struct Done {
    /// For the event: what it was done to.
    pub what: String,
    /// For the operator.
    pub answer: Value,
}

/// Why a change was not made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// The body says nothing that is understood.
    Malformed(String),
    /// It names something that does not exist.
    Unknown(String),
    /// It cannot be done as things are.
    Conflict(String),
}

/// Who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Somebody on the network.
    Network,
    /// Somebody on the network whose certificate the configured authorities vouch for.
    Certificate {
        /// The certificate's subject.
        subject: HeaderValue,
    },
    /// A process of this machine that may open the Unix socket.
    Socket {
        /// Its user.
        uid: u32,
        /// Its number, if the system tells.
        pid: Option<i32>,
    },
}

/// Who may change things, and how many may look on.
#[derive(Debug, Default)]
pub struct Access {
    /// Names, beside `localhost`, under which the listener may be asked, such as a service name in front of it; IP
    /// addresses always may, as no DNS answer can make a page have one for its origin.
    pub hosts: Vec<String>,
    /// The token of changes over the network.
    pub token: Option<Secret>,
    /// Whether looking needs what a change needs.
    pub guard_reads: bool,
    /// Live streams at once.
    pub max_streams: usize,
}

/// Why somebody may not change things.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Denied {
    NoToken,
    WrongToken,
    Foreign,
    ContentType,
}

impl Admin {
    /// Makes a change, or says why not; tells about it in any case.
    pub(super) async fn change(
        &self,
        action: &'static str,
        head: &request::Parts,
        body: Body,
        connection: &Connection,
        change: Change,
    ) -> Answer {
        let told = Told { action, caller: &self.caller, peer: connection.peer };
        if let Err(denied) = self.access.load().admit(head, &self.caller, connection.tls.is_some()) {
            return self.deny(&told, denied);
        }
        let body = match collect(body).await {
            Ok(body) => body,
            Err(status) => {
                told.refused(self, AdminChange::Invalid, "body not taken");
                let mut answer = text(status, &format!("the body must come, and have at most {MOST} bytes\n"));
                answer.close = true;
                return answer;
            }
        };
        match change(&*self.operations, &body) {
            Ok(Done { what, answer }) => {
                events::operator_changed(self.source.metrics(), action, &what, &told.from());
                json(&answer)
            }
            Err(wrong) => {
                let (status, why) = match wrong {
                    Wrong::Malformed(why) => (StatusCode::BAD_REQUEST, why),
                    Wrong::Unknown(why) => (StatusCode::NOT_FOUND, why),
                    Wrong::Conflict(why) => (StatusCode::CONFLICT, why),
                };
                told.refused(self, AdminChange::Invalid, &why);
                text(status, &format!("{why}\n"))
            }
        }
    }

    /// What somebody is told who may not look at `path`; `None` for who may.
    pub(super) fn deny_look(&self, path: &str, head: &request::Parts) -> Option<Answer> {
        let access = self.access.load();
        // Whoever only asks how the proxy is says nothing, and a kubelet has no token. A browser cannot send one for a page
        // that it is yet to load: the page is empty then, and asks for the token.
        let is_open = !access.guard_reads
            || matches!(path, "/live" | "/ready" | "/" | "/dashboard.css" | "/dashboard.js" | "/dashboard.svg");
        let denied = if is_from_elsewhere(head) {
            Denied::Foreign
        } else if is_open {
            return None;
        } else {
            access.authenticate(head, &self.caller).err()?
        };
        let (status, _, why) = denied.profile();
        let mut answer = text(status, &format!("{why}\n"));
        denied.challenge(&mut answer);
        Some(answer)
    }

    fn deny(&self, told: &Told<'_>, denied: Denied) -> Answer {
        let (status, counted, why) = denied.profile();
        told.refused(self, counted, why);
        let mut answer = text(status, &format!("{why}\n"));
        denied.challenge(&mut answer);
        // The body is not read.
        answer.close = true;
        answer
    }
}

/// Whether a browser says that a page of another origin wants this for itself. To follow a link to here is no harm.
fn is_from_elsewhere(head: &request::Parts) -> bool {
    let field = |name: &str| head.headers.get(name).map(HeaderValue::as_bytes);
    field("sec-fetch-site").is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
        && !(field("sec-fetch-mode") == Some(b"navigate") && field("sec-fetch-dest") == Some(b"document"))
}

impl Denied {
    /// Status, how it counts, and why.
    const fn profile(self) -> (StatusCode, AdminChange, &'static str) {
        match self {
            Self::NoToken => (
                StatusCode::FORBIDDEN,
                AdminChange::Unauthenticated,
                "not over the network: configure `admin.token` or `admin.client_authorities`, or use `admin.socket`",
            ),
            Self::WrongToken => (
                StatusCode::UNAUTHORIZED,
                AdminChange::Unauthenticated,
                "this needs `Authorization: Bearer` and the token",
            ),
            Self::Foreign => (StatusCode::FORBIDDEN, AdminChange::Foreign, "not for pages of other origins"),
            Self::ContentType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                AdminChange::Invalid,
                "this needs `Content-Type: application/json`",
            ),
        }
    }

    fn challenge(self, answer: &mut Answer) {
        if self == Self::WrongToken {
            // RFC 9110 §15.5.2, RFC 6750 §3.
            answer.head.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sluicegate\""));
        }
    }
}

/// Who asked for what, for the event.
struct Told<'a> {
    action: &'static str,
    caller: &'a Caller,
    peer: SocketAddr,
}

impl Told<'_> {
    fn from(&self) -> String {
        match self.caller {
            Caller::Network => self.peer.to_string(),
            Caller::Certificate { subject } => {
                format!("{} certificate {}", self.peer, String::from_utf8_lossy(subject.as_bytes()))
            }
            Caller::Socket { uid, pid: Some(pid) } => format!("uid {uid} pid {pid}"),
            Caller::Socket { uid, pid: None } => format!("uid {uid}"),
        }
    }

    fn refused(&self, admin: &Admin, counted: AdminChange, why: &str) {
        events::operator_refused(admin.source.metrics(), self.action, counted, &self.from(), why);
    }
}

impl Access {
    /// Whether `caller` is somebody: by a certificate, by the right to open the socket, or by the token.
    fn authenticate(&self, head: &request::Parts, caller: &Caller) -> Result<(), Denied> {
        if *caller != Caller::Network {
            return Ok(());
        }
        let token = self.token.as_ref().ok_or(Denied::NoToken)?;
        let given = bearer(head).ok_or(Denied::WrongToken)?;
        // In a time that does not depend on where they differ.
        aws_lc_rs::constant_time::verify_slices_are_equal(given, token.expose()).map_err(|_| Denied::WrongToken)
    }

    fn admit(&self, head: &request::Parts, caller: &Caller, encrypted: bool) -> Result<(), Denied> {
        // Browsers say where a request comes from; other clients do not.
        let field = |name: &str| head.headers.get(name).map(HeaderValue::as_bytes);
        if field("sec-fetch-site").is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
            return Err(Denied::Foreign);
        }
        if head.headers.contains_key(ORIGIN) && !is_own_origin(head, encrypted) {
            return Err(Denied::Foreign);
        }
        self.authenticate(head, caller)?;
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(Denied::ContentType) }
    }
}

/// RFC 6750 §2.1. Twice is never.
fn bearer(head: &request::Parts) -> Option<&[u8]> {
    let mut all = head.headers.get_all(AUTHORIZATION);
    let (value, None) = (all.next()?.as_bytes(), all.next()) else { return None };
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether the page, if it is one, was served under the name that is asked now. Where this listener speaks TLS, a page that
/// came without could be anybody's; where it does not, something in front of it may.
fn is_own_origin(head: &request::Parts, encrypted: bool) -> bool {
    let mut origins = head.headers.get_all(ORIGIN);
    let (Some(origin), None, Some(host)) = (origins.next(), origins.next(), head.headers.get(HOST)) else {
        return false;
    };
    let origin = origin.as_bytes();
    let plain = origin.strip_prefix(b"http://").filter(|_| !encrypted);
    let named = plain.or_else(|| origin.strip_prefix(b"https://"));
    named.is_some_and(|named| named.eq_ignore_ascii_case(host.as_bytes()))
}

/// The body, if it is short enough.
async fn collect(mut body: Body) -> Result<Vec<u8>, StatusCode> {
    if body.remaining().is_some_and(|length| length > MOST as u64) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut collected = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(Frame::Data(more)) if collected.len().saturating_add(more.len()) <= MOST => {
                collected.extend_from_slice(&more);
            }
            Ok(Frame::Data(_)) => return Err(StatusCode::PAYLOAD_TOO_LARGE),
            Ok(Frame::Trailers(_)) => {}
            Err(BodyError::Late(_)) => return Err(StatusCode::REQUEST_TIMEOUT),
            Err(_) => return Err(StatusCode::BAD_REQUEST),
        }
    }
    Ok(collected)
}
