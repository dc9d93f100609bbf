//! A local sink's thread: lines from the queue, to where they go.
//!
//! Floor 2. Everything that can go wrong with a sink is dealt with here: what could not be written stays in the buffer and
//! counts as waiting (with so much of it that the queue is full, further records are dropped), is tried again after a pause,
//! and is carried to another sink whole, so that no line is torn in two files.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use super::lines::{Lines, Order, Piece, Queue};
use super::losses::Losses;
use super::sink::Sink;
use crate::config;
use crate::config::sink::{Destination, LogFile};
use crate::telemetry::events;
use crate::telemetry::metrics::{LogDrop, LogMetrics};

/// Bytes that are worth a write at once: one that does not begin on a page takes a file system longer, whatever its length.
pub(super) const BATCH: usize = 256 * 1024;

/// Memory that is worth keeping for the next lines.
const KEPT: usize = 4 * BATCH;

/// Longest wait for lines: the time between looks at whether the file was moved, and after a failure, between tries.
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
    metrics: Arc<LogMetrics>,
    losses: Losses,
    queue: Arc<Queue>,
    /// `None` while it cannot be opened.
    sink: Option<Sink>,
    /// Lines of which the first `sent` bytes are written.
    pending: Vec<u8>,
    sent: usize,
    records: u64,
    /// An empty buffer for the queue.
    spare: Vec<u8>,
    failures: u64,
    pause: Duration,
    not_before: Option<Instant>,
    /// When a rotation that failed may be tried again.
    rotate_after: Option<Instant>,
    looked: Instant,
    flushes: Vec<SyncSender<()>>,
}

impl Writer {
    pub(super) fn new(config: config::Sink, metrics: Arc<LogMetrics>, queue: Arc<Queue>) -> Self {
        Self {
            config,
            metrics,
            losses: Losses::default(),
            queue,
            sink: None,
            pending: Vec::new(),
            sent: 0,
            records: 0,
            spare: Vec::new(),
            failures: 0,
            pause: PAUSES.0,
            not_before: None,
            rotate_after: None,
            looked: Instant::now(),
            flushes: Vec::new(),
        }
    }

    /// Runs until the sink is dropped.
    pub(super) fn run(mut self) {
        self.open("start");
        loop {
            let (pieces, ended) = self.queue.take(mem::take(&mut self.spare));
            let idle = pieces.is_empty();
            for piece in pieces {
                match piece {
                    Piece::Lines(lines) => self.add(lines),
                    Piece::Order(order) => self.obey(order),
                }
            }
            self.look_after();
            self.write();
            self.acknowledge();
            if ended {
                return self.end();
            }
            let idle = idle && self.pending.is_empty() && self.flushes.is_empty();
            if idle {
                self.pending = Vec::new();
            }
            thread::park_timeout(if idle { IDLE } else { BUSY });
        }
    }

    fn add(&mut self, lines: Lines) {
        self.records += lines.records;
        if self.pending.is_empty() {
            self.spare = mem::replace(&mut self.pending, lines.text);
        } else {
            self.pending.extend_from_slice(&lines.text);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Reopen => {
                self.write();
                self.reopen("asked");
            }
            Order::Reconfigure(new) => self.reconfigure(*new),
            Order::Flush(done) => self.flushes.push(done),
        }
    }

    fn reconfigure(&mut self, config: config::Sink) {
        // What came before belongs to the old settings; what the old sink does not take goes to the new one.
        self.write();
        let path = |sink: &config::Sink| sink.to.file().map(|file| file.path.clone());
        let moved = path(&config) != path(&self.config);
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

    /// How many of the bytes to be written next go to this file as it is, in whole lines; it is rotated before more.
    fn fitting(&mut self) -> usize {
        let rest = self.pending.len() - self.sent;
        let limit = self.file().map_or(0, |file| file.rotate_size);
        let size = self.sink.as_ref().and_then(Sink::size).filter(|_| limit > 0);
        let Some(room) = size.map(|size| usize::try_from(limit.saturating_sub(size)).unwrap_or(usize::MAX)) else {
            return rest;
        };
        if rest <= room || !self.may_rotate() {
            return rest;
        }
        let next = self.pending.get(self.sent..).unwrap_or_default();
        if let Some(last) = memchr::memrchr(b'\n', next.get(..room).unwrap_or_default()) {
            return last + 1;
        }
        let torn = self.sent > 0 && self.pending.get(self.sent - 1) != Some(&b'\n');
        if size == Some(0) || torn {
            return memchr::memchr(b'\n', next).map_or(rest, |end| end + 1);
        }
        0
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
        if self.pending.is_empty() {
            return true;
        }
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
            let fitting = self.fitting();
            if fitting == 0 {
                self.rotate();
                continue;
            }
            let next = self.pending.get(self.sent..self.sent + fitting).unwrap_or_default();
            let Some(sink) = &mut self.sink else { return false };
            match sink.write(next) {
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
        self.queue.let_go(mem::take(&mut self.records), self.pending.len());
        if self.pending.capacity() > KEPT {
            self.pending = Vec::new();
        }
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
        self.queue.let_go(0, whole);
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
        if !self.write() {
            let left = memchr::memchr_iter(b'\n', self.pending.get(self.sent..).unwrap_or_default()).count() as u64;
            self.metrics.written.add(self.records.saturating_sub(left));
            self.metrics.drop_records(LogDrop::Ending, left);
        }
        self.losses.look(self.config.name.as_str(), &self.metrics);
    }

    fn target(&self) -> String {
        match &self.config.to {
            Destination::File(file) => file.path.display().to_string(),
            other => other.as_str().to_owned(),
        }
    }
}
