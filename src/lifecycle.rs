//! Where the process stands in its life, and how everyone hears of it.
//!
//! Floor 0. One [`Phase`] is written by `app` and read by all: accept loops, connections, tunnels, the admin listener.
//! Deliberately absent: what each of them does about it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::sync::watch;

/// A stage in the life of the process; it only moves forward.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Serving.
    Running,
    /// Still serving and accepting, but `/ready` answers 503 so that load balancers look elsewhere.
    Unready,
    /// No new connections; open ones are asked to end (RFC 9112 §9.6, RFC 9113 §6.8, RFC 6455 §7.4.1).
    Draining,
    /// The deadline has passed: everything still open is cut.
    Ending,
}

/// The writing end, held by `app`.
#[derive(Debug)]
pub struct Lifecycle(watch::Sender<Phase>);

/// The reading end; cheap to clone.
#[derive(Clone, Debug)]
pub struct Life(watch::Receiver<Phase>);

impl Lifecycle {
    /// A new life, running.
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }

    /// A reading end.
    pub fn life(&self) -> Life {
        Life(self.0.subscribe())
    }

    /// Moves forward to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = phase > *now;
            if forward {
                *now = phase;
            }
            forward
        });
    }
}

/// Waits for a phase in a task that is polled for much else, without asking what all cores share each time.
pub struct Awaited {
    come: bool,
    reached: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Called by `reached`.
    call: Arc<Call>,
    /// Whom it wakes.
    task: Option<Waker>,
}

/// Remembers that it was called.
struct Call {
    called: AtomicBool,
    task: AtomicWaker,
}

impl Awaited {
    /// For `phase` or a later one.
    pub fn new(mut life: Life, phase: Phase) -> Self {
        Self {
            come: life.phase() >= phase,
            reached: Box::pin(async move { life.reached(phase).await }),
            // So that it is polled a first time.
            call: Arc::new(Call { called: AtomicBool::new(true), task: AtomicWaker::new() }),
            task: None,
        }
    }

    /// Whether it had come when this was last polled.
    pub const fn has_come(&self) -> bool {
        self.come
    }

    /// Whether it has come; wakes the task when it does.
    pub fn poll(&mut self, cx: &Context<'_>) -> bool {
        if self.come {
            return true;
        }
        if self.call.called.load(Acquire) || !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            // In this order: a call between any two of these steps is seen by the last one, or wakes the task.
            self.call.called.store(false, Release);
            self.call.task.register(cx.waker());
            self.task = Some(cx.waker().clone());
            let call = Waker::from(Arc::clone(&self.call));
            self.come = self.reached.as_mut().poll(&mut Context::from_waker(&call)).is_ready();
        }
        self.come
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.called.store(true, Release);
        self.task.wake();
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Life {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Resolves once `phase` or a later one is reached. A vanished writer counts as the end.
    pub async fn reached(&mut self, phase: Phase) {
        // The error says that the writer is gone: nothing later will come, so the wait is over as well.
        drop(self.0.wait_for(|now| *now >= phase).await);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn phase_never_moves_back() {
        let lifecycle = Lifecycle::new();
        let life = lifecycle.life();

        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Unready);

        assert_eq!(life.phase(), Phase::Draining);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn awaited_phase_wakes_who_polled_last_and_no_earlier_one_counts() {
        let lifecycle = Lifecycle::new();
        let mut awaited = Awaited::new(lifecycle.life(), Phase::Draining);
        let tasks = [Arc::<Woken>::default(), Arc::default()];
        let wakers = tasks.clone().map(Waker::from);
        let mut poll = |of: usize| awaited.poll(&Context::from_waker(&wakers[of]));

        assert!(!poll(0) && !poll(0) && !poll(1) && !poll(1));
        lifecycle.advance(Phase::Unready);
        assert!(!poll(1) && !poll(1), "not yet");
        let before = tasks[1].0.load(Relaxed);
        lifecycle.advance(Phase::Draining);

        assert!(tasks[1].0.load(Relaxed) > before, "woken, though it was not asked each time");
        assert!(poll(1));
        assert!(Awaited::new(lifecycle.life(), Phase::Draining).has_come());
    }
}
