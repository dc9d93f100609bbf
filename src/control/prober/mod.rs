//! Active health checks.
//!
//! Floor 5. One task checks every endpoint of the present generation, a bounded number at once, each in its own rhythm:
//! jitter from the first check on keeps replicas of the proxy, and endpoints of a pool, from being asked in step. In:
//! the endpoints with their pools' `health`. Out: standings and their reasons in the vitals, and one call of the
//! [`Observer`] for each flip. The judgement is `health`'s, which is pure; here are the sockets and the clock. State is
//! kept by endpoint id, so that a reload or another roster changes nothing for the endpoints that stay. Deliberately
//! absent: picking; workers read standings and never wait for a check.

mod check;
mod http;
mod jar;
mod tcp;
mod websocket;
mod wire;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Pools;
use super::supervisor::Stop;
use crate::balance::{Endpoint, EndpointId, Standing};
use crate::config::Pool;
use crate::config::pool::Health;
use crate::health::{Failure, Lateness, Outcome, Streak, Traffic};
use crate::lexicon::PoolName;

use check::{Done, check};
use jar::Jar;

/// Checks under way at once.
pub const AT_ONCE: usize = 64;

/// How often the list of endpoints is read when nobody says that it changed; also how soon failures of live traffic
/// bring a check forward.
const REFRESH: Duration = Duration::from_secs(1);

/// First checks are spread over this, or over the fast interval when that is shorter.
const FIRST_WITHIN: Duration = Duration::from_millis(500);

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The endpoint's name has never been resolved.
    #[error("name not resolved")]
    Unresolved,
    /// No connection.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// No TLS.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    /// It accepted the connection and closed it without a byte.
    #[error("closed without an answer")]
    Closed,
    /// The connection broke.
    #[error("connection broke: {0}")]
    Broken(#[source] io::Error),
    /// What came is not what the protocol allows.
    #[error("bad answer: {0}")]
    Malformed(&'static str),
    /// No whole answer in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// A status that is not among the good ones.
    #[error("status {0}")]
    Status(StatusCode),
    /// The expected text is not in the body.
    #[error("expected text not in the body")]
    Body,
}

impl Why {
    /// Nothing answered the wish for a connection.
    fn unreached() -> Self {
        Self::Connect(io::ErrorKind::TimedOut.into())
    }
}

/// What one check found.
#[derive(Debug)]
pub struct Report {
    /// The main check.
    pub result: Result<(), Why>,
    /// How long it took.
    pub took: Duration,
    /// The deep check; `None` when there is none, or the main check failed.
    pub deep: Option<Result<(), Why>>,
}

impl Report {
    /// What failed, if anything did.
    pub fn failure(&self) -> Option<&Why> {
        let deep = self.deep.as_ref().and_then(|deep| deep.as_ref().err());
        self.result.as_ref().err().or(deep)
    }
}

/// Hears what checks found. Called on the control runtime; must not block.
pub trait Observer: Send + Sync + 'static {
    /// A check is over.
    fn probed(&self, pool: &PoolName, endpoint: &Endpoint, report: &Report);

    /// An endpoint's standing has changed; the new one and its reason are in its vitals.
    fn flipped(&self, pool: &PoolName, endpoint: &Endpoint, from: Standing, to: Standing, reason: &str);
}

/// Checks endpoints.
pub struct Prober {
    pools: Arc<dyn Pools>,
    observer: Arc<dyn Observer>,
    /// The clock that live traffic is noted by, in milliseconds.
    clock: fn() -> u64,
    wake: Arc<Notify>,
    watched: HashMap<EndpointId, Watched>,
}

/// An endpoint under watch.
struct Watched {
    pool: Arc<Pool>,
    endpoint: Arc<Endpoint>,
    tls: Option<Arc<ClientConfig>>,
    streak: Streak,
    /// In the hands of the check while one is under way.
    jar: Option<Jar>,
    due: Instant,
    /// When the last check began, on the clock of live traffic.
    asked_at: u64,
    /// Seen at the last refresh.
    present: bool,
}

impl Prober {
    /// A prober of `pools`. `clock` is the one that live traffic is noted by.
    pub fn new(pools: Arc<dyn Pools>, observer: Arc<dyn Observer>, clock: fn() -> u64) -> Self {
        Self { pools, observer, clock, wake: Arc::default(), watched: HashMap::new() }
    }

    /// Reads the list of endpoints at once when notified, for after a reload.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Checks until stopped.
    pub async fn run(mut self, mut stop: Stop) {
        let mut running: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        let mut refresh = Instant::now();
        loop {
            let now = Instant::now();
            if now >= refresh {
                self.refresh(now);
                refresh = now + REFRESH;
            }
            for id in self.due(now, AT_ONCE.saturating_sub(running.len())) {
                running.extend(self.begin(id));
            }
            let next = if running.len() < AT_ONCE { self.next_due() } else { None };
            tokio::select! {
                () = stop.stopped() => return,
                () = self.wake.notified() => refresh = Instant::now(),
                () = sleep_until(next.map_or(refresh, |next| next.min(refresh))) => {}
                Some(done) = running.next() => self.absorb(done),
            }
        }
    }

    /// Takes the present endpoints over and forgets the others.
    fn refresh(&mut self, now: Instant) {
        let watched = &mut self.watched;
        for known in watched.values_mut() {
            known.present = false;
        }
        self.pools.each(&mut |pool, endpoint, tls| {
            let Some(health) = &pool.health else { return };
            if endpoint.disabled {
                return;
            }
            match watched.get_mut(&endpoint.id) {
                Some(known) => known.renew(pool, endpoint, tls, health, now),
                None => {
                    watched.insert(endpoint.id, Watched::new(pool, endpoint, tls, health, now));
                }
            }
        });
        watched.retain(|_, known| {
            if !known.present && known.endpoint.vitals.standing() != Standing::Unknown {
                // Should it come back, its past says nothing.
                known.endpoint.vitals.set_standing(Standing::Unknown, "not checked");
                known.endpoint.vitals.set_silent(None);
            }
            known.present
        });
    }

