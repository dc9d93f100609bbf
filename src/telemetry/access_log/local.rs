//! A sink of this machine, standard output or a file: a bounded queue of lines, and a thread that writes them.
//!
//! Floor 2. A line is made where the record comes by, while its pieces are in the cache, and the record is let go. What the
//! sink is told, to open its file anew or to use other settings, stands in the queue between the lines, so that each line
//! goes by what held when it was made.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::Consumer;
use super::lines::{Added, Order, Queue};
use super::writer::Writer;
use crate::config;
use crate::telemetry::metrics::{LogDrop, LogMetrics};
use crate::telemetry::record::Record;
use crate::telemetry::redact::Redactor;

/// A sink of this machine. Dropping it and its consumer ends its thread once what waits is written or cannot be.
#[derive(Debug)]
pub struct Local {
    intake: Arc<Intake>,
}

/// The end that the access log sees.
#[derive(Debug)]
struct Intake {
    queue: Arc<Queue>,
    thread: Thread,
    metrics: Arc<LogMetrics>,
}

impl Local {
    /// Starts the thread. A file that cannot be opened is not an error here: it is told as an event and tried again.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(config: config::Sink, redactor: Redactor, metrics: Arc<LogMetrics>) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(&config, redactor));
        let writer = Writer::new(config, Arc::clone(&metrics), Arc::clone(&queue));
        let thread = thread::Builder::new().name("log-local".to_owned()).spawn(move || writer.run())?;
        Ok(Self { intake: Arc::new(Intake { queue, thread: thread.thread().clone(), metrics }) })
    }

    /// The end for the access log.
    pub fn consumer(&self) -> Arc<dyn Consumer> {
        Arc::clone(&self.intake) as _
    }

    /// Opens the file anew, for a rotation by others (SIGUSR1).
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Uses other settings for what comes from now on. The length of the queue and its memory need another sink.
    pub fn reconfigure(&self, config: config::Sink, redactor: Redactor) {
        self.intake.queue.reconfigure(config, redactor);
        self.intake.thread.unpark();
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
        self.intake.queue.order(order);
        self.intake.thread.unpark();
    }
}

impl Consumer for Intake {
    fn take(&self, record: &Arc<Record>) {
        match self.queue.add(record) {
            Added::Fine => {}
            Added::Enough => self.thread.unpark(),
            Added::Full => self.metrics.drop_record(LogDrop::SinkFull),
        }
    }

    fn pause(&self) {
        // While lines come all the time, the thread looks by itself, and finds more of them.
        if self.queue.is_awaited() {
            self.thread.unpark();
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.queue.end();
        self.thread.unpark();
    }
}
