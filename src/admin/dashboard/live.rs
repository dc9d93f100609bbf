//! Frames, and the stream in which a viewer gets them.
//!
//! Part of `admin::dashboard`. A fragment is encoded once, as a server-sent event, for all viewers. A viewer that takes
//! long misses frames, never fragments: it has a place of one frame and is sent, of the newest, whatever changed since
//! the one that it saw last.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::pages::{self, Scene};
use crate::body::{BodyError, Frame as Step, Source};

/// What is shown at one moment.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// One more for each frame; 0 before the first.
    number: u64,
    pub(super) fragments: Vec<Fragment>,
}

/// A part of the page that changes as a whole.
#[derive(Clone, Debug)]
pub(super) struct Fragment {
    /// The element that it is the content of.
    pub(super) id: &'static str,
    pub(super) html: Arc<str>,
    event: Bytes,
    /// The frame in which it became what it is.
    changed: u64,
}

impl Frame {
    /// The one after this.
    pub(super) fn next(&self, scene: &Scene<'_>) -> Self {
        let number = self.number + 1;
        let renew = |(id, html): (&'static str, String)| match self.fragments.iter().find(|before| before.id == id) {
            Some(before) if *before.html == *html => before.clone(),
            _ => Fragment { id, event: event(id, &html), html: html.into(), changed: number },
        };
        Self { number, fragments: pages::fragments(scene).into_iter().map(renew).collect() }
    }

    /// The fragment of an element; nothing before the first frame.
    pub(super) fn html(&self, id: &str) -> &str {
        self.fragments.iter().find(|fragment| fragment.id == id).map_or("", |fragment| &*fragment.html)
    }
}

/// WHATWG HTML §9.2: a field a line, a blank line after the last.
fn event(id: &str, html: &str) -> Bytes {
    let mut text = format!("event: {id}\n");
    for line in html.lines().map(str::trim).filter(|line| !line.is_empty()) {
        text.extend(["data: ", line, "\n"]);
    }
    text.push('\n');
    text.into()
}

/// Where frames come from.
type Frames = watch::Receiver<Arc<Frame>>;

/// A viewer's stream. Its place is free again when this is dropped, which is when the connection ends.
pub(super) struct Live {
    waiting: Pin<Box<dyn Future<Output = Option<Frames>> + Send>>,
    ready: VecDeque<Bytes>,
    seen: u64,
    _seat: OwnedSemaphorePermit,
}

impl Live {
    /// A viewer who has seen nothing yet. What `frames` holds now comes first.
    pub(super) fn new(mut frames: Frames, seat: OwnedSemaphorePermit) -> Self {
        frames.mark_changed();
        let hello = Bytes::from_static(b"retry: 2000\n\n");
        Self { waiting: Box::pin(next(frames)), ready: [hello].into(), seen: 0, _seat: seat }
    }
}

async fn next(mut frames: Frames) -> Option<Frames> {
    frames.changed().await.ok().map(|()| frames)
}

impl Source for Live {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Step, BodyError>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Step::Data(event))));
            }
            let Some(mut frames) = std::task::ready!(self.waiting.as_mut().poll(cx)) else { return Poll::Ready(None) };
            let frame = Arc::clone(&frames.borrow_and_update());
            let news = frame.fragments.iter().filter(|fragment| fragment.changed > self.seen);
            self.ready.extend(news.map(|fragment| fragment.event.clone()));
            self.seen = frame.number;
            self.waiting = Box::pin(next(frames));
        }
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}
