//! The streams that a connection has open.
//!
//! Floor 6. Exists while there are any: the set itself has room for one of them, which a connection at rest would keep.

use std::future::Future;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, StreamExt as _};

/// Futures that are polled together, each when it is woken.
pub(super) struct Open<F>(Option<FuturesUnordered<F>>);

impl<F> Default for Open<F> {
    fn default() -> Self {
        Self(None)
    }
}

impl<F: Future> Open<F> {
    /// Adds one.
    pub(super) fn push(&mut self, stream: F) {
        self.0.get_or_insert_default().push(stream);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, FuturesUnordered::len)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next that has ended; `None` when there are none.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let Some(streams) = &mut self.0 else { return Poll::Ready(None) };
        let ended = streams.poll_next_unpin(cx);
        if streams.is_empty() {
            self.0 = None;
        }
        ended
    }
}
