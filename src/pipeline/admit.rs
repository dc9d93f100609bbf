//! Refuses, before anything is spent on it, what must not be forwarded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http::Method;
use http::header::CONTENT_TYPE;

use crate::body::{Body, BodyError, Frame, Source};
use crate::config;
use crate::head::{HeaderValue, request};
use crate::headers;
use crate::message::Upgrade;

use super::fault::Fault;
use super::record::Story;

pub(super) use crate::headers::Host;

/// Checks method and host; the host by which the request is routed.
///
/// # Errors
/// [`Fault::Method`], [`Fault::BadHost`].
pub(super) fn admit(head: &request::Parts, upgrade: Option<Upgrade>, methods: &[Method]) -> Result<Host, Fault> {
    // RFC 9110 §9.3.6 and §9.3.8: a tunnel to anywhere, and an echo of cookies, are no business of a reverse proxy.
    if head.method == Method::TRACE || (head.method == Method::CONNECT && upgrade.is_none()) {
        return Err(Fault::Method);
    }
    if upgrade.is_none() && !methods.contains(&head.method) {
        return Err(Fault::Method);
    }
    headers::host(head).map_err(|_| Fault::BadHost)
}

/// Whether repeating the request changes nothing: a safe method (RFC 9110 §9.2.1), or a POST that the route lists.
pub(super) fn is_read_only(head: &request::Parts, route: &config::Route) -> bool {
    head.method.is_safe()
        || (head.method == Method::POST
            && route
                .read_only_posts
                .iter()
                .any(|path| head.uri.path().trim_end_matches('/') == path.trim_end_matches('/')))
}

/// The body, which is of a type that the route takes.
///
/// # Errors
/// [`Fault::ContentType`].
pub(super) fn typed(head: &request::Parts, body: Body, route: &config::Route) -> Result<Body, Fault> {
    if route.content_types.is_empty() || body.is_end() {
        return Ok(body);
    }
    // Over HTTP/2 and HTTP/3 the end may come a packet after the head.
    if head.method.is_safe() && body.remaining().is_none() && !head.headers.contains_key(CONTENT_TYPE) {
        return Ok(Body::stream(Bare(body)));
    }
    let written = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media = written.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let taken = route.content_types.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(media));
    if taken { Ok(body) } else { Err(Fault::ContentType) }
}

/// A body without content, or it is refused.
struct Bare(Body);

impl Source for Bare {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self.0.poll_frame(cx) {
            Poll::Ready(Some(Ok(Frame::Data(_)))) => Poll::Ready(Some(Err(BodyError::Untyped))),
            polled => polled,
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.0.remaining()
    }

    fn is_end(&self) -> bool {
        self.0.is_end()
    }
}

/// The body, counted and bounded as the route says.
///
/// # Errors
/// [`Fault::BodyTooLarge`] when it says so itself.
pub(super) fn meter(body: Body, route: &config::Route, story: &mut Story) -> Result<Body, Fault> {
    if body.is_end() {
        return Ok(body);
    }
    if body.remaining().is_some_and(|length| length > route.max_body) {
        return Err(Fault::BodyTooLarge);
    }
    let received = story.count_received();
    Ok(Body::stream(Metered { body, most: route.max_body, received }))
}

struct Metered {
    body: Body,
    most: u64,
    received: Arc<AtomicU64>,
}

impl Source for Metered {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.body.poll_frame(cx);
        if let Poll::Ready(Some(Ok(Frame::Data(content)))) = &polled {
            let length = content.len() as u64;
            let sum = self.received.fetch_add(length, Ordering::Relaxed).saturating_add(length);
            if sum > self.most {
                return Poll::Ready(Some(Err(BodyError::TooLarge(self.most))));
            }
        }
        polled
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

#[cfg(test)]
mod tests;
