//! A local sink's thread: records in, lines out.
//!
//! Floor 2. Everything that can go wrong with a sink is dealt with here: what could not be written stays in the buffer
//! (bounded; beyond it the queue fills and drops), is tried again after a pause, and is carried to another sink whole,
//! so that no line is torn in two files.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::local::Order;
use super::losses::Losses;
use super::sink::Sink;
use super::{Room, Waiting};
use crate::config;
use crate::config::sink::{Destination, LogFile};
use crate::telemetry::events;
use crate::telemetry::format::Encoder;
use crate::telemetry::metrics::{LogDrop, LogMetrics};
use crate::telemetry::record::Record;
use crate::telemetry::redact::Redactor;

/// Bytes encoded before they are written.
const BATCH: usize = 64 * 1024;

/// Longest wait for records: the time between looks at whether the file was moved, and after a failure, between tries.
const IDLE: Duration = Duration::from_millis(500);

/// Longest wait for records while something is left to do.
const BUSY: Duration = Duration::from_millis(50);

/// Time between looks at whether the file was moved.
const LOOK: Duration = Duration::from_secs(1);

/// Pauses after failures: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The thread's state.
pub(super) struct Writer {
    config: config::Sink,
    encoder: Encoder,
    metrics: Arc<LogMetrics>,
    losses: Losses,
    queue: Receiver<Waiting>,
    room: Arc<Room>,
    /// Nobody can hand a record over any more.
    cut_off: bool,
    /// `None` while it cannot be opened.
    sink: Option<Sink>,
    /// Encoded lines; the first `sent` bytes are written, `records` lines are in it.
    pending: Vec<u8>,
    sent: usize,
    records: u64,
    failures: u64,
    pause: Duration,
    not_before: Option<Instant>,
    /// When a rotation that failed may be tried again.
    rotate_after: Option<Instant>,
    looked: Instant,
    flushes: Vec<SyncSender<()>>,
}

impl Writer {
    pub(super) fn new(
        config: config::Sink,
        redactor: Redactor,
        metrics: Arc<LogMetrics>,
        queue: Receiver<Waiting>,
        room: Arc<Room>,
    ) -> Self {
        Self {
            encoder: Encoder::new(config.format.clone(), redactor),
            config,
            metrics,
            losses: Losses::default(),
            queue,
            room,
            cut_off: false,
            sink: None,
            pending: Vec::with_capacity(BATCH * 2),
            sent: 0,
            records: 0,
            failures: 0,
            pause: PAUSES.0,
            not_before: None,
            rotate_after: None,
            looked: Instant::now(),
            flushes: Vec::new(),
        }
    }

