//! What has happened: changes between one look and the next, told in words, and what became of each endpoint.
//!
//! Part of `admin::dashboard`, pure. In: two states of the process, a second apart. Out: notes for operators, at most
//! [`NOTES`] of them, and a [`Track`] for each endpoint. What comes and goes within a second is in the log alone.

use std::collections::VecDeque;

use serde::Serialize;

use crate::admin::Status;
use crate::admin::status::{Endpoint, Pool, Sink};
use crate::telemetry::metrics::{Standing, phase_word};

/// Notes that are kept, the oldest go first.
pub(super) const NOTES: usize = 100;

/// Changes that are kept of one endpoint.
const CHANGES: usize = 48;

/// Longest reason that is kept, in characters.
const REASON: usize = 160;

/// How grave a note is; also the class that it is drawn in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Weight {
    /// Something is well again.
    Good,
    /// Somebody did something.
    Plain,
    /// Degraded.
    Warn,
    /// Out.
    Bad,
}

impl Weight {
    /// The class that it is drawn in.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Plain => "plain",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Note {
    /// Milliseconds since 1970.
    pub(super) at: u64,
    /// How grave.
    pub(super) weight: Weight,
    /// What it happened to.
    pub(super) what: String,
    /// What.
    pub(super) text: String,
}

/// What an endpoint is, all things considered.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// Nothing is known.
    #[default]
    Unknown,
    /// In service.
    Up,
    /// Out of service because somebody said so.
    Drained,
    /// In service, late or on trial.
    Late,
    /// Ejected by live traffic.
    Ejected,
    /// Out by its checks.
    Down,
}

impl Mark {
    /// Of an endpoint now.
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        match endpoint.standing {
            _ if endpoint.drained || endpoint.disabled => Self::Drained,
            Standing::Down => Self::Down,
            _ if endpoint.bench == "ejected" => Self::Ejected,
            _ if endpoint.bench == "trial" => Self::Late,
            Standing::Late => Self::Late,
            Standing::Up => Self::Up,
            Standing::Unknown => Self::Unknown,
        }
    }

    /// The word for operators, and the class that it is drawn in.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Drained => "drained",
            Self::Late => "late",
            Self::Ejected => "ejected",
            Self::Down => "down",
        }
    }

    const fn weight(self) -> Weight {
        match self {
            Self::Up => Weight::Good,
            Self::Unknown | Self::Drained => Weight::Plain,
            Self::Late => Weight::Warn,
            Self::Ejected | Self::Down => Weight::Bad,
        }
    }
}

/// The marks that an endpoint had, and since when.
#[derive(Debug, Default)]
pub(super) struct Track(VecDeque<(u64, Mark)>);

impl Track {
    /// Takes note of what it is now.
    pub(super) fn note(&mut self, now: u64, endpoint: &Endpoint) {
        let mark = Mark::of(endpoint);
        if self.0.back().is_none_or(|(_, last)| *last != mark) {
            if self.0.len() >= CHANGES {
                self.0.pop_front();
            }
            self.0.push_back((now, mark));
        }
    }

    /// The gravest mark of each of `cells` spans of `length` milliseconds up to `now`, oldest first; `None` before the
    /// endpoint was known.
    pub(super) fn cells(&self, now: u64, cells: u64, length: u64) -> Vec<Option<Mark>> {
        // Cells end at multiples of their length, so that they move as a whole.
        let last = now / length + 1;
        let cell = |index: u64| {
            let (from, to) = ((last + index).saturating_sub(cells) * length, (last + index + 1 - cells) * length);
            let before = self.0.iter().rev().find(|(at, _)| *at <= from).map(|(_, mark)| *mark);
            let within = self.0.iter().filter(|(at, _)| *at > from && *at < to).map(|(_, mark)| *mark).max();
            before.max(within)
        };
        if last < cells { Vec::new() } else { (0..cells).map(cell).collect() }
    }
}

/// The notes.
#[derive(Debug, Default)]
pub(super) struct Chronicle(VecDeque<Note>);

impl Chronicle {
    /// Youngest first.
    pub(super) fn notes(&self) -> impl Iterator<Item = &Note> {
        self.0.iter().rev()
    }

