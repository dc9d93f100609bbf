//! Entries that travel together, and those that were sent and may yet be lost with their connection.
//!
//! Floor 5. What is on disk as well is counted here and not kept. Of what is nowhere else, at most so many bytes are kept,
//! and on disk at most so many: beyond them the oldest settles early.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::spool::{Cursor, Portion, length};
use crate::telemetry::parcel::Entry;

/// Entries that travel together.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// How many they are; they may be kept on disk alone.
    pub(super) records: u64,
    /// Their bytes, here.
    pub(super) bytes: usize,
    /// Their bytes on disk alone, while they have not settled.
    spooled: u64,
    /// They are on disk.
    pub(super) stored: bool,
    /// The place behind the last of them there.
    pub(super) upto: Option<Cursor>,
    /// How many of them the receiver threw away.
    pub(super) rejected: u64,
    /// How many beside them the disk did not give back, and why.
    pub(super) lost: u64,
    pub(super) why: Option<String>,
}

/// What was sent and has not settled, oldest first.
#[derive(Debug)]
pub(super) struct Unsettled {
    all: VecDeque<(Instant, Batch)>,
    /// Parts of a batch on disk whose last part is not sent yet: there is no place between them that could be committed.
    parts: Batch,
    /// Bytes that are nowhere else, and how many may be.
    bytes: usize,
    most: usize,
    /// The same for those on disk, which takes nothing for newer ones from what has not settled.
    spooled: u64,
    most_spooled: u64,
}

/// Parts of the time to settle, and of the bytes that may, in which batches that are on disk count as one.
const PARTS: u32 = 16;

impl Batch {
    /// Entries that are in memory alone.
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        let mut batch = Self { entries, ..Self::default() };
        batch.count();
        batch
    }

    /// What was read from the disk.
    pub(super) fn read(read: Portion) -> Self {
        let Portion { entries, upto, lost, why } = read;
        Self { stored: true, upto: Some(upto), lost, why, ..Self::of(entries) }
    }

    /// Splits off the second half, which ends where the whole did.
    pub(super) fn split(&mut self) -> Self {
        let rest = self.entries.split_off(self.entries.len() / 2);
        let first = Self { stored: self.stored, ..Self::of(std::mem::take(&mut self.entries)) };
        let mut rest = Self { entries: rest, ..std::mem::replace(self, first) };
        rest.count();
        rest
    }

    /// Adds what another is apart from its entries.
    fn absorb(&mut self, other: Self) {
        self.records += other.records;
        self.spooled += other.spooled;
        self.rejected += other.rejected;
        self.lost += other.lost;
        self.upto = self.upto.max(other.upto);
        self.why = self.why.take().or(other.why);
    }

    fn count(&mut self) {
        self.records = self.entries.len() as u64;
        self.bytes = self.entries.iter().map(|entry| entry.payload.len()).sum();
    }
}

impl Unsettled {
    /// Keeps at most so many bytes that are nowhere else, and counts at most so many on disk.
    pub(super) fn new(most: usize, most_spooled: u64) -> Self {
        Self { all: VecDeque::new(), parts: Batch::default(), bytes: 0, most, spooled: 0, most_spooled }
    }

    /// Adds what was sent now and settles after so long.
    pub(super) fn add(&mut self, mut batch: Batch, settle: Duration) {
        let now = Instant::now();
        let at = now + settle;
        if !batch.stored {
            self.bytes += batch.bytes;
            self.all.push_back((at, batch));
            self.bound(now);
            return;
        }
        batch.spooled = batch.entries.iter().map(length).sum();
        batch.entries = Vec::new();
        batch.bytes = 0;
        self.spooled += batch.spooled;
        self.parts.absorb(batch);
        if self.parts.upto.is_none() {
            return;
        }
        let batch = Batch { stored: true, ..std::mem::take(&mut self.parts) };
        let most = self.most_spooled / u64::from(PARTS);
        match self.all.back_mut() {
            Some((last, before)) if before.stored && *last >= at && before.spooled + batch.spooled <= most => {
                before.absorb(batch);
            }
            _ => self.all.push_back((at + settle / PARTS, batch)),
        }
        self.bound(now);
    }

