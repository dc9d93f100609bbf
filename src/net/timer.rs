//! A clock that costs a store to restart.
//!
//! Floor 3. A connection has one [`Timer`] for its whole life and arms it for whatever it waits for next. The timer
//! underneath is registered with the runtime at most [`COARSE`] ahead and moved only when it fires or when a nearer
//! deadline is asked for, so that arming, disarming and arming again for each exchange touches no timer wheel. Whoever
//! polls an armed one is therefore woken at least that often, and may look at more than the deadline.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::turn;

/// How far ahead the runtime's timer is set at most.
const COARSE: Duration = Duration::from_secs(5);

/// A deadline that can be polled.
#[derive(Debug, Default)]
pub struct Timer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// A timer that is not armed.
    pub const fn new() -> Self {
        Self { deadline: None, sleep: None }
    }

    /// Sets the deadline `after` from now, replacing any other.
    pub fn arm(&mut self, after: Duration) {
        self.arm_at(turn::now() + after);
    }

    /// Sets the deadline, replacing any other.
    pub fn arm_at(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        if let Some(sleep) = &mut self.sleep
            && sleep.deadline() > deadline
        {
            sleep.as_mut().reset(deadline);
        }
    }

    /// Whether a deadline is set.
    pub const fn is_armed(&self) -> bool {
        self.deadline.is_some()
    }

    /// Forgets the deadline.
    pub const fn disarm(&mut self) {
        self.deadline = None;
    }

    /// Ready once the deadline has passed; pending for ever when none is set.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        loop {
            let sleep = match &mut self.sleep {
                Some(sleep) => sleep,
                None => self.sleep.insert(Box::pin(sleep_until(deadline.min(Instant::now() + COARSE)))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now >= deadline {
                self.deadline = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline.min(now + COARSE));
        }
    }

    /// Waits for the deadline.
    pub async fn expired(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_deadline_set_last() {
        let mut timer = Timer::new();
        let start = Instant::now();

        timer.arm(Duration::from_secs(100));
        timer.arm(Duration::from_secs(12));
        timer.expired().await;

        assert_eq!(start.elapsed().as_secs(), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn nearer_deadline_moves_the_timer() {
        let mut timer = Timer::new();
        let start = Instant::now();
        timer.arm(Duration::from_secs(60));
        assert!(tokio::time::timeout(Duration::from_millis(1), timer.expired()).await.is_err());

        timer.arm(Duration::from_millis(200));
        timer.expired().await;

        assert!(start.elapsed() < Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn disarmed_timer_never_fires() {
        let mut timer = Timer::new();
        timer.arm(Duration::from_millis(5));
        timer.disarm();

        assert!(tokio::time::timeout(Duration::from_secs(600), timer.expired()).await.is_err());
    }
}
