//! Idle connections to endpoints, per worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::EndpointId;

use super::link::Link;

/// The idle connections of one worker. Cheap to clone; the lock is never contended, since a worker is one thread.
#[derive(Clone, Default)]
pub struct Idle(Arc<Mutex<HashMap<EndpointId, Vec<Parked>>>>);

/// A connection that waits for its next request.
struct Parked {
    link: Link,
    since: Instant,
    /// Age at which it is closed, as the pool says.
    limit: Duration,
}

impl Idle {
    /// Takes the connection that rested least, unless all are too old or were closed by the endpoint.
    ///
    /// The check for silence before reuse catches the endpoint's close as soon as the kernel knows of it; what is
    /// left of the race is handled by the retry.
    pub fn take(&self, endpoint: EndpointId) -> Option<Link> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parked = all.get_mut(&endpoint)?;
        let now = Instant::now();
        while let Some(candidate) = parked.pop() {
            if now.duration_since(candidate.since) >= candidate.limit {
                // The others rested even longer.
                parked.clear();
                return None;
            }
            if candidate.link.is_silent() {
                return Some(candidate.link);
            }
        }
        None
    }

    /// Keeps a connection for later, at most `most` per endpoint, at most for `limit`.
    pub(super) fn put(&self, endpoint: EndpointId, link: Link, most: usize, limit: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parked = all.entry(endpoint).or_default();
        if parked.len() < most {
            parked.push(Parked { link, since: Instant::now(), limit });
        }
    }

    /// Closes what has rested for too long; called a few times a second by the worker.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, parked| {
            parked.retain(|candidate| now.duration_since(candidate.since) < candidate.limit);
            !parked.is_empty()
        });
    }

    /// Connections at rest.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }

    /// Whether no connection is at rest.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
