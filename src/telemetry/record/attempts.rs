//! Who was asked for an exchange, why, and what came of it.
//!
//! Part of `telemetry::record`. Filled on the worker: the first attempt stands in the record itself, further ones in a
//! vector, at most [`MOST`] of them.

use std::time::Duration;

use crate::lexicon::{Choice, Clock, EndpointName};

/// Attempts that a record keeps: the first half of them and the last. More than the configured repeats are made only
/// when endpoint after endpoint takes no connection.
pub(super) const MOST: usize = 16;

/// One question put to an endpoint.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Who was asked.
    pub endpoint: EndpointName,
    /// Why anybody was asked.
    pub why: Why,
    /// Why this endpoint.
    pub choice: Choice,
    /// When an endpoint was sought, from the request's head on.
    pub began: Duration,
    /// Waiting for it in the pool's line.
    pub queued: Duration,
    /// The connection.
    pub link: Link,
    /// Connecting; zero on a reused connection.
    pub connect: Duration,
    /// From the request sent to the response's head or to the failure.
    pub waited: Duration,
    /// The status it answered with.
    pub status: Option<u16>,
    /// Reason code when its answer, if there was one, was not taken.
    pub cause: Option<&'static str>,
    /// The clock that ended it.
    pub clock: Option<Clock>,
}

/// Why an endpoint was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// For the first time.
    First,
    /// What came of the attempt before was no good.
    Repeat,
    /// Once more over a fresh connection: the idle one was closed in that very moment.
    Afresh,
    /// Beside the attempt before, which was slow.
    Hedge,
}

/// The connection of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Link {
    /// There was none.
    None,
    /// One that had rested.
    Reused,
    /// A new one.
    Opened,
}

impl Why {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Repeat => "repeat",
            Self::Afresh => "fresh_connection",
            Self::Hedge => "hedge",
        }
    }
}

impl Link {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reused => "reused",
            Self::Opened => "opened",
        }
    }
}

impl Attempt {
    /// The beginning of an attempt on `endpoint`.
    pub const fn on(endpoint: EndpointName, why: Why, choice: Choice) -> Self {
        Self {
            endpoint,
            why,
            choice,
            began: Duration::ZERO,
            queued: Duration::ZERO,
            link: Link::None,
            connect: Duration::ZERO,
            waited: Duration::ZERO,
            status: None,
            cause: None,
            clock: None,
        }
    }
}

/// The attempts of an exchange in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    earlier: Vec<Attempt>,
    last: Option<Attempt>,
    left_out: u32,
}

impl Attempts {
    /// Adds one.
    pub fn push(&mut self, attempt: Attempt) {
        let Some(before) = self.last.replace(attempt) else { return };
        if self.earlier.len() >= MOST - 1 {
            self.earlier.remove(MOST / 2);
            self.left_out = self.left_out.saturating_add(1);
        }
        self.earlier.push(before);
    }

    /// The last one on `endpoint`.
    pub fn on(&mut self, endpoint: &EndpointName) -> Option<&mut Attempt> {
        let mut all = self.last.iter_mut().chain(self.earlier.iter_mut().rev());
        all.find(|attempt| attempt.endpoint == *endpoint)
    }

    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Attempt> {
        self.earlier.iter().chain(&self.last)
    }

    /// Those from the middle that are not kept.
    pub const fn left_out(&self) -> u32 {
        self.left_out
    }
}

impl FromIterator<Attempt> for Attempts {
    fn from_iter<I: IntoIterator<Item = Attempt>>(attempts: I) -> Self {
        let mut all = Self::default();
        attempts.into_iter().for_each(|attempt| all.push(attempt));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_attempts_are_kept_and_the_others_counted() {
        let named = |number: usize| EndpointName::new(&number.to_string());
        let attempts = |most: usize| -> Attempts {
            (0..most).map(|number| Attempt::on(named(number), Why::Repeat, Choice::Turn)).collect()
        };

        let (few, many) = (attempts(MOST), attempts(100));

        assert_eq!((few.iter().count(), few.left_out()), (MOST, 0));
        assert_eq!((many.iter().count(), many.left_out()), (MOST, 84));
        let kept: Vec<&str> = many.iter().map(|attempt| attempt.endpoint.as_str()).collect();
        assert_eq!((kept[..8].join(" "), kept[15]), ("0 1 2 3 4 5 6 7".into(), "99"));
    }

    #[test]
    fn attempt_is_found_by_its_endpoint_and_the_later_of_two_first() {
        let (a, b) = (EndpointName::new("a"), EndpointName::new("b"));
        let one = |endpoint: &EndpointName, why| Attempt::on(endpoint.clone(), why, Choice::Turn);
        let mut all: Attempts = [one(&a, Why::First), one(&a, Why::Afresh), one(&b, Why::Hedge)].into_iter().collect();

        assert_eq!(all.on(&a).map(|attempt| attempt.why), Some(Why::Afresh));
        assert_eq!(all.on(&b).map(|attempt| attempt.why), Some(Why::Hedge));
    }
}
