//! `[pools.NAME.objectives]` as written.

use super::super::objectives::{Objective, ObjectiveError, Objectives};
use super::key::{Entry, Key, Or, Section, Table, section};
use super::kinds::{HOUR, Lasting, Parsed, lasting, parsed};

section! {
    /// What is promised of a pool over 30 days. Whatever is missed spends the error budget that the objective leaves.
    pub(super) OBJECTIVES: ObjectivesKeys {
        /// Share of exchanges that are answered in full, and not with a server error; 50 % to 99.9999 %. What a client did
        /// wrong, what limits and rules refused, and clients that leave before `latency_threshold` do not count.
        availability: Parsed<Objective> = parsed("percentage", objective), Or("'99.9%'");
        /// Share of those answered whose answer begins within `latency_threshold`; 50 % to 99.9999 %.
        latency: Parsed<Objective> = parsed("percentage", objective), Or("'99.9%'");
        /// Longest time from a request's last byte to the head of its answer, waiting in the queue and repeats included.
        latency_threshold: Lasting = lasting(1, HOUR), Or("'10s'");
    }
}

pub(super) fn objectives(table: &Table<'_>) -> Option<Objectives> {
    let (availability, latency) = (table.get(&OBJECTIVES.availability), table.get(&OBJECTIVES.latency));
    let latency_threshold = table.get(&OBJECTIVES.latency_threshold);
    Some(Objectives { availability: availability?, latency: latency?, latency_threshold: latency_threshold? })
}

fn objective(text: &str) -> Result<Objective, String> {
    text.parse().map_err(|error: ObjectiveError| error.to_string())
}
