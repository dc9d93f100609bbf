//! Idle connections to endpoints, per worker.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::{ById, Endpoint, EndpointId};
use crate::telemetry::events;
use crate::turn;

use super::connect::Security;
use super::link::Link;

/// The idle connections of one worker. Cheap to clone; the lock is never contended, since a worker is one thread.
#[derive(Clone, Default)]
pub struct Idle(Arc<Mutex<ById<Way, Shelf>>>);

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

/// The connections that wait for an endpoint's next request.
struct Shelf {
    /// Learns from closes.
    endpoint: Arc<Endpoint>,
    parked: Vec<Parked>,
    /// When it was last seen which of them are open.
    swept: Instant,
    /// When somebody last looked for a connection.
    asked: Instant,
}

impl Shelf {
    fn of<'a>(all: &'a mut ById<Way, Self>, way: Way, endpoint: &Arc<Endpoint>, now: Instant) -> &'a mut Self {
        let fresh = || Self { endpoint: Arc::clone(endpoint), parked: Vec::new(), swept: now, asked: now };
        let shelf = all.entry(way).or_insert_with(fresh);
        shelf.asked = now;
        shelf
    }
}

/// How long an empty shelf is kept for the connection of an exchange that is still under way.
const KEPT: Duration = Duration::from_secs(600);

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
    pub fn take(&self, way: Way, endpoint: &Arc<Endpoint>) -> Option<Link> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = turn::now();
        let shelf = Shelf::of(&mut all, way, endpoint, now);
        while let Some(candidate) = shelf.parked.pop() {
            let rested = now.duration_since(candidate.since);
            if rested >= candidate.limit {
                // The others rested even longer.
                shelf.parked.clear();
                note_end(&candidate, endpoint, shelf.swept, rested);
                return None;
            }
            if candidate.link.is_silent() {
                return Some(candidate.link.rested(rested));
            }
            note_end(&candidate, endpoint, shelf.swept, rested);
        }
        None
    }

    /// Makes room for a connection to `endpoint` that will come to rest, without taking one.
    pub fn expect(&self, way: Way, endpoint: &Arc<Endpoint>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Shelf::of(&mut all, way, endpoint, turn::now());
    }

    /// Keeps a connection for later, at most `most` per endpoint, at most for `limit`.
    pub(super) fn put(&self, way: Way, link: Link, most: usize, limit: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever asked that long ago opens a connection next time.
        let Some(shelf) = all.get_mut(&way) else { return };
        if shelf.parked.len() < most {
            shelf.parked.push(Parked { link, since: turn::now(), limit });
        }
    }

    /// Closes what has rested for too long, or was closed by the endpoint, which teaches how long it waits; called a few
    /// times a second by the worker.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, shelf| {
            let Shelf { endpoint, parked, swept, asked } = shelf;
            parked.retain(|candidate| {
                let rested = now.duration_since(candidate.since);
                if rested < candidate.limit && candidate.link.is_silent() {
                    return true;
                }
                note_end(candidate, endpoint, *swept, rested);
                false
            });
            *swept = now;
            !parked.is_empty() || now.duration_since(*asked) < KEPT
        });
    }

    /// Connections at rest.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(|shelf| shelf.parked.len()).sum()
    }

    /// Whether no connection is at rest.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The rest of a connection is over after `rested`, by our clock or by the endpoint's; it was open when it was last looked
/// at, and who closes was seen to keep it until then.
fn note_end(parked: &Parked, endpoint: &Endpoint, swept: Instant, rested: Duration) {
    if parked.link.is_silent() {
        endpoint.vitals.keep_alive().note_held(now_ms());
    } else {
        let kept = swept.saturating_duration_since(parked.since);
        note_close(endpoint, if kept.is_zero() { rested } else { kept });
    }
}

/// The endpoint has closed a connection that had rested for `rested`.
pub fn note_close(endpoint: &Endpoint, rested: Duration) {
    if let Some(learned) = endpoint.vitals.keep_alive().note_close(rested, now_ms()) {
        events::idle_time_learned(&endpoint.name, learned);
    }
}

/// Milliseconds since the first call, over all workers.
fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(turn::now().saturating_duration_since(*START).as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}
