//! Pushes metrics to a collector, for whoever does not scrape them.
//!
//! Floor 5. One push at a time, each with everything as it is then; one that fails is counted and not repeated, since the
//! next one tells the same and more. The last one is made at the end. Deliberately absent: a queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::otlp;
use super::supervisor::Stop;
use super::transport::{Delivery, Speaks, Transport, TransportError};
use crate::config::otlp::Push;
use crate::telemetry::events;
use crate::telemetry::metrics::{Cargo, LogDrop, LogMetrics, Metrics};

/// Time for the last push.
const ENDING: Duration = Duration::from_secs(3);

/// Where metrics go, with everything that this needs of files and secrets.
#[derive(Clone, Debug)]
pub struct Target {
    push: Push,
    transport: Transport,
    counts: Arc<LogMetrics>,
}

/// The present target; `None` while there is none.
pub type Orders = watch::Sender<Option<Target>>;

impl Target {
    /// Reads what `push` names.
    ///
    /// # Errors
    /// A file or a secret that cannot be used.
    pub fn read(push: &Push, metrics: &Metrics) -> Result<Self, TransportError> {
        let speaks = if push.to.grpc { Speaks::Grpc } else { Speaks::Http };
        let transport = Transport::new(&push.to.to, speaks)?;
        Ok(Self { push: push.clone(), transport, counts: metrics.export(Cargo::Points) })
    }

    async fn push(&self, metrics: &Metrics, failures: &mut u64) {
        let (body, points) = metrics.points(&self.push.to);
        let (delivery, answer) = if self.push.to.grpc {
            self.transport.call(otlp::METRICS.method, body).await
        } else {
            self.transport.post(otlp::METRICS.path, otlp::CONTENT, body).await
        };
        let signal = Cargo::Points.signal();
        match delivery {
            Delivery::Taken => {
                let refused = otlp::not_taken(answer).min(points);
                self.counts.written.add(points - refused);
                self.lose(refused);
                let before = std::mem::take(failures);
                if before > 0 || self.counts.is_failing() {
                    events::sink_recovered(&self.counts, signal, before);
                }
            }
            Delivery::Later { why, .. } => {
                events::sink_failing(&self.counts, signal, *failures == 0, &why);
                *failures += 1;
            }
            Delivery::Refused { why } => {
                events::sink_failing(&self.counts, signal, *failures == 0, &why);
                *failures += 1;
                self.lose(points);
            }
        }
    }

    fn lose(&self, points: u64) {
        if points > 0 {
            self.counts.drop_records(LogDrop::Refused, points);
            events::records_lost(&self.counts, Cargo::Points.signal(), LogDrop::Refused.as_str(), points);
        }
    }
}

/// Pushes to the target of the moment until it is told to stop.
pub async fn run(mut orders: watch::Receiver<Option<Target>>, metrics: Metrics, mut stop: Stop) {
    let (mut last, mut failures) = (Instant::now(), 0);
    let mut before: Option<Push> = None;
    loop {
        let target = orders.borrow_and_update().clone();
        let push = target.as_ref().map(|target| &target.push);
        if before.as_ref() != push {
            // A streak is one target's: that another one fails is news.
            (before, failures) = (push.cloned(), 0);
        }
        let due = target.as_ref().map(|target| last + target.push.interval);
        let waited = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let ends = tokio::select! {
            () = waited => false,
            () = stop.stopped() => true,
            changed = orders.changed() => match changed {
                Ok(()) => continue,
                // Nobody is left who could change it.
                Err(_) => true,
            },
        };
        let Some(target) = target else {
            if ends {
                return;
            }
            continue;
        };
        if !ends {
            last = Instant::now();
            tokio::select! {
                () = target.push(&metrics, &mut failures) => continue,
                // What is under way is cut: the last push tells the same and more.
                () = stop.stopped() => {}
            }
        }
        if timeout(ENDING, target.push(&metrics, &mut failures)).await.is_err() {
            events::sink_failing(&target.counts, Cargo::Points.signal(), failures == 0, "no answer before the end");
        }
        return;
    }
}
