//! How long a client may take for its part of a stream: for the content that it sends, and for what it is sent.
//!
//! Floor 6. Both run only while somebody waits for the client. HTTP/1 has its own clock on what it receives.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{StatusCode, header};
use tokio::time::Instant;

use crate::body::{BodyError, Frame};
use crate::config::listener::ClientClocks;
use crate::head::{Fields, request};
use crate::lexicon::Clock;
use crate::message::Interim;
use crate::net::timer::Timer;

/// Waits for the content of a request, and asks for it where the client wants to be asked.
pub(super) struct Wait {
    /// Where to ask for the content with 100, until it is done (RFC 9110 §10.1.1).
    expected: Option<Interim>,
    pace: Pace,
}

/// What a body has for whoever pulls it.
type Pulled = Poll<Option<Result<Frame, BodyError>>>;

impl Wait {
    /// For the request with `head`.
    pub(super) fn new(head: &request::Parts, interim: &Interim, clocks: &ClientClocks) -> Self {
        let expect = head.headers.get(header::EXPECT);
        let expects = expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { expected: expects.then(|| interim.clone()), pace: Pace::new(clocks.body_idle, clocks.min_body_rate) }
    }

    /// What `pulled` comes to: itself, or that the client is too slow.
    pub(super) fn judge(&mut self, pulled: Pulled, cx: &mut Context<'_>) -> Pulled {
        let expected = self.expected.take();
        if let Poll::Ready(frame) = pulled {
            self.pace.stop(&frame);
            return Poll::Ready(frame);
        }
        if let Some(interim) = expected {
            interim.push(StatusCode::CONTINUE, Fields::new());
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

/// How long a client may take nothing of a response, and how little it may take.
///
/// Only time in which it is waited for counts, in spans of `longest`: in each the client must take as much as the least
/// rate comes to. What it took while nobody had to wait counts for the span that it falls into, and no further.
pub(super) struct Patience {
    longest: Duration,
    rate: u64,
    timer: Timer,
    /// When the wait began, as long as it lasts, and from when on it counts for the span.
    since: Option<(Instant, Instant)>,
    /// What is over of the span, and what was taken in it.
    waited: Duration,
    taken: u64,
    /// What the stream's connection had done when the span began.
    path: Path,
    late: Option<Clock>,
}

/// Time for what is on its way where there is no least rate.
const NO_FLOOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What passes over the connection of a stream, all streams together; nothing where it has only one.
///
/// Streams that share a slow path get little each, and their client is not to blame. Where the path was the bottleneck
/// in a span, as many bytes as one stream has to take are enough for all of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Path {
    /// Bytes taken.
    pub taken: u64,
    /// Changes whenever the path may have been the bottleneck.
    pub blocks: u64,
}

impl Patience {
    /// Lasts `longest` for each wait, and for a client that takes `rate` bytes in each second of waiting.
    pub(super) const fn new(longest: Duration, rate: u64) -> Self {
        Self {
            longest,
            rate,
            timer: Timer::new(),
            since: None,
            waited: Duration::ZERO,
            taken: 0,
            path: Path { taken: 0, blocks: 0 },
            late: None,
        }
    }

    /// Ready when it is over; the first call begins the wait. `path` is what the connection has done so far.
    pub(super) fn poll(&mut self, path: Path, cx: &mut Context<'_>) -> Poll<()> {
        let since = match self.since {
            Some((since, _)) => since,
            None => self.begin(path),
        };
        while self.timer.poll(cx).is_ready() {
            let now = Instant::now();
            let in_wait = now.saturating_duration_since(since);
            self.late = if in_wait >= self.longest {
                Some(Clock::ClientWrite)
            } else if self.is_slow(path) {
                Some(Clock::SlowRead)
            } else {
                // The next span begins in the middle of this wait.
                self.since = Some((since, now));
                (self.waited, self.taken, self.path) = (Duration::ZERO, 0, path);
                self.timer.arm_at(since + self.longest);
                continue;
            };
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Ends the wait: the client has taken `bytes`.
    pub(super) fn rest(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes as u64);
        if let Some((_, from)) = self.since.take() {
            self.waited = self.waited.saturating_add(from.elapsed());
            self.timer.disarm();
        }
    }

    /// From now on it is a tunnel's, which may rest as it likes.
    pub(super) const fn allow_rests(&mut self) {
        self.rate = 0;
    }

    /// All is on its way, `bytes` of it perhaps still in our own hands: they may come to the client at the least rate.
    pub(super) fn allow(&mut self, bytes: u64) {
        let time = bytes.checked_div(self.rate).map_or(NO_FLOOR, Duration::from_secs);
        self.longest = self.longest.saturating_add(time);
        self.rate = 0;
        self.forget();
    }

    /// Begins anew, with another response.
    pub(super) const fn forget(&mut self) {
        (self.since, self.waited, self.taken, self.late) = (None, Duration::ZERO, 0, None);
        self.timer.disarm();
    }

    /// Which of the two it was, once it is over.
    pub(super) const fn late(&self) -> Option<Clock> {
        self.late
    }

    fn begin(&mut self, path: Path) -> Instant {
        let now = Instant::now();
        self.since = Some((now, now));
        if self.waited.is_zero() {
            self.path = path;
        }
        self.timer.arm_at(now + self.longest.saturating_sub(self.waited));
        now
    }

    fn is_slow(&self, path: Path) -> bool {
        let by_all = if path.blocks == self.path.blocks { 0 } else { path.taken.saturating_sub(self.path.taken) };
        let least = u128::from(self.rate).saturating_mul(self.longest.as_millis()) / 1_000;
        u128::from(self.taken.max(by_all)) < least
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;

    use super::*;

    /// Takes `bytes` every `pause` for as long as patience lasts; how long that is, in seconds, and what ended it.
    async fn patience(rate: u64, pause: u64, bytes: usize, path: impl Fn(u64) -> Path) -> (u64, Option<Clock>) {
        let mut patience = Patience::new(Duration::from_secs(60), rate);
        let start = Instant::now();
        for turn in 0..100 {
            let took = tokio::time::sleep(Duration::from_secs(pause));
            tokio::select! {
                biased;
                () = poll_fn(|cx| patience.poll(path(turn), cx)) => break,
                () = took => patience.rest(bytes),
            }
        }
        (start.elapsed().as_secs(), patience.late())
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_takes_a_byte_now_and_then_is_too_slow() {
        assert_eq!(patience(240, 7, 1, |_| Path::default()).await, (60, Some(Clock::SlowRead)));
        assert_eq!(patience(0, 7, 1, |_| Path::default()).await, (700, None), "no floor");
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_takes_nothing_is_gone_after_one_wait() {
        assert_eq!(patience(240, 200, 0, |_| Path::default()).await, (60, Some(Clock::ClientWrite)));
        assert_eq!(patience(0, 200, 0, |_| Path::default()).await, (60, Some(Clock::ClientWrite)));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_and_steady_client_has_all_the_time_it_needs() {
        assert_eq!(patience(240, 10, 3_000, |_| Path::default()).await, (1_000, None));
        assert_eq!(patience(240, 50, 20_000, |_| Path::default()).await, (5_000, None), "in bursts");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_long_ago_earns_no_patience() {
        let mut patience = Patience::new(Duration::from_secs(60), 240);
        patience.rest(100 << 20);
        let start = Instant::now();

        loop {
            let took = tokio::time::sleep(Duration::from_secs(9));
            tokio::select! {
                biased;
                () = poll_fn(|cx| patience.poll(Path::default(), cx)) => break,
                () = took => patience.rest(1),
            }
        }

        assert_eq!((start.elapsed().as_secs(), patience.late()), (120, Some(Clock::SlowRead)));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_share_a_slow_path_are_judged_together() {
        let busy = |turn| Path { taken: turn * 3_000, blocks: turn };
        assert_eq!(patience(240, 10, 60, busy).await, (1_000, None));
        let idle = |turn| Path { taken: turn * 100, blocks: turn };
        assert_eq!(patience(240, 10, 60, idle).await, (60, Some(Clock::SlowRead)), "nothing moves on it");
        let wide = |turn| Path { taken: turn * 3_000, blocks: 0 };
        assert_eq!(patience(240, 10, 60, wide).await, (60, Some(Clock::SlowRead)), "it is the client's window");
    }

    #[tokio::test(start_paused = true)]
    async fn steady_trickle_below_the_rate_is_late() {
        let mut pace = Pace::new(Duration::from_secs(30), 240);
        let start = Instant::now();

        loop {
            let byte = tokio::time::sleep(Duration::from_secs(1));
            tokio::select! {
                biased;
                () = poll_fn(|cx| pace.poll_late(cx)) => break,
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

        poll_fn(|cx| pace.poll_late(cx)).await;

        assert_eq!(start.elapsed().as_secs(), 30);
    }
}
