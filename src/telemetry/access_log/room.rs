//! Room for records that wait.
//!
//! Floor 2. A record is made of slices of the buffer that its request was read into, and keeps all of that alive. Where some
//! wait already, another one is copied out of its buffer first, and its bytes count: what waits is bounded in bytes, too.
//! The first few come and go within milliseconds and cost nothing. Deliberately absent: the queue itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::telemetry::record::Record;

/// Records that wait as they are, each with a buffer of at most the longest request head.
const SHALLOW: usize = 256;

/// Room in one queue, which one thread fills and another one empties.
#[derive(Debug)]
pub struct Room {
    records: AtomicUsize,
    bytes: AtomicUsize,
    most_bytes: usize,
}

/// A record that waits.
#[derive(Debug)]
pub struct Waiting {
    /// The record.
    pub record: Arc<Record>,
    bytes: usize,
}

impl Room {
    /// Room for so many bytes.
    pub const fn new(most_bytes: usize) -> Self {
        Self { records: AtomicUsize::new(0), bytes: AtomicUsize::new(0), most_bytes }
    }

    /// The record as it may wait; `None` if there is no room for it.
    pub fn admit(&self, record: &Arc<Record>) -> Option<Waiting> {
        let waiting = if self.records.load(Ordering::Relaxed) < SHALLOW {
            Waiting { record: Arc::clone(record), bytes: 0 }
        } else {
            let bytes = usize::try_from(record.size()).unwrap_or(usize::MAX);
            if self.bytes.load(Ordering::Relaxed).saturating_add(bytes) > self.most_bytes {
                return None;
            }
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            Waiting { record: Arc::new(record.detached()), bytes }
        };
        self.records.fetch_add(1, Ordering::Relaxed);
        Some(waiting)
    }

    /// The record, which waits no more.
    pub fn release(&self, waiting: Waiting) -> Arc<Record> {
        self.records.fetch_sub(1, Ordering::Relaxed);
        if waiting.bytes > 0 {
            self.bytes.fetch_sub(waiting.bytes, Ordering::Relaxed);
        }
        waiting.record
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::head::HeaderValue;
    use crate::telemetry::samples;

    fn record(buffer: &Bytes) -> Arc<Record> {
        let agent = HeaderValue::from_maybe_shared(buffer.slice(7..20)).unwrap();
        Arc::new(Record { user_agent: Some(agent), ..samples::exchange() })
    }

    #[test]
    fn record_that_has_to_wait_keeps_nothing_of_the_buffer_that_it_was_read_into() {
        let room = Room::new(1 << 20);
        let buffers: Vec<Bytes> = (0..300).map(|_| Bytes::from(vec![b'a'; 60_000])).collect();

        let waiting: Vec<Waiting> = buffers.iter().map(|buffer| room.admit(&record(buffer)).unwrap()).collect();

        assert_eq!(buffers.iter().filter(|buffer| !buffer.is_unique()).count(), SHALLOW);
        assert!(waiting.iter().all(|one| one.record.user_agent.as_ref().unwrap() == "aaaaaaaaaaaaa"));
    }

    #[test]
    fn room_ends_with_its_bytes_and_comes_back_with_them() {
        let room = Room::new(10_000);
        let record = record(&Bytes::from(vec![b'a'; 100]));

        let mut waiting: Vec<Waiting> = std::iter::from_fn(|| room.admit(&record)).take(1_000).collect();

        let most = SHALLOW + 10_000 / usize::try_from(record.size()).unwrap();
        assert_eq!(waiting.len(), most);
        room.release(waiting.pop().unwrap());
        assert!(room.admit(&record).is_some() && room.admit(&record).is_none());
    }
}
