//! The control runtime's end of the fleet: tells Redis what passed, brings back what others counted.
//!
//! Part of `fleet`. What workers tell between two rounds is summed up by key, so that Redis sees one call per key and
//! round however many requests there are; a round begins when the one before is over, so that a slow Redis gets fewer
//! and larger rounds. While Redis is away nothing is kept for it: a sum over minutes says nothing about now. What it
//! lost, or never learnt, it gets back from the proxies' own counts, which go along with the first call for a key.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use redis::{RedisError, Script};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::redis::Redis;
use crate::limit::{Bans, Decision, Key, Meter};
use crate::telemetry::events;
use crate::telemetry::metrics::{FleetDrop, FleetMetrics, Metrics};

use super::link::{Link, LinkError};
use super::shared::Shared;
use super::{Inbox, Told};

/// Waits between two attempts to reach Redis.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How often bans are asked for.
const BANS: Duration = Duration::from_secs(1);

/// What a proxy's own count is believed less, in microseconds, as it ages on its way to Redis.
const SLACK: u64 = 250_000;

/// Rounds' calls under way at once.
const AT_ONCE: usize = 256;

/// Tells and learns.
pub struct Sync {
    settings: Redis,
    inbox: Arc<Mutex<Inbox>>,
    bans: Bans,
    metrics: Metrics,
    now: fn() -> u64,
    count: Script,
}

/// What is kept for Redis while it is away: ends of bans, nothing else.
fn keep(told: Option<Told>, shared: &mut Shared) {
    if let Some(Told::Lifted(subject, scope)) = told {
        shared.note_lifted(subject, scope);
    }
}

/// What came of a call.
type Called = Result<(), RedisError>;

