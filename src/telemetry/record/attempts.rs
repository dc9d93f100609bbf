//! Who was asked for an exchange, why, and what came of it.
//!
//! Part of `telemetry::record`. Filled on the worker: the first attempt stands in the record itself, further ones in a
//! vector, at most [`MOST`] of them.

use std::time::Duration;

use crate::lexicon::{Choice, Clock, EndpointName};

/// Attempts that a record keeps: the first half of them and the last. More than the configured repeats are made only
/// when endpoint after endpoint takes no connection.
pub(super) const MOST: usize = 16;

/// Of these, the first that are kept.
const FIRST: u32 = 8;

/// The id of the span of attempt `number`, from 1, of an exchange with the span `exchange`: made of the two, so that nobody
/// has to keep it. Not for secrets.
pub const fn span_of(exchange: u64, number: u32) -> u64 {
    // SplitMix64: what follows each other looks like chance, and no two numbers give the same.
    let mixed = exchange.wrapping_add((number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let mixed = mixed ^ (mixed >> 31);
    // W3C Trace Context §3.2.2.4: zeros are no id.
    if mixed == 0 { 1 } else { mixed }
}

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
            self.earlier.remove(FIRST as usize);
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

    /// How many were made.
    pub fn made(&self) -> u32 {
        let kept = u32::try_from(self.iter().count()).unwrap_or(u32::MAX);
        kept.saturating_add(self.left_out)
    }

    /// All that are kept, each with its number, from 1.
    pub fn numbered(&self) -> impl Iterator<Item = (u32, &Attempt)> {
        let left_out = |at: u32| if at > FIRST { self.left_out } else { 0 };
        (1_u32..).zip(self.iter()).map(move |(at, attempt)| (at.saturating_add(left_out(at)), attempt))
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
        assert_eq!((few.made(), many.made()), (16, 100));
        // Attempts were named from 0 on here; they are numbered from 1 on.
        let right = |(number, attempt): (u32, &Attempt)| attempt.endpoint.as_str() == (number - 1).to_string();
        assert!(few.numbered().all(right) && many.numbered().all(right));
    }

    #[test]
    fn spans_of_attempts_are_told_apart() {
        let ids: std::collections::BTreeSet<u64> =
            (0..100).map(|number| span_of(0x0123_4567_89ab_cdef, number)).collect();

        assert_eq!((ids.len(), ids.contains(&0)), (100, false));
        assert_ne!(span_of(1, 1), span_of(2, 1));
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