    /// Runs until the sink is dropped.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        self.open("start");
        loop {
            let ending = self.obey(orders);
            self.look_after();
            self.drain();
            self.acknowledge();
            // Whoever hands records over may not have heard of the end yet.
            if ending && self.cut_off {
                self.end();
                return;
            }
            let idle = self.pending.is_empty() && self.flushes.is_empty() && !ending;
            thread::park_timeout(if idle { IDLE } else { BUSY });
        }
    }

    /// Takes what has been ordered; gives whether nobody can order any more.
    fn obey(&mut self, orders: &Receiver<Order>) -> bool {
        loop {
            match orders.try_recv() {
                Ok(Order::Reopen) => {
                    self.write();
                    self.reopen("asked");
                }
                Ok(Order::Reconfigure(new)) => self.reconfigure(*new),
                Ok(Order::Flush(done)) => self.flushes.push(done),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn reconfigure(&mut self, (config, redactor): (config::Sink, Redactor)) {
        // What was emitted before belongs to the old settings.
        self.drain();
        let path = |sink: &config::Sink| sink.to.file().map(|file| file.path.clone());
        let moved = path(&config) != path(&self.config);
        if moved {
            // Goes to the old sink if that takes it, and to the new one otherwise.
            self.write();
        }
        self.encoder = Encoder::new(config.format.clone(), redactor);
        self.config = config;
        if moved || self.sink.is_none() {
            self.reopen("configured");
        }
    }

    /// Once a second: is the file still where it was, and young enough? Was anything lost?
    fn look_after(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        self.losses.look(self.config.name.as_str(), &self.metrics);
        let Some(sink) = &self.sink else { return };
        if sink.was_moved() {
            self.reopen("moved");
        } else if let Some(age) = self.file().and_then(|file| file.rotate_every)
            && sink.is_older_than(age)
            && self.may_rotate()
        {
            // What was encoded before belongs to the old file.
            if self.write() {
                self.rotate();
            }
        }
    }

    /// The file's settings, if it is one.
    const fn file(&self) -> Option<&LogFile> {
        self.config.to.file()
    }

    fn may_rotate(&self) -> bool {
        self.rotate_after.is_none_or(|at| Instant::now() >= at) && !self.sink.as_ref().is_some_and(Sink::is_packing)
    }

    /// Encodes and writes what waits in the queue.
    fn drain(&mut self) {
        // Once through a full queue is enough: records that never pause must not keep orders waiting.
        for _ in 0..=self.config.queue {
            if self.pending.len() >= BATCH && !self.write() {
                return;
            }
            match self.queue.try_recv() {
                Ok(waiting) => {
                    let record = self.room.release(waiting);
                    self.add(&record);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.cut_off = true;
                    break;
                }
            }
        }
        self.write();
    }

    /// Encodes one record, rotating before it when it would not fit.
    fn add(&mut self, record: &Record) {
        let start = self.pending.len();
        self.encoder.encode(record, &mut self.pending);
        let line = self.pending.len() - start;
        if line == 0 {
            return;
        }
        self.rotate_for(start, line);
        self.records += 1;
    }

    /// Rotates when the file with what waits for it and the line of `length` from `start` on would exceed its size.
    fn rotate_for(&mut self, start: usize, length: usize) {
        let limit = self.file().map_or(0, |file| file.rotate_size);
        let Some(size) = self.sink.as_ref().and_then(Sink::size).filter(|_| limit > 0) else {
            return;
        };
        let before = size + (start - self.sent) as u64;
        if before == 0 || before + length as u64 <= limit || !self.may_rotate() {
            return;
        }
        // The new line waits aside until everything before it is in the old file.
        let line = self.pending.split_off(start);
        if self.write() {
            self.rotate();
        }
        self.pending.extend_from_slice(&line);
    }

    fn rotate(&mut self) {
        let (keep, gzip) = self.file().map_or((0, false), |file| (file.rotate_keep, file.gzip));
        let Some(sink) = &mut self.sink else { return };
        match sink.rotate(keep, gzip) {
            Ok(()) => {
                self.rotate_after = None;
                events::access_log_reopened(&self.target(), "rotated");
            }
            Err(error) => {
                // Better one file that is too long than lines lost.
                let first = self.rotate_after.is_none();
                self.rotate_after = Some(Instant::now() + Duration::from_secs(60));
                events::access_log_failing(&self.metrics, &self.target(), first, &error);
                if self.sink.as_ref().is_some_and(Sink::was_moved) {
                    self.reopen("moved");
                }
            }
        }
    }

    /// Writes what is encoded; gives whether all of it went.
    fn write(&mut self) -> bool {
        while self.sent < self.pending.len() {
            if self.not_before.is_some_and(|at| Instant::now() < at) {
                return false;
            }
            if self.sink.is_none() {
                self.open("retry");
                if self.sink.is_none() {
                    return false;
                }
            }
            let Some(sink) = &mut self.sink else { return false };
            match sink.write(self.pending.get(self.sent..).unwrap_or_default()) {
                Ok(0) => self.failed(&io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.sent += written;
                    self.recovered();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.failed(&error),
            }
        }
        self.metrics.written.add(self.records);
        self.records = 0;
        self.pending.clear();
        self.sent = 0;
        true
    }

    fn open(&mut self, why: &'static str) {
        match Sink::open(&self.config.to) {
            Ok(sink) => {
                self.sink = Some(sink);
                self.rotate_after = None;
                events::access_log_reopened(&self.target(), why);
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Opens anew what the configuration names now.
    fn reopen(&mut self, why: &'static str) {
        // A line that was cut goes to the new sink from its start.
        let written = self.pending.get(..self.sent).unwrap_or_default();
        let whole = memchr::memrchr(b'\n', written).map_or(0, |at| at + 1);
        self.pending.drain(..whole);
        self.sent = 0;
        self.not_before = None;
        self.sink = None;
        self.open(why);
    }

    fn failed(&mut self, error: &io::Error) {
        let first = self.failures == 0;
        self.failures += 1;
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSES.1);
        events::access_log_failing(&self.metrics, &self.target(), first, error);
    }

    fn recovered(&mut self) {
        // It may be the sink that had the name before that failed.
        if self.failures > 0 || self.metrics.delivery_fails() {
            events::access_log_recovered(&self.metrics, &self.target(), self.failures);
            self.failures = 0;
            self.pause = PAUSES.0;
            self.not_before = None;
        }
    }

    /// Answers flushes once nothing is left; a failing sink leaves them waiting until their deadline.
    fn acknowledge(&mut self) {
        if self.pending.is_empty() {
            for done in self.flushes.drain(..) {
                // The asker may have gone at its deadline.
                let _gone = done.try_send(());
            }
        }
    }

    /// One last try, then what is left is counted as lost.
    fn end(&mut self) {
        self.not_before = None;
        self.drain();
        let waiting = self.queue.try_iter().count() as u64;
        self.lose(waiting + self.records);
    }

    fn lose(&mut self, records: u64) {
        self.metrics.drop_records(LogDrop::Ending, records);
        self.losses.look(self.config.name.as_str(), &self.metrics);
    }

    fn target(&self) -> String {
        match &self.config.to {
            Destination::File(file) => file.path.display().to_string(),
            other => other.as_str().to_owned(),
        }
    }
}
