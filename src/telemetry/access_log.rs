//! Takes records from the workers to standard output or a file.
//!
//! Floor 2. Each worker has a bounded queue of its own; handing a record over is one allocation and a few atomics,
//! never a system call, never a wait: a full queue drops the record and counts it. One thread looks at the queues at
//! least every 50 ms, encodes and writes in batches. A sink that fails is tried again with growing pauses while
//! records wait, then drop; nothing of it reaches an exchange. Deliberately absent: shipping over a network.

mod sink;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::metrics::{LogDrop, LogMetrics};
use super::record::Record;
use super::redact::Redactor;
use crate::config;
use crate::config::process::LogTarget;
use writer::Writer;

/// The access log. Dropping the last handle ends its thread once what waits is written or cannot be.
#[derive(Debug)]
pub struct AccessLog {
    orders: SyncSender<Order>,
    thread: Thread,
    on: Arc<AtomicBool>,
    queue: usize,
    metrics: Arc<LogMetrics>,
}

/// A worker's end of the access log. Cheap to clone; clones share a queue.
#[derive(Clone, Debug)]
pub struct Emitter {
    queue: SyncSender<Box<Record>>,
    on: Arc<AtomicBool>,
    metrics: Arc<LogMetrics>,
}

/// What the thread is told.
enum Order {
    Serve(Receiver<Box<Record>>),
    Reopen,
    Reconfigure(Box<(config::AccessLog, Redactor)>),
    Flush(SyncSender<()>),
}

/// Orders that may wait: workers at start, then a reload or a signal now and then.
const ORDERS: usize = 1_024;

impl AccessLog {
    /// Starts the thread. A file that cannot be opened is not an error here: it is told as an event and tried again.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(config: config::AccessLog, redactor: Redactor, metrics: Arc<LogMetrics>) -> io::Result<Self> {
        let (orders, from) = sync_channel(ORDERS);
        let on = Arc::new(AtomicBool::new(config.target != LogTarget::Off));
        let queue = config.queue.max(1);
        let writer = Writer::new(config, redactor, Arc::clone(&metrics), Arc::clone(&on));
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&from))?;
        Ok(Self { orders, thread: thread.thread().clone(), on, queue, metrics })
    }

    /// A queue for one worker.
    pub fn worker(&self) -> Emitter {
        let (queue, from) = sync_channel(self.queue);
        self.order(Order::Serve(from));
        Emitter { queue, on: Arc::clone(&self.on), metrics: Arc::clone(&self.metrics) }
    }

    /// Opens the file anew, for a rotation by others (SIGUSR1). Records in flight go to the new file.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Uses other settings once the thread has heard of them (50 ms, or [`AccessLog::flush`] to wait for it). The length
    /// of queues that exist needs a restart.
    pub fn reconfigure(&self, config: config::AccessLog, redactor: Redactor) {
        self.order(Order::Reconfigure(Box::new((config, redactor))));
    }

    /// Writes everything emitted before the call; gives whether that was done within `deadline`. Blocks: not for a
    /// worker. What the sink has not taken by then is lost when the process ends.
    pub fn flush(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let (done, wait) = sync_channel(1);
        self.order(Order::Flush(done));
        wait.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }

    fn order(&self, order: Order) {
        // A full queue of orders means a sink that has blocked for long; the order is lost with it, not the caller.
        // `Serve` cannot meet it: workers start before anything is logged.
        if self.orders.try_send(order).is_ok() {
            self.thread.unpark();
        }
    }
}

impl Emitter {
    /// Hands a record over, or drops it and counts that. Never blocks.
    pub fn emit(&self, record: Record) {
        if !self.is_on() {
            return;
        }
        match self.queue.try_send(Box::new(record)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.metrics.drop_record(LogDrop::QueueFull),
            Err(TrySendError::Disconnected(_)) => self.metrics.drop_record(LogDrop::Ending),
        }
    }

    /// Whether records go anywhere; a caller may spare itself the filling of one.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
