//! What live traffic says about an endpoint.
//!
//! Part of `balance`. Counters and rows, written at the end of an attempt and read by whoever judges the endpoint:
//! checks, and the ejection of outliers. Each attempt costs one addition and, while all goes well, two reads.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How an attempt of live traffic went, as far as it tells about the endpoint. A client's own misfortune (it went
/// away, its token was refused) is not reported at all.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Live {
    /// A response head came, and its status does not speak against the endpoint.
    Answered,
    /// Answered with a server error that a single request may well have deserved, such as 500.
    Erred,
    /// Answered that it cannot serve at all, such as 503.
    Unserved,
    /// No connection: refused, unreachable, or not established in time.
    ConnectFailed,
    /// Connected, but no response head in time.
    Silent,
    /// The connection died before its response was complete.
    Broken,
}

/// What live traffic said of late. Times are in the caller's milliseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Recent {
    /// When it last answered, to about 50 ms.
    pub answered_at: Option<u64>,
    /// When an exchange last failed.
    pub failed_at: Option<u64>,
    /// Failures of any kind since the last answer.
    pub failures: u32,
    /// Failed connects since the last answer.
    pub connect_failures: u32,
}

/// Failures in a row, up to now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Errors of any kind since the last good answer.
    pub errors: u32,
    /// Failed connects since the last answer of any kind.
    pub connects: u32,
    /// Attempts without an answer in time since the last answer of any kind.
    pub silences: u32,
    /// Failures and answers that say "cannot serve" since the last other answer.
    pub gateway: u32,
}

/// All attempts so far; both wrap.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Attempts that told something.
    pub attempts: u32,
    /// Those that ended in an error of any kind.
    pub errors: u32,
    /// The rows at this moment.
    pub seen: Seen,
}

#[derive(Debug)]
pub(super) struct Traffic {
    attempts: AtomicU32,
    errors: AtomicU32,
    /// Rows, as in [`Seen`].
    row: AtomicU32,
    connects: AtomicU32,
    silences: AtomicU32,
    gateway: AtomicU32,
    failures: AtomicU32,
    answered_at: AtomicU64,
    failed_at: AtomicU64,
}

/// Stands for "never" in the atomics that hold times.
const NEVER: u64 = u64::MAX;

/// Answers within this many milliseconds of the last noted one are not noted again: one shared write less an exchange.
const ANSWER_GRAIN: u64 = 50;

impl Default for Traffic {
    fn default() -> Self {
        Self {
            attempts: AtomicU32::new(0),
            errors: AtomicU32::new(0),
            row: AtomicU32::new(0),
            connects: AtomicU32::new(0),
            silences: AtomicU32::new(0),
            gateway: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            answered_at: AtomicU64::new(NEVER),
            failed_at: AtomicU64::new(NEVER),
        }
    }
}

impl Traffic {
    pub(super) fn note(&self, live: Live, now: u64) -> Seen {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if live != Live::Answered {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        match live {
            Live::Answered | Live::Erred | Live::Unserved => self.answer(now),
            Live::ConnectFailed | Live::Silent | Live::Broken => {
                self.failed_at.store(now, Ordering::Relaxed);
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        let raise = |row: &AtomicU32| row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        match live {
            Live::Answered => {
                clear(&self.row);
                clear(&self.gateway);
                Seen::default()
            }
            Live::Erred => {
                clear(&self.gateway);
                Seen { errors: raise(&self.row), ..Seen::default() }
            }
            Live::Unserved | Live::Broken => {
                Seen { errors: raise(&self.row), gateway: raise(&self.gateway), ..self.seen() }
            }
            Live::ConnectFailed => {
                let (errors, gateway) = (raise(&self.row), raise(&self.gateway));
                Seen { errors, gateway, connects: raise(&self.connects), ..self.seen() }
            }
            Live::Silent => {
                let (errors, gateway) = (raise(&self.row), raise(&self.gateway));
                Seen { errors, gateway, silences: raise(&self.silences), ..self.seen() }
            }
        }
    }

    /// An answer, whatever it says, ends the rows of those that got none.
    fn answer(&self, now: u64) {
        let noted = self.answered_at.load(Ordering::Relaxed);
        if noted == NEVER || now >= noted.saturating_add(ANSWER_GRAIN) {
            self.answered_at.store(now, Ordering::Relaxed);
        }
        clear(&self.failures);
        clear(&self.connects);
        clear(&self.silences);
    }

    pub(super) fn recent(&self) -> Recent {
        let time = |at: &AtomicU64| Some(at.load(Ordering::Relaxed)).filter(|at| *at != NEVER);
        Recent {
            answered_at: time(&self.answered_at),
            failed_at: time(&self.failed_at),
            failures: self.failures.load(Ordering::Relaxed),
            connect_failures: self.connects.load(Ordering::Relaxed),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        // Errors first: an attempt that ends in between must not look like an error without an attempt.
        let errors = self.errors.load(Ordering::Acquire);
        Tally { attempts: self.attempts.load(Ordering::Acquire), errors, seen: self.seen() }
    }

    fn seen(&self) -> Seen {
        Seen {
            errors: self.row.load(Ordering::Relaxed),
            connects: self.connects.load(Ordering::Relaxed),
            silences: self.silences.load(Ordering::Relaxed),
            gateway: self.gateway.load(Ordering::Relaxed),
        }
    }
}

/// Written only if there is something to clear, so that the line stays shared while all is well.
fn clear(row: &AtomicU32) {
    if row.load(Ordering::Relaxed) != 0 {
        row.store(0, Ordering::Relaxed);
    }
}
