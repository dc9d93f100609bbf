//! What has been made of records and is not known to be there yet, oldest first.
//!
//! Floor 5. In memory as long as the receiver keeps up; on disk, if there is a spool, from the first failure on, or when
//! memory is full, until all of that is delivered. What was sent and may yet turn out to be lost with its connection stays
//! until it has settled.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::spool::{Cursor, Found, Held, Spool};
use crate::config;
use crate::telemetry::metrics::{LogDrop, LogMetrics};
use crate::telemetry::parcel::Entry;

/// Entries that travel together.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// They are on disk.
    stored: bool,
    /// The place behind the last of them there.
    upto: Option<Cursor>,
    /// How many of them the receiver threw away.
    pub(super) rejected: u64,
}

/// Everything that is not delivered.
#[derive(Debug)]
pub(super) struct Backlog {
    wanted: Option<Wanted>,
    batch: config::sink::Batch,
    /// Bytes in memory beyond which more goes to the disk.
    memory: usize,
    queue: VecDeque<Batch>,
    unsettled: VecDeque<(Instant, Batch)>,
    spool: Option<Spool>,
    /// Something older is on disk: what comes goes there, too.
    on_disk: bool,
    metrics: Arc<LogMetrics>,
}

/// The spool as it should be.
#[derive(Debug)]
struct Wanted {
    dir: PathBuf,
    kind: &'static str,
    size: u64,
}

impl Backlog {
    pub(super) fn new(sink: &config::Sink, metrics: Arc<LogMetrics>) -> Self {
        let wanted = |spool: &config::sink::Spool| Wanted {
            dir: spool.dir.join(sink.name.as_str()),
            kind: sink.to.as_str(),
            size: spool.size,
        };
        Self {
            wanted: sink.spool.as_ref().map(wanted),
            batch: sink.batch,
            memory: sink.batch.bytes * 4,
            queue: VecDeque::new(),
            unsettled: VecDeque::new(),
            spool: None,
            on_disk: false,
            metrics,
        }
    }

    /// Whether the spool that should be there is not.
    pub(super) const fn lacks_spool(&self) -> bool {
        self.wanted.is_some() && self.spool.is_none()
    }

    /// Opens the spool, if there should be one and is none.
    pub(super) async fn open(&mut self) -> io::Result<Found> {
        let Some(Wanted { dir, kind, size }) = self.wanted.as_ref().filter(|_| self.spool.is_none()) else {
            return Ok(Found::default());
        };
        let (dir, kind, size) = (dir.clone(), *kind, *size);
        let opening = tokio::task::spawn_blocking(move || Spool::open(&dir, kind, size));
        let (spool, found) = opening.await.map_err(io::Error::other)??;
        self.lose(LogDrop::Foreign, found.foreign);
        self.on_disk = spool.held().entries > 0;
        self.spool = Some(spool);
        Ok(found)
    }

    /// Whether memory takes more.
    pub(super) fn has_room(&self) -> bool {
        self.bytes() < self.memory
    }

    /// Takes entries in.
    pub(super) async fn add(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        let before = self.queue.len();
        self.queue.push_back(Batch { entries, ..Batch::default() });
        match (self.on_disk, self.has_room()) {
            // What is in memory alone, and older than what is on disk, stays before it.
            (true, true) => self.store(before).await,
            (_, false) => self.store(0).await,
            (false, true) => Ok(()),
        }
    }

