//! What became of a request.

use std::time::Duration;

use tokio::time::Instant;

use super::Protocol;
use super::ask::Kind;

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    /// Its number.
    pub(crate) id: u64,
    /// Its kind.
    pub(crate) kind: Kind,
    /// What it was asked over.
    pub(crate) protocol: Protocol,
    /// When the client began to send it.
    pub(crate) began: Instant,
    /// When the client knew what became of it.
    pub(crate) ended: Instant,
    /// The replica that answered, or what was lost.
    pub(crate) result: Result<String, Loss>,
}

/// How a request was lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Loss {
    /// Answered with another status than 200; the proxy's reason code, if it was the proxy that answered.
    Status(u16, String),
    /// Nobody took the connection.
    NoConnection(String),
    /// The connection or stream ended before an answer began.
    Unanswered(String),
    /// The answer began and broke off, and the client could see that it did.
    BrokenOff(String),
    /// The answer came to its end, and its bytes are not the right ones.
    Wrong,
    /// Nothing for as long as a client has patience.
    Late,
}

impl Fate {
    /// Whether it was under way at `moment`.
    pub(crate) fn was_under_way(&self, moment: Instant) -> bool {
        self.began <= moment && moment <= self.ended
    }

    /// Whether it was lost although somebody could have asked again: it changes nothing and no answer had begun.
    pub(crate) fn is_needless(&self) -> bool {
        match &self.result {
            Ok(_) | Err(Loss::BrokenOff(_)) => false,
            Err(Loss::Wrong) => true,
            Err(_) => self.kind.is_safe(),
        }
    }

    /// How long it took.
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.began
    }
}
