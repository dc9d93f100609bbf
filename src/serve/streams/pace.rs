//! How long a client may take for its part of a stream: for the content that it sends, and for what it is sent.
//!
//! Floor 6. Both run only while somebody waits for the client.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header, request};
use tokio::time::Instant;

use crate::body::{BodyError, Frame};
use crate::config::listener::ClientClocks;
use crate::lexicon::Clock;
use crate::message::Interim;
use crate::net::timer::Timer;

/// Waits for the content of a request, and asks for it where the client wants to be asked.
pub(in crate::serve) struct Wait {
    /// Where to ask for the content with 100, until it is done (RFC 9110 §10.1.1).
    expected: Option<Interim>,
    pace: Pace,
}

/// What a body has for whoever pulls it.
type Pulled = Poll<Option<Result<Frame, BodyError>>>;

impl Wait {
    /// For the request with `head`.
    pub(in crate::serve) fn new(head: &request::Parts, interim: &Interim, clocks: &ClientClocks) -> Self {
        let expect = head.headers.get(header::EXPECT);
        let expects = expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { expected: expects.then(|| interim.clone()), pace: Pace::new(clocks.body_idle, clocks.min_body_rate) }
    }

    /// What `pulled` comes to: itself, or that the client is too slow.
    pub(in crate::serve) fn judge(&mut self, pulled: Pulled, cx: &mut Context<'_>) -> Pulled {
        let expected = self.expected.take();
        if let Poll::Ready(frame) = pulled {
            self.pace.stop(&frame);
            return Poll::Ready(frame);
        }
        if let Some(interim) = expected {
            interim.push(StatusCode::CONTINUE, HeaderMap::new());
        }
        ready!(self.pace.poll_late(cx));
        Poll::Ready(Some(Err(BodyError::Late(Clock::BodyRead))))
    }
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

/// How long a client may take nothing.
pub(in crate::serve) struct Patience {
    longest: Duration,
    timer: Timer,
    waiting: bool,
}

impl Patience {
    /// Lasts `longest` for each wait.
    pub(in crate::serve) const fn new(longest: Duration) -> Self {
        Self { longest, timer: Timer::new(), waiting: false }
    }

    /// Ready when it is over; the first call begins the wait.
    pub(in crate::serve) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting {
            self.waiting = true;
            self.timer.arm(self.longest);
        }
        self.timer.poll(cx)
    }

    /// Ends the wait.
    pub(in crate::serve) const fn rest(&mut self) {
        self.waiting = false;
        self.timer.disarm();
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
