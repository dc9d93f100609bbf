//! Sends one answer on an HTTP/2 stream.
//!
//! Floor 6. Data is pulled from the endpoint only when the client has opened a window and the connection's ledger has
//! room, so that a client which reads nothing costs next to nothing. A body that breaks becomes RST_STREAM: never an
//! END_STREAM that would make a torn answer look whole. Deliberately absent: what to answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{Method, Response, StatusCode};

use super::ledger::{Charged, Ledger};
use crate::body::{Body, BodyError, Frame};
use crate::config::listener::ClientClocks;
use crate::head::{Fields, response};
use crate::lexicon::Clock;
use crate::net::date;
use crate::serve::pace::Patience;
use crate::serve::streams::{Asking, Panicked, guarded, head, prepare};

/// The sending half of a stream after its head.
pub(super) struct Sending {
    stream: SendStream<Charged>,
    ledger: Arc<Ledger>,
    patience: Patience,
}

/// Why an answer was not sent whole. The stream is reset already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cut;

impl Asking for SendResponse<Charged> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_reset(cx).map(drop)
    }

    fn interim(&mut self, waiting: Vec<(StatusCode, Fields)>, _: &mut Context<'_>) {
        for (status, mut fields) in waiting {
            // RFC 9113 §8.6: there is no 101 in HTTP/2.
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            head::strip(&mut fields);
            let mut response = Response::new(());
            *response.status_mut() = status;
            *response.headers_mut() = fields.into();
            // Fails on a dead stream alone, which whoever waits for the answer sees.
            drop(self.send_informational(response));
        }
    }
}

/// Sends the head of an answer whose stream stays open as a tunnel.
///
/// # Errors
/// The stream is dead.
pub(super) fn open(respond: &mut SendResponse<Charged>, mut head: response::Parts) -> Result<SendStream<Charged>, Cut> {
    head::strip(&mut head.headers);
    date::stamp(&mut head.headers);
    respond.send_response(head.into(), false).map_err(|_| Cut)
}

/// Sends an answer to a request made with `method`.
///
/// # Errors
/// The client is gone, takes nothing, or the body broke.
pub(super) async fn answer(
    respond: &mut SendResponse<Charged>,
    mut head: response::Parts,
    body: Body,
    method: &Method,
    ledger: &Arc<Ledger>,
    clocks: &ClientClocks,
) -> Result<(), Cut> {
    let follows = prepare(&mut head, &body, method);
    let Ok(stream) = respond.send_response(head.into(), !follows) else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Err(Cut);
    };
    if !follows {
        return Ok(());
    }
    let patience = Patience::new(clocks.write_idle, clocks.min_response_rate);
    let mut sending = Sending { stream, ledger: Arc::clone(ledger), patience };
    let mut riding = Riding { body, ledger };
    match sending.send(&mut riding.body).await {
        Ok(()) => Ok(()),
        Err(reason) => {
            sending.stream.send_reset(reason);
            if let Some(clock) = sending.patience.late() {
                std::mem::take(&mut riding.body).late(clock);
            }
            Err(Cut)
        }
    }
}

/// A body on its way; dropped with its connection, it hears why.
struct Riding<'a> {
    body: Body,
    ledger: &'a Ledger,
}

impl Drop for Riding<'_> {
    fn drop(&mut self) {
        if self.ledger.is_stalled() {
            std::mem::take(&mut self.body).late(Clock::ClientWrite);
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
                    return self.stream.send_trailers(trailers.into()).map_err(|_| Reason::INTERNAL_ERROR);
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
                return self.patience.poll(self.ledger.path(), cx).map(|()| Err(Reason::CANCEL));
            }
            self.patience.rest(0);
            match ready!(guarded(|| body.poll_frame(cx))) {
                Ok(None) => Poll::Ready(Ok(None)),
                Ok(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
                // RFC 9113 §8.1: an answer that breaks off is told by a stream error.
                Ok(Some(Err(BodyError::Gone(_) | BodyError::Malformed(_) | BodyError::Late(_))))
                | Ok(Some(Err(BodyError::TooLarge(_) | BodyError::Untyped | BodyError::Buffer(_))))
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
        poll_fn(|cx| poll_window(&mut self.stream, &mut self.patience, &self.ledger, cx)).await
    }
}

/// Ready with the window, or with CANCEL when the stream is dead or the client opens no window in time.
pub(super) fn poll_window(
    stream: &mut SendStream<Charged>,
    patience: &mut Patience,
    ledger: &Ledger,
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
                Poll::Pending => return patience.poll(ledger.path(), cx).map(|()| Err(Reason::CANCEL)),
            },
            window => {
                patience.rest(window);
                return Poll::Ready(Ok(window));
            }
        }
    }
}
