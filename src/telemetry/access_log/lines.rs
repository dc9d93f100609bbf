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
    /// The same, and now a batch is full.
    Batch,
    /// There was no room.
    Full,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    most_records: u64,
    most_bytes: usize,
}

#[derive(Debug)]
struct Inner {
    encoder: Encoder,
    select: Select,
    pieces: VecDeque<Piece>,
    orders: usize,
    /// Records and bytes that nobody has said are gone.
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

/// Memory that is worth keeping for the next lines.
const KEPT: usize = 4 * BATCH;

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
        Self { inner: Mutex::new(inner), most_records: config.queue.max(1) as u64, most_bytes: config.queue_memory }
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
        if before < BATCH && lines.text.len() >= BATCH { Added::Batch } else { Added::Fine }
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

    /// Takes everything; gives whether that was the last. `gone` were taken earlier and wait no more, `spare` is theirs.
    pub(super) fn take(&self, gone: &Gone, spare: &mut Vec<u8>) -> (VecDeque<Piece>, bool) {
        let inner = &mut *self.lock();
        inner.records = inner.records.saturating_sub(gone.records);
        inner.bytes = inner.bytes.saturating_sub(gone.bytes);
        if spare.capacity() > inner.spare.capacity() && spare.capacity() <= KEPT {
            inner.spare = mem::take(spare);
        }
        inner.orders = 0;
        inner.resting = inner.pieces.is_empty();
        (mem::take(&mut inner.pieces), inner.ended)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits no more.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) records: u64,
    pub(super) bytes: usize,
}

impl Inner {
    fn order(&mut self, order: Order) {
        if self.orders < ORDERS {
            self.orders += 1;
            self.pieces.push_back(Piece::Order(order));
        }
    }
}
