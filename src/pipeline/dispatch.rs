//! Leases an endpoint, asks it, and tries again where that is safe.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::balance::{Endpoint, EndpointId, Live as LiveResult, Standing};
use crate::config::pool::UpstreamClocks;
use crate::lexicon::Clock;
use crate::snapshot::{Pool, Route};
use crate::telemetry::metrics::{ConnectResult, EndpointMetrics, RaceOutcome, RetryCause};
use crate::telemetry::record::{self, GaveUp, Stage, Why};
use crate::upstream::connect::connect;
use crate::upstream::idle::{self, Way};
use crate::upstream::link::{Exchange, Home, Limits};
use crate::upstream::pool::NoLease;
use crate::upstream::{Failure, Idle, Lease, Link, Outcome, Sent, Wish};

use super::fault::Fault;
use super::forward::Forward;
use super::hedge::{self, Hedge, Raced};
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
    pool.upstream.budget.note_exchange(now_ms());
    pool.upstream.assets.note_exchange(now_ms());
    loop {
        let since = Instant::now();
        let (mut lease, queued) = match leased.take() {
            Some(lease) => (lease, Duration::ZERO),
            // Nobody waits in line for a better answer.
            None if kept.is_some() => match pool.upstream.try_lease(&tried) {
                Some(lease) => (lease, Duration::ZERO),
                None => return settle(kept, last.unwrap_or(Fault::NoEndpoint), GaveUp::Nobody, story),
            },
            None => match lease(pool, forward.wish(&tried), since, story, last).await {
                Ok(leased) => leased,
                Err(fault) => return settle(kept, fault, GaveUp::Nobody, story),
            },
        };
        let mut endpoint = Arc::clone(lease.endpoint());
        let mut counts = pool.counts(&endpoint);
        story.ask(&lease, why, (since, queued), Arc::clone(&counts));
        why = Why::Repeat;
        // A body that can be sent once only, and a tunnel, do not risk the race with the close of an idle connection.
        let mut rested = None;
        let reuse = !refreshed && !forward.upgrade && !forward.body.is_stream();
        let (failure, sent) = match obtain(pool, &lease, idle, reuse, &counts, story).await {
            Err(failure) => (failure, Sent::Nothing),
            Ok(link) => {
                lease.settle();
                story.reach(Stage::Head);
                let asked = Instant::now();
                rested = link.rest_before();
                // An attempt that can be repeated may have a shorter clock; the last one has the route's.
                let hasty = config.retry.per_try.filter(|_| {
                    let repeatable = forward.read_only && !forward.upgrade && !forward.body.is_stream();
                    repeatable && left > 0 && has_another(pool, &tried, endpoint.id)
                });
                let first_byte = hasty.map_or(limits.first_byte, |hasty| hasty.min(limits.first_byte));
                let limits = Limits { first_byte, ..limits };
                let exchange = Exchange {
                    head: forward.head,
                    body: forward.body.body(),
                    interim: forward.interim,
                    upgrade: forward.upgrade,
                    limits,
                };
                let first = link.exchange(exchange, home(pool, &endpoint, idle));
                let delay = forward.may_be_hedged().then(|| hedge::delay(route)).flatten();
                let outcome = match delay.filter(|delay| *delay < first_byte && left > 0) {
                    None => first.await,
                    Some(delay) => {
                        let present = [&tried[..], &[endpoint.id]].concat();
                        let (head, interim) = (forward.head, forward.interim);
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
                        pool.note_live(&endpoint, said, now_ms());
                        let doubted = forward.doubt(&outcome, &route.config);
                        let left = match doubted {
                            None => return Ok((outcome, lease)),
                            Some(Doubt::Status) => &mut left,
                            Some(Doubt::Asset) => &mut assets_left,
                        };
                        tried.push(endpoint.id);
                        let next = match elsewhere(pool, doubted, left, &tried) {
                            Ok(next) => next,
                            Err(why) => {
                                story.record().gave_up = Some(why);
                                return Ok((outcome, lease));
                            }
                        };
                        story.attempt_failed(
                            &lease,
                            if doubted == Some(Doubt::Asset) { "asset" } else { "status" },
                            None,
                        );
                        kept = Some(Doubted { outcome, lease, counts });
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
                            return settle(kept, fault, why, story);
                        }
                        pool.metrics.retry(RetryCause::Slow);
                        last = Some(fault);
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
            tokio::time::sleep(wait).await;
        }
    }
}

/// An answer that another endpoint may know better.
struct Doubted {
    outcome: Outcome,
    lease: Lease,
    counts: Arc<EndpointMetrics>,
}

/// Where a connection to `endpoint` goes when its exchange is over.
pub(super) fn home(pool: &Pool, endpoint: &Endpoint, idle: &Idle) -> Home {
    let config = &pool.upstream.config;
    Home {
        idle: idle.clone(),
        way: Way::new(endpoint.id, pool.upstream.security.as_ref()),
        most: config.max_idle,
        limit: rest_of(endpoint, &config.clocks),
    }
}

/// How long a connection to `endpoint` may rest.
fn rest_of(endpoint: &Endpoint, clocks: &UpstreamClocks) -> Duration {
    if clocks.learn_idle { endpoint.vitals.keep_alive().limit(clocks.idle) } else { clocks.idle }
}

/// The end when there is no better answer: the one in doubt, else the fault.
fn settle(kept: Option<Doubted>, fault: Fault, why: GaveUp, story: &mut Story) -> Result<(Outcome, Lease), Fault> {
    story.record().gave_up = Some(why);
    let Doubted { outcome, lease, counts } = kept.ok_or(fault)?;
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

async fn obtain(
    pool: &Pool,
    lease: &Lease,
    idle: &Idle,
    reuse: bool,
    metrics: &EndpointMetrics,
    story: &mut Story,
) -> Result<Link, Failure> {
    let endpoint = lease.endpoint();
    let way = Way::new(endpoint.id, pool.upstream.security.as_ref());
    if !reuse {
        idle.expect(way, endpoint);
    } else if let Some(link) = reused(idle, way, endpoint, metrics) {
        story.connected(endpoint, record::Link::Reused, Duration::ZERO);
        return Ok(link);
    }
    story.reach(Stage::Connect);
    let since = Instant::now();
    let link = open(pool, endpoint, metrics).await;
    let how = if link.is_ok() { record::Link::Opened } else { record::Link::None };
    story.connected(endpoint, how, since.elapsed());
    link
}

/// An idle connection to `endpoint`, if there is one.
pub(super) fn reused(idle: &Idle, way: Way, endpoint: &Arc<Endpoint>, metrics: &EndpointMetrics) -> Option<Link> {
    let link = idle.take(way, endpoint)?;
    metrics.connection(ConnectResult::Reused);
    Some(link)
}

/// A new connection to `endpoint`.
pub(super) async fn open(pool: &Pool, endpoint: &Endpoint, metrics: &EndpointMetrics) -> Result<Link, Failure> {
    let addresses = endpoint.vitals.addresses();
    let clocks = &pool.upstream.config.clocks;
    let link = connect(&addresses, &endpoint.host, pool.upstream.security.as_ref(), clocks).await;
    metrics.connection(match &link {
        Ok(_) => ConnectResult::Opened,
        Err(Failure::Late(_)) => ConnectResult::Timeout,
        Err(Failure::Tls(_)) => ConnectResult::Tls,
        Err(Failure::Unresolved) => ConnectResult::Unresolved,
        Err(Failure::Connect(error)) if error.kind() == io::ErrorKind::ConnectionRefused => ConnectResult::Refused,
        Err(_) => ConnectResult::Error,
    });
    link
}

/// superset-websocket closes without an answer when the token is bad: the client's fault, which must not count
/// against the endpoint.
fn refused_tunnel(forward: &Forward<'_>, route: &Route, failure: &Failure, sent: Sent) -> Option<Fault> {
    let silent = forward.upgrade && sent != Sent::Nothing && matches!(failure, Failure::Closed(_));
    let websocket = route.config.websocket.as_ref().filter(|_| silent)?;
    Some(Fault::TunnelRefused(websocket.on_silent_close))
}
