//! `[otlp]`: what OpenTelemetry's collectors are sent beside records: traces, metrics.

use std::time::Duration;

use super::sink::{Otlp, Sink};

/// `[otlp]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Exports {
    /// Spans of sampled exchanges. Default: none are made.
    pub traces: Option<Traces>,
    /// Everything that is counted. Default: it is there for a scrape alone.
    pub metrics: Option<Push>,
}

/// `[otlp.traces]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Traces {
    /// Which of the traces that begin here are sampled. Default 10 %.
    pub sampling: Sampling,
    /// How spans get to their collector. Its name is `otlp.traces`, and it has no spool.
    pub sink: Sink,
}

/// `[otlp.metrics]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Push {
    /// Where they go.
    pub to: Otlp,
    /// Time between two pushes. Default 60 s; 1 s to 1 h.
    pub interval: Duration,
}

/// A share of all traces, told by their ids: whoever samples more of them by the same rule has all of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sampling {
    /// The least value that the random part of an id must have.
    least: u128,
}

/// The random part of a trace's id: its last seven bytes (W3C Trace Context level 2, §3.2.2.3.2).
const RANDOM: u128 = (1 << 56) - 1;

impl Sampling {
    /// So many of a million.
    pub const fn of_a_million(share: u32) -> Self {
        let share = if share > 1_000_000 { 1_000_000 } else { share as u128 };
        Self { least: (RANDOM + 1) * (1_000_000 - share) / 1_000_000 }
    }

    /// Whether the trace of that id is sampled.
    pub const fn takes(self, trace: u128) -> bool {
        trace & RANDOM >= self.least
    }

    /// Whether none is.
    pub const fn is_none(self) -> bool {
        self.least > RANDOM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_ids_is_taken_and_a_greater_one_takes_them_too() {
        let ids = (0..100_000_u128).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
        let [few, more] = [50_000, 200_000].map(Sampling::of_a_million);

        let count = |sampling: Sampling| ids.clone().filter(|id| sampling.takes(*id)).count();
        assert!((4_800..5_200).contains(&count(few)) && (19_600..20_400).contains(&count(more)));
        assert!(ids.clone().all(|id| !few.takes(id) || more.takes(id)));
        assert!(ids.clone().all(|id| Sampling::of_a_million(1_000_000).takes(id)));
        assert!(!ids.clone().any(|id| Sampling::of_a_million(0).takes(id)));
        assert!(Sampling::of_a_million(0).is_none() && !Sampling::of_a_million(1).is_none());
    }
}
