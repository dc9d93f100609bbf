//! What the admin listener has open.
//!
//! Floor 2. There are so many places of each kind; who holds one has a [`Place`]. The bound is kept by what counts, so that
//! a scrape shows the very numbers that decide. Deliberately absent: waiting.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Metrics;
use super::cells::Count;
use super::families as f;
use super::page::{Page, family};

/// Places of one kind.
#[derive(Debug, Default)]
pub struct Places {
    most: AtomicU64,
    taken: AtomicU64,
    full: Count,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    /// There are so many from now on. Who has one beyond that keeps it.
    pub fn bound(&self, most: usize) {
        self.most.store(most as u64, Ordering::Relaxed);
    }

    /// A place, unless all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let most = self.most.load(Ordering::Relaxed);
        let more = |taken| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(Arc::clone(self)))
    }

    /// Somebody found none. Counted.
    pub fn note_full(&self) {
        self.full.inc();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The admin listener.
#[derive(Debug, Default)]
pub struct AdminMetrics {
    /// Connections at its address.
    pub address: Arc<Places>,
    /// Connections at its Unix socket.
    pub socket: Arc<Places>,
    /// Live streams.
    pub streams: Arc<Places>,
}

impl AdminMetrics {
    pub(super) fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        let kinds = || [("address", &self.address), ("socket", &self.socket), ("stream", &self.streams)].into_iter();
        family(page, &f::ADMIN_MAX, |samples| {
            kinds().try_for_each(|(kind, places)| samples.gauge(&[kind], places.most.load(Ordering::Relaxed)))
        })?;
        family(page, &f::ADMIN_OPEN, |samples| {
            kinds().try_for_each(|(kind, places)| samples.gauge(&[kind], places.taken.load(Ordering::Relaxed)))
        })?;
        family(page, &f::ADMIN_FULL, |samples| {
            kinds().try_for_each(|(kind, places)| samples.counter(&[kind], places.full.get()))
        })
    }
}

impl Metrics {
    /// What the admin listener has open.
    pub fn admin(&self) -> &AdminMetrics {
        &self.0.admin
    }
}
