//! Sends one answer on an HTTP/3 stream.
//!
//! Floor 6. Data is pulled from the endpoint only when what was pulled before has been taken, so that a client which
//! reads nothing costs one piece. A body that breaks becomes a reset: never an end that would make a torn answer look
//! whole. Deliberately absent: what to answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};

use super::tally::Tally;
use crate::body::{Body, BodyError, Frame};
use crate::config::Listener;
use crate::h3::{Code, frame, head as codec};
use crate::head::{Fields, response};
use crate::message::MAX_INTERIM;
use crate::net::date;
use crate::serve::pace::Patience;
use crate::serve::quic::seam::{Lost, SendHalf};
use crate::serve::streams::{Asking, Panicked, guarded, head, prepare};

/// The sending half of a stream.
pub(super) struct Sending<S: SendHalf> {
    stream: S,
    /// Frames that the stream has not taken yet.
    waiting: Vec<Bytes>,
    patience: Patience,
    tally: Arc<Tally>,
    /// Bytes that the stream has taken, and how many of them may not have left.
    sent: u64,
    buffer: u64,
}

/// Why an answer was not sent whole. The stream is reset already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cut;

impl<S: SendHalf> Asking for Sending<S> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_stopped(cx)
    }

    /// As far as the client takes them: they are hints.
    fn interim(&mut self, waiting: Vec<(StatusCode, Fields)>, cx: &mut Context<'_>) {
        for (status, mut fields) in waiting {
            // RFC 9114 §4.5: there is no 101 in HTTP/3.
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            if self.waiting.len() < MAX_INTERIM {
                head::strip(&mut fields);
                self.waiting.push(codec::response(status, &fields));
            }
        }
        // Whoever waits for the answer sees that the stream is lost.
        let _taken_or_lost = self.poll_taken(cx);
    }
}

impl<S: SendHalf> Sending<S> {
    /// Waits for the client as the clocks of `listener` say.
    pub(super) fn new(stream: S, listener: &Listener, tally: Arc<Tally>) -> Self {
        let patience = Patience::new(listener.clocks.write_idle, listener.clocks.min_response_rate);
        let buffer = listener.http3.as_ref().map_or(0, |http3| http3.send_buffer);
        Self { stream, waiting: Vec::new(), patience, tally, sent: 0, buffer }
    }

    /// Breaks the stream off.
    pub(super) fn reset(&mut self, code: Code) {
        self.waiting.clear();
        self.stream.reset(code);
    }

    /// Sends the head of an answer whose stream stays open as a tunnel.
    ///
    /// # Errors
    /// The client is gone or takes nothing.
    pub(super) async fn open(&mut self, mut head: response::Parts) -> Result<(), Cut> {
        head::strip(&mut head.headers);
        date::stamp(&mut head.headers);
        self.waiting.push(codec::response(head.status, &head.headers));
        self.taken().await.map_err(|code| self.cut(code))?;
        self.patience.allow_rests();
        Ok(())
    }

    /// Sends an answer to a request made with `method`.
    ///
    /// # Errors
    /// The client is gone, takes nothing, or the body broke.
    pub(super) async fn answer(
        &mut self,
        mut head: response::Parts,
        mut body: Body,
        method: &Method,
    ) -> Result<(), Cut> {
        let follows = prepare(&mut head, &body, method);
        self.waiting.push(codec::response(head.status, &head.headers));
        // Not a byte leaves the endpoint before the client has taken the head.
        let sent = match self.taken().await {
            Ok(()) if follows => self.body(&mut body).await,
            other => other,
        };
        // What rides in the body, a record among it, ends here and not with the last acknowledgement.
        match self.patience.late() {
            Some(clock) => body.late(clock),
            None => drop(body),
        }
        sent.map_err(|code| self.cut(code))?;
        self.stream.finish();
        self.acknowledged().await
    }

    async fn body(&mut self, body: &mut Body) -> Result<(), Code> {
        loop {
            match self.pull(body).await? {
                None => return Ok(()),
                Some(Frame::Data(data)) => {
                    self.put_data(data);
                    self.taken().await?;
                    if body.is_end() {
                        return Ok(());
                    }
                }
                Some(Frame::Trailers(mut trailers)) => {
                    head::strip(&mut trailers);
                    self.waiting.push(codec::end(&trailers));
                    return self.taken().await;
                }
            }
        }
    }

    /// The next frame of the body, unless the client stops the stream meanwhile.
    async fn pull(&mut self, body: &mut Body) -> Result<Option<Frame>, Code> {
        poll_fn(|cx| {
            if self.stream.poll_stopped(cx).is_ready() {
                return Poll::Ready(Err(Code::RequestCancelled));
            }
            match ready!(guarded(|| body.poll_frame(cx))) {
                Ok(None) => Poll::Ready(Ok(None)),
                Ok(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
                // RFC 9114 §4.1: an answer that breaks off is told by a stream error.
                Ok(Some(Err(BodyError::Gone(_) | BodyError::Malformed(_) | BodyError::Late(_))))
                | Ok(Some(Err(BodyError::TooLarge(_) | BodyError::Untyped | BodyError::Buffer(_))))
                | Err(Panicked) => Poll::Ready(Err(Code::InternalError)),
            }
        })
        .await
    }

    /// Puts a DATA frame in line.
    pub(super) fn put_data(&mut self, data: Bytes) {
        // A type of one byte and a length of eight at most.
        let mut head = BytesMut::with_capacity(9);
        frame::put_head(&mut head, frame::DATA, data.len());
        self.waiting.push(head.freeze());
        self.waiting.push(data);
    }

    /// Waits until the stream has taken all that stands in line.
    async fn taken(&mut self) -> Result<(), Code> {
        poll_fn(|cx| self.poll_taken(cx)).await
    }

    /// Ready once the stream has taken all that stands in line, or when the client is gone or takes nothing in time.
    pub(super) fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Code>> {
        while !self.waiting.is_empty() {
            let before = self.waiting();
            match self.stream.poll_write(cx, &mut self.waiting) {
                Poll::Ready(Ok(())) => {
                    let taken = before.saturating_sub(self.waiting());
                    self.tally.note_taken(taken);
                    self.sent = self.sent.saturating_add(taken as u64);
                    self.patience.rest(taken);
                    self.waiting.retain(|piece| !piece.is_empty());
                }
                Poll::Ready(Err(Lost)) => return Poll::Ready(Err(Code::RequestCancelled)),
                Poll::Pending => {
                    return self.patience.poll(self.tally.path(), cx).map(|()| Err(Code::RequestCancelled));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes that the stream has not taken yet.
    fn waiting(&self) -> usize {
        self.waiting.iter().map(Bytes::len).sum()
    }

    /// Ends the stream well once all that stands in line was taken.
    pub(super) fn finish(&mut self) {
        self.stream.finish();
    }

    /// Waits until the client has acknowledged everything: a connection that is closed before would lose it.
    async fn acknowledged(&mut self) -> Result<(), Cut> {
        self.patience.allow(self.sent.min(self.buffer));
        let done = poll_fn(|cx| {
            if self.stream.poll_stopped(cx).is_ready() {
                return Poll::Ready(true);
            }
            self.patience.poll(self.tally.path(), cx).map(|()| false)
        })
        .await;
        if done { Ok(()) } else { Err(self.cut(Code::RequestCancelled)) }
    }

    fn cut(&mut self, code: Code) -> Cut {
        self.reset(code);
        Cut
    }
}
