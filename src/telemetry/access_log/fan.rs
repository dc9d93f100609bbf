//! The access log's thread: workers' queues in, consumers out.
//!
//! Floor 2. It waits for nothing but records and orders, so that a worker's queue is full only when this thread gets no
//! CPU at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

use super::{Consumers, Losses, Order};
use crate::telemetry::metrics::{LogDrop, LogMetrics};
use crate::telemetry::record::{Record, RecordId};

/// Records taken from one queue before the next one has its turn.
const TURN: usize = 256;

/// Longest wait of a record for the thread to look.
const IDLE: Duration = Duration::from_millis(50);

/// Pause after a busy round, so that the next one finds a batch.
const BUSY: Duration = Duration::from_millis(5);

/// The thread's state.
pub(super) struct Fan {
    /// Records that a queue may hold.
    length: usize,
    queues: Vec<Receiver<Arc<Record>>>,
    consumers: Consumers,
    /// Whether emitters hand records over.
    on: Arc<AtomicBool>,
    metrics: Arc<LogMetrics>,
    losses: Losses,
    next: RecordId,
    flushes: Vec<SyncSender<()>>,
}

impl Fan {
    pub(super) fn new(length: usize, consumers: Consumers, on: Arc<AtomicBool>, metrics: Arc<LogMetrics>) -> Self {
        Self {
            length,
            queues: Vec::new(),
            consumers,
            on,
            metrics,
            losses: Losses::default(),
            next: RecordId::first(),
            flushes: Vec::new(),
        }
    }

    /// Runs until the access log is dropped.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let mut wait = BUSY;
        loop {
            let ending = self.obey(orders);
            let worked = self.drain();
            for done in self.flushes.drain(..) {
                // The asker may have gone at its deadline.
                let _gone = done.try_send(());
            }
            if ending {
                let waiting: usize = self.queues.iter().map(|queue| queue.try_iter().count()).sum();
                (0..waiting).for_each(|_| self.metrics.drop_record(LogDrop::Ending));
                return;
            }
            self.losses.look("-", &self.metrics);
            wait = if worked { BUSY } else { (wait * 2).min(IDLE) };
            thread::park_timeout(wait);
        }
    }

    /// Takes what has been ordered; gives whether nobody can order any more.
    fn obey(&mut self, orders: &Receiver<Order>) -> bool {
        loop {
            match orders.try_recv() {
                Ok(Order::Serve(queue)) => self.queues.push(queue),
                Ok(Order::Feed(consumers)) => {
                    // What was emitted before belongs to those that were there.
                    self.drain();
                    self.on.store(!consumers.is_empty(), Ordering::Relaxed);
                    self.consumers = consumers;
                }
                Ok(Order::Flush(done)) => self.flushes.push(done),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// Hands on what waits in the queues; gives whether there was anything.
    fn drain(&mut self) -> bool {
        let mut worked = false;
        // Once through full queues is enough: workers that never pause must not keep orders waiting.
        for _ in 0..=self.length / TURN {
            let mut round = 0;
            let (consumers, next) = (&self.consumers, &mut self.next);
            self.queues.retain(|queue| {
                for _ in 0..TURN {
                    match queue.try_recv() {
                        Ok(mut record) => {
                            // Nobody else has it yet.
                            if let Some(record) = Arc::get_mut(&mut record) {
                                record.id = next.take();
                            }
                            consumers.iter().for_each(|consumer| consumer.take(&record));
                        }
                        Err(TryRecvError::Empty) => return true,
                        Err(TryRecvError::Disconnected) => return false,
                    }
                    round += 1;
                }
                true
            });
            if round == 0 {
                break;
            }
            worked = true;
        }
        if worked {
            self.consumers.iter().for_each(|consumer| consumer.pause());
        }
        worked
    }
}
