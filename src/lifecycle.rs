//! Where the process stands in its life, and how everyone hears of it.
//!
//! Floor 0. One [`Phase`] is written by `app` and read by all: accept loops, connections, tunnels, the admin listener.
//! Deliberately absent: what each of them does about it.

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

    /// Whether the phase has moved, or its writer has gone, since this was asked last.
    pub fn has_moved(&mut self) -> bool {
        let moved = !matches!(self.0.has_changed(), Ok(false));
        self.0.mark_unchanged();
        moved
    }

    /// Resolves once `phase` or a later one is reached. A vanished writer counts as the end.
    pub async fn reached(&mut self, phase: Phase) {
        // The error says that the writer is gone: nothing later will come, so the wait is over as well.
        drop(self.0.wait_for(|now| *now >= phase).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_never_moves_back() {
        let lifecycle = Lifecycle::new();
        let life = lifecycle.life();

        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Unready);

        assert_eq!(life.phase(), Phase::Draining);
    }
}
