//! What HTTP/2 and HTTP/3 have in common: judged heads, the head of an answer, caught panics.
//!
//! Floor 6. Deliberately absent: frames and windows, which the protocols have of their own.

pub(super) mod head;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, ready};

use http::{Method, StatusCode, header};

use crate::body::Body;
use crate::head::{Fields, HeaderValue, response};
use crate::message::{Answer, Handler, Request};
use crate::net::date;

/// How a stream ended, as far as its connection minds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// Nothing to do.
    Well,
    /// The handler wishes the connection to end.
    Close,
    /// The client sent what it must not send; too many of these end the connection.
    Malformed,
    /// The client reset the stream before there was an answer; if it does little else, it is asked to leave.
    Abandoned,
}

/// The client's end of a stream while its answer is being made.
pub(super) trait Asking {
    /// Ready when the client has reset or stopped the stream.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Sends interim responses.
    fn interim(&mut self, waiting: Vec<(StatusCode, Fields)>, cx: &mut Context<'_>);
}

/// Waits for the handler; `None` when the client leaves first.
pub(super) async fn answering<H: Handler>(
    handler: &H,
    request: Request,
    stream: &mut impl Asking,
) -> Option<Result<Answer, Panicked>> {
    let interim = request.interim.clone();
    let mut request = Some(request);
    let mut answering = None;
    poll_fn(|cx| {
        if stream.poll_gone(cx).is_ready() {
            return Poll::Ready(None);
        }
        let polled = guarded(|| {
            if let Some(request) = request.take() {
                answering = Some(handler.handle(request));
            }
            answering.as_mut().map_or(Poll::Pending, |answering| answering.as_mut().poll(cx))
        });
        if !interim.is_empty() {
            stream.interim(interim.take(), cx);
        }
        Poll::Ready(Some(ready!(polled)))
    })
    .await
}

/// Makes the head of an answer fit for a stream, and tells whether content follows.
pub(super) fn prepare(head: &mut response::Parts, body: &Body, method: &Method) -> bool {
    head::strip(&mut head.headers);
    date::stamp(&mut head.headers);
    // RFC 9110 §6.4.1: these have no content, whatever the endpoint sends.
    let bodiless = *method == Method::HEAD
        || head.status == StatusCode::NO_CONTENT
        || head.status == StatusCode::NOT_MODIFIED
        || head.status.is_informational();
    if head.status == StatusCode::NO_CONTENT || head.status.is_informational() {
        // RFC 9110 §8.6.
        head.headers.remove(header::CONTENT_LENGTH);
    } else if !bodiless
        && !head.headers.contains_key(header::CONTENT_LENGTH)
        && let Some(length) = body.remaining()
    {
        head.headers.append(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    !bodiless && !body.is_end()
}

/// Something panicked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panicked;

/// Polls what is not ours: a panic there is one exchange's misfortune, not its connection's. What panicked is dropped
/// by the caller and never polled again.
pub(super) fn guarded<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<Result<T, Panicked>> {
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(polled) => polled.map(Ok),
        Err(payload) => {
            // The panic hook has told about it already.
            drop(payload);
            Poll::Ready(Err(Panicked))
        }
    }
}
