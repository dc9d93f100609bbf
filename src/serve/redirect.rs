//! Plain listeners that send clients to HTTPS.

use http::header::{CACHE_CONTROL, HOST, LOCATION};
use http::{HeaderValue, StatusCode};

use crate::body::Body;
use crate::config::listener::RedirectToHttps;
use crate::message::{Answer, Answering, Handler, Refused, Request};

/// Answers with a redirect where the listener says so; the paths it spares go on to the handler within.
#[derive(Clone)]
pub struct Redirecting<H>(pub H);

impl<H: Handler> Handler for Redirecting<H> {
    fn handle(&self, request: Request) -> Answering {
        match request.connection.listener.redirect_to_https.as_ref().and_then(|to| redirect(&request, to)) {
            Some(answer) => Box::pin(async { answer }),
            None => self.0.handle(request),
        }
    }

    fn refuse(&self, refused: Refused) -> Answer {
        self.0.refuse(refused)
    }
}

/// 308 keeps method and body (RFC 9110 §15.4.9). `None` where the path is spared, or the host is unknown: the handler
/// says then what is wrong with it.
fn redirect(request: &Request, to: &RedirectToHttps) -> Option<Answer> {
    let path = request.head.uri.path();
    let spared = to.except.iter().any(|prefix| {
        path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
    });
    if spared {
        return None;
    }
    let host = request.head.headers.get(HOST)?.to_str().ok()?;
    let name = match host.strip_prefix('[') {
        // An IPv6 address keeps its brackets.
        Some(rest) => host.get(..rest.find(']')? + 2)?,
        None => host.split(':').next()?,
    };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte)) {
        return None;
    }
    let target = request.head.uri.path_and_query().map_or("/", |target| target.as_str());
    let location = match to.port {
        443 => format!("https://{name}{target}"),
        port => format!("https://{name}:{port}{target}"),
    };
    let mut answer = Answer::new(StatusCode::PERMANENT_REDIRECT, Body::empty());
    answer.head.headers.insert(LOCATION, HeaderValue::try_from(location).ok()?);
    answer.head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(answer)
}