    /// The endpoints whose time has come, the longest overdue first.
    fn due(&self, now: Instant, room: usize) -> Vec<EndpointId> {
        let mut due: Vec<(Instant, EndpointId)> = self.idle().filter(|(due, _)| *due <= now).collect();
        due.sort_unstable();
        due.into_iter().take(room).map(|(_, id)| id).collect()
    }

    fn next_due(&self) -> Option<Instant> {
        self.idle().map(|(due, _)| due).min()
    }

    /// Endpoints without a check under way.
    fn idle(&self) -> impl Iterator<Item = (Instant, EndpointId)> {
        self.watched.iter().filter(|(_, watched)| watched.jar.is_some()).map(|(id, watched)| (watched.due, *id))
    }

    fn begin(&mut self, id: EndpointId) -> Option<BoxFuture<'static, Done>> {
        let watched = self.watched.get_mut(&id)?;
        let jar = watched.jar.take()?;
        watched.asked_at = (self.clock)();
        let (pool, endpoint, tls) = (Arc::clone(&watched.pool), Arc::clone(&watched.endpoint), watched.tls.clone());
        Some(Box::pin(check(pool, endpoint, tls, jar)))
    }

    fn absorb(&mut self, done: Done) {
        // Gone meanwhile: nobody is interested.
        let Some(watched) = self.watched.get_mut(&done.id) else {
            return;
        };
        watched.jar = Some(done.jar);
        watched.judge(&done.report, (self.clock)(), &*self.observer);
    }
}

impl Watched {
    fn new(
        pool: &Arc<Pool>,
        endpoint: &Arc<Endpoint>,
        tls: Option<&Arc<ClientConfig>>,
        health: &Health,
        now: Instant,
    ) -> Self {
        Self {
            pool: Arc::clone(pool),
            endpoint: Arc::clone(endpoint),
            tls: tls.cloned(),
            streak: Streak::new(endpoint.vitals.standing()),
            jar: Some(Jar::default()),
            due: now + FIRST_WITHIN.min(health.fast_interval).mul_f64(fastrand::f64()),
            asked_at: 0,
            present: true,
        }
    }

    /// Takes over what this generation says; a check under way ends by the old one.
    fn renew(
        &mut self,
        pool: &Arc<Pool>,
        endpoint: &Arc<Endpoint>,
        tls: Option<&Arc<ClientConfig>>,
        health: &Health,
        now: Instant,
    ) {
        self.present = true;
        self.tls = tls.cloned();
        self.endpoint = Arc::clone(endpoint);
        if !Arc::ptr_eq(&self.pool, pool) {
            self.pool = Arc::clone(pool);
            // The interval may be a shorter one now.
            self.due = self.due.min(now + health.interval);
        }
        // Users have met a failure since the last check: look at once, though no more often than in transition.
        if endpoint.vitals.recent().failed_at.is_some_and(|failed| failed > self.asked_at) {
            self.due = self.due.min(now + health.fast_interval);
        }
    }

    /// Makes a standing of what a check found, and says when the next one is due. `now` on the clock of live traffic.
    fn judge(&mut self, report: &Report, now: u64, observer: &dyn Observer) {
        let Some(health) = &self.pool.health else { return };
        observer.probed(&self.pool.name, &self.endpoint, report);
        let traffic = traffic(&self.endpoint);
        if let Some(flip) = self.streak.on(outcome(report), health, &traffic, now) {
            let reason = match report.failure() {
                Some(why) => flip.reason.because(why),
                None => flip.reason.to_string(),
            };
            self.endpoint.vitals.set_standing(flip.to, &reason);
            observer.flipped(&self.pool.name, &self.endpoint, flip.from, flip.to, &reason);
        }
        let hangs = self.streak.standing() == Standing::Down && matches!(report.result, Err(Why::Silent(_)));
        self.endpoint.vitals.set_silent(hangs.then_some(now));
        self.due = Instant::now() + self.streak.next_delay(health, &traffic, now, fastrand::u32(..));
    }
}

/// What live traffic saw of `endpoint`.
fn traffic(endpoint: &Endpoint) -> Traffic {
    let recent = endpoint.vitals.recent();
    Traffic { answered_at: recent.answered_at, failed_at: recent.failed_at, connect_failures: recent.connect_failures }
}

/// What a report means to those who judge.
fn outcome(report: &Report) -> Outcome {
    match (&report.result, &report.deep) {
        (Err(why), _) => Outcome::Failed(Failure::from(why)),
        (Ok(()), Some(Err(why))) => Outcome::Late(Lateness::Deep(Failure::from(why))),
        (Ok(()), None | Some(Ok(()))) => Outcome::Good { elapsed: report.took },
    }
}

impl From<&Why> for Failure {
    fn from(why: &Why) -> Self {
        match why {
            Why::Unresolved => Self::Unresolved,
            Why::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => Self::Refused,
            Why::Connect(_) => Self::Unreachable,
            Why::Tls(_) => Self::Tls,
            Why::Closed | Why::Broken(_) => Self::Broken,
            Why::Malformed(_) => Self::Malformed,
            Why::Silent(_) => Self::Silent,
            Why::Status(status) => Self::Status(*status),
            Why::Body => Self::Body,
        }
    }
}

#[cfg(test)]
mod tests;
