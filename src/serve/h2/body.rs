//! The body of an HTTP/2 request.
//!
//! Floor 6. Pulled by whoever answers. A piece's flow-control capacity goes back to the client when the piece is
//! pulled, not when it arrives, so that a client sends no more than one window ahead of a slow endpoint. Clocks run
//! only while somebody waits for the client. The h2 crate compares content with Content-Length (RFC 9113 §8.1.1).

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use h2::RecvStream;
use http::header;

use super::ledger::Ledger;
use crate::body::{Body, BodyError, Frame, Source};
use crate::config::Listener;
use crate::head::{Fields, request};
use crate::message::Interim;
use crate::serve::pace::Wait;
use crate::serve::streams::head;

/// A request body on its way in.
struct Incoming {
    stream: RecvStream,
    remaining: Option<u64>,
    trailer_bytes: usize,
    wait: Wait,
    ledger: Arc<Ledger>,
}

/// The body of the request with `head`.
pub(super) fn incoming(
    stream: RecvStream,
    head: &request::Parts,
    interim: &Interim,
    listener: &Listener,
    ledger: &Arc<Ledger>,
) -> Body {
    if stream.is_end_stream() {
        return Body::empty();
    }
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Body::stream(Incoming {
        stream,
        remaining: length,
        trailer_bytes: listener.limits.trailer_bytes,
        wait: Wait::new(head, interim, &listener.clocks),
        ledger: Arc::clone(ledger),
    })
}

impl Source for Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let pulled = self.poll_stream(cx);
        if pulled.is_ready() {
            self.ledger.note_useful();
        }
        self.wait.judge(pulled, cx)
    }

    fn remaining(&self) -> Option<u64> {
        if self.stream.is_end_stream() { Some(0) } else { self.remaining }
    }

    fn is_end(&self) -> bool {
        // Not from the length: trailers may still follow the last byte.
        self.stream.is_end_stream()
    }
}

impl Incoming {
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            let Some(data) = ready!(self.stream.poll_data(cx)) else {
                break;
            };
            let data = match data {
                Ok(data) => data,
                Err(error) => return Poll::Ready(Some(Err(broken(error)))),
            };
            // An error says that the stream is gone, which the next poll tells better.
            drop(self.stream.flow_control().release_capacity(data.len()));
            if !data.is_empty() {
                self.remaining = self.remaining.map(|left| left.saturating_sub(data.len() as u64));
                return Poll::Ready(Some(Ok(Frame::Data(data))));
            }
        }
        match ready!(self.stream.poll_trailers(cx)).map(|trailers| trailers.map(Fields::from)) {
            Ok(None) => Poll::Ready(None),
            Ok(Some(trailers)) if head::size(&trailers) > self.trailer_bytes => {
                Poll::Ready(Some(Err(BodyError::Malformed("trailer section exceeds its bound"))))
            }
            Ok(Some(trailers)) if head::values(&trailers).is_err() => {
                Poll::Ready(Some(Err(BodyError::Malformed("white space around a trailer's value"))))
            }
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::Trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(broken(error)))),
        }
    }
}

/// What a stream's error means for its body.
fn broken(error: h2::Error) -> BodyError {
    if error.is_library() { BodyError::Malformed("stream error") } else { BodyError::Gone(error.into_io()) }
}
