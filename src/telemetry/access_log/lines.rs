//! Lines that wait for a local sink, and what it is told between them.
//!
//! Floor 2. The access log's thread adds, the sink's thread takes all there is; the lock between them is held for one line or
//! for a move, and no worker ever meets it. Bounded in records and in bytes, with those that the sink's thread has in hand.

use std::collections::VecDeque;
use std::mem;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::writer::BATCH;
use crate::config;
use crate::config::sink::Select;
use crate::telemetry::format::Encoder;
use crate::telemetry::record::Record;
use crate::telemetry::redact::Redactor;
use crate::telemetry::select;

/// What the sink's thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Open the file anew.
    Reopen,
    /// Go by other settings.
    Reconfigure(Box<config::Sink>),
    /// Say when everything before this is written.
    Flush(SyncSender<()>),
}

/// What waits, in its order.
#[derive(Debug)]
pub(super) enum Piece {
    Lines(Lines),
    Order(Order),
}

/// Whole lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    pub(super) records: u64,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Added {
    /// Its line waits, or the sink does not want it.
    Fine,
    /// The same, and now so much waits that the sink's thread should take it.
    Enough,
    /// There was no room.
    Full,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    most_records: u64,
    most_bytes: usize,
    /// Bytes of lines that are enough for a write at once.
    enough: usize,
}

#[derive(Debug)]
struct Inner {
    encoder: Encoder,
    select: Select,
    pieces: VecDeque<Piece>,
    orders: usize,
    /// Records and bytes that wait, here or in the hand of the sink's thread.
    records: u64,
    bytes: usize,
    /// Of an earlier piece, to be filled again.
    spare: Vec<u8>,
    /// The sink's thread found nothing and sleeps until it is woken.
    resting: bool,
    ended: bool,
}

/// Orders that may wait: a reload or a signal now and then, while the sink blocks.
const ORDERS: usize = 64;

impl Queue {
    /// An empty one, as long as `config` says.
    pub(super) fn new(config: &config::Sink, redactor: Redactor) -> Self {
        let inner = Inner {
            encoder: Encoder::new(config.format.clone(), redactor),
            select: config.select.clone(),
            pieces: VecDeque::new(),
            orders: 0,
            records: 0,
            bytes: 0,
            spare: Vec::new(),
            resting: false,
            ended: false,
        };
        let (most_records, most_bytes) = (config.queue.max(1) as u64, config.queue_memory);
        Self { inner: Mutex::new(inner), most_records, most_bytes, enough: BATCH.min(most_bytes / 2) }
    }

    /// Adds the line of `record`, if the sink wants it.
    pub(super) fn add(&self, record: &Record) -> Added {
        let inner = &mut *self.lock();
        if !select::wants(&inner.select, record) {
            return Added::Fine;
        }
        if inner.records >= self.most_records || inner.bytes >= self.most_bytes {
            return Added::Full;
        }
        if !matches!(inner.pieces.back(), Some(Piece::Lines(_))) {
            let text = mem::take(&mut inner.spare);
            inner.pieces.push_back(Piece::Lines(Lines { text, records: 0 }));
        }
        let Some(Piece::Lines(lines)) = inner.pieces.back_mut() else { return Added::Full };
        let before = lines.text.len();
        inner.encoder.encode(record, &mut lines.text);
        let line = lines.text.len() - before;
        // Not every format has a line for every record.
        if line > 0 {
            lines.records += 1;
            inner.records += 1;
            inner.bytes += line;
        }
        let long = before < self.enough && lines.text.len() >= self.enough;
        if long || inner.records == self.most_records.div_ceil(2) { Added::Enough } else { Added::Fine }
    }

    /// Whether what waits is waited for: the sink's thread had found nothing.
    pub(super) fn is_awaited(&self) -> bool {
        let mut inner = self.lock();
        let awaited = inner.resting && !inner.pieces.is_empty();
        inner.resting &= !awaited;
        awaited
    }

    /// Adds an order. With too many of them, in front of a sink that has blocked for long, it is lost with that sink, not the
    /// caller.
    pub(super) fn order(&self, order: Order) {
        self.lock().order(order);
    }

