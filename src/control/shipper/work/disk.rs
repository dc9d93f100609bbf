//! The spool of a shipper: opened beside everything else, tried again when it fails.
//!
//! Floor 5. Sink and receiver go on without it. Deliberately absent: what goes there and when, which is the backlog's.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::super::spool::{Found, Spool};
use super::{Opening, Work};
use crate::telemetry::events;

/// Pause before a spool that cannot be used is tried again.
pub(super) const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// Pause before a spool that somebody else uses is tried again.
const LOCKED_PAUSE: Duration = Duration::from_millis(250);

impl Work {
    /// Begins to open the spool, and tries again if that cannot be.
    pub(super) fn open_spool(&self) -> Option<Opening> {
        if !self.backlog.lacks_spool() || self.spool_at > Instant::now() {
            return None;
        }
        Some(Box::pin(self.backlog.opening()?))
    }

    pub(super) async fn opened(&mut self, opened: io::Result<(Spool, Found)>) {
        let kept = match opened {
            Ok((spool, found)) => {
                let kept = self.backlog.opened(spool, &found).await;
                let sink = self.sink.name.as_str();
                events::spool_opened(sink, self.backlog.held().entries, found.torn, found.foreign);
                for why in &found.aside {
                    events::spool_segment_skipped(&self.metrics, sink, why);
                }
                if kept.is_ok() {
                    self.spool_works();
                }
                kept
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < self.inherits => {
                self.spool_at = Instant::now() + LOCKED_PAUSE;
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            self.spool_failed(&error);
        }
    }

    /// Tries a spool that failed; nothing else may come that would.
    pub(super) async fn mend_spool(&mut self) {
        if self.spool_failures == 0 || self.backlog.lacks_spool() || self.spool_at > Instant::now() {
            return;
        }
        match self.backlog.try_spool().await {
            Ok(()) => self.spool_works(),
            Err(error) => self.spool_failed(&error),
        }
    }

    fn spool_works(&mut self) {
        if self.metrics.spool_fails() {
            events::spool_recovered(&self.metrics, self.sink.name.as_str(), self.spool_failures);
        }
        self.spool_failures = 0;
    }

    pub(super) fn spool_failed(&mut self, error: &io::Error) {
        events::spool_failing(&self.metrics, self.sink.name.as_str(), self.spool_failures == 0, error);
        self.spool_failures += 1;
        self.spool_at = Instant::now() + SPOOL_PAUSE;
    }
}
