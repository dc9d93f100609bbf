//! Tells of records that were lost, not more often than is of use.
//!
//! Floor 2. Losses are counted where they happen; whoever looks after a sink lets [`Losses`] look at the counts now and then.

use std::time::{Duration, Instant};

use crate::telemetry::events;
use crate::telemetry::metrics::{Cause as _, LogDrop, LogMetrics};

/// What has been told.
#[derive(Debug, Default)]
pub struct Losses {
    told: [u64; LogDrop::ALL.len()],
    at: Option<Instant>,
}

/// Shortest time between two events about losses of one sink.
const PAUSE: Duration = Duration::from_secs(10);

impl Losses {
    /// Tells what is new, unless it did so a moment ago.
    pub fn look(&mut self, sink: &str, metrics: &LogMetrics) {
        if self.at.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        for (cause, told) in LogDrop::ALL.iter().zip(&mut self.told) {
            let now = metrics.dropped(*cause);
            if now > *told {
                events::records_lost(metrics, sink, cause.as_str(), now - *told);
                *told = now;
                self.at = Some(Instant::now());
            }
        }
    }
}