    /// Moves what is in memory alone, behind the first `keep` batches, to the disk, behind what is there.
    async fn store(&mut self, keep: usize) -> io::Result<()> {
        if self.spool.is_none() {
            return Ok(());
        }
        let (stored, fresh): (VecDeque<_>, VecDeque<_>) = self.queue.drain(keep..).partition(|batch| batch.stored);
        self.queue.extend(stored);
        let entries: Vec<Entry> = fresh.iter().flat_map(|batch| batch.entries.iter().cloned()).collect();
        match self.on_spool(move |spool| spool.append(&entries)).await {
            Some(Ok(lost)) => {
                self.on_disk = true;
                self.lose(LogDrop::SpoolFull, lost);
                Ok(())
            }
            Some(Err(error)) => {
                self.queue.extend(fresh);
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// The next batch to send.
    pub(super) async fn next(&mut self) -> io::Result<Option<Batch>> {
        if let Some(batch) = self.queue.pop_front() {
            return Ok(Some(batch));
        }
        if !self.on_disk {
            return Ok(None);
        }
        let (records, bytes) = (self.batch.records, self.batch.bytes);
        match self.on_spool(move |spool| spool.read(records, bytes)).await {
            Some(Ok((entries, cursor))) if !entries.is_empty() => {
                Ok(Some(Batch { entries, stored: true, upto: Some(cursor), rejected: 0 }))
            }
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Ok(None),
        }
    }

    /// `batch` was sent; it settles after so long.
    pub(super) async fn sent(&mut self, batch: Batch, settle: Duration) -> io::Result<()> {
        self.unsettled.push_back((Instant::now() + settle, batch));
        if settle.is_zero() { self.settle().await } else { Ok(()) }
    }

    /// When something settles.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.unsettled.front().map(|(at, _)| *at)
    }

    /// What has settled by now is delivered.
    pub(super) async fn settle(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let mut upto = None;
        while self.unsettled.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, batch)) = self.unsettled.pop_front() else { break };
            self.metrics.written.add((batch.entries.len() as u64).saturating_sub(batch.rejected));
            upto = batch.upto.max(upto);
        }
        if let Some(cursor) = upto {
            self.on_spool(move |spool| spool.commit(cursor)).await.transpose()?;
            self.on_disk = self.held().entries > 0;
        }
        Ok(())
    }

    /// Everything that was sent is delivered.
    pub(super) async fn settle_all(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.unsettled.iter_mut().for_each(|(at, _)| *at = now);
        self.settle().await
    }

    /// `batch` was not taken, and what has not settled may be lost: all of it is to be sent again, and waits on disk.
    pub(super) async fn failed(&mut self, batch: Option<Batch>) -> io::Result<()> {
        let again: Vec<Batch> = self.unsettled.drain(..).map(|(_, batch)| batch).chain(batch).collect();
        for batch in again.into_iter().rev() {
            self.queue.push_front(batch);
        }
        self.queue.retain(|batch| !batch.stored);
        if self.on_disk {
            self.on_spool(Spool::rewind).await;
            return Ok(());
        }
        self.store(0).await
    }

    /// `batch` will never be taken as it is: it is sent in halves, until it is known which entry it is.
    pub(super) async fn refused(&mut self, mut batch: Batch) -> io::Result<()> {
        if batch.entries.len() > 1 {
            let rest = batch.entries.split_off(batch.entries.len() / 2);
            self.queue.push_front(Batch { entries: rest, stored: batch.stored, upto: batch.upto, rejected: 0 });
            self.queue.push_front(Batch { upto: None, ..batch });
            return Ok(());
        }
        self.lose(LogDrop::Refused, batch.entries.len() as u64);
        batch.entries.clear();
        self.sent(batch, Duration::ZERO).await
    }

    /// The end: what is in memory goes to the disk, or is lost.
    pub(super) async fn end(&mut self, batch: Option<Batch>) -> io::Result<()> {
        let failed = self.failed(batch).await;
        let stored = match failed {
            Ok(()) => self.store(0).await,
            Err(error) => Err(error),
        };
        let lost: usize = self.queue.iter().map(|batch| batch.entries.len()).sum();
        self.lose(LogDrop::Ending, lost as u64);
        stored
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_sent(&self) -> bool {
        self.queue.is_empty() && self.spool.as_ref().is_none_or(Spool::is_read)
    }

    /// Whether something older waits on disk.
    pub(super) const fn is_on_disk(&self) -> bool {
        self.on_disk
    }

    /// What is on disk.
    pub(super) fn held(&self) -> Held {
        self.spool.as_ref().map(Spool::held).unwrap_or_default()
    }

    /// Entries in memory alone, and when the oldest was made.
    pub(super) fn in_memory(&self) -> (usize, Option<u64>) {
        let fresh = || self.queue.iter().filter(|batch| !batch.stored);
        let oldest = fresh().find_map(|batch| batch.entries.first()).map(|entry| entry.at);
        (fresh().map(|batch| batch.entries.len()).sum(), oldest)
    }

    fn bytes(&self) -> usize {
        self.queue.iter().flat_map(|batch| &batch.entries).map(|entry| entry.payload.len()).sum()
    }

    fn lose(&self, cause: LogDrop, records: u64) {
        self.metrics.drop_records(cause, records);
    }

    /// Does something with the spool on a thread that may wait for a disk.
    async fn on_spool<T: Send + 'static>(&mut self, what: impl FnOnce(&mut Spool) -> T + Send + 'static) -> Option<T> {
        let mut spool = self.spool.take()?;
        let work = tokio::task::spawn_blocking(move || {
            let done = what(&mut spool);
            (spool, done)
        });
        // An error is a panic there: the spool is opened anew.
        let (spool, done) = work.await.ok()?;
        self.spool = Some(spool);
        Some(done)
    }
}
