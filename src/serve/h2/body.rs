//! The body of an HTTP/2 request.
//!
//! Floor 6. Pulled by whoever answers. A piece's flow-control capacity goes back to the client when the piece is
//! pulled, not when it arrives, so that a client sends no more than one window ahead of a slow endpoint. Clocks run
//! only while somebody waits for the client. The h2 crate compares content with Content-Length (RFC 9113 §8.1.1).

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::RecvStream;
use http::{HeaderMap, StatusCode, header, request};
use tokio::time::Instant;

use super::head;
use super::ledger::Ledger;
use crate::body::{Body, BodyError, Frame, Source};
use crate::config::Listener;
use crate::lexicon::Clock;
use crate::message::Interim;
use crate::net::timer::Timer;

/// A request body on its way in.
struct Incoming {
    stream: RecvStream,
    remaining: Option<u64>,
    /// Where to ask for the content with 100, until it is done (RFC 9110 §10.1.1).
    expected: Option<Interim>,
    trailer_bytes: usize,
    pace: Pace,
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
    let expects =
        head.headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    Body::stream(Incoming {
        stream,
        remaining: length,
        expected: expects.then(|| interim.clone()),
        trailer_bytes: listener.limits.trailer_bytes,
        pace: Pace::new(listener.clocks.body_idle, listener.clocks.min_body_rate),
        ledger: Arc::clone(ledger),
    })
}

impl Source for Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let expected = self.expected.take();
        match self.poll_stream(cx) {
            Poll::Ready(frame) => {
                self.ledger.note_useful();
                self.pace.stop(&frame);
                Poll::Ready(frame)
            }
            Poll::Pending => {
                if let Some(interim) = expected {
                    interim.push(StatusCode::CONTINUE, HeaderMap::new());
                }
                ready!(self.pace.poll_late(cx));
                Poll::Ready(Some(Err(BodyError::Late(Clock::BodyRead))))
            }
        }
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
        match ready!(self.stream.poll_trailers(cx)) {
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

/// The clocks on a request body: no long pause, and a least average rate after a grace. Time in which nobody waits
/// for the client does not count against it.
struct Pace {
    idle: Duration,
    rate: u64,
    received: u64,
    waited: Duration,
    since: Option<Instant>,
    timer: Timer,
}

impl Pace {
    const fn new(idle: Duration, rate: u64) -> Self {
        Self { idle, rate, received: 0, waited: Duration::ZERO, since: None, timer: Timer::new() }
    }

    /// Notes that the wait is over.
    fn stop(&mut self, frame: &Option<Result<Frame, BodyError>>) {
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(since.elapsed());
            self.timer.disarm();
        }
        if let Some(Ok(Frame::Data(data))) = frame {
            self.received = self.received.saturating_add(data.len() as u64);
        }
    }

    /// Ready once the client is too slow.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            // What was received entitles to this much waiting in all.
            let earned = self.received.checked_div(self.rate).map_or(self.idle, Duration::from_secs);
            let left = self.idle.saturating_add(earned).saturating_sub(self.waited);
            self.timer.arm(left.min(self.idle));
        }
        self.timer.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn steady_trickle_below_the_rate_is_late() {
        let mut pace = Pace::new(Duration::from_secs(30), 240);
        let start = Instant::now();

        loop {
            let byte = tokio::time::sleep(Duration::from_secs(1));
            tokio::select! {
                biased;
                () = std::future::poll_fn(|cx| pace.poll_late(cx)) => break,
                () = byte => pace.stop(&Some(Ok(Frame::Data(Bytes::from_static(b"x"))))),
            }
        }

        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn pause_at_full_rate_is_late_after_the_idle_clock() {
        let mut pace = Pace::new(Duration::from_secs(30), 240);
        pace.stop(&Some(Ok(Frame::Data(Bytes::from(vec![0; 1 << 20])))));
        let start = Instant::now();

        std::future::poll_fn(|cx| pace.poll_late(cx)).await;

        assert_eq!(start.elapsed().as_secs(), 30);
    }
}