impl Sync {
    /// The other end of `inbox`. `now` is the clock of the limits.
    pub fn new(settings: Redis, inbox: Inbox, bans: Bans, metrics: Metrics, now: fn() -> u64) -> Self {
        let count = Script::new(include_str!("count.lua"));
        Self { settings, inbox: Arc::new(Mutex::new(inbox)), bans, metrics, now, count }
    }

    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop.fuse());
        // Held for the task's life; a restarted task gets it from the one before.
        let mut inbox = self.inbox.lock().await;
        let mut shared = Shared::new(&self.settings.prefix, self.bans.most());
        let mut wait = FIRST_WAIT;
        let mut reported = false;
        // The first link finds what others know; a later one may have lost what this process knows.
        let mut again = false;
        loop {
            let failure: LinkError = match self.open(&mut inbox, &mut shared, &mut stop).await {
                None => return,
                Some(Err(error)) => error,
                Some(Ok(link)) => {
                    wait = FIRST_WAIT;
                    reported = false;
                    inbox.away.store(false, Ordering::Relaxed);
                    events::fleet_joined();
                    shared.forget();
                    let served = self.serve(link, &mut inbox, &mut shared, again, &mut stop).await;
                    again = true;
                    inbox.away.store(true, Ordering::Relaxed);
                    match served {
                        None => return,
                        Some(error) => error.into(),
                    }
                }
            };
            self.fleet().failures.inc();
            if !reported {
                events::fleet_away(&failure);
                reported = true;
            }
            // Half of it by chance, so that a fleet does not come back in one moment.
            let jitter = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            let mut pause = pin!(tokio::time::sleep(jitter));
            loop {
                tokio::select! {
                    () = &mut stop => return,
                    () = &mut pause => break,
                    told = inbox.told.recv() => keep(told, &mut shared),
                }
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn fleet(&self) -> Arc<FleetMetrics> {
        self.metrics.fleet()
    }

    /// Opens a link; `None` when it is time to end. Nobody waits for who asks meanwhile: dropping the question is the
    /// answer.
    async fn open(
        &self,
        inbox: &mut Inbox,
        shared: &mut Shared,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Option<Result<Link, LinkError>> {
        let mut opening = pin!(Link::open(&self.settings));
        loop {
            tokio::select! {
                () = &mut *stop => return None,
                opened = &mut opening => return Some(opened),
                told = inbox.told.recv() => keep(told, shared),
            }
        }
    }

    /// Works with a link until it fails; `None` when it is time to end.
    async fn serve(
        &self,
        link: Link,
        inbox: &mut Inbox,
        shared: &mut Shared,
        again: bool,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Option<RedisError> {
        let mut pending: HashMap<(String, Key), (Arc<Meter>, i64)> = HashMap::new();
        // Keys that this link has been told of.
        let mut told: HashSet<(String, Key)> = HashSet::new();
        let mut round = FuturesUnordered::new();
        let mut asked = FuturesUnordered::new();
        let mut rounds = tokio::time::interval(self.settings.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bans = tokio::time::interval_at(Instant::now() + BANS, BANS);
        bans.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bans_link = link.clone();
        if let Err(error) = self.exchange_all_bans(&mut bans_link, shared).await {
            return Some(error);
        }
        loop {
            tokio::select! {
                () = &mut *stop => return None,
                Some(done) = round.next(), if !round.is_empty() => if let Err(error) = done { return Some(error) },
                Some(done) = asked.next(), if !asked.is_empty() => if let Err(error) = done { return Some(error) },
                next = inbox.told.recv() => match next? {
                    Told::Counted(meter, key, count) => {
                        let known = pending.len();
                        match pending.get_mut(&(meter.name.to_string(), key)) {
                            Some((_, sum)) => *sum = sum.saturating_add(count),
                            None if known < self.settings.max_pending => {
                                pending.insert((meter.name.to_string(), key), (meter, count));
                            }
                            None => self.fleet().dropped(FleetDrop::Pending, 1),
                        }
                    }
                    Told::Asked(meter, key, answer) => asked.push(self.ask(link.clone(), meter, key, answer)),
                    Told::Banned(subject, scope, lasting) => {
                        if let Err(error) = shared.tell(&mut bans_link, &subject, scope, lasting).await {
                            return Some(error);
                        }
                    }
                    Told::Lifted(subject, scope) => {
                        shared.note_lifted(subject, scope);
                        if let Err(error) = shared.tell_lifted(&mut bans_link).await {
                            return Some(error);
                        }
                    }
                },
                _ = rounds.tick(), if round.is_empty() && !pending.is_empty() => {
                    let keys: Vec<_> = pending.keys().take(AT_ONCE).cloned().collect();
                    for key in keys {
                        if let Some((meter, count)) = pending.remove(&key) {
                            let restores = again && told.insert(key.clone());
                            round.push(self.count(link.clone(), meter, key.1, count, restores));
                            if told.len() > self.settings.max_pending {
                                told.clear();
                            }
                        }
                    }
                },
                _ = bans.tick() => if let Err(error) = self.fetch_bans(&mut bans_link, shared).await {
                    return Some(error);
                },
            }
        }
    }

    /// Counts what has passed, and learns what others have.
    async fn count(&self, link: Link, meter: Arc<Meter>, key: Key, count: i64, restores: bool) -> Called {
        let now = (self.now)();
        let debt = if restores { meter.rate.debt(key, now) } else { 0 };
        let known = (debt / 1_000).saturating_sub(SLACK);
        let (_, reach) = self.call(link, &meter, key, count, known, false).await?;
        meter.rate.owe(key, reach.saturating_mul(1_000), now);
        Ok(())
    }

    /// Has Redis decide.
    async fn ask(&self, link: Link, meter: Arc<Meter>, key: Key, answer: oneshot::Sender<Decision>) -> Called {
        let now = (self.now)();
        let (passes, reach) = self.call(link, &meter, key, 1, 0, true).await?;
        let reach = reach.saturating_mul(1_000);
        meter.rate.owe(key, reach, now);
        let each = meter.rate.each().max(1);
        let whole = each.saturating_mul(meter.rate.burst().get().into());
        let decision = if passes {
            Decision::Admitted(u32::try_from(whole.saturating_sub(reach) / each).unwrap_or(u32::MAX))
        } else {
            Decision::Refused(Duration::from_nanos(reach.saturating_add(each).saturating_sub(whole)))
        };
        // Who asked may have lost patience.
        let _gone = answer.send(decision);
        Ok(())
    }

    async fn call(
        &self,
        mut link: Link,
        meter: &Meter,
        key: Key,
        count: i64,
        known: u64,
        asks: bool,
    ) -> Result<(bool, u64), RedisError> {
        #[expect(clippy::cast_precision_loss, reason = "a request takes less than a day: it fits")]
        let each = meter.rate.each() as f64 / 1_000.0;
        let mut call = self.count.prepare_invoke();
        call.key(format!("{}:{}:{:016x}", self.settings.prefix, meter.name, key.0));
        call.arg(format!("{each:.3}")).arg(meter.rate.burst().get()).arg(count).arg(known).arg(i32::from(asks));
        self.fleet().calls.inc();
        let (passes, reach) = link.run::<(i64, i64)>(&call).await?;
        Ok((passes == 1, u64::try_from(reach).unwrap_or(0)))
    }

    /// What was lifted comes first, here and elsewhere, then our own bans go out.
    async fn exchange_all_bans(&self, link: &mut Link, shared: &mut Shared) -> Called {
        shared.tell_lifted(link).await?;
        self.fetch_bans(link, shared).await?;
        let now = (self.now)();
        for ban in self.bans.list(now) {
            let left = Duration::from_nanos(ban.until.saturating_sub(now));
            shared.tell(link, &ban.subject, ban.scope, left).await?;
        }
        Ok(())
    }

    async fn fetch_bans(&self, link: &mut Link, shared: &mut Shared) -> Called {
        let changes = shared.fetch(link, &self.bans, self.now).await?;
        for ban in &changes.imposed {
            let lasting = Duration::from_nanos(ban.until.saturating_sub(ban.since));
            events::client_banned(&self.metrics, &ban.subject, ban.scope.as_str(), "fleet", lasting, ban.before);
        }
        Ok(())
    }
}
