//! A second question when the first one is slower than most, and the better answer of the two.
//!
//! Only for safe methods without content, where a route asks for it: the second attempt goes to an endpoint that is free at
//! once, within the pool's budget of retries. Whoever loses is dropped, which frees its endpoint.

use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::{Endpoint, EndpointId};
use crate::body::Body;
use crate::head::request;
use crate::message::Interim;
use crate::snapshot::{Pool, Route};
use crate::telemetry::metrics::{EndpointMetrics, HedgeOutcome, RetryCause};
use crate::telemetry::record::{self, Attempt, Why};
use crate::upstream::connect::Opening;
use crate::upstream::idle::Way;
use crate::upstream::link::{Exchange, Limits};
use crate::upstream::{Failure, Idle, Lease, Outcome, Sent};

use super::links::{home, open, reused};
use super::now_ms;
use super::retry::told;

/// How an attempt ended.
pub(super) type Tried = Result<Outcome, (Failure, Sent)>;

/// What a second attempt is made with.
pub(super) struct Hedge<'a> {
    pub(super) head: &'a request::Parts,
    pub(super) interim: &'a Interim,
    pub(super) pool: &'a Pool,
    pub(super) idle: &'a Idle,
    pub(super) limits: Limits,
    /// Endpoints that were asked, the present one included.
    pub(super) asked: &'a [EndpointId],
    /// Where it is told that it is under way.
    pub(super) beside: &'a Beside,
    /// When the request's head was complete.
    pub(super) started: Instant,
}

/// Whether a second question is under way, as whoever waits for the first one sees it.
#[derive(Debug, Default)]
pub(super) struct Beside {
    endpoint: OnceLock<EndpointId>,
    ended: AtomicBool,
}

impl Beside {
    /// Who was asked, and whether there is still no answer.
    pub(super) fn look(&self) -> (Option<EndpointId>, bool) {
        let endpoint = self.endpoint.get().copied();
        (endpoint, endpoint.is_some() && !self.ended.load(Relaxed))
    }

    fn begin(&self, endpoint: EndpointId) {
        self.endpoint.get_or_init(|| endpoint);
    }

    fn end(&self) {
        self.ended.store(true, Relaxed);
    }
}

/// A second attempt that came in first.
pub(super) struct Second {
    pub(super) outcome: Outcome,
    pub(super) lease: Lease,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) counts: Arc<EndpointMetrics>,
    pub(super) attempt: Attempt,
    /// What the first attempt had failed with by then, if it had.
    pub(super) failed: Option<(Failure, Sent)>,
}

/// Who came in first.
pub(super) enum Raced {
    /// The first attempt, whatever it brought; with the second one, if there was one.
    First(Tried, Option<(Lease, Attempt)>),
    /// The second one, with an answer.
    Second(Second),
}

/// When a route's request deserves a second question; `None` while too little is known, and where it wants none.
pub(super) fn delay(route: &Route) -> Option<Duration> {
    route.hedge.as_ref()?.estimate()
}

/// Waits for `first`, and after `delay` asks once more beside it.
pub(super) async fn race(first: impl Future<Output = Tried>, delay: Duration, hedge: Hedge<'_>) -> Raced {
    let mut first = pin!(first);
    if let Ok(done) = tokio::time::timeout(delay, &mut first).await {
        return Raced::First(done, None);
    }
    let Some(lease) = hedge.pool.upstream.try_lease(hedge.asked) else { return Raced::First(first.await, None) };
    if !hedge.pool.upstream.budget.try_retry(now_ms()) {
        hedge.pool.metrics.retry_refused();
        return Raced::First(first.await, None);
    }
    hedge.beside.begin(lease.endpoint().id);
    hedge.pool.metrics.retry(RetryCause::Hedge);
    let endpoint = Arc::clone(lease.endpoint());
    let counts = hedge.pool.counts(&endpoint);
    let mut lease = lease;
    let began = Instant::now();
    let mut attempt = Attempt {
        began: began.saturating_duration_since(hedge.started),
        ..Attempt::on(endpoint.name.clone(), Why::Hedge, lease.choice())
    };
    let (outcome, first_done) = {
        let mut second = pin!(ask(&hedge, &endpoint, &counts, &mut lease, &mut attempt));
        tokio::select! {
            biased;
            done = &mut first => match done {
                Ok(outcome) => (None, Some(Ok(outcome))),
                // The second one is under way: it is as good as any repeat.
                Err(failed) => (second.await, Some(Err(failed))),
            },
            outcome = &mut second => (outcome, None),
        }
    };
    hedge.beside.end();
    attempt.waited = began.elapsed().saturating_sub(attempt.connect);
    if let Some(outcome) = outcome {
        hedge.pool.metrics.hedge(HedgeOutcome::Won);
        let failed = first_done.and_then(Result::err);
        return Raced::Second(Second { outcome, lease, endpoint, counts, attempt, failed });
    }
    let beaten = matches!(first_done, Some(Ok(_)));
    hedge.pool.metrics.hedge(if beaten { HedgeOutcome::Slower } else { HedgeOutcome::Failed });
    // What failed was an extra: the first one decides.
    let done = match first_done {
        Some(done) => done,
        None => first.await,
    };
    attempt.cause.get_or_insert("hedge");
    Raced::First(done, Some((lease, attempt)))
}

/// The second attempt; `None` when it brings no answer worth having. The endpoint is judged by it as by any other.
async fn ask(
    hedge: &Hedge<'_>,
    endpoint: &Arc<Endpoint>,
    counts: &EndpointMetrics,
    lease: &mut Lease,
    attempt: &mut Attempt,
) -> Option<Outcome> {
    match try_once(hedge, endpoint, counts, lease, attempt).await {
        // Who wins is judged where every answer is.
        Ok(outcome) => match &outcome {
            Outcome::Response { head, .. } if head.status.is_server_error() => {
                (attempt.status, attempt.cause) = (Some(head.status.as_u16()), Some("status"));
                hedge.pool.note_live(endpoint, hedge.pool.verdict(head.status), now_ms());
                None
            }
            _ => Some(outcome),
        },
        Err((failure, sent)) => {
            (attempt.cause, attempt.clock) = (Some(failure.code()), failure.clock());
            if let Some(live) = told(&failure, sent) {
                hedge.pool.note_live(endpoint, live, now_ms());
            }
            None
        }
    }
}

async fn try_once(
    hedge: &Hedge<'_>,
    endpoint: &Arc<Endpoint>,
    counts: &EndpointMetrics,
    lease: &mut Lease,
    attempt: &mut Attempt,
) -> Tried {
    let way = Way::new(endpoint.id, hedge.pool.upstream.security.as_ref());
    let link = match reused(hedge.idle, way, endpoint, counts) {
        Some(link) => {
            attempt.link = record::Link::Reused;
            link
        }
        None => {
            let since = Instant::now();
            let opened = open(hedge.pool, endpoint, hedge.limits.deadline, Opening::Any, counts).await;
            attempt.connect = since.elapsed();
            let link = opened.map_err(|failure| (failure, Sent::Nothing))?;
            attempt.link = record::Link::Opened;
            link
        }
    };
    lease.settle();
    let exchange = Exchange {
        head: hedge.head,
        body: Body::empty(),
        interim: hedge.interim,
        upgrade: false,
        limits: hedge.limits,
        leave: None,
    };
    link.exchange(exchange, home(hedge.pool, endpoint, hedge.idle)).await
}
