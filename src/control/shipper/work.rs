//! The task of a shipper.

mod disk;

use std::future::pending;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::backlog::{Backlog, Batch};
use super::courier::{Courier, Outcome};
use super::intake::Intake;
use super::spool::{Found, Spool};
use super::{ENDING, Relief};
use crate::config;
use crate::config::sink::{Destination, SyslogOver};
use crate::control::supervisor::Stop;
use crate::control::transport::Delivery;
use crate::telemetry::access_log::Losses;
use crate::telemetry::events;
use crate::telemetry::metrics::{LogMetrics, Turn, Waiting};
use crate::telemetry::parcel::{Entry, Machine, Packer};
use crate::telemetry::record::Record;
use crate::telemetry::redact::Redactor;

/// Records made into entries before others have their turn on the runtime.
const TURN: usize = 256;

/// Pauses before something is sent again: doubled from the first to the last, then cut by up to a half.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Longest wait of a record in memory while others wait on disk: it may go there, too.
const SHORT_LINGER: Duration = Duration::from_millis(100);

/// Time between two looks at everything, whatever happens.
const LOOK: Duration = Duration::from_secs(5);

/// The task's state.
pub(super) struct Work {
    sink: config::Sink,
    intake: Arc<Intake>,
    relief: Relief,
    packer: Packer,
    /// Absent while it is under way.
    courier: Option<Courier>,
    backlog: Backlog,
    batch: config::sink::Batch,
    settle: Duration,
    metrics: Arc<LogMetrics>,
    /// Whose turn it is to be shown there.
    turn: Turn,
    losses: Losses,
    records: Vec<Arc<Record>>,
    /// Entries that wait for others, their bytes, and since when.
    open: Vec<Entry>,
    open_bytes: usize,
    opened: Instant,
    under_way: Option<Batch>,
    failures: u64,
    retry_at: Instant,
    spool_failures: u64,
    spool_at: Instant,
    /// Until then whoever uses the spool is the sink as it was before a reload, which ends.
    inherits: Instant,
    ending: Option<Instant>,
}

type Trip = BoxFuture<'static, (Courier, Outcome)>;

/// A spool that is being opened.
type Opening = BoxFuture<'static, io::Result<(Spool, Found)>>;

impl Work {
    pub(super) fn new(
        sink: &config::Sink,
        redactor: Redactor,
        machine: &Machine,
        intake: &Arc<Intake>,
        relief: &Relief,
        (metrics, turn): (&Arc<LogMetrics>, Turn),
    ) -> Self {
        let now = Instant::now();
        let settle = match &sink.to {
            Destination::Syslog(syslog) if syslog.over != SyslogOver::Udp => syslog.settle,
            _ => Duration::ZERO,
        };
        Self {
            sink: sink.clone(),
            intake: Arc::clone(intake),
            relief: Arc::clone(relief),
            packer: Packer::new(sink, redactor, machine),
            courier: None,
            backlog: Backlog::new(sink, Arc::clone(metrics)),
            batch: sink.batch,
            settle,
            metrics: Arc::clone(metrics),
            turn,
            losses: Losses::default(),
            records: Vec::with_capacity(TURN),
            open: Vec::new(),
            open_bytes: 0,
            opened: now,
            under_way: None,
            failures: 0,
            retry_at: now,
            spool_failures: 0,
            spool_at: now,
            inherits: now + 2 * ENDING,
            ending: None,
        }
    }

    pub(super) async fn run(mut self, mut stop: Stop) {
        let mut trip: Option<Trip> = None;
        let mut opening: Option<Opening> = None;
        loop {
            if opening.is_none() {
                opening = self.open_spool();
                self.mend_spool().await;
            }
            let more = self.draw().await;
            // What is on disk is older than what is here: nothing goes before it is known.
            if trip.is_none() && opening.is_none() {
                self.settle().await;
                trip = self.depart().await;
            }
            self.show();
            let idle = trip.is_none() && opening.is_none();
            if self.is_over(idle) {
                break;
            }
            if more {
                tokio::task::yield_now().await;
            }
            let wake = if more { Instant::now() } else { self.wakes_at(idle, opening.is_some()) };
            tokio::select! {
                (courier, outcome) = come(&mut trip) => {
                    trip = None;
                    self.courier = Some(courier);
                    self.arrived(outcome).await;
                }
                opened = come(&mut opening) => {
                    opening = None;
                    self.opened(opened).await;
                }
                () = self.intake.filled.notified(), if self.backlog.has_room() => {}
                () = stop.stopped(), if self.ending.is_none() => self.ending = Some(Instant::now() + ENDING),
                () = sleep_until(wake) => {}
            }
        }
        drop(trip);
        self.finish().await;
    }

    /// Makes entries of records and batches of entries; gives whether there is more to do.
    async fn draw(&mut self) -> bool {
        let mut more = false;
        if self.backlog.has_room() {
            self.intake.draw(TURN, &mut self.records);
            more = self.records.len() == TURN;
            for record in self.records.drain(..) {
                if self.open.is_empty() {
                    self.opened = Instant::now();
                }
                let before = self.open.len();
                self.packer.pack(&record, &mut self.open);
                self.open_bytes += self.open.iter().skip(before).map(|entry| entry.payload.len()).sum::<usize>();
            }
        }
        let full = self.open.len() >= self.batch.records || self.open_bytes >= self.batch.bytes;
        if !self.open.is_empty() && (full || self.ending.is_some() || self.closes_at() <= Instant::now()) {
            self.open_bytes = 0;
            let entries = std::mem::take(&mut self.open);
            if let Err(error) = self.backlog.add(entries).await {
                self.spool_failed(&error);
            }
        }
        more
    }

