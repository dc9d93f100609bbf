//! What the results of checks make of an endpoint's standing.
//!
//! Floor 2, pure. In: the outcome of each check, what live traffic saw, the time, a random number. Out: a [`Flip`] when
//! the standing changes, and how long to wait for the next check. Called by `control::prober`, which writes flips into
//! the endpoint's vitals and tells the operators. Deliberately absent: sockets, clocks, logging.
//!
//! # Late is not dead
//! A replica whose threads are all busy lets a check wait in its queue like everybody else. To take it out would put
//! its load on the others until they, too, are late. So a late answer is an answer: it breaks a row of failures and
//! never adds to one. A check without any answer in time counts as late while live traffic is answered; one without a
//! connection does not, since the kernel of a busy replica accepts for it: where wishes for a connection vanish, what is
//! answered on connections from before proves nothing for who needs a new one. A failing deep check (the replica answers,
//! its database does not) makes late as well: all replicas share that database, and to eject them helps nobody.
//!
//! # Patience
//! `rise` checks in a row that are not failures bring an endpoint in; `fall` failures in a row take it out; `rise` of
//! one kind tell late from up. One odd check neither flips a standing nor fills the log. A refused connection that live
//! traffic has met `fall` times since its last answer needs no further proof.

pub mod outlier;
pub mod warming;

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::config::pool::Health;
use crate::lexicon::Standing;

/// What one check found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The right answer. Beyond `late_after` it counts as [`Lateness::Slow`].
    Good {
        /// From the start of the check to the end of the answer.
        elapsed: Duration,
    },
    /// Alive, but not well.
    Late(Lateness),
    /// No answer, or a wrong one.
    Failed(Failure),
}

/// Why an endpoint that is alive is not well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lateness {
    /// Answered, after this long.
    Slow(Duration),
    /// Did not answer the check in time, but live traffic meanwhile.
    Busy,
    /// Answered, but the deep check failed.
    Deep(Failure),
}

/// Why a check failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The name has no address.
    Unresolved,
    /// The connection was refused.
    Refused,
    /// No connection for another reason.
    Unreachable,
    /// The TLS handshake failed.
    Tls,
    /// No answer within the check's timeout.
    Silent,
    /// The connection ended before the answer was complete.
    Broken,
    /// Not the protocol that was expected.
    Malformed,
    /// A status that is not among the good ones.
    Status(StatusCode),
    /// The body lacks the expected text.
    Body,
}

/// What live traffic saw of the endpoint; times in the caller's milliseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// When it last answered.
    pub answered_at: Option<u64>,
    /// When an exchange last failed.
    pub failed_at: Option<u64>,
    /// Failed connects since its last answer.
    pub connect_failures: u32,
}

/// A change of standing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flip {
    /// Before.
    pub from: Standing,
    /// From now on.
    pub to: Standing,
    /// Why; written in words by `Display`.
    pub reason: Reason,
}

/// Why a standing changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// That many answers in a row, the last one good.
    Answers(u32),
    /// The last of the checks was late.
    Late(Lateness),
    /// That many failures in a row, the last one this.
    Failures(u32, Failure),
    /// The check failed as live traffic had failed that many times.
    Traffic(u32, Failure),
}

/// The kind of an outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Good,
    Late,
    Failed,
}

/// An endpoint's checks since the last one of another kind.
#[derive(Clone, Debug)]
pub struct Streak {
    standing: Standing,
    kind: Option<Kind>,
    /// Checks of that kind in a row.
    length: u32,
    /// Checks in a row that did not fail.
    alive: u32,
}

impl Streak {
    /// Begins at what is known already; `Unknown` for a new endpoint.
    pub const fn new(standing: Standing) -> Self {
        Self { standing, kind: None, length: 0, alive: 0 }
    }

    /// The standing as of the last outcome.
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Takes an outcome in; says when the standing changes. `now` on the clock of `traffic`, in milliseconds.
    pub fn on(&mut self, outcome: Outcome, health: &Health, traffic: &Traffic, now: u64) -> Option<Flip> {
        let outcome = temper(outcome, health, traffic, now);
        let kind = match outcome {
            Outcome::Good { .. } => Kind::Good,
            Outcome::Late(_) => Kind::Late,
            Outcome::Failed(_) => Kind::Failed,
        };
        self.length = if self.kind == Some(kind) { self.length.saturating_add(1) } else { 1 };
        self.alive = if kind == Kind::Failed { 0 } else { self.alive.saturating_add(1) };
        self.kind = Some(kind);

        // Whoever is in already must show one kind in a row; whoever is out, only that it lives.
        let is_in = matches!(self.standing, Standing::Up | Standing::Late);
        let proof = if is_in { self.length } else { self.alive };
        let (to, reason) = match outcome {
            Outcome::Good { .. } if proof >= health.rise => (Standing::Up, Reason::Answers(proof)),
            Outcome::Late(lateness) if proof >= health.rise => (Standing::Late, Reason::Late(lateness)),
            Outcome::Failed(failure) if self.length >= health.fall => {
                (Standing::Down, Reason::Failures(self.length, failure))
            }
            Outcome::Failed(failure @ (Failure::Refused | Failure::Unreachable))
                if traffic.connect_failures >= health.fall =>
            {
                (Standing::Down, Reason::Traffic(traffic.connect_failures, failure))
            }
            Outcome::Good { .. } | Outcome::Late(_) | Outcome::Failed(_) => return None,
        };
        let from = std::mem::replace(&mut self.standing, to);
        (from != to).then_some(Flip { from, to, reason })
    }

