//! `[recorder]`: what is kept of exchanges in memory.

use super::super::recorder::{Recorder, told_by_all};
use super::super::sink::{Anonymise, Sink};
use super::key::{Entry, Key, May, Or, Section, Table, section};
use super::kinds::{Bytes, Lasting, MINUTE, Whole, bytes, lasting, whole};
use super::shapes::{Sub, Switch, sub, switch};
use super::sink::{ANONYMISE, anonymise};

section! {
    /// The flight recorder: records kept in memory, to be looked up by request id (`sluicegate why`) and followed as they
    /// come (`sluicegate logs`). Each kind has room of its own: errors, refusals, slow exchanges, and a sample of the rest.
    pub(super) RECORDER: RecorderKeys {
        /// Records kept of each kind; the oldest goes first. 0 keeps none, and nothing can be looked up or followed.
        records: Whole<usize> = whole(0, 100_000), Or("1_000");
        /// Memory for them all; each kind has an equal part.
        memory: Bytes<u64> = bytes(64 << 10, 4 << 30), Or("'16MiB'");
        /// Duration from which an exchange counts as slow.
        slow: Lasting = lasting(1, 60 * MINUTE), Or("'2s'");
        /// One in so many of the exchanges that are neither wrong nor slow is kept; 0 keeps none.
        sample: Whole<u64> = whole(0, 1_000_000_000), Or("100");
        /// Records that may wait for each of those who follow (`sluicegate logs`); one that is slower is told how many it missed.
        queue: Whole<usize> = whole(16, 100_000), Or("1_024");
        /// Whether only the beginning of a client's address is kept and shown.
        anonymise: Switch<Sub<Anonymise>> = switch(sub(&ANONYMISE, anonymise)), May("as the sink that tells least");
    }
}

/// What `[recorder]` means, once the sinks are known.
pub(super) struct Asked {
    recorder: Recorder,
    /// What is written of addresses.
    anonymise: Option<Option<Anonymise>>,
}

impl Asked {
    /// Beside these sinks.
    pub(super) fn beside(self, sinks: &[Sink]) -> Recorder {
        Recorder { anonymise: self.anonymise.unwrap_or_else(|| told_by_all(sinks)), ..self.recorder }
    }
}

/// What `[recorder]` says.
pub(super) fn recorder(table: &Table<'_>) -> Option<Asked> {
    let (records, memory) = (table.get(&RECORDER.records), table.get(&RECORDER.memory));
    let (slow, sample) = (table.get(&RECORDER.slow), table.get(&RECORDER.sample));
    let (queue, anonymise) = (table.get(&RECORDER.queue), table.get(&RECORDER.anonymise));
    let recorder =
        Recorder { records: records?, memory: memory?, slow: slow?, sample: sample?, queue: queue?, anonymise: None };
    Some(Asked { recorder, anonymise: anonymise? })
}
