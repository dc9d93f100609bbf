//! What the proxies of a fleet share through Redis: counts over time, and bans.
//!
//! Floor 3. [`Fleet`] is the workers' end: a decision is made here and now by the process's own count and told to a
//! bounded queue, unless the limit wants Redis to decide, which is waited for no longer than it says. [`Sync`] is the
//! other end, a task of the control runtime: it sums up what the workers tell, tells Redis in one script per key, and
//! brings back what others have counted. Without `[redis]` there is only the workers' end. Deliberately absent: any
//! wait of a worker for a connection, and anything that must be there to serve.

mod link;
mod pending;
mod shared;
mod sync;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::config::quota::{Decides, Store, WhenAway};
use crate::limit::{Ban, Decision, Key, Meter, Scope, Subject};
use crate::telemetry::metrics::{FleetDrop, FleetMetrics};

pub use link::LinkError;
pub use sync::Sync;

/// The workers' end. Cloning shares.
#[derive(Clone, Debug)]
pub struct Fleet(Option<Arc<Ends>>);

#[derive(Debug)]
struct Ends {
    told: mpsc::Sender<Told>,
    away: Arc<AtomicBool>,
    metrics: Arc<FleetMetrics>,
}

/// What a worker tells.
enum Told {
    /// So many more, or fewer, of a key.
    Counted(Arc<Meter>, Key, i64),
    /// Somebody waits for Redis to decide on one more of a key.
    Asked(Arc<Meter>, Key, oneshot::Sender<Decision>),
    /// A ban with its length.
    Banned(Subject, Scope, Duration),
    /// The end of a ban.
    Lifted(Subject, Scope),
}

impl Fleet {
    /// A fleet of one: nothing is shared.
    pub const fn alone() -> Self {
        Self(None)
    }

    /// The workers' end, and the queue for [`Sync`]. Redis is away until it has taken a write.
    /// `queue` is how much may wait in between; beyond it counts are dropped, and counted as such.
    pub(crate) fn new(queue: usize, metrics: Arc<FleetMetrics>) -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(queue);
        let away = Arc::new(AtomicBool::new(true));
        let ends = Ends { told: sender, away: Arc::clone(&away), metrics };
        (Self(Some(Arc::new(ends))), Inbox { told: receiver, away })
    }

    /// Whether Redis answers; `None` when there is none.
    pub fn is_there(&self) -> Option<bool> {
        self.0.as_ref().map(|ends| !ends.away.load(Ordering::Relaxed))
    }

    /// One more request of `key`, at `now`.
    pub async fn check(&self, meter: &Arc<Meter>, key: Key, now: u64) -> Decision {
        match (&self.0, meter.store) {
            (Some(ends), Store::Redis { decides, when_away }) => ends.check(meter, key, now, decides, when_away).await,
            // A store without Redis is refused with the configuration.
            (_, Store::Local | Store::Redis { .. }) => meter.rate.check(key, now),
        }
    }

    /// Takes back a request that turned out not to count.
    pub fn give_back(&self, meter: &Arc<Meter>, key: Key) {
        meter.rate.give_back(key);
        if let (Some(ends), Store::Redis { .. }) = (&self.0, meter.store) {
            ends.tell(Told::Counted(Arc::clone(meter), key, -1));
        }
    }

    /// Tells the fleet of a ban.
    pub fn tell_ban(&self, ban: &Ban, now: u64) {
        if let Some(ends) = &self.0 {
            let left = Duration::from_nanos(ban.until.saturating_sub(now));
            ends.tell(Told::Banned(ban.subject.clone(), ban.scope, left));
        }
    }

    /// Tells the fleet that a ban has ended.
    pub fn tell_lifted(&self, subject: &Subject, scope: Scope) {
        if let Some(ends) = &self.0 {
            ends.tell(Told::Lifted(subject.clone(), scope));
        }
    }
}

impl Ends {
    async fn check(&self, meter: &Arc<Meter>, key: Key, now: u64, decides: Decides, when_away: WhenAway) -> Decision {
        let away = self.away.load(Ordering::Relaxed);
        if away && when_away != WhenAway::Local {
            return self.without_redis(meter, when_away);
        }
        // What is refused here would be refused by Redis, too: it knows at least as much.
        let here = meter.rate.check(key, now);
        if matches!(here, Decision::Refused(_)) {
            return here;
        }
        match decides {
            Decides::Redis(timeout) if !away => match self.ask(meter, key, timeout).await {
                Some(decision) => decision,
                None if when_away == WhenAway::Local => here,
                None => self.without_redis(meter, when_away),
            },
            Decides::Redis(_) | Decides::Process => {
                self.tell(Told::Counted(Arc::clone(meter), key, 1));
                here
            }
        }
    }

    fn without_redis(&self, meter: &Meter, when_away: WhenAway) -> Decision {
        self.metrics.without.inc();
        match when_away {
            WhenAway::Local | WhenAway::Allow => Decision::Admitted(meter.rate.burst().get()),
            WhenAway::Deny => Decision::Refused(Duration::from_secs(1)),
        }
    }

    /// What Redis says, if it does so in time.
    async fn ask(&self, meter: &Arc<Meter>, key: Key, timeout: Duration) -> Option<Decision> {
        let (answer, answered) = oneshot::channel();
        self.tell(Told::Asked(Arc::clone(meter), key, answer));
        let answered = tokio::time::timeout(timeout, answered).await;
        if answered.is_err() {
            self.metrics.late.inc();
        }
        answered.ok()?.ok()
    }

    fn tell(&self, told: Told) {
        if self.told.try_send(told).is_err() {
            self.metrics.dropped(FleetDrop::Queue, 1);
        }
    }
}

/// The queue of what workers tell.
pub struct Inbox {
    told: mpsc::Receiver<Told>,
    away: Arc<AtomicBool>,
}