    /// When the open batch is closed, however small.
    fn closes_at(&self) -> Instant {
        let short = self.backlog.is_on_disk();
        self.opened + if short { self.batch.linger.min(SHORT_LINGER) } else { self.batch.linger }
    }

    /// What was sent long enough ago is delivered, if nothing is wrong with the way that it took.
    async fn settle(&mut self) {
        if self.backlog.settles_at().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let Some(courier) = &mut self.courier else { return };
        if courier.is_alive() {
            if let Err(error) = self.backlog.settle().await {
                self.spool_failed(&error);
            }
        } else {
            self.fail("the server has closed the connection", None).await;
        }
    }

    /// Sends the next batch on its way.
    async fn depart(&mut self) -> Option<Trip> {
        if self.retry_at > Instant::now() {
            return None;
        }
        let relief = self.relief.lock().unwrap_or_else(PoisonError::into_inner).take();
        // After a panic there is neither.
        let made = || Courier::new(&self.sink).ok().flatten();
        let Some(mut courier) = relief.or_else(|| self.courier.take()).or_else(made) else {
            self.retry_at = Instant::now() + PAUSES.1;
            return None;
        };
        let batch = match self.backlog.next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                self.courier = Some(courier);
                return None;
            }
            Err(error) => {
                self.courier = Some(courier);
                self.spool_failed(&error);
                self.retry_at = Instant::now() + disk::SPOOL_PAUSE;
                return None;
            }
        };
        let entries = batch.entries.clone();
        self.under_way = Some(batch);
        Some(Box::pin(async move {
            let outcome = courier.deliver(&entries).await;
            (courier, outcome)
        }))
    }

    async fn arrived(&mut self, Outcome { delivery, rejected }: Outcome) {
        let Some(mut batch) = self.under_way.take() else { return };
        let kept = match delivery {
            Delivery::Taken => {
                if self.failures > 0 || self.metrics.delivery_fails() {
                    events::sink_recovered(&self.metrics, self.sink.name.as_str(), self.failures);
                    self.failures = 0;
                }
                batch.rejected += rejected;
                self.backlog.sent(batch, self.settle).await
            }
            Delivery::Later { after, why } => {
                self.under_way = Some(batch);
                return self.fail(&why, after).await;
            }
            Delivery::Refused { why } => {
                self.metrics.note(&why);
                self.backlog.refused(batch).await
            }
        };
        if let Err(error) = kept {
            self.spool_failed(&error);
        }
    }

    async fn fail(&mut self, why: &str, after: Option<Duration>) {
        events::sink_failing(&self.metrics, self.sink.name.as_str(), self.failures == 0, why);
        let doubled = PAUSES.0.saturating_mul(1 << self.failures.min(8));
        let pause = doubled.min(PAUSES.1).mul_f64(1.0 - fastrand::f64() / 2.0);
        self.failures += 1;
        self.retry_at = Instant::now() + after.unwrap_or_default().max(pause);
        let batch = self.under_way.take();
        if let Err(error) = self.backlog.failed(batch).await {
            self.spool_failed(&error);
        }
    }

    /// Whether there is nothing left that could be done before the end.
    fn is_over(&self, idle: bool) -> bool {
        let Some(end) = self.ending else { return false };
        if Instant::now() >= end {
            return true;
        }
        let drawn = self.open.is_empty() && self.intake.len() == 0;
        let stored = self.backlog.is_on_disk() && !self.backlog.lacks_spool();
        drawn && ((idle && self.backlog.is_sent()) || (stored && self.failures > 0))
    }

    /// Everything goes out, to the disk, or is counted as lost.
    async fn finish(mut self) {
        // There is room now, whatever it was: nothing more will come.
        self.intake.draw(usize::MAX, &mut self.records);
        for record in self.records.drain(..) {
            self.packer.pack(&record, &mut self.open);
        }
        let open = std::mem::take(&mut self.open);
        let mut kept = if open.is_empty() { Ok(()) } else { self.backlog.add(open).await };
        // A server that has read to the end has all of it.
        let closed = match &mut self.courier {
            Some(courier) => courier.close().await,
            None => false,
        };
        if closed {
            kept = kept.and(self.backlog.settle_all().await);
        }
        if let Err(error) = kept.and(self.backlog.end(self.under_way.take()).await) {
            self.spool_failed(&error);
        }
        self.show();
        self.losses.look(self.sink.name.as_str(), &self.metrics);
    }

    /// When there is something to do again, if nothing happens.
    fn wakes_at(&self, idle: bool, opening: bool) -> Instant {
        let mut at = Instant::now() + LOOK;
        if !self.open.is_empty() {
            at = at.min(self.closes_at());
        }
        if !opening && (self.backlog.lacks_spool() || self.spool_failures > 0) {
            at = at.min(self.spool_at);
        }
        if idle {
            at = self.backlog.settles_at().map_or(at, |settles| at.min(settles));
            if !self.backlog.is_sent() {
                at = at.min(self.retry_at);
            }
        }
        self.ending.map_or(at, |end| at.min(end))
    }

    fn show(&mut self) {
        let held = self.backlog.held();
        let (queued, oldest) = self.backlog.in_memory();
        let first = self.open.first().map(|entry| entry.at);
        let queue = self.intake.len() + self.open.len();
        let waiting = Waiting {
            queue: queue as u64 + queued,
            spool_bytes: held.bytes,
            spool_records: held.entries,
            oldest: held.oldest.or(oldest).or(first).unwrap_or_default(),
        };
        self.metrics.show(self.turn, waiting);
        self.losses.look(self.sink.name.as_str(), &self.metrics);
    }
}

/// What comes of something, if it is under way.
async fn come<T>(of: &mut Option<BoxFuture<'static, T>>) -> T {
    match of {
        Some(under_way) => under_way.await,
        None => pending().await,
    }
}