    /// Lines are made by these settings from now on, and written by them.
    pub(super) fn reconfigure(&self, config: config::Sink, redactor: Redactor) {
        let mut inner = self.lock();
        inner.encoder = Encoder::new(config.format.clone(), redactor);
        inner.select = config.select.clone();
        inner.order(Order::Reconfigure(Box::new(config)));
    }

    /// Nothing more will be added.
    pub(super) fn end(&self) {
        self.lock().ended = true;
    }

    /// Takes everything; gives whether that was the last. `spare` is a buffer that was taken earlier, and is empty now.
    pub(super) fn take(&self, spare: Vec<u8>) -> (VecDeque<Piece>, bool) {
        let inner = &mut *self.lock();
        inner.resting = inner.pieces.is_empty();
        if inner.resting {
            inner.spare = Vec::new();
        } else if spare.capacity() > inner.spare.capacity() {
            inner.spare = spare;
        }
        inner.orders = 0;
        (mem::take(&mut inner.pieces), inner.ended)
    }

    /// Of what was taken, so much waits no more.
    pub(super) fn let_go(&self, records: u64, bytes: usize) {
        let mut inner = self.lock();
        inner.records = inner.records.saturating_sub(records);
        inner.bytes = inner.bytes.saturating_sub(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn order(&mut self, order: Order) {
        if self.orders < ORDERS {
            self.orders += 1;
            self.pieces.push_back(Piece::Order(order));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sink::{Destination, LogFormat};
    use crate::telemetry::samples;

    fn sink(queue: usize, queue_memory: usize) -> config::Sink {
        config::Sink { queue, queue_memory, ..samples::sink(Destination::Stdout) }
    }

    fn queue(config: &config::Sink) -> Queue {
        Queue::new(config, Redactor::default())
    }

    #[test]
    fn half_of_the_room_is_enough_to_call_for_the_writer() {
        let record = samples::exchange();

        let few = queue(&sink(16, 1 << 30));
        let added: Vec<Added> = (0..8).map(|_| few.add(&record)).collect();
        assert!(added[..7].iter().all(|added| *added == Added::Fine) && added[7] == Added::Enough);

        let little = queue(&sink(100_000, 64 << 10));
        let records = (1..).find(|_| little.add(&record) == Added::Enough).unwrap();
        assert!(little.lock().bytes <= 34 << 10, "{records} records");
    }

    #[test]
    fn what_was_taken_has_its_room_until_it_is_let_go() {
        let (queue, record) = (queue(&sink(16, 1 << 30)), samples::exchange());
        while queue.add(&record) != Added::Full {}

        let (pieces, _) = queue.take(Vec::new());
        assert_eq!(queue.add(&record), Added::Full);
        let Some(Piece::Lines(lines)) = pieces.front() else { panic!("{pieces:?}") };
        queue.let_go(lines.records, lines.text.len());

        assert_eq!(queue.add(&record), Added::Fine);
        assert_eq!((lines.records, queue.lock().records), (16, 1));
    }

    #[test]
    fn other_settings_stand_between_lines_of_before_and_after() {
        let (config, record) = (sink(16, 1 << 30), samples::exchange());
        let queue = queue(&config);
        queue.add(&record);
        queue.reconfigure(config::Sink { format: LogFormat::Combined, ..config }, Redactor::default());
        queue.add(&record);

        let (pieces, ended) = queue.take(Vec::new());

        let [Piece::Lines(before), Piece::Order(Order::Reconfigure(_)), Piece::Lines(after)] = &*Vec::from(pieces)
        else {
            panic!("something else");
        };
        assert!(before.text.starts_with(b"{") && after.text.starts_with(b"203.0.113.9 - - [") && !ended);
    }

    #[test]
    fn only_a_writer_that_found_nothing_is_woken_by_the_next_line() {
        let (queue, record) = (queue(&sink(16, 1 << 30)), samples::exchange());
        let waking = || {
            queue.add(&record);
            queue.is_awaited()
        };

        queue.take(Vec::new());
        assert_eq!([waking(), waking()], [true, false]);
        queue.take(Vec::new());
        assert!(!waking());
    }
}