    /// Whether the last check agrees with the standing; if not, it may be about to change.
    pub const fn is_settled(&self) -> bool {
        matches!(
            (self.standing, self.kind),
            (Standing::Up, Some(Kind::Good))
                | (Standing::Late, Some(Kind::Late))
                | (Standing::Down, Some(Kind::Failed))
        )
    }

    /// How long to wait for the next check: `interval`, or `fast_interval` while in transition or while live traffic
    /// fails. Varied by `jitter_percent` each way, so that many replicas of the proxy do not check in step; `random`
    /// is evenly spread over all values.
    pub fn next_delay(&self, health: &Health, traffic: &Traffic, now: u64, random: u32) -> Duration {
        let calm = self.is_settled() && (self.standing == Standing::Down || !is_failing(traffic, health, now));
        let wait = if calm { health.interval } else { health.fast_interval };
        // From 0 to 2 × jitter, in 1/2^32 of a percent; a wait of days still fits.
        let percent = u128::from(health.jitter_percent.min(100));
        let varied = (2 * percent * u128::from(random)) >> 32;
        let share = (100 - percent).saturating_add(varied);
        let nanos = wait.as_nanos().saturating_mul(share) / 100;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Whether live traffic met a failure within the last interval and no answer since: look soon.
pub fn is_failing(traffic: &Traffic, health: &Health, now: u64) -> bool {
    traffic.failed_at.is_some_and(|failed| {
        is_recent(failed, health, now) && traffic.answered_at.is_none_or(|answered| answered < failed)
    })
}

/// The outcome in the light of what else is known.
fn temper(outcome: Outcome, health: &Health, traffic: &Traffic, now: u64) -> Outcome {
    match outcome {
        Outcome::Good { elapsed } if elapsed > health.late_after => Outcome::Late(Lateness::Slow(elapsed)),
        Outcome::Failed(Failure::Silent) if traffic.answered_at.is_some_and(|at| is_recent(at, health, now)) => {
            Outcome::Late(Lateness::Busy)
        }
        Outcome::Good { .. } | Outcome::Late(_) | Outcome::Failed(_) => outcome,
    }
}

/// Within the last interval, or while the check waited for its answer.
fn is_recent(at: u64, health: &Health, now: u64) -> bool {
    u128::from(now.saturating_sub(at)) <= health.interval.max(health.timeout).as_millis()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unresolved => "name not resolved",
            Self::Refused => "connection refused",
            Self::Unreachable => "no connection",
            Self::Tls => "TLS handshake failed",
            Self::Silent => "no answer in time",
            Self::Broken => "connection ended before the answer",
            Self::Malformed => "answer malformed",
            Self::Status(status) => return write!(f, "status {}", status.as_u16()),
            Self::Body => "body without the expected text",
        })
    }
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(elapsed) => write!(f, "answered after {elapsed:.1?}"),
            Self::Busy => f.write_str("no answer in time, but live traffic is answered"),
            Self::Deep(failure) => write!(f, "deep check: {failure}"),
        }
    }
}

impl Reason {
    /// The reason in words, a failure in those of `cause`: whoever met it knows more than its kind.
    pub fn because(&self, cause: &dyn fmt::Display) -> String {
        match self {
            Self::Failures(count, _) => format!("{cause}, {count} in a row"),
            Self::Traffic(count, _) => format!("{cause}, as {count} times in live traffic"),
            Self::Late(Lateness::Deep(_)) => format!("deep check: {cause}"),
            Self::Answers(_) | Self::Late(Lateness::Slow(_) | Lateness::Busy) => self.to_string(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers(count) => write!(f, "{count} good checks"),
            Self::Late(lateness) => lateness.fmt(f),
            Self::Failures(_, failure) | Self::Traffic(_, failure) => f.write_str(&self.because(failure)),
        }
    }
}

#[cfg(test)]
mod tests;
