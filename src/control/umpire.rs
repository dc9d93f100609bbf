//! Rules on endpoints by what live traffic shows.
//!
//! Floor 5. One task looks at every pool of the present generation a few times a second, and at once when an exchange
//! raises the alarm: who is ejected, tried out and taken back, who is still growing into its share. The judgement is
//! `health`'s, which is pure; here it is put into the endpoints' vitals, told, and whoever waits is served. Besides it
//! tells what is worth an event but happens on the path of requests: limits reached, refusals, traffic that shifts.
//! Deliberately absent: picking; workers read the vitals and never wait for the umpire.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::supervisor::Stop;
use crate::balance::{Bench, Endpoint, EndpointId, Reached, Tier, WARM};
use crate::health::outlier::{Cause, Panel, Rows, Ruling, Sample};
use crate::health::warming::Warming;
use crate::lexicon::PoolName;
use crate::snapshot::{Live, Pool};
use crate::telemetry::events;
use crate::telemetry::metrics::Ejection;
use crate::upstream::line::Lane;
use crate::upstream::queue::Ending;

/// How often pools are looked at without an alarm.
const LOOK: Duration = Duration::from_millis(250);

/// Looks are at least this far apart, however often the alarm is raised.
const PAUSE: Duration = Duration::from_millis(5);

/// A limit that was not reached, and a line that refused nobody, for this long is news when it happens again.
const QUIET: u64 = 30_000;

/// Rules on endpoints.
pub struct Umpire {
    live: Arc<Live>,
    /// The clock that live traffic is noted by, in milliseconds.
    clock: fn() -> u64,
    desks: HashMap<PoolName, Desk>,
}

/// What is known of a pool.
#[derive(Default)]
struct Desk {
    panel: Panel<EndpointId>,
    warming: Warming<EndpointId>,
    shares: Vec<(Tier, u32)>,
    limits: HashMap<EndpointId, (Reached, [News; 3])>,
    refused: (u64, News),
    unrepeated: (u64, News),
}

/// Tells apart what is news and what goes on.
#[derive(Clone, Copy, Default)]
struct News {
    last: Option<u64>,
}

impl News {
    /// Whether what happens at `now` has not happened for a while.
    fn is(&mut self, now: u64) -> bool {
        self.last.replace(now).is_none_or(|last| now.saturating_sub(last) > QUIET)
    }
}

impl Umpire {
    /// An umpire of the pools of `live`. `clock` is the one that live traffic is noted by.
    pub fn new(live: Arc<Live>, clock: fn() -> u64) -> Self {
        Self { live, clock, desks: HashMap::new() }
    }

    /// Rules until stopped.
    pub async fn run(mut self, mut stop: Stop) {
        let mut last = Instant::now();
        loop {
            let snapshot = self.live.load();
            let now = (self.clock)();
            self.desks.retain(|name, _| snapshot.pool(name).is_some());
            for pool in &snapshot.pools {
                self.desks.entry(pool.upstream.config.name.clone()).or_default().look(pool, now);
            }
            tokio::select! {
                () = stop.stopped() => return,
                () = sleep_until(last + LOOK) => {}
                () = snapshot.alarm.notified() => tokio::time::sleep(PAUSE).await,
            }
            last = Instant::now();
        }
    }
}

impl Desk {
    fn look(&mut self, pool: &Pool, now: u64) {
        let roster = pool.upstream.roster();
        let trust = pool.upstream.rule().trust;
        let endpoints: Vec<&Arc<Endpoint>> = roster.endpoints().iter().filter(|each| !each.is_disabled()).collect();
        let changed = self.rule(pool, &endpoints, now);
        let usable = endpoints.iter().filter(|each| each.is_usable(trust) && each.vitals.bench() == Bench::In);
        let usable: Vec<&Arc<Endpoint>> = usable.copied().collect();
        let ids: Vec<EndpointId> = usable.iter().map(|endpoint| endpoint.id).collect();
        // In the order of those it was asked about.
        let shares = self.warming.judge(&ids, pool.upstream.config.slow_start.as_ref(), now);
        for (endpoint, (_, percent)) in usable.iter().zip(shares) {
            let before = endpoint.vitals.warmth();
            if before != percent {
                endpoint.vitals.set_warmth(percent);
                if before == WARM || percent == WARM {
                    events::endpoint_warming(&pool.upstream.config.name, &endpoint.name, percent);
                }
            }
        }
        self.tell(pool, &endpoints, now);
        if changed {
            pool.upstream.pump();
        }
    }

