//! What the streams of an HTTP/3 connection tell its driver.
//!
//! Floor 6. An offence found on one stream ends the connection; bytes that meant nothing add up over all streams.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;

use crate::h3::Offence;
use crate::serve::pace::Path;

/// Bytes of unknown frames, padding and the like that a client may send without a request or content in them.
const MAX_CHATTER: u64 = 1 << 20;

/// Shared by a connection's driver and its streams, tunnels in their own tasks included.
#[derive(Debug, Default)]
pub(super) struct Tally {
    offence: Mutex<Option<Offence>>,
    skipped: AtomicU64,
    tunnels: AtomicUsize,
    /// Response bytes that the connection has taken off its streams.
    taken: AtomicU64,
    driver: AtomicWaker,
}

/// Counts an open tunnel until dropped.
#[derive(Debug)]
pub(super) struct Tunnel(Arc<Tally>);

impl Tunnel {
    pub(super) fn open(tally: &Arc<Tally>) -> Self {
        tally.tunnels.fetch_add(1, Relaxed);
        Self(Arc::clone(tally))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Relaxed);
        // A connection that waits for its last stream may end now.
        self.0.driver.wake();
    }
}

impl Tally {
    /// Notes what ends the connection; the first one counts.
    pub(super) fn offend(&self, offence: Offence) {
        self.offence.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(offence);
        self.driver.wake();
    }

    /// What ends the connection. Whoever asks is woken when there is something.
    pub(super) fn offence(&self, cx: &Context<'_>) -> Option<Offence> {
        self.driver.register(cx.waker());
        *self.offence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Open tunnels.
    pub(super) fn tunnels(&self) -> usize {
        self.tunnels.load(Relaxed)
    }

    /// Notes bytes of a response that the connection took.
    pub(super) fn note_taken(&self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Relaxed);
    }

    /// What has passed over the connection, for the clock of a stream. QUIC does not tell what a stream waits for: where
    /// anything moves it may be the path.
    pub(super) fn path(&self) -> Path {
        let taken = self.taken.load(Relaxed);
        Path { taken, blocks: taken }
    }

    /// Notes bytes that meant nothing.
    pub(super) fn note_skipped(&self, bytes: u64) {
        if bytes > 0 {
            self.skipped.fetch_add(bytes, Relaxed);
        }
    }

    /// Notes a request, or content of one.
    pub(super) fn note_useful(&self) {
        self.skipped.store(0, Relaxed);
    }

    /// Whether the client sends much and means nothing by it.
    pub(super) fn is_flooded(&self) -> bool {
        self.skipped.load(Relaxed) > MAX_CHATTER
    }
}
