//! Idle connections to endpoints, per worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::EndpointId;

use super::connect::Security;
use super::link::Link;

/// The idle connections of one worker. Cheap to clone; the lock is never contended, since a worker is one thread.
#[derive(Clone, Default)]
pub struct Idle(Arc<Mutex<HashMap<Way, Vec<Parked>>>>);

/// Where a connection leads, and under which TLS settings it was opened: after a reload has changed what a pool
/// verifies, no connection from before is used again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Way {
    endpoint: EndpointId,
    settings: u64,
}

impl Way {
    /// The way to `endpoint` under `security`.
    pub fn new(endpoint: EndpointId, security: Option<&Security>) -> Self {
        Self { endpoint, settings: security.map_or(0, Security::number) }
    }
}

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
    pub fn take(&self, way: Way) -> Option<Link> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parked = all.get_mut(&way)?;
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
    pub(super) fn put(&self, way: Way, link: Link, most: usize, limit: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parked = all.entry(way).or_default();
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
