//! Answers that go on until their reader leaves: server-sent events (WHATWG HTML, section 9.2).
//!
//! Part of `admin`. [`Feeds`] bounds how many there are. [`periodic`] asks for an event whenever one is due and the
//! reader has taken the last: nothing waits anywhere, and a slow reader gets fewer. [`pushed`] has a queue that others
//! fill; what does not fit is dropped, and the reader is told how much in an event of the name `dropped`. A comment
//! every 15 s finds readers that vanished. Deliberately absent: replay; who was away asks anew.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::RETRY_AFTER;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::answers::{text, typed};
use crate::body::{Body, BodyError, Frame, Source};
use crate::head::HeaderValue;
use crate::message::Answer;
pub use crate::telemetry::metrics::Place;
use crate::telemetry::metrics::Places;

/// Time between two signs of life on a stream that has nothing to tell.
const BEAT: Duration = Duration::from_secs(15);

/// A comment, which readers skip.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// One event.
#[derive(Debug)]
pub struct Event {
    /// What it is: the `type` that a page listens for.
    pub name: &'static str,
    /// Its text; lines of it arrive as lines.
    pub data: String,
}

impl Event {
    fn encode(&self) -> Bytes {
        let mut out = String::with_capacity(self.data.len().saturating_add(32));
        // Writing to a String cannot fail.
        let _infallible = writeln!(out, "event: {}", self.name);
        for line in self.data.split(['\n', '\r']) {
            let _infallible = writeln!(out, "data: {line}");
        }
        out.push('\n');
        Bytes::from(out)
    }
}

/// Room for streams.
#[derive(Clone, Debug)]
pub struct Feeds(Arc<Places>);

impl Feeds {
    /// Room in these places.
    pub const fn new(places: Arc<Places>) -> Self {
        Self(places)
    }

    /// Room for `most` from now on.
    pub fn bound(&self, most: usize) {
        self.0.bound(most);
    }

    /// A place, given back with the stream.
    ///
    /// # Errors
    /// The answer for who finds none.
    pub fn admit(&self) -> Result<Place, Box<Answer>> {
        self.0.take().ok_or_else(|| {
            self.0.note_full();
            let mut full = text(StatusCode::SERVICE_UNAVAILABLE, "as many live streams are open as there may be\n");
            full.head.headers.insert(RETRY_AFTER, HeaderValue::from_static("10"));
            Box::new(full)
        })
    }
}

/// A stream of what `make` says, now and then `every` so often.
pub fn periodic(place: Place, every: Duration, make: impl FnMut() -> Event + Send + 'static) -> Answer {
    answer(Periodic { tick: ticking(every), make, _place: place })
}

/// A stream of what is pushed, of which `queue` may wait; `tell` makes an event of each when its reader takes it.
pub fn pushed<T: Send + 'static>(
    place: Place,
    queue: usize,
    tell: impl FnMut(T) -> Event + Send + 'static,
) -> (Pusher<T>, Answer) {
    let (sender, queue) = mpsc::channel(queue.max(1));
    let dropped = Arc::<AtomicU64>::default();
    let answer = answer(Pushed { queue, tell, dropped: Arc::clone(&dropped), beat: ticking(BEAT), _place: place });
    (Pusher { sender, dropped }, answer)
}

/// The end where things are put in.
#[derive(Debug)]
pub struct Pusher<T> {
    sender: mpsc::Sender<T>,
    dropped: Arc<AtomicU64>,
}

/// What became of something pushed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pushing {
    /// It waits for its reader.
    Taken,
    /// There was no room.
    Dropped,
    /// The reader has gone.
    Gone,
}

impl<T> Pusher<T> {
    /// Whether the reader has gone.
    pub fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// Puts something in. Never waits.
    pub fn push(&self, what: T) -> Pushing {
        match self.sender.try_send(what) {
            Ok(()) => Pushing::Taken,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                Pushing::Dropped
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Pushing::Gone,
        }
    }
}

fn ticking(every: Duration) -> Interval {
    let mut ticking = interval(every);
    ticking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticking
}

fn answer(source: impl Source + 'static) -> Answer {
    let mut answer = typed(StatusCode::OK, "text/event-stream", String::new());
    answer.body = Body::stream(source);
    answer
}

struct Periodic<F> {
    tick: Interval,
    make: F,
    _place: Place,
}

impl<F: FnMut() -> Event + Send> Source for Periodic<F> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.tick.poll_tick(cx).map(|_| Some(Ok(Frame::Data((self.make)().encode()))))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

struct Pushed<T, F> {
    queue: mpsc::Receiver<T>,
    tell: F,
    dropped: Arc<AtomicU64>,
    beat: Interval,
    _place: Place,
}

impl<T: Send, F: FnMut(T) -> Event + Send> Source for Pushed<T, F> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let data = |content| Poll::Ready(Some(Ok(Frame::Data(content))));
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            return data(Event { name: "dropped", data: dropped.to_string() }.encode());
        }
        match self.queue.poll_recv(cx) {
            Poll::Ready(Some(what)) => data((self.tell)(what).encode()),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.beat.poll_tick(cx).map(|_| Some(Ok(Frame::Data(COMMENT)))),
        }
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Feeds {
        let feeds = Feeds::new(Arc::default());
        feeds.bound(1);
        feeds
    }

    fn event(data: &str) -> Event {
        Event { name: "record", data: data.to_owned() }
    }

    async fn next(answer: &mut Answer) -> Option<String> {
        match answer.body.frame().await? {
            Ok(Frame::Data(data)) => Some(String::from_utf8_lossy(&data).into_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_of_an_event_stay_within_it() {
        let encoded = event("a\nevent: x\r\n\ndata: y").encode();

        assert_eq!(encoded, "event: record\ndata: a\ndata: event: x\ndata: \ndata: \ndata: data: y\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_reader_loses_events_and_is_told_how_many() {
        let (pusher, mut answer) = pushed(room().admit().unwrap(), 2, event);

        let pushed = ["1", "2", "3", "4"].map(|data| pusher.push(data));

        assert_eq!(pushed, [Pushing::Taken, Pushing::Taken, Pushing::Dropped, Pushing::Dropped]);
        assert_eq!(next(&mut answer).await.unwrap(), "event: dropped\ndata: 2\n\n");
        assert_eq!(next(&mut answer).await.unwrap(), "event: record\ndata: 1\n\n");
        drop(answer);
        assert_eq!(pusher.push("5"), Pushing::Gone);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_stream_gives_signs_of_life_and_ends_with_its_source() {
        let (pusher, mut answer) = pushed::<&str>(room().admit().unwrap(), 2, event);

        assert_eq!(next(&mut answer).await.unwrap(), ":\n\n");
        assert_eq!(next(&mut answer).await.unwrap(), ":\n\n");

        drop(pusher);
        assert_eq!(next(&mut answer).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn periodic_stream_begins_at_once_and_makes_nothing_that_nobody_takes() {
        let mut count = 0;
        let make = move || {
            count += 1;
            event(&count.to_string())
        };
        let mut answer = periodic(room().admit().unwrap(), Duration::from_secs(1), make);

        assert_eq!(next(&mut answer).await.unwrap(), "event: record\ndata: 1\n\n");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(next(&mut answer).await.unwrap(), "event: record\ndata: 2\n\n");
    }

    #[tokio::test]
    async fn stream_beyond_the_bound_is_refused_until_another_ends() {
        let feeds = room();
        let first = pushed(feeds.admit().unwrap(), 1, event);

        let refused = feeds.admit().unwrap_err().head;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers[RETRY_AFTER], "10");

        drop(first);
        assert!(feeds.admit().is_ok());
    }
}
