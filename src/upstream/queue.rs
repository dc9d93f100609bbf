//! Exchanges that wait for a free endpoint, first come first served.
//!
//! The lock is taken only while somebody waits. A freed slot goes to the one who waited longest: newcomers line up
//! behind as long as anybody waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::balance::{Claim, EndpointId, Pick};

/// Waiting exchanges of one pool, over all workers.
#[derive(Debug, Default)]
pub struct Queue {
    length: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    tried: Vec<EndpointId>,
    call: oneshot::Sender<Claim>,
}

/// A ticket for the line, and the call to come.
pub(super) type Place = (u64, oneshot::Receiver<Claim>);

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines up, unless `most` wait already. The caller pumps afterwards: a slot may have become free meanwhile.
    pub(super) fn join(&self, tried: &[EndpointId], most: usize) -> Option<Place> {
        let mut line = self.lock();
        if line.waiters.len() >= most {
            return None;
        }
        let ticket = line.next;
        line.next = line.next.wrapping_add(1);
        let (call, called) = oneshot::channel();
        line.waiters.push_back(Waiter { ticket, tried: tried.to_vec(), call });
        self.count(&line);
        drop(line);
        // Pairs with the fence of `is_awaited`: either we see the freed slot, or who frees it sees us.
        fence(Ordering::SeqCst);
        Some((ticket, called))
    }

    /// Leaves the line.
    pub(super) fn leave(&self, ticket: u64) {
        let mut line = self.lock();
        line.waiters.retain(|waiter| waiter.ticket != ticket);
        self.count(&line);
    }

    /// Whether anybody waits, asked after a slot was freed.
    pub(super) fn is_awaited(&self) -> bool {
        fence(Ordering::SeqCst);
        self.length.load(Ordering::Relaxed) > 0
    }

    /// Serves those who wait, in turn, as long as `pick` finds a free slot. Who waits for a second attempt cannot use
    /// every slot: those behind are served meanwhile, or one hanging endpoint would hold up all the others.
    pub(super) fn pump(&self, mut pick: impl FnMut(&[EndpointId]) -> Pick) {
        let mut line = self.lock();
        let mut place = 0_usize;
        while let Some(waiter) = line.waiters.get(place) {
            match pick(&waiter.tried) {
                Pick::Full if waiter.tried.is_empty() => break,
                Pick::Full => place = place.saturating_add(1),
                Pick::Claimed(claim) => {
                    if let Some(waiter) = line.waiters.remove(place) {
                        // Whoever left in this moment gives the claim back by dropping it; the next one gets it.
                        drop(waiter.call.send(claim));
                    }
                }
                // Nothing to wait for: the caller hears of it by the dropped sender.
                Pick::NoneUp | Pick::NoneUntried => drop(line.waiters.remove(place)),
            }
        }
        self.count(&line);
    }

    fn count(&self, line: &Line) {
        self.length.store(line.waiters.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
