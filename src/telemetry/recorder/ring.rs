//! The newest records of one kind, within a number and a sum of bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::telemetry::record::Record;

/// A ring.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// With what each takes, in bytes. The newest is last.
    records: VecDeque<(Arc<Record>, u64)>,
    bytes: u64,
    most: usize,
    most_bytes: u64,
}

impl Ring {
    /// Keeps at most so many records and bytes from now on.
    pub(super) fn limit(&mut self, most: usize, most_bytes: u64) {
        (self.most, self.most_bytes) = (most, most_bytes);
        self.shrink();
        self.records.shrink_to_fit();
    }

    /// Adds the newest, at the cost of the oldest.
    pub(super) fn push(&mut self, record: Arc<Record>) {
        let size = record.size();
        self.bytes = self.bytes.saturating_add(size);
        self.records.push_back((record, size));
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.records.len() > self.most || self.bytes > self.most_bytes {
            let Some((_, size)) = self.records.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(size);
        }
    }

    /// The newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.iter().rev().map(|(record, _)| record)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}
