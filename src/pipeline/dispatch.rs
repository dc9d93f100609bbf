//! Leases an endpoint, asks it, and tries again where that is safe.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::balance::{Bench, Endpoint, EndpointId, Live as LiveResult, Standing};
use crate::lexicon::Clock;
use crate::snapshot::{Pool, Route};
use crate::telemetry::metrics::{RaceOutcome, RetryCause};
use crate::telemetry::record::{GaveUp, Stage, Why};
use crate::turn;
use crate::upstream::connect::Opening;
use crate::upstream::idle;
use crate::upstream::link::{Exchange, Leave, Limits};
use crate::upstream::pool::NoLease;
use crate::upstream::{Failure, Idle, Lease, Outcome, Sent, Wish};

use super::doubt::{Doubted, Said, settle};
use super::fault::Fault;
use super::forward::Forward;
use super::hedge::{self, Beside, Hedge, Raced};
use super::links::{Want, home, obtain};
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
        deadline: story.deadline(&route.config),
        head_bytes: config.head_bytes,
    };
    let mut tried: Vec<EndpointId> = Vec::new();
    let mut last: Option<Fault> = None;
    let mut left = config.retry.attempts;
    let mut assets_left = route.config.retry.asset_attempts;
    let mut refreshed = false;
    let mut leased: Option<Lease> = None;
    // An answer in doubt, kept until there is a better one.
    let mut kept: Option<Doubted<'_>> = None;
    let mut why = Why::First;
    let now = now_ms();
    pool.upstream.budget.note_exchange(now);
    pool.upstream.assets.note_exchange(now);
    loop {
        let since = turn::now();
        let (mut lease, queued) = match leased.take() {
            Some(lease) => (lease, Duration::ZERO),
            // Nobody waits in line for a better answer.
            None if kept.is_some() => match pool.upstream.try_lease(&tried) {
                Some(lease) => (lease, Duration::ZERO),
                None => return settle(kept, last.unwrap_or(Fault::NoEndpoint), GaveUp::Nobody, story),
            },
            None => match lease(pool, forward.wish(&tried, limits.deadline), since, story, last).await {
                Ok(leased) => leased,
                Err(fault) => return settle(kept, fault, GaveUp::Nobody, story),
            },
        };
        let mut endpoint = Arc::clone(lease.endpoint());
        let mut counts = pool.counts(&endpoint);
        story.ask(&lease, why, (since, queued), Arc::clone(&counts));
        why = Why::Repeat;
        // What cannot be asked for again does not risk the race with the close of an idle connection.
        let mut rested = None;
        let sendable = !forward.upgrade && !forward.body.is_stream();
        let want = Want {
            reuse: !refreshed && sendable && (forward.read_only || !config.fresh_writes),
            opening: if forward.read_only && sendable { Opening::Any } else { Opening::Unrepeatable },
        };
        let (failure, sent) = match obtain(pool, &lease, idle, want, limits.deadline, &counts, story).await {
            Err(failure) => (failure, Sent::Nothing),
            // What has come too late must not leave, or the endpoint would work for nobody.
            Ok(_) if limits.is_over() => (Failure::Late(Clock::Exchange), Sent::Nothing),
            Ok(link) => {
                lease.settle();
                story.reach(Stage::Head);
                let asked = turn::now();
                rested = link.rest_before();
                let repeatable = forward.read_only && sendable && left > 0;
                // Who leaves has the next endpoint in hand.
                let next = OnceLock::new();
                let beside = Beside::default();
                let asks = |slow: bool| {
                    // At each step of the wait, and nearly always in vain.
                    if !slow && !hung(pool, &endpoint) {
                        return false;
                    }
                    // A second question is the repeat, as long as it is under way.
                    let asked = match beside.look() {
                        (_, true) => return false,
                        (Some(second), false) if left > 1 => [&tried[..], &[endpoint.id, second]].concat(),
                        (Some(_), false) => return false,
                        (None, false) => [&tried[..], &[endpoint.id]].concat(),
                    };
                    way_out(pool, &asked, slow).is_some_and(|lease| next.set(lease).is_ok())
                };
                let leave = Leave { after: config.retry.per_try, asks: &asks };
                let own = forward.head_of(|| story.record().attempts.made());
                let exchange = Exchange {
                    head: own.as_deref().unwrap_or(forward.head),
                    body: forward.body.body(),
                    interim: forward.interim,
                    upgrade: forward.upgrade,
                    limits,
                    leave: repeatable.then_some(leave),
                };
                let delay = forward.may_be_hedged().then(|| hedge::delay(route)).flatten();
                let raced = {
                    // Pinned where it is: it is large, and either way below would copy it.
                    let first = pin!(link.exchange(exchange, home(pool, &endpoint, idle)));
                    match delay.filter(|delay| *delay < limits.first_byte && left > 0) {
                        None => Raced::First(first.await, None),
                        Some(delay) => {
                            let present = [&tried[..], &[endpoint.id]].concat();
                            let own = forward.head_of(|| story.record().attempts.made().saturating_add(1));
                            let (head, interim) = (own.as_deref().unwrap_or(forward.head), forward.interim);
                            let started = story.started();
                            let asked = &present[..];
                            let second = Hedge { head, interim, pool, idle, limits, asked, beside: &beside, started };
                            // In a box of its own: few routes want it, and every exchange would have to carry its room.
                            Box::pin(hedge::race(first, delay, second)).await
                        }
                    }
                };
                let outcome = match raced {
                    Raced::First(outcome, other) => {
                        if let Some((other, attempt)) = other {
                            story.record().attempts.push(attempt);
                            tried.push(other.endpoint().id);
                            left = left.saturating_sub(1);
                        }
                        outcome
                    }
                    Raced::Second(second) => {
                        story.waited(&endpoint, turn::now().saturating_duration_since(asked));
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
                };
                let waited = turn::now().saturating_duration_since(asked);
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
                        match kept.take() {
                            Some(kept) if doubted.is_none() && said == LiveResult::Answered => kept.said.alone(),
                            other => drop(other),
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
                        let said = Said::new(pool, Arc::clone(&endpoint), said);
                        kept = Some(Doubted { outcome, lease, counts, said });
                        leased = Some(next);
                        refreshed = false;
                        continue;
                    }
                    Err((failure @ (Failure::Hangs | Failure::Slow), sent)) => {
                        if matches!(failure, Failure::Slow) {
                            // Once is nothing; again and again, without an answer in between, is hanging.
                            pool.note_live(&endpoint, LiveResult::Silent, now_ms());
                        }
                        left = left.saturating_sub(1);
                        story.attempt_failed(&lease, failure.code(), failure.clock());
                        pool.metrics.retry(retry_cause(&failure, sent));
                        tried.push(endpoint.id);
                        last = Some(Fault::from(&failure));
                        leased = next.into_inner();
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
            if sent == Sent::OnReused && matches!(failure, Failure::Closed(_)) {
                pool.metrics.race(RaceOutcome::Lost);
            }
            return settle(kept, fault, GaveUp::Unsafe, story);
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
            return settle(kept, fault, why, story);
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
            let until = Instant::now() + wait;
            tokio::time::sleep_until(limits.deadline.map_or(until, |end| end.min(until))).await;
        }
    }
}

/// Whether `endpoint` has hung for so long that waiting for it is in vain.
fn hung(pool: &Pool, endpoint: &Endpoint) -> bool {
    let most = pool.upstream.config.retry.hung_after;
    let since = endpoint.vitals.silent_since().filter(|_| !most.is_zero());
    since.is_some_and(|since| u128::from(now_ms().saturating_sub(since)) >= most.as_millis())
}

/// The endpoint to go to from one that hangs or is `slow`, with the repeat paid for; none of those that were `asked`.
/// Nobody leaves for one that is down, nor to wait in line, and who is only `slow` not for one that is ejected. Who is slow is
/// asked once, who hangs again and again.
fn way_out(pool: &Pool, asked: &[EndpointId], slow: bool) -> Option<Lease> {
    let lease = pool.upstream.try_lease(asked)?;
    let vitals = &lease.endpoint().vitals;
    if vitals.standing() == Standing::Down || (slow && vitals.bench() != Bench::In) {
        return None;
    }
    if !pool.upstream.budget.try_retry(now_ms()) {
        if slow {
            pool.metrics.retry_refused();
        }
        return None;
    }
    Some(lease)
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
    let until = wish.until;
    let lease = pool.upstream.lease(wish).await;
    let queued = turn::now().saturating_duration_since(since);
    story.record().stages.queue += queued;
    match (lease, last) {
        (Ok(lease), _) => Ok((lease, queued)),
        // The fault of the attempt says more than that there is nobody else to ask.
        (Err(NoLease::NoneUntried | NoLease::NoneUp), Some(fault)) => Err(fault),
        (Err(NoLease::QueueLate), _) if until.is_some_and(|until| Instant::now() >= until) => Err(Fault::ExchangeLate),
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

#[cfg(test)]
mod tests;