    /// Beyond a bound the oldest settle at once.
    fn bound(&mut self, now: Instant) {
        let mut over = self.bytes.saturating_sub(self.most);
        let mut over_spooled = self.spooled.saturating_sub(self.most_spooled);
        for (at, batch) in &mut self.all {
            if over == 0 && over_spooled == 0 {
                break;
            }
            over = over.saturating_sub(batch.bytes);
            over_spooled = over_spooled.saturating_sub(batch.spooled);
            *at = now;
        }
    }

    /// Bytes that are nowhere else.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the next one settles.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.all.front().map(|(at, _)| *at)
    }

    /// The next one that has settled by now.
    pub(super) fn settled(&mut self) -> Option<Batch> {
        let now = Instant::now();
        let (_, batch) = self.all.pop_front_if(|(at, _)| *at <= now)?;
        self.bytes = self.bytes.saturating_sub(batch.bytes);
        self.spooled = self.spooled.saturating_sub(batch.spooled);
        Some(batch)
    }

    /// All of it settles now.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        self.all.iter_mut().for_each(|(at, _)| *at = now);
    }

    /// Takes all of it away. Of parts nothing is left to do: all of their batch is read again.
    pub(super) fn take(&mut self) -> Vec<Batch> {
        (self.bytes, self.spooled, self.parts) = (0, 0, Batch::default());
        self.all.drain(..).map(|(_, batch)| batch).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn batch(bytes: usize, stored: bool) -> Batch {
        let entry = Entry { at: 1, payload: Bytes::from(vec![b'x'; bytes]) };
        Batch { stored, upto: stored.then(Cursor::default), ..Batch::of(vec![entry]) }
    }

    const SETTLE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn what_is_on_disk_as_well_takes_no_memory_however_much_was_sent() {
        let mut unsettled = Unsettled::new(1 << 20, u64::MAX);

        for _ in 0..100_000 {
            unsettled.add(batch(1_000, true), SETTLE);
            tokio::time::advance(Duration::from_micros(40)).await;
        }

        assert!(unsettled.all.len() <= PARTS as usize + 1, "{}", unsettled.all.len());
        assert!(unsettled.all.iter().all(|(_, batch)| batch.entries.is_empty()));
        assert!(unsettled.settled().is_none());
        tokio::time::advance(SETTLE * 2).await;
        let mut records = 0;
        while let Some(batch) = unsettled.settled() {
            records += batch.records;
        }
        assert_eq!(records, 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_the_oldest_settles_early() {
        let mut unsettled = Unsettled::new(2_500, 0);

        for _ in 0..4 {
            unsettled.add(batch(1_000, false), SETTLE);
        }

        assert!(unsettled.settled().is_some() && unsettled.settled().is_some());
        assert!(unsettled.settled().is_none());
        assert_eq!(unsettled.bytes(), 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_on_disk_the_oldest_settles_early_in_few_batches() {
        let mut unsettled = Unsettled::new(0, 100_000);

        for _ in 0..10_000 {
            unsettled.add(batch(1_000, true), SETTLE);
            while unsettled.settled().is_some() {}

            assert!(unsettled.spooled <= 100_000, "{}", unsettled.spooled);
            assert!(unsettled.all.len() <= 2 * PARTS as usize + 2, "{}", unsettled.all.len());
        }

        assert!(unsettled.spooled > 80_000, "{}", unsettled.spooled);
    }

    #[test]
    fn halves_of_a_batch_are_as_many_and_end_where_it_did() {
        let entries = vec![Entry { at: 1, payload: Bytes::from_static(b"abc") }; 5];
        let read = Portion { entries, upto: Cursor::default(), lost: 2, why: None };
        let mut first = Batch::read(read);

        let rest = first.split();

        assert_eq!((first.records, first.bytes, first.upto, first.lost), (2, 6, None, 0));
        assert_eq!((rest.records, rest.bytes, rest.upto, rest.lost), (3, 9, Some(Cursor::default()), 2));
        assert!(first.stored && rest.stored);
    }
}
