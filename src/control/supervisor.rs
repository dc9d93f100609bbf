//! Owns every background task: its name, its policy, its end.
//!
//! Floor 5, and the only place in `control` that spawns. A task is a function that makes a future, so that a fresh one
//! can replace one that panicked. Deliberately absent: the tasks.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::telemetry::events;

/// What happens when a task ends, by panic or by itself, while the process lives on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// Start it again, after a wait that doubles from [`FIRST_WAIT`] to [`LONGEST_WAIT`]. A task that ran for
    /// [`LONGEST_WAIT`] begins again at the shortest.
    Restart,
    /// Tell the process to end: nothing works without it. Also a task that may only end because it is done.
    EndProcess,
    /// Its end is an end: the task does one thing. A panic is reported and no more.
    Once,
}

/// Wait before the first restart.
pub const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Longest wait before a restart.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Tells a task to finish. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Resolves when the task should finish; at once ever after.
    pub async fn stopped(&mut self) {
        // The error says that the supervisor is gone, which is the same news.
        drop(self.0.wait_for(|stop| *stop).await);
    }

    /// Whether the task should finish.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Owns the background tasks.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    running: Running,
    failures: (mpsc::Sender<&'static str>, mpsc::Receiver<&'static str>),
}

/// Names of the tasks that have not ended.
type Running = Arc<Mutex<Vec<&'static str>>>;

impl Supervisor {
    /// A supervisor without tasks.
    pub fn new() -> Self {
        // One failure is enough to end the process; later ones are dropped.
        Self {
            tasks: JoinSet::new(),
            stop: watch::Sender::new(false),
            running: Running::default(),
            failures: mpsc::channel(1),
        }
    }

    /// Starts a task on the current runtime. `make` is called for each start, with the signal that asks the task to
    /// finish; a task that returns after it has been asked is done, whatever its policy.
    pub fn start<F>(&mut self, name: &'static str, policy: Policy, mut make: impl FnMut(Stop) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stop = Stop(self.stop.subscribe());
        let failures = self.failures.0.clone();
        let present = Present::enter(name, &self.running);
        self.tasks.spawn(async move {
            let _present = present;
            let mut wait = FIRST_WAIT;
            loop {
                let began = Instant::now();
                // Whatever a panicking task owned is dropped with its future; nothing of it is seen again.
                let ended = AssertUnwindSafe(make(stop.clone())).catch_unwind().await;
                if ended.is_err() {
                    tracing::error!(task = name, "background task panicked");
                }
                if stop.is_stopped() {
                    return;
                }
                match policy {
                    Policy::Once => return,
                    Policy::EndProcess => {
                        tracing::error!(task = name, "background task ended, and the process with it");
                        // Full: another failure is already ending the process.
                        failures.try_send(name).ok();
                        return;
                    }
                    Policy::Restart => {}
                }
                if began.elapsed() >= LONGEST_WAIT {
                    wait = FIRST_WAIT;
                }
                events::task_restarted(name, wait);
                tokio::select! {
                    () = stop.stopped() => return,
                    () = tokio::time::sleep(wait) => {}
                }
                wait = wait.saturating_mul(2).min(LONGEST_WAIT);
            }
        });
    }

    /// Resolves with the name of a task whose end must end the process.
    pub async fn failed(&mut self) -> &'static str {
        match self.failures.1.recv().await {
            Some(name) => name,
            // Cannot happen, this end holds a sender as well; then there is nothing to wait for.
            None => std::future::pending().await,
        }
    }

    /// Names of the tasks that have not ended, restarting ones included.
    pub fn running(&self) -> Vec<&'static str> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks every task to finish; [`Supervisor::running`] tells when they have.
    pub fn ask_to_finish(&self) {
        self.stop.send_replace(true);
    }

    /// Asks every task to finish, waits for them until the deadline, cuts the rest and names it.
    pub async fn shut_down(mut self, within: Duration) -> Vec<&'static str> {
        let deadline = Instant::now() + within;
        self.stop.send_replace(true);
        while let Ok(Some(_)) = timeout_at(deadline, self.tasks.join_next()).await {}
        let unfinished = self.running();
        self.tasks.shutdown().await;
        unfinished
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps a task's name on the list while the task lives, however it ends.
struct Present(&'static str, Running);

impl Present {
    fn enter(name: &'static str, running: &Running) -> Self {
        running.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        Self(name, Arc::clone(running))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut running = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = running.iter().position(|name| *name == self.0) {
            running.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn panicking_task_is_started_again() {
        let mut supervisor = Supervisor::new();
        let starts = Arc::new(AtomicU32::new(0));
        let (sender, mut third) = mpsc::channel(1);

        let counted = Arc::clone(&starts);
        supervisor.start("fragile", Policy::Restart, move |mut stop| {
            let (start, sender) = (counted.fetch_add(1, Ordering::Relaxed), sender.clone());
            async move {
                assert!(start >= 2, "the first two starts fail");
                sender.send(start).await.unwrap();
                stop.stopped().await;
            }
        });

        assert_eq!(third.recv().await, Some(2));
        assert!(supervisor.shut_down(Duration::from_secs(1)).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_wait_longer_each_time() {
        let mut supervisor = Supervisor::new();
        let (sender, mut starts) = mpsc::channel(8);

        supervisor.start("short", Policy::Restart, move |_| {
            let sender = sender.clone();
            async move { sender.send(Instant::now()).await.unwrap() }
        });

        let first = starts.recv().await.unwrap();
        let second = starts.recv().await.unwrap();
        let third = starts.recv().await.unwrap();
        assert!(third - second >= (second - first) * 2 - Duration::from_millis(2));
    }

    #[tokio::test]
    async fn end_of_a_vital_task_is_told() {
        let mut supervisor = Supervisor::new();

        supervisor.start("vital", Policy::EndProcess, |_| async {});

        assert_eq!(supervisor.failed().await, "vital");
    }

    #[tokio::test(start_paused = true)]
    async fn task_that_ignores_the_stop_is_named_and_cut() {
        let mut supervisor = Supervisor::new();
        supervisor.start("deaf", Policy::Restart, |_| std::future::pending());
        supervisor.start("polite", Policy::Restart, |mut stop| async move { stop.stopped().await });

        let unfinished = supervisor.shut_down(Duration::from_secs(2)).await;

        assert_eq!(unfinished, ["deaf"]);
    }
}
