//! The end of a shipper that the access log sees: a bounded ring in memory.
//!
//! Floor 5. Records come on the access log's thread, which never waits: what does not fit is dropped and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::config::Sink;
use crate::config::sink::{Destination, Select};
use crate::telemetry::access_log::{Consumer, Room, Waiting};
use crate::telemetry::metrics::{LogDrop, LogMetrics};
use crate::telemetry::record::Record;
use crate::telemetry::{parcel, select};

/// Records that wait to be shipped.
#[derive(Debug)]
pub(super) struct Intake {
    select: Select,
    to: Destination,
    ring: Mutex<VecDeque<Waiting>>,
    room: Room,
    length: usize,
    /// Told when there is something after nothing.
    pub(super) filled: Notify,
    metrics: Arc<LogMetrics>,
}

impl Intake {
    /// At most as many records wait as the sink says, and as many bytes of those that wait long.
    pub(super) fn new(sink: &Sink, metrics: Arc<LogMetrics>) -> Self {
        let (select, to, room) = (sink.select.clone(), sink.to.clone(), Room::new(sink.queue_memory));
        Self { select, to, ring: Mutex::default(), room, length: sink.queue, filled: Notify::new(), metrics }
    }

    /// Moves at most `most` records to `to`.
    pub(super) fn draw(&self, most: usize, to: &mut Vec<Arc<Record>>) {
        let mut ring = self.ring();
        let most = most.min(ring.len());
        to.extend(ring.drain(..most).map(|waiting| self.room.release(waiting)));
    }

    /// Records that wait.
    pub(super) fn len(&self) -> usize {
        self.ring().len()
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consumer for Intake {
    fn take(&self, record: &Arc<Record>) {
        let entries = parcel::entries(&self.to, record);
        if entries == 0 || !select::wants(&self.select, record) {
            return;
        }
        // Nobody else puts anything in, so that there is still room afterwards.
        let waiting = if self.len() < self.length { self.room.admit(record) } else { None };
        match waiting {
            Some(waiting) => self.ring().push_back(waiting),
            None => self.metrics.drop_records(LogDrop::SinkFull, entries as u64),
        }
    }

    fn pause(&self) {
        self.filled.notify_one();
    }
}
