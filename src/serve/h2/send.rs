//! Sends one answer on an HTTP/2 stream.
//!
//! Floor 6. Data is pulled from the endpoint only when the client has opened a window and the connection's ledger has
//! room, so that a client which reads nothing costs next to nothing. A body that breaks becomes RST_STREAM: never an
//! END_STREAM that would make a torn answer look whole. Deliberately absent: what to answer.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, response};

use super::head;
use super::ledger::{Charged, Ledger};
use crate::body::{Body, BodyError, Frame};
use crate::net::date;
use crate::net::timer::Timer;

/// The sending half of a stream after its head.
pub(super) struct Sending {
    stream: SendStream<Charged>,
    ledger: Arc<Ledger>,
    patience: Patience,
}

/// How long a client may take nothing.
pub(super) struct Patience {
    longest: Duration,
    timer: Timer,
    waiting: bool,
}

impl Patience {
    /// Lasts `longest` for each wait.
    pub(super) const fn new(longest: Duration) -> Self {
        Self { longest, timer: Timer::new(), waiting: false }
    }

    /// Ready when it is over; the first call begins the wait.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting {
            self.waiting = true;
            self.timer.arm(self.longest);
        }
        self.timer.poll(cx)
    }

    /// Ends the wait.
    pub(super) const fn rest(&mut self) {
        self.waiting = false;
        self.timer.disarm();
    }
}

/// Why an answer was not sent whole. The stream is reset already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cut;

/// Sends interim responses.
pub(super) fn interim(respond: &mut SendResponse<Charged>, waiting: Vec<(StatusCode, HeaderMap)>) {
    for (status, mut fields) in waiting {
        // RFC 9113 §8.6: there is no 101 in HTTP/2.
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            continue;
        }
        head::strip(&mut fields);
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        // Fails on a dead stream alone, which whoever waits for the answer sees.
        drop(respond.send_informational(response));
    }
}

/// Makes the head of an answer fit for HTTP/2, and tells whether content follows.
fn prepare(head: &mut response::Parts, body: &Body, method: &Method) -> bool {
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
        && let header::Entry::Vacant(vacant) = head.headers.entry(header::CONTENT_LENGTH)
        && let Some(length) = body.remaining()
    {
        vacant.insert(HeaderValue::from(length));
    }
    !bodiless && !body.is_end()
}

/// Sends the head of an answer whose stream stays open as a tunnel.
///
/// # Errors
/// The stream is dead.
pub(super) fn open(respond: &mut SendResponse<Charged>, mut head: response::Parts) -> Result<SendStream<Charged>, Cut> {
    head::strip(&mut head.headers);
    date::stamp(&mut head.headers);
    respond.send_response(Response::from_parts(head, ()), false).map_err(|_| Cut)
}

/// Sends an answer to a request made with `method`.
///
/// # Errors
/// The client is gone, takes nothing, or the body broke.
pub(super) async fn answer(
    respond: &mut SendResponse<Charged>,
    mut head: response::Parts,
    mut body: Body,
    method: &Method,
    ledger: &Arc<Ledger>,
    write_idle: Duration,
) -> Result<(), Cut> {
    let follows = prepare(&mut head, &body, method);
    let Ok(stream) = respond.send_response(Response::from_parts(head, ()), !follows) else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Err(Cut);
    };
    if !follows {
        return Ok(());
    }
    let mut sending = Sending { stream, ledger: Arc::clone(ledger), patience: Patience::new(write_idle) };
    match sending.send(&mut body).await {
        Ok(()) => Ok(()),
        Err(reason) => {
            sending.stream.send_reset(reason);
            Err(Cut)
        }
    }
}

impl Sending {
    async fn send(&mut self, body: &mut Body) -> Result<(), Reason> {
        // Not a byte leaves the endpoint for a client whose window has been closed from the start. Later on one piece
        // may wait here, as a client may close its window at the last byte and still has to learn of the end.
        self.window(1).await?;
        loop {
            match self.pull(body).await? {
                None => return self.finish(Charged::empty(), true),
                Some(Frame::Data(data)) => {
                    if self.data(data, body).await? {
                        return Ok(());
                    }
                }
                Some(Frame::Trailers(mut trailers)) => {
                    head::strip(&mut trailers);
                    return self.stream.send_trailers(trailers).map_err(|_| Reason::INTERNAL_ERROR);
                }
            }
        }
    }

    /// The next frame of the body, unless the client resets the stream meanwhile.
    async fn pull(&mut self, body: &mut Body) -> Result<Option<Frame>, Reason> {
        poll_fn(|cx| {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Reason::CANCEL));
            }
            if self.ledger.poll_room(cx).is_pending() {
                return self.patience.poll(cx).map(|()| Err(Reason::CANCEL));
            }
            self.patience.rest();
            match ready!(guarded(|| body.poll_frame(cx))) {
                Ok(None) => Poll::Ready(Ok(None)),
                Ok(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
                // RFC 9113 §8.1: an answer that breaks off is told by a stream error.
                Ok(Some(Err(BodyError::Gone(_) | BodyError::Malformed(_) | BodyError::Late(_))))
                | Ok(Some(Err(BodyError::TooLarge(_) | BodyError::Buffer(_))))
                | Err(Panicked) => Poll::Ready(Err(Reason::INTERNAL_ERROR)),
            }
        })
        .await
    }

    /// Sends a piece as the window allows; whether it was the last.
    async fn data(&mut self, data: Bytes, body: &mut Body) -> Result<bool, Reason> {
        let mut rest = Charged::new(data, &self.ledger);
        while rest.has_remaining() {
            let window = self.window(rest.remaining()).await?;
            let part = rest.split_to(window);
            let last = !rest.has_remaining() && body.is_end();
            self.finish(part, last)?;
            if last {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn finish(&mut self, data: Charged, end: bool) -> Result<(), Reason> {
        self.stream.send_data(data, end).map_err(|_| Reason::CANCEL)
    }

    /// Waits until the client takes at least a byte of `wanted`; how many it takes now.
    async fn window(&mut self, wanted: usize) -> Result<usize, Reason> {
        // What is reserved is taken from the connection's window: never more than is at hand.
        self.stream.reserve_capacity(wanted);
        poll_fn(|cx| poll_window(&mut self.stream, &mut self.patience, cx)).await
    }
}

/// Ready with the window, or with CANCEL when the stream is dead or the client opens no window in time.
pub(super) fn poll_window(
    stream: &mut SendStream<Charged>,
    patience: &mut Patience,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Reason>> {
    loop {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Reason::CANCEL));
        }
        match stream.capacity() {
            0 => match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(Err(Reason::CANCEL)),
                Poll::Pending => return patience.poll(cx).map(|()| Err(Reason::CANCEL)),
            },
            window => {
                patience.rest();
                return Poll::Ready(Ok(window));
            }
        }
    }
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