    /// Notes what is different.
    pub(super) fn compare(&mut self, now: u64, before: &Status, after: &Status) {
        let mut tell = |weight, what: &str, text: String| {
            if self.0.len() >= NOTES {
                self.0.pop_front();
            }
            self.0.push_back(Note { at: now, weight, what: what.to_owned(), text });
        };
        if before.phase != after.phase {
            tell(Weight::Warn, "process", format!("is {} now", phase_word(after.phase)));
        }
        if after.reloads.failed > before.reloads.failed {
            tell(Weight::Bad, "configuration", "not loaded: the old one stays".to_owned());
        }
        if after.generation != before.generation {
            tell(Weight::Plain, "configuration", format!("generation {} in place", after.generation));
        }
        if after.bans > before.bans {
            tell(Weight::Plain, "bans", format!("{} more", after.bans - before.bans));
        }
        for pool in &after.pools {
            let Some(earlier) = before.pools.iter().find(|earlier| earlier.name == pool.name) else {
                tell(Weight::Plain, pool.name.as_str(), "new pool".to_owned());
                continue;
            };
            compare_pools(earlier, pool, &mut tell);
        }
        for sink in &after.sinks {
            if let Some(earlier) = before.sinks.iter().find(|earlier| earlier.name == sink.name) {
                compare_sinks(earlier, sink, &mut tell);
            }
        }
    }
}

fn compare_sinks(before: &Sink, after: &Sink, tell: &mut impl FnMut(Weight, &str, String)) {
    let name = format!("sink {}", after.name);
    match (before.state, after.state) {
        ("working", "failing") => {
            let why: String = after.last_error.as_deref().unwrap_or_default().chars().take(REASON).collect();
            tell(Weight::Warn, &name, format!("is failing: {why}"));
        }
        ("failing", "working") => tell(Weight::Good, &name, "works again".to_owned()),
        _ => {}
    }
}

fn compare_pools(before: &Pool, after: &Pool, tell: &mut impl FnMut(Weight, &str, String)) {
    let pool = after.name.as_str();
    if after.panicking != before.panicking {
        let (weight, text) = if after.panicking {
            (Weight::Bad, "so few endpoints are up that all are asked")
        } else {
            (Weight::Good, "enough endpoints are up again")
        };
        tell(weight, pool, text.to_owned());
    }
    for endpoint in &after.endpoints {
        let name = format!("{pool}/{}", endpoint.name);
        let Some(earlier) = before.endpoints.iter().find(|earlier| earlier.name == endpoint.name) else {
            tell(Weight::Plain, &name, "joined".to_owned());
            continue;
        };
        let (was, is) = (Mark::of(earlier), Mark::of(endpoint));
        if was != is {
            tell(is.weight(), &name, change(was, is, endpoint));
        }
    }
    for gone in before.endpoints.iter().filter(|gone| after.endpoints.iter().all(|each| each.name != gone.name)) {
        tell(Weight::Plain, &format!("{pool}/{}", gone.name), "left".to_owned());
    }
}

fn change(was: Mark, is: Mark, endpoint: &Endpoint) -> String {
    if (was, is) == (Mark::Drained, Mark::Up) {
        return "enabled".to_owned();
    }
    let (told, reason) = (is.as_str(), reason(endpoint));
    if reason.is_empty() { told.to_owned() } else { format!("{told}: {reason}") }
}

/// Why an endpoint is what it is.
pub(super) fn reason(endpoint: &Endpoint) -> String {
    let text = match Mark::of(endpoint) {
        Mark::Drained if endpoint.drained => "by an operator",
        Mark::Drained => "disabled by the configuration",
        Mark::Ejected => endpoint.bench_reason.as_str(),
        Mark::Late if endpoint.bench == "trial" => "on trial after an ejection",
        _ => endpoint.reason.as_str(),
    };
    text.chars().take(REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gravest_mark_of_a_span_is_its_colour() {
        let track = Track([(5_000, Mark::Up), (31_000, Mark::Down), (33_000, Mark::Up)].into());

        let cells = track.cells(45_000, 5, 10_000);

        let up = Some(Mark::Up);
        assert_eq!(cells, [up, up, up, Some(Mark::Down), up]);
    }

    #[test]
    fn spans_before_an_endpoint_was_known_are_empty() {
        let track = Track([(35_000, Mark::Up)].into());

        assert_eq!(track.cells(45_000, 3, 10_000), [None, Some(Mark::Up), Some(Mark::Up)]);
    }
}
