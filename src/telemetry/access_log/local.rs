//! A sink of this machine, standard output or a file, with a bounded queue and a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::writer::Writer;
use super::{Consumer, Room, Waiting};
use crate::config;
use crate::config::sink::Select;
use crate::telemetry::metrics::{LogDrop, LogMetrics};
use crate::telemetry::record::Record;
use crate::telemetry::redact::Redactor;
use crate::telemetry::select;

/// A sink of this machine. Dropping it and its consumer ends its thread once what waits is written or cannot be.
#[derive(Debug)]
pub struct Local {
    orders: SyncSender<Order>,
    intake: Arc<Intake>,
}

/// The end that the access log sees.
#[derive(Debug)]
struct Intake {
    queue: SyncSender<Waiting>,
    room: Arc<Room>,
    thread: Thread,
    select: ArcSwap<Select>,
    metrics: Arc<LogMetrics>,
}

/// What the thread is told.
pub(super) enum Order {
    Reopen,
    Reconfigure(Box<(config::Sink, Redactor)>),
    Flush(SyncSender<()>),
}

/// Orders that may wait: a reload or a signal now and then.
const ORDERS: usize = 64;

impl Local {
    /// Starts the thread. A file that cannot be opened is not an error here: it is told as an event and tried again.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(config: config::Sink, redactor: Redactor, metrics: Arc<LogMetrics>) -> io::Result<Self> {
        let (orders, from) = sync_channel(ORDERS);
        let (queue, records) = sync_channel(config.queue.max(1));
        let select = ArcSwap::from_pointee(config.select.clone());
        let room = Arc::new(Room::new(config.queue_memory));
        let writer = Writer::new(config, redactor, Arc::clone(&metrics), records, Arc::clone(&room));
        let thread = thread::Builder::new().name("log-local".to_owned()).spawn(move || writer.run(&from))?;
        let intake = Arc::new(Intake { queue, room, thread: thread.thread().clone(), select, metrics });
        Ok(Self { orders, intake })
    }

    /// The end for the access log.
    pub fn consumer(&self) -> Arc<dyn Consumer> {
        Arc::clone(&self.intake) as _
    }

    /// Opens the file anew, for a rotation by others (SIGUSR1). Records in flight go to the new file.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Uses other settings once the thread has heard of them ([`Local::flush`] waits for it). The length of the queue
    /// and its memory need another one.
    pub fn reconfigure(&self, config: config::Sink, redactor: Redactor) {
        self.intake.select.store(Arc::new(config.select.clone()));
        self.order(Order::Reconfigure(Box::new((config, redactor))));
    }

    /// Writes everything taken before the call; gives whether that was done within `deadline`. Blocks. What the sink has
    /// not taken by then is lost when the process ends.
    pub fn flush(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let (done, wait) = sync_channel(1);
        self.order(Order::Flush(done));
        wait.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }

    fn order(&self, order: Order) {
        // A full queue of orders means a sink that has blocked for long; the order is lost with it, not the caller.
        if self.orders.try_send(order).is_ok() {
            self.intake.thread.unpark();
        }
    }
}

impl Consumer for Intake {
    fn take(&self, record: &Arc<Record>) {
        if !select::wants(&self.select.load(), record) {
            return;
        }
        let Some(waiting) = self.room.admit(record) else {
            return self.metrics.drop_record(LogDrop::SinkFull);
        };
        let (cause, lost) = match self.queue.try_send(waiting) {
            Ok(()) => return,
            Err(TrySendError::Full(lost)) => (LogDrop::SinkFull, lost),
            Err(TrySendError::Disconnected(lost)) => (LogDrop::Ending, lost),
        };
        self.room.release(lost);
        self.metrics.drop_record(cause);
    }

    fn pause(&self) {
        self.thread.unpark();
    }
}
