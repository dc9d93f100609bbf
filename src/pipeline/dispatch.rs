//! Leases an endpoint, asks it, and tries again where that is safe.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::balance::{Endpoint, EndpointId, Live as LiveResult, Standing};
use crate::lexicon::Clock;
use crate::snapshot::{Pool, Route};
use crate::telemetry::metrics::{EndpointMetrics, RaceOutcome, RetryCause};
use crate::telemetry::record::{GaveUp, Stage, Why};
use crate::upstream::idle;
use crate::upstream::link::{Exchange, Limits};
use crate::upstream::pool::NoLease;
use crate::upstream::{Failure, Idle, Lease, Outcome, Sent, Wish};

use super::fault::Fault;
use super::forward::Forward;
use super::hedge::{self, Hedge, Raced};
use super::links::{home, obtain};
use super::now_ms;
use super::record::Story;
use super::retry::{Doubt, Next, back_off, retry_cause, told, verdict};

/// Asks the endpoints of `pool` in turn until one answers or trying again would not be safe.
///
/// # Errors
/// The fault of the last attempt.
pub(super) async fn dispatch(
    mut forward: Forward<'_>,
    route: &Route,
    pool: &Pool,
    idle: &Idle,
    story: &mut Story,
) -> Result<(Outcome, Lease), Fault> {
    let config = &pool.upstream.config;
    let limits = Limits {
        write_idle: config.clocks.write_idle,
        first_byte: route.config.clocks.first_byte,
        between_bytes: route.config.clocks.between_bytes,
        deadline: route.config.clocks.exchange.map(|whole| story.started() + whole),
        head_bytes: config.head_bytes,
    };
    let mut tried: Vec<EndpointId> = Vec::new();
    let mut last: Option<Fault> = None;
    let mut left = config.retry.attempts;
    let mut assets_left = route.config.retry.asset_attempts;
    let mut refreshed = false;
    let mut leased: Option<Lease> = None;
    // An answer in doubt, kept until there is a better one.
    let mut kept: Option<Doubted> = None;
    let mut why = Why::First;
    let now = now_ms();
    pool.upstream.budget.note_exchange(now);
    pool.upstream.assets.note_exchange(now);
    loop {
        let since = Instant::now();
        let (mut lease, queued) = match leased.take() {
            Some(lease) => (lease, Duration::ZERO),
            // Nobody waits in line for a better answer.
            None if kept.is_some() => match pool.upstream.try_lease(&tried) {
                Some(lease) => (lease, Duration::ZERO),
                None => return settle(pool, kept, last.unwrap_or(Fault::NoEndpoint), GaveUp::Nobody, story),
            },
            None => match lease(pool, forward.wish(&tried), since, story, last).await {
                Ok(leased) => leased,
                Err(fault) => return settle(pool, kept, fault, GaveUp::Nobody, story),
            },
        };
        let mut endpoint = Arc::clone(lease.endpoint());
        let mut counts = pool.counts(&endpoint);
        story.ask(&lease, why, (since, queued), Arc::clone(&counts));
        why = Why::Repeat;
        // What cannot be asked for again does not risk the race with the close of an idle connection.
        let mut rested = None;
        let sendable = !forward.upgrade && !forward.body.is_stream();
        let reuse = !refreshed && sendable && (forward.read_only || !config.fresh_writes);
        let (failure, sent) = match obtain(pool, &lease, idle, reuse, &counts, story).await {
            Err(failure) => (failure, Sent::Nothing),
            Ok(link) => {
                lease.settle();
                story.reach(Stage::Head);
                let asked = Instant::now();
                rested = link.rest_before();
                // An attempt that can be repeated may have a shorter clock; the last one has the route's.
                let repeatable = forward.read_only && sendable && left > 0;
                let hasty = config.retry.per_try.filter(|_| repeatable && has_another(pool, &tried, endpoint.id));
                let first_byte = hasty.map_or(limits.first_byte, |hasty| hasty.min(limits.first_byte));
                let limits = Limits { first_byte, ..limits };
                // Who leaves has paid for the repeat, and somebody is left to ask; when all of them are full it waits in line.
                let hangs = || {
                    hung(pool, &endpoint)
                        && has_another(pool, &tried, endpoint.id)
                        && pool.upstream.budget.try_retry(now_ms())
                };
                let own = forward.head_of(|| story.record().attempts.made());
                let exchange = Exchange {
                    head: own.as_deref().unwrap_or(forward.head),
                    body: forward.body.body(),
                    interim: forward.interim,
                    upgrade: forward.upgrade,
                    limits,
                    hangs: repeatable.then_some(&hangs as &(dyn Fn() -> bool + Sync)),
                };
                let first = link.exchange(exchange, home(pool, &endpoint, idle));
                let delay = forward.may_be_hedged().then(|| hedge::delay(route)).flatten();
                let outcome = match delay.filter(|delay| *delay < first_byte && left > 0) {
                    None => first.await,
                    Some(delay) => {
                        let present = [&tried[..], &[endpoint.id]].concat();
                        let own = forward.head_of(|| story.record().attempts.made().saturating_add(1));
                        let (head, interim) = (own.as_deref().unwrap_or(forward.head), forward.interim);
                        let started = story.started();
                        let second = Hedge { head, interim, pool, idle, limits, asked: &present, started };
                        match hedge::race(first, delay, second).await {
                            Raced::First(outcome, other) => {
                                if let Some((other, attempt)) = other {
                                    story.record().attempts.push(attempt);
                                    tried.push(other.endpoint().id);
                                    left = left.saturating_sub(1);
                                }
                                outcome
                            }
                            Raced::Second(second) => {
                                story.waited(&endpoint, asked.elapsed());
                                story.attempt_failed(&lease, "hedge", None);
                                tried.push(endpoint.id);
                                left = left.saturating_sub(1);
                                if let Some((failure, sent)) = second.failed {
                                    story.attempt_failed(&lease, failure.code(), failure.clock());
                                    if let Some(live) = told(&failure, sent) {
                                        pool.note_live(&endpoint, live, now_ms());
                                    }
                                }
                                (lease, endpoint, counts) = (second.lease, second.endpoint, second.counts);
                                story.record().attempts.push(second.attempt);
                                story.take_endpoint(&lease, Arc::clone(&counts));
                                Ok(second.outcome)
                            }
                        }
                    }
                };
                let waited = asked.elapsed();
                story.record().stages.first_byte = waited;
                story.waited(&endpoint, waited);
                if let Some(times) = &route.hedge
                    && outcome.is_ok()
                {
                    times.note(waited);
                }
                match outcome {
                    Ok(outcome) => {
                        let (said, status) = match &outcome {
                            Outcome::Response { head, .. } => (pool.verdict(head.status), head.status),
                            Outcome::Switched { .. } => (LiveResult::Answered, StatusCode::SWITCHING_PROTOCOLS),
                        };
                        story.answered(&endpoint, status);
                        let doubted = forward.doubt(&outcome, &route.config);
                        if let Some(mut kept) = kept.take() {
                            kept.judge(pool, doubted.is_none() && said == LiveResult::Answered);
                        }
                        let left = match doubted {
                            None => {
                                pool.note_live(&endpoint, said, now_ms());
                                return Ok((outcome, lease));
                            }
                            Some(Doubt::Status) => &mut left,
                            Some(Doubt::Asset) => &mut assets_left,
                        };
                        tried.push(endpoint.id);
                        let next = match elsewhere(pool, doubted, left, &tried) {
                            Ok(next) => next,
                            Err(why) => {
                                pool.note_live(&endpoint, said, now_ms());
                                story.record().gave_up = Some(why);
                                return Ok((outcome, lease));
                            }
                        };
                        let cause = if doubted == Some(Doubt::Asset) { "asset" } else { "status" };
                        story.attempt_failed(&lease, cause, None);
                        kept = Some(Doubted { outcome, lease, counts, said: Some(said) });
                        leased = Some(next);
                        refreshed = false;
                        continue;
                    }
                    Err((Failure::Late(Clock::FirstByte), _)) if first_byte < route.config.clocks.first_byte => {
                        // Slow once is nothing; slow again and again, without an answer in between, is hanging.
                        pool.note_live(&endpoint, LiveResult::Silent, now_ms());
                        story.attempt_failed(&lease, "per_try", Some(Clock::FirstByte));
                        tried.push(endpoint.id);
                        // Nobody else to ask: who is only slow deserves no second question.
                        let fault = Fault::UpstreamLate(Clock::FirstByte);
                        if let Err(why) = spend(pool, &mut left) {
                            return settle(pool, kept, fault, why, story);
                        }
                        pool.metrics.retry(RetryCause::Slow);
                        last = Some(fault);
                        refreshed = false;
                        continue;
                    }
                    Err((failure @ Failure::Hangs, sent)) => {
                        left = left.saturating_sub(1);
                        story.attempt_failed(&lease, failure.code(), failure.clock());
                        pool.metrics.retry(retry_cause(&failure, sent));
                        tried.push(endpoint.id);
                        last = Some(Fault::from(&failure));
                        refreshed = false;
                        continue;
                    }
                    Err(failed) => failed,
                }
            }
        };
        if let Some(refused) = refused_tunnel(&forward, route, &failure, sent) {
            story.attempt_failed(&lease, "tunnel_refused", None);
            return Err(refused);
        }
        if let Some(live) = told(&failure, sent) {
            pool.note_live(&endpoint, live, now_ms());
        }
        story.attempt_failed(&lease, failure.code(), failure.clock());
        if sent == Sent::OnReused
            && let (Failure::Closed(_), Some(rested)) = (&failure, rested)
        {
            idle::note_close(&endpoint, rested);
        }
        let fault = Fault::from(&failure);
        let at_hand = forward.body.is_at_hand();
        let next = verdict(&failure, sent, forward.read_only && at_hand);
        if next == Next::Never || !at_hand {
            if sent == Sent::OnReused {
                pool.metrics.race(RaceOutcome::Lost);
            }
            return settle(pool, kept, fault, GaveUp::Unsafe, story);
        }
        if next == Next::Afresh && !refreshed {
            // The endpoint did nothing wrong, and a fresh connection is no second chance it must earn.
            pool.metrics.race(RaceOutcome::Avoided);
            refreshed = true;
            why = Why::Afresh;
            leased = Some(lease);
            continue;
        }
        // Of what never left nobody has done any work: to ask the next endpoint adds no load that attempts and budget
        // would have to bound. It ends with the endpoints that are untried.
        if sent != Sent::Nothing
            && let Err(why) = spend(pool, &mut left)
        {
            return settle(pool, kept, fault, why, story);
        }
        refreshed = false;
        pool.metrics.retry(retry_cause(&failure, sent));
        tried.push(endpoint.id);
        last = Some(fault);
        // No slot is held meanwhile.
        drop(lease);
        let repeat = if sent == Sent::Nothing { 0 } else { config.retry.attempts.saturating_sub(left) };
        let wait = back_off(repeat, config.retry.back_off, fastrand::f64());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// An answer that another endpoint may know better.
struct Doubted {
    outcome: Outcome,
    lease: Lease,
    counts: Arc<EndpointMetrics>,
    /// What it says about its endpoint, until that is noted.
    said: Option<LiveResult>,
}

impl Doubted {
    /// Notes what the answer says about its endpoint, now that another one was asked the same. An error that only it
    /// gives is no matter of the request: it says as much as that the endpoint cannot serve.
    fn judge(&mut self, pool: &Pool, alone: bool) {
        let Some(said) = self.said.take() else { return };
        let said = if alone && said == LiveResult::Erred { LiveResult::Unserved } else { said };
        pool.note_live(self.lease.endpoint(), said, now_ms());
    }
}

/// Whether `endpoint` has hung for so long that waiting for it is in vain.
fn hung(pool: &Pool, endpoint: &Endpoint) -> bool {
    let most = pool.upstream.config.retry.hung_after;
    let since = endpoint.vitals.silent_since().filter(|_| !most.is_zero());
    since.is_some_and(|since| u128::from(now_ms().saturating_sub(since)) >= most.as_millis())
}

/// The end when there is no better answer: the one in doubt, else the fault.
fn settle(
    pool: &Pool,
    kept: Option<Doubted>,
    fault: Fault,
    why: GaveUp,
    story: &mut Story,
) -> Result<(Outcome, Lease), Fault> {
    story.record().gave_up = Some(why);
    let mut kept = kept.ok_or(fault)?;
    kept.judge(pool, false);
    let Doubted { outcome, lease, counts, .. } = kept;
    story.take_endpoint(&lease, counts);
    Ok((outcome, lease))
}

/// Whether somebody is left to ask who is not known to be down.
fn has_another(pool: &Pool, tried: &[EndpointId], present: EndpointId) -> bool {
    pool.upstream.roster().endpoints().iter().any(|other| {
        other.id != present
            && !tried.contains(&other.id)
            && !other.is_disabled()
            && other.vitals.standing() != Standing::Down
    })
}

/// Takes one further attempt from what the exchange and the pool may still spend.
fn spend(pool: &Pool, left: &mut u32) -> Result<(), GaveUp> {
    let fewer = left.checked_sub(1).ok_or(GaveUp::Attempts)?;
    if !pool.upstream.budget.try_retry(now_ms()) {
        pool.metrics.retry_refused();
        return Err(GaveUp::Budget);
    }
    *left = fewer;
    Ok(())
}

/// An endpoint that may know better, if one is free at once and the budget allows it.
fn elsewhere(pool: &Pool, doubt: Option<Doubt>, left: &mut u32, tried: &[EndpointId]) -> Result<Lease, GaveUp> {
    let fewer = left.checked_sub(1).ok_or(GaveUp::Attempts)?;
    let lease = pool.upstream.try_lease(tried).ok_or(GaveUp::Nobody)?;
    let (budget, cause) = match doubt {
        Some(Doubt::Asset) => (&pool.upstream.assets, RetryCause::Asset),
        Some(Doubt::Status) | None => (&pool.upstream.budget, RetryCause::Status),
    };
    if !budget.try_retry(now_ms()) {
        pool.metrics.retry_refused();
        return Err(GaveUp::Budget);
    }
    *left = fewer;
    pool.metrics.retry(cause);
    Ok(lease)
}

/// A lease, and how long it was waited for.
async fn lease(
    pool: &Pool,
    wish: Wish<'_>,
    since: Instant,
    story: &mut Story,
    last: Option<Fault>,
) -> Result<(Lease, Duration), Fault> {
    story.reach(Stage::Queue);
    let lease = pool.upstream.lease(wish).await;
    let queued = since.elapsed();
    story.record().stages.queue += queued;
    match (lease, last) {
        (Ok(lease), _) => Ok((lease, queued)),
        // The fault of the attempt says more than that there is nobody else to ask.
        (Err(NoLease::NoneUntried | NoLease::NoneUp), Some(fault)) => Err(fault),
        (Err(none), _) => Err(Fault::from(none)),
    }
}

/// superset-websocket closes without an answer when the token is bad: the client's fault, which must not count
/// against the endpoint.
fn refused_tunnel(forward: &Forward<'_>, route: &Route, failure: &Failure, sent: Sent) -> Option<Fault> {
    let silent = forward.upgrade && sent != Sent::Nothing && matches!(failure, Failure::Closed(_));
    let websocket = route.config.websocket.as_ref().filter(|_| silent)?;
    Some(Fault::TunnelRefused(websocket.on_silent_close))
}
