//! Takes records from the workers and hands each to everybody who wants records.
//!
//! Floor 2. Each worker has a bounded queue of its own; handing a record over is one allocation and a few atomics,
//! never a system call, never a wait: a full queue drops the record and counts it. One thread, the [`fan`], looks at the
//! queues at least every 50 ms, numbers each record and shows it to every [`Consumer`], of which none may block: what
//! goes over a wire or to a disk has a bounded queue and a thread of its own behind its consumer, so that a slow one
//! slows nobody. [`Local`] is the one for standard output and files. Deliberately absent: shipping over a network, which
//! is `control::shipper`.

mod fan;
mod lines;
mod local;
mod losses;
mod room;
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
use fan::Fan;
pub use local::Local;
pub use losses::Losses;
pub use room::{Room, Waiting};

/// Sees every record, on the access log's thread: must not block, and should not take long.
pub trait Consumer: Send + Sync {
    /// One record. Kept by cloning the `Arc`.
    fn take(&self, record: &Arc<Record>);

    /// No further record is at hand: whoever was given some may be woken.
    fn pause(&self) {}
}

/// The access log. Dropping the last handle ends its thread once what waits was handed on.
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
    queue: SyncSender<Arc<Record>>,
    on: Arc<AtomicBool>,
    metrics: Arc<LogMetrics>,
}

/// Everybody who wants records.
pub type Consumers = Vec<Arc<dyn Consumer>>;

/// What the thread is told.
enum Order {
    Serve(Receiver<Arc<Record>>),
    Feed(Consumers),
    Flush(SyncSender<()>),
}

/// Orders that may wait: workers at start, then a reload or a signal now and then.
const ORDERS: usize = 1_024;

impl AccessLog {
    /// Starts the thread. `queue` records may wait per worker.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(queue: usize, consumers: Consumers, metrics: Arc<LogMetrics>) -> io::Result<Self> {
        let (orders, from) = sync_channel(ORDERS);
        let on = Arc::new(AtomicBool::new(!consumers.is_empty()));
        let fan = Fan::new(queue.max(1), consumers, Arc::clone(&on), Arc::clone(&metrics));
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || fan.run(&from))?;
        Ok(Self { orders, thread: thread.thread().clone(), on, queue: queue.max(1), metrics })
    }

    /// A queue for one worker.
    pub fn worker(&self) -> Emitter {
        let (queue, from) = sync_channel(self.queue);
        self.order(Order::Serve(from));
        Emitter { queue, on: Arc::clone(&self.on), metrics: Arc::clone(&self.metrics) }
    }

    /// Hands records to these from now on. What was emitted before goes to those that had been there.
    pub fn feed(&self, consumers: Consumers) {
        self.order(Order::Feed(consumers));
    }

    /// Hands on everything emitted before the call; gives whether that was done within `deadline`. Blocks: not for a
    /// worker.
    pub fn flush(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let (done, wait) = sync_channel(1);
        self.order(Order::Flush(done));
        wait.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }

    fn order(&self, order: Order) {
        // The fan never blocks, so that there is always room.
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
        match self.queue.try_send(Arc::new(record)) {
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
