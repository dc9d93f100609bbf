//! What one HTTP/2 connection holds in memory for its client, and what passes over its socket.
//!
//! Floor 6. Two write a [`Ledger`]: [`Charged`] is response data that knows how much of it has not been
//! written yet, whichever of our queues or the h2 crate's it stands in; the wire counts bytes on the socket. The
//! engine reads the ledger to bound memory over all streams of a connection and to see stalls and floods. All on one
//! thread; atomics because futures stay `Send`.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use crate::serve::pace::Path;

/// Response bytes waiting in one connection, over all its streams: beyond it no stream pulls more from its endpoint.
///
/// 128 streams (the default) with 64 KiB each fit, so that under the default configuration a client that leaves one
/// stream unread never holds up another; 800 streams cost the same 8 MiB.
pub(super) const MAX_SEND_BUFFERED: usize = 8 << 20;

/// Bytes that a client may send without a request, content for us or room for our content in them.
///
/// About 60,000 PING frames. The h2 crate answers each PING and SETTINGS one at a time, which bounds memory but not
/// work; this bounds work.
const MAX_IDLE_CHATTER: u64 = 1 << 20;

/// Counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Response bytes charged and not yet written.
    buffered: AtomicUsize,
    /// Streams waiting for `buffered` to fall. At most one entry a stream.
    waiting: Mutex<Vec<Waker>>,
    /// Bytes read from the socket.
    read: AtomicU64,
    /// Bytes written to the socket, or taken by TLS for it.
    written: AtomicU64,
    /// What the socket's counters will have reached when chatter becomes a flood.
    chatter_from: AtomicU64,
    written_from: AtomicU64,
    /// Whether the last write was refused.
    blocked: AtomicBool,
    /// Writes that it refused, or took again after that.
    blocks: AtomicU64,
    /// Whether the connection is cut because the socket took nothing for too long.
    stalled: AtomicBool,
}

impl Ledger {
    /// Response bytes held.
    pub(super) fn buffered(&self) -> usize {
        self.buffered.load(Relaxed)
    }

    /// Bytes read so far.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Whether the socket takes no more for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// What has passed over the socket, for the clock of a stream.
    pub(super) fn path(&self) -> Path {
        Path { taken: self.written(), blocks: self.blocks.load(Relaxed) }
    }

    /// Notes that the connection is cut because the socket took nothing for too long.
    pub(super) fn note_stall(&self) {
        self.stalled.store(true, Relaxed);
    }

    /// Whether it is.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    /// Ready when a stream may pull more of its response.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.buffered() < MAX_SEND_BUFFERED {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Notes that the client did something useful: a request, or content of one.
    pub(super) fn note_useful(&self) {
        self.chatter_from.store(self.read(), Relaxed);
        self.written_from.store(self.written(), Relaxed);
    }

    /// Whether the client sends much and means nothing by it. What it may send grows with what it is sent, as it
    /// opens windows for that.
    pub(super) fn is_flooded(&self) -> bool {
        let chatter = self.read().saturating_sub(self.chatter_from.load(Relaxed));
        let written = self.written().saturating_sub(self.written_from.load(Relaxed));
        chatter > MAX_IDLE_CHATTER.saturating_add(written / 8)
    }

    /// Notes what was read from the socket.
    pub(super) fn note_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Relaxed);
    }

    /// Notes what became of a write.
    pub(super) fn note_write(&self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = polled {
            self.written.fetch_add(*count as u64, Relaxed);
        }
        if polled.is_pending() || self.is_blocked() {
            self.blocks.fetch_add(1, Relaxed);
            self.blocked.store(polled.is_pending(), Relaxed);
        }
    }

    fn release(&self, bytes: usize) {
        let before = self.buffered.fetch_sub(bytes, Relaxed);
        if before >= MAX_SEND_BUFFERED && before.saturating_sub(bytes) < MAX_SEND_BUFFERED {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// Response data charged to a ledger until it is written or dropped.
#[derive(Debug)]
pub(super) struct Charged {
    data: Bytes,
    ledger: Option<Arc<Ledger>>,
}

impl Charged {
    /// Charges `data`.
    pub(super) fn new(data: Bytes, ledger: &Arc<Ledger>) -> Self {
        ledger.buffered.fetch_add(data.len(), Relaxed);
        Self { data, ledger: Some(Arc::clone(ledger)) }
    }

    /// No data.
    pub(super) const fn empty() -> Self {
        Self { data: Bytes::new(), ledger: None }
    }

    /// Takes up to `length` bytes from the front, charged as before.
    pub(super) fn split_to(&mut self, length: usize) -> Self {
        let length = length.min(self.data.len());
        Self { data: self.data.split_to(length), ledger: self.ledger.clone() }
    }
}

impl Buf for Charged {
    fn remaining(&self) -> usize {
        self.data.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.data
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
        if let Some(ledger) = &self.ledger {
            ledger.release(count);
        }
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        if let Some(ledger) = &self.ledger
            && !self.data.is_empty()
        {
            ledger.release(self.data.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_charged_until_written_or_dropped() {
        let ledger = Arc::new(Ledger::default());
        let mut data = Charged::new(Bytes::from_static(b"0123456789"), &ledger);
        let mut front = data.split_to(4);
        assert_eq!(ledger.buffered(), 10);

        front.advance(3);
        assert_eq!(ledger.buffered(), 7);

        drop(front);
        drop(data);
        assert_eq!(ledger.buffered(), 0);
    }

    #[test]
    fn waiting_stream_is_woken_when_room_returns() {
        let ledger = Arc::new(Ledger::default());
        let data = Charged::new(Bytes::from(vec![0; MAX_SEND_BUFFERED]), &ledger);
        let (waker, count) = futures_test_waker();
        let cx = Context::from_waker(&waker);
        assert!(ledger.poll_room(&cx).is_pending());
        assert!(ledger.poll_room(&cx).is_pending());

        drop(data);

        assert_eq!(count.load(Relaxed), 1);
        assert!(ledger.poll_room(&cx).is_ready());
    }

    fn futures_test_waker() -> (Waker, Arc<AtomicUsize>) {
        struct Count(Arc<AtomicUsize>);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let count = Arc::new(AtomicUsize::new(0));
        (Waker::from(Arc::new(Count(Arc::clone(&count)))), count)
    }
}
