//! The control runtime's end of the fleet: tells Redis what passed, brings back what others counted.
//!
//! Part of `fleet`. What workers tell between two rounds is summed up by key, so that Redis sees one call per key and
//! round however many requests there are; a round takes all that was told, some of it at once, and begins when the one
//! before is over, so that a slow Redis gets fewer and larger rounds. While Redis is away nothing is kept for it: a sum
//! over minutes says nothing about now. What it lost, or never learnt, it gets back from the proxies' own counts, which
//! go along with the first call for a key.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use redis::{RedisError, Script};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::redis::Redis;
use crate::limit::{Bans, Decision, Key, Meter};
use crate::telemetry::events;
use crate::telemetry::metrics::{FleetDrop, FleetMetrics, Metrics};

use super::link::{Link, LinkError};
use super::pending::{Counted, Pending};
use super::shared::{self, Shared};
use super::{Inbox, Told};

/// Waits between two attempts to reach Redis.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How often bans are asked for.
const BANS: Duration = Duration::from_secs(1);

/// What a proxy's own count is believed less, in microseconds, as it ages on its way to Redis.
const SLACK: u64 = 250_000;

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
        // Bans and their ends go a way of their own, so that no count waits for them.
        let (news, mut heard) = mpsc::channel(self.settings.queue);
        let mut wait = FIRST_WAIT;
        let mut reported = false;
        // The first link finds what others know; a later one may have lost what this process knows.
        let mut again = false;
        loop {
            let ended: Option<LinkError> = match self.open(&mut inbox, &mut shared, &mut stop).await {
                None => None,
                Some(Err(error)) => Some(error),
                Some(Ok(link)) => match self.join(&link, &mut inbox, &news, &mut shared, &mut stop).await {
                    None => None,
                    Some(Err(error)) => Some(error.into()),
                    Some(Ok(())) => {
                        inbox.away.store(false, Ordering::Relaxed);
                        let mut lasts = false;
                        let lasting = async {
                            // What was away and takes calls for a moment only is still away.
                            if reported {
                                tokio::time::sleep(LONGEST_WAIT).await;
                            }
                            events::fleet_joined();
                            lasts = true;
                            std::future::pending().await
                        };
                        let banning = self.exchange_bans(link.clone(), &mut heard, &mut shared);
                        let counting = self.exchange_counts(link, &mut inbox, &news, again);
                        let ended = tokio::select! {
                            () = &mut stop => None,
                            () = lasting => None,
                            Err(error) = banning => Some(error.into()),
                            ended = counting => ended.map(LinkError::from),
                        };
                        again = true;
                        inbox.away.store(true, Ordering::Relaxed);
                        if lasts {
                            (wait, reported) = (FIRST_WAIT, false);
                        }
                        ended
                    }
                },
            };
            let Some(failure) = ended else { return };
            while let Ok(told) = heard.try_recv() {
                keep(Some(told), &mut shared);
            }
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

    /// Exchanges bans with those who were there all the time, and sees whether writes are taken: a Redis that only
    /// answers is away. Requests are decided as without it meanwhile. `None` when it is time to end.
    async fn join(
        &self,
        link: &Link,
        inbox: &mut Inbox,
        news: &mpsc::Sender<Told>,
        shared: &mut Shared,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Option<Called> {
        let mut link = link.clone();
        let mut joining = pin!(async {
            shared.forget();
            shared.probe(&mut link).await?;
            self.exchange_all_bans(&mut link, shared).await
        });
        loop {
            tokio::select! {
                () = &mut *stop => return None,
                joined = &mut joining => return Some(joined),
                // Who asks is answered by the question being dropped.
                told = inbox.told.recv() => self.pass_on(told?, news),
            }
        }
    }

    /// Hands a ban, or its end, to [`Self::exchange_bans`].
    fn pass_on(&self, told: Told, news: &mpsc::Sender<Told>) {
        if matches!(told, Told::Banned(..) | Told::Lifted(..)) && news.try_send(told).is_err() {
            self.fleet().dropped(FleetDrop::Queue, 1);
        }
    }

    /// Tells what passes and learns what others have counted until the link fails; `None` when nobody tells any more.
    async fn exchange_counts(
        &self,
        link: Link,
        inbox: &mut Inbox,
        news: &mpsc::Sender<Told>,
        again: bool,
    ) -> Option<RedisError> {
        let mut pending = Pending::new(self.settings.max_pending);
        // Keys that this link has been told of.
        let mut known: HashSet<Counted> = HashSet::new();
        let mut round = FuturesUnordered::new();
        let mut asked = FuturesUnordered::new();
        let mut rounds = tokio::time::interval(self.settings.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while round.len() < self.settings.max_calls
                && let Some((counted, (meter, count))) = pending.take()
            {
                let key = counted.1;
                let restores = again && known.insert(counted);
                if known.len() > self.settings.max_pending {
                    known.clear();
                }
                round.push(self.count(link.clone(), meter, key, count, restores));
            }
            tokio::select! {
                Some(done) = round.next(), if !round.is_empty() => if let Err(error) = self.heed(done) {
                    return Some(error);
                },
                Some(done) = asked.next(), if !asked.is_empty() => if let Err(error) = self.heed(done) {
                    return Some(error);
                },
                // Who asks when as many are under way as may be waits in the queue, and all that is behind it.
                told = inbox.told.recv(), if asked.len() < self.settings.max_calls => match told? {
                    Told::Counted(meter, key, count) => if !pending.add(meter, key, count) {
                        self.fleet().dropped(FleetDrop::Pending, 1);
                    },
                    Told::Asked(meter, key, answer) => asked.push(self.ask(link.clone(), meter, key, answer)),
                    told @ (Told::Banned(..) | Told::Lifted(..)) => self.pass_on(told, news),
                },
                _ = rounds.tick(), if round.is_empty() && pending.is_told() => pending.begin(),
            }
        }
    }

    /// Tells of bans and learns of others' until the link fails.
    async fn exchange_bans(
        &self,
        mut link: Link,
        heard: &mut mpsc::Receiver<Told>,
        shared: &mut Shared,
    ) -> Result<Infallible, RedisError> {
        let mut fetches = tokio::time::interval_at(Instant::now() + BANS, BANS);
        fetches.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(told) = heard.recv() => {
                    let mut bans = Vec::new();
                    let mut next = Some(told);
                    while let Some(told) = next {
                        match told {
                            Told::Banned(subject, scope, lasting) => bans.push((subject, scope, lasting)),
                            Told::Lifted(subject, scope) => {
                                // Told after the bans before it, and before those behind it.
                                shared.note_lifted(subject, scope);
                                break;
                            }
                            Told::Counted(..) | Told::Asked(..) => {}
                        }
                        next = if bans.len() < shared::AT_ONCE { heard.try_recv().ok() } else { None };
                    }
                    shared.tell(&mut link, &bans).await?;
                    shared.tell_lifted(&mut link).await?;
                }
                _ = fetches.tick() => self.fetch_bans(&mut link, shared).await?,
            }
        }
    }

    /// What is wrong with a single key is no reason to doubt Redis.
    fn heed(&self, called: Called) -> Called {
        match called {
            Err(error) if is_of_key(&error) => {
                self.fleet().dropped(FleetDrop::Key, 1);
                Ok(())
            }
            other => other,
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
        let left = |until: u64| Duration::from_nanos(until.saturating_sub(now));
        let own = self.bans.list(now).into_iter().map(|ban| (ban.subject, ban.scope, left(ban.until)));
        shared.tell(link, &own.collect::<Vec<_>>()).await
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

/// Whether Redis works and has something else under this key: not what a count is, or no number.
fn is_of_key(error: &RedisError) -> bool {
    /// What Redis before version 7 hides behind ERR when a script meets it.
    const OTHERS: [&str; 6] = ["OOM ", "READONLY ", "NOPERM ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN "];
    let of_script = |detail: &str| detail.contains("user_script") && !OTHERS.iter().any(|other| detail.contains(other));
    match error.code() {
        Some("WRONGTYPE") => true,
        Some("ERR") => error.detail().is_some_and(of_script),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> RedisError {
        let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        reply.and_then(redis::Value::extract_error).unwrap_err()
    }

    #[test]
    fn what_is_wrong_with_a_key_is_told_from_what_is_wrong_with_redis() {
        for line in [
            "WRONGTYPE Operation against a key holding the wrong kind of value script: 5f, on @user_script:8.",
            "ERR bad argument #1 to 'max' (number expected, got nil) script: 5f, on @user_script:8.",
            "ERR Error running script (call to f_5f): @user_script:8: WRONGTYPE Operation against a key",
        ] {
            assert!(is_of_key(&error(line)), "{line}");
        }
        for line in [
            "OOM command not allowed when used memory > 'maxmemory'. script: 5f, on @user_script:17.",
            "READONLY You can't write against a read only replica. script: 5f, on @user_script:17.",
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "ERR Error running script (call to f_5f): @user_script:17: -OOM command not allowed when used memory",
            "ERR unknown command 'EVALSHA'",
            "LOADING Redis is loading the dataset in memory",
            "CLUSTERDOWN The cluster is down",
        ] {
            assert!(!is_of_key(&error(line)), "{line}");
        }
    }
}