    /// Ejects, tries out, takes back. Says whether anything changed.
    fn rule(&mut self, pool: &Pool, endpoints: &[&Arc<Endpoint>], now: u64) -> bool {
        let trust = pool.upstream.rule().trust;
        let Some(config) = &pool.upstream.config.outliers else {
            // Switched off by a reload: nobody stays out for what nobody looks at any more.
            let out = endpoints.iter().filter(|endpoint| endpoint.vitals.bench() != Bench::In);
            self.panel = Panel::default();
            return out.map(|endpoint| endpoint.vitals.set_bench(Bench::In)).count() > 0;
        };
        let samples: Vec<Sample<EndpointId>> = endpoints.iter().map(|endpoint| sample(endpoint, trust)).collect();
        let rulings = self.panel.judge(&samples, config, now);
        for (id, ruling) in &rulings {
            let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.id == *id) else { continue };
            carry_out(pool, endpoint, *ruling);
        }
        !rulings.is_empty()
    }

    /// Tells what has happened on the path of requests.
    fn tell(&mut self, pool: &Pool, endpoints: &[&Arc<Endpoint>], now: u64) {
        let name = &pool.upstream.config.name;
        let shares = pool.upstream.roster().shares(pool.upstream.rule());
        if shares != self.shares {
            if !shares.is_empty() {
                events::traffic_shifted(
                    name,
                    &shares.iter().map(|(tier, percent)| tell_share(*tier, *percent)).collect::<Vec<_>>().join(", "),
                );
            }
            self.shares = shares;
        }

        let present: HashSet<EndpointId> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        self.limits.retain(|id, _| present.contains(id));
        for endpoint in endpoints {
            let reached = endpoint.vitals.reached();
            let (before, news) = self.limits.entry(endpoint.id).or_default();
            let parts = |of: Reached| [of.in_flight, of.pending, of.retries];
            let limits = ["max_in_flight", "max_pending", "max_retries"];
            for (((is, was), news), limit) in parts(reached).iter().zip(parts(*before)).zip(news).zip(limits) {
                if *is != was && news.is(now) {
                    events::limit_reached(name, &endpoint.name, limit);
                }
            }
            *before = reached;
        }

        let queue = pool.upstream.queue();
        let refusals = [Ending::Full, Ending::ClientFull, Ending::Late];
        let refused = Lane::ALL.iter().flat_map(|lane| refusals.map(|ending| queue.ended(*lane, ending))).sum();
        let (before, news) = &mut self.refused;
        if *before != refused && news.is(now) {
            events::queue_refusing(name, queue.len());
        }
        *before = refused;

        let (_, refused) = pool.metrics.retried();
        let (before, news) = &mut self.unrepeated;
        if *before != refused && news.is(now) {
            let fill = pool.upstream.budget.fill(now);
            events::retries_refused(name, fill.used, fill.allowed);
        }
        *before = refused;
    }
}

fn sample(endpoint: &Endpoint, trust: crate::balance::Trust) -> Sample<EndpointId> {
    let vitals = &endpoint.vitals;
    let tally = vitals.tally();
    let seen = tally.seen;
    Sample {
        key: endpoint.id,
        usable: endpoint.is_usable(trust),
        attempts: tally.attempts,
        errors: tally.errors,
        rows: Rows { connects: seen.connects, silences: seen.silences, gateway: seen.gateway },
        in_flight: vitals.in_flight(),
        on_trial: vitals.bench() == Bench::OnTrial,
    }
}

fn carry_out(pool: &Pool, endpoint: &Endpoint, ruling: Ruling) {
    let (name, vitals) = (&pool.upstream.config.name, &endpoint.vitals);
    match ruling {
        Ruling::Eject(cause, time) => {
            let reason = cause.to_string();
            vitals.set_bench_reason(&reason);
            vitals.set_bench(Bench::Out);
            events::endpoint_ejected(&pool.counts(endpoint), name, &endpoint.name, label(cause), &reason, time);
        }
        Ruling::Trial { any } => {
            vitals.set_bench(if any { Bench::OpenTrial } else { Bench::Trial });
            events::endpoint_on_trial(name, &endpoint.name);
        }
        Ruling::Return => {
            vitals.forgive();
            vitals.set_bench(Bench::In);
            events::endpoint_returned(name, &endpoint.name, "its trial went well");
        }
        Ruling::Forgive => {
            vitals.forgive();
            if vitals.bench() != Bench::In {
                vitals.set_bench(Bench::In);
                events::endpoint_returned(name, &endpoint.name, "checks decide: it has been down");
            }
        }
    }
}

const fn label(cause: Cause) -> Ejection {
    match cause {
        Cause::Gateway(_) => Ejection::Gateway,
        Cause::Connect(_) => Ejection::Connect,
        Cause::Silent(_) => Ejection::Silent,
        Cause::Errors(..) => Ejection::Errors,
        Cause::Trial | Cause::TrialSilent => Ejection::Trial,
    }
}

fn tell_share(tier: Tier, percent: u32) -> String {
    format!("priority {} {} {percent} %", tier.priority, if tier.far { "far" } else { "near" })
}
