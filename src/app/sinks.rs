//! Who gets the records: the sinks that the configuration names.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::config::process::LogTarget;
use crate::telemetry::access_log::{AccessLog, Consumers, Emitter, Local};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;

use super::Error;

/// The access log with all of its sinks.
pub(super) struct Sinks {
    log: AccessLog,
    local: Local,
}

impl Sinks {
    /// Starts what the configuration names.
    pub(super) fn start(config: &Config, metrics: &Metrics) -> Result<Self, Error> {
        let failed = |source| Error::System { what: "access log", source };
        let local = Local::start(config.access_log.clone(), redactor(config), metrics.log()).map_err(failed)?;
        let log =
            AccessLog::start(config.access_log.queue, consumers(config, &local), metrics.log()).map_err(failed)?;
        Ok(Self { log, local })
    }

    /// A queue for one worker.
    pub(super) fn worker(&self) -> Emitter {
        self.log.worker()
    }

    /// Uses another configuration. Loses nothing: what was emitted before goes to the sinks that were.
    pub(super) fn reconfigure(&self, config: &Config) {
        self.log.flush(FED);
        self.local.reconfigure(config.access_log.clone(), redactor(config));
        self.log.feed(consumers(config, &self.local));
    }

    /// Opens files anew, for a rotation by others.
    pub(super) fn reopen(&self) {
        self.local.reopen();
    }

    /// Brings out what waits, within `deadline`. Blocks.
    pub(super) fn flush(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        self.log.flush(deadline);
        self.local.flush(end.saturating_duration_since(Instant::now()));
    }
}

/// Longest wait for what was emitted to be handed on before settings change; it takes milliseconds.
const FED: Duration = Duration::from_secs(1);

/// Everybody who wants records. A log that is off wants none, so that workers fill none.
fn consumers(config: &Config, local: &Local) -> Consumers {
    let is_on = config.access_log.target != LogTarget::Off;
    is_on.then(|| local.consumer()).into_iter().collect()
}

fn redactor(config: &Config) -> Redactor {
    Redactor::new(&config.clients.secret_query_keys)
}
