//! The life of the process between its start and its end, and the end: the one place where it shuts down.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::control::signals::{Asked, Signals};
use crate::control::supervisor::Supervisor;
use crate::control::watch::Changed;
use crate::lifecycle::{Lifecycle, Phase};
use crate::telemetry::events;

use super::reload::Reloader;
use super::status::World;
use super::{Error, service};

/// Longest wait for what is not the clients' any more: records, background tasks, threads.
const TIDY: Duration = Duration::from_secs(5);

/// Everything that ends.
pub(super) struct Ending {
    pub(super) lifecycle: Lifecycle,
    pub(super) signals: Signals,
    pub(super) changes: Changed,
    pub(super) supervisor: Supervisor,
    pub(super) reloader: Reloader,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) world: Arc<World>,
}

/// Does what signals and files ask for until an end is asked for, then ends politely.
pub(super) async fn live_and_end(mut all: Ending) -> Result<(), Error> {
    let mut watching = true;
    let watched = service::is_watching();
    let mut look = tokio::time::interval(LOOK);
    let outcome = loop {
        tokio::select! {
            asked = all.signals.next() => match asked {
                Asked::Reload => all.reloader.reload(),
                Asked::ReopenLogs => all.reloader.log.reopen(),
                Asked::Drain => break Ok(()),
                Asked::EndNow => break Ok(()),
            },
            change = all.changes.recv(), if watching => match change {
                Some(()) => all.reloader.reload(),
                None => watching = false,
            },
            task = all.supervisor.failed() => break Err(Error::Task(task)),
            _ = look.tick() => {
                // Panics are caught for each exchange; a worker that is gone all the same takes its sockets with it.
                if all.threads.iter().any(JoinHandle::is_finished) {
                    break Err(Error::Task("worker"));
                }
                if watched {
                    service::alive();
                }
            }
        }
    };
    all.end().await;
    outcome
}

impl Ending {
    async fn end(mut self) {
        let began = Instant::now();
        service::stopping();
        let process = self.reloader.live.load().config.process.clone();

        self.enter(Phase::Unready);
        if self.world.connections() > 0 || !process.unready_for.is_zero() {
            self.wait(began + process.unready_for, |_| false).await;
        }
        self.enter(Phase::Draining);
        self.wait(Instant::now() + process.drain_timeout, |all| all.threads.iter().all(JoinHandle::is_finished)).await;
        let cut = self.world.connections();
        self.enter(Phase::Ending);
        events::drained(began.elapsed(), cut);

        let Self { supervisor, reloader, mut threads, .. } = self;
        let deadline = Instant::now() + TIDY;
        while !threads.is_empty() && Instant::now() < deadline {
            threads.retain(|thread| !thread.is_finished());
            tokio::time::sleep(STEP).await;
        }
        for task in supervisor.shut_down(TIDY).await {
            events::task_cut(task);
        }
        // Last, so that the records of what was cut are in it.
        reloader.log.end(TIDY).await;
    }

    fn enter(&self, phase: Phase) {
        self.lifecycle.advance(phase);
        events::phase_entered(phase, self.world.connections());
    }

    /// Waits until `end`, until `done`, or until somebody loses patience.
    async fn wait(&mut self, end: Instant, done: impl Fn(&Self) -> bool) {
        while Instant::now() < end && !done(self) {
            tokio::select! {
                () = sleep_until(end.min(Instant::now() + STEP)) => {}
                asked = self.signals.next() => match asked {
                    Asked::EndNow | Asked::Drain => {
                        self.lifecycle.advance(Phase::Ending);
                        return;
                    }
                    Asked::ReopenLogs => self.reloader.log.reopen(),
                    Asked::Reload => {}
                },
            }
        }
    }
}

/// How often workers are looked after.
const LOOK: Duration = Duration::from_secs(1);

/// How often threads are asked whether they have ended: they have no way to tell a runtime.
const STEP: Duration = Duration::from_millis(20);
