//! What has been made of records and is not known to be there yet, oldest first.
//!
//! Floor 5. In memory as long as the receiver keeps up; on disk, if there is a spool, from the first failure on, or when
//! memory is full, until all of that is delivered. What was sent and may yet turn out to be lost with its connection stays
//! until it has settled: in memory, if that is the only place where it is.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::spool::{Found, Held, Portion, Spool};
use super::unsettled::Unsettled;
use crate::config;
use crate::lexicon::SinkName;
use crate::telemetry::events;
use crate::telemetry::metrics::{LogDrop, LogMetrics};
use crate::telemetry::parcel::Entry;

pub(super) use super::unsettled::Batch;

/// Everything that is not delivered.
#[derive(Debug)]
pub(super) struct Backlog {
    sink: SinkName,
    wanted: Option<Wanted>,
    batch: config::sink::Batch,
    /// Bytes in memory beyond which more goes to the disk.
    memory: usize,
    queue: VecDeque<Batch>,
    unsettled: Unsettled,
    spool: Option<Spool>,
    /// Something older is on disk: what comes goes there, too.
    on_disk: bool,
    metrics: Arc<LogMetrics>,
}

/// The spool as it should be.
#[derive(Clone, Debug)]
struct Wanted {
    dir: PathBuf,
    kind: &'static str,
    size: u64,
    segment: u64,
}

impl Backlog {
    pub(super) fn new(sink: &config::Sink, metrics: Arc<LogMetrics>) -> Self {
        let wanted = |spool: &config::sink::Spool| Wanted {
            dir: spool.dir.join(sink.name.as_str()),
            kind: sink.to.as_str(),
            size: spool.size,
            segment: spool.segment,
        };
        let memory = sink.batch.bytes.saturating_mul(4);
        Self {
            sink: sink.name.clone(),
            wanted: sink.spool.as_ref().map(wanted),
            batch: sink.batch,
            memory,
            queue: VecDeque::new(),
            // Where there is a spool, more goes there before this is reached.
            // On disk, what has not settled keeps its place: no more than half, so that there is always room for what comes.
            unsettled: Unsettled::new(memory.saturating_mul(2), sink.spool.as_ref().map_or(0, |spool| spool.size / 2)),
            spool: None,
            on_disk: false,
            metrics,
        }
    }

    /// Whether the spool that should be there is not.
    pub(super) const fn lacks_spool(&self) -> bool {
        self.wanted.is_some() && self.spool.is_none()
    }

    /// Opens the spool that should be there. What an earlier process left is read for that, which may take a while.
    pub(super) fn opening(&self) -> Option<impl Future<Output = io::Result<(Spool, Found)>> + Send + use<>> {
        let Wanted { dir, kind, size, segment } = self.wanted.clone()?;
        Some(async move {
            let opening = tokio::task::spawn_blocking(move || Spool::open(&dir, kind, size, segment));
            opening.await.map_err(io::Error::other)?
        })
    }

    /// Uses a spool that was opened. What came meanwhile goes behind what it has.
    pub(super) async fn opened(&mut self, spool: Spool, found: &Found) -> io::Result<()> {
        self.lose(LogDrop::Foreign, found.foreign);
        self.lose(LogDrop::Damaged, found.damaged);
        self.on_disk = spool.held().entries > 0;
        self.spool = Some(spool);
        if self.on_disk { self.store(0).await } else { Ok(()) }
    }

    /// Whether memory takes more.
    pub(super) fn has_room(&self) -> bool {
        self.queued() < self.memory
    }

    /// Takes entries in.
    pub(super) async fn add(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        let before = self.queue.len();
        self.queue.push_back(Batch::of(entries));
        let full = self.queued() + self.unsettled.bytes() >= self.memory;
        match (self.on_disk, full) {
            // What is in memory alone, and older than what is on disk, stays before it.
            (true, false) => self.store(before).await,
            (_, true) => self.store(0).await,
            (false, false) => Ok(()),
        }
    }

    /// Moves what is in memory alone, behind the first `keep` batches, to the disk, behind what is there.
    async fn store(&mut self, keep: usize) -> io::Result<()> {
        if self.spool.is_none() || self.queue.iter().skip(keep).all(|batch| batch.stored) {
            return Ok(());
        }
        let (stored, fresh): (VecDeque<_>, VecDeque<_>) = self.queue.drain(keep..).partition(|batch| batch.stored);
        self.queue.extend(stored);
        let mut entries: Vec<Entry> = fresh.into_iter().flat_map(|batch| batch.entries).collect();
        let again = entries.clone();
        // Without an answer there is no spool any more, and what it had taken of them may come twice.
        let appended = self.on_spool(move |spool| spool.append(&again)).await.unwrap_or_default();
        self.on_disk |= appended.stored > 0;
        self.lose(LogDrop::SpoolFull, appended.lost);
        entries.drain(..appended.stored);
        if !entries.is_empty() {
            self.queue.push_back(Batch::of(entries));
        }
        appended.error.map_or(Ok(()), Err)
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
        let Some(read) = self.on_spool(move |spool| spool.read(records, bytes)).await else { return Ok(None) };
        match read? {
            Portion { entries, lost: 0, .. } if entries.is_empty() => Ok(None),
            read if read.entries.is_empty() => {
                // Nothing of it can be sent: it is over with.
                self.sent(Batch::read(read), Duration::ZERO).await?;
                Ok(None)
            }
            read => Ok(Some(Batch::read(read))),
        }
    }

    /// `batch` was sent; it settles after so long.
    pub(super) async fn sent(&mut self, batch: Batch, settle: Duration) -> io::Result<()> {
        self.unsettled.add(batch, settle);
        if settle.is_zero() { self.settle().await } else { Ok(()) }
    }

    /// When something settles.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.unsettled.settles_at()
    }

    /// What has settled by now is delivered.
    pub(super) async fn settle(&mut self) -> io::Result<()> {
        let mut upto = None;
        while let Some(batch) = self.unsettled.settled() {
            // Only now: before, it may all come again.
            self.metrics.written.add(batch.records.saturating_sub(batch.rejected));
            self.lose(LogDrop::Refused, batch.rejected);
            self.lose(LogDrop::Damaged, batch.lost);
            if let Some(why) = &batch.why {
                events::spool_segment_skipped(&self.metrics, self.sink.as_str(), why);
            }
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
        self.unsettled.hurry();
        self.settle().await
    }

    /// `batch` was not taken, and what has not settled may be lost: all of it is to be sent again, and waits on disk. What
    /// was in memory alone goes there behind what is there: better late than gone with the process.
    pub(super) async fn failed(&mut self, batch: Option<Batch>) -> io::Result<()> {
        let again: Vec<Batch> = self.unsettled.take().into_iter().chain(batch).collect();
        for batch in again.into_iter().rev() {
            self.queue.push_front(batch);
        }
        self.queue.retain(|batch| !batch.stored);
        if self.on_disk {
            self.on_spool(Spool::rewind).await;
        }
        self.store(0).await
    }

    /// `batch` will never be taken as it is: it is sent in halves, until it is known which entry it is.
    pub(super) async fn refused(&mut self, mut batch: Batch) -> io::Result<()> {
        if batch.entries.len() > 1 {
            let rest = batch.split();
            self.queue.push_front(rest);
            self.queue.push_front(batch);
            return Ok(());
        }
        batch.rejected = batch.records;
        self.sent(batch, Duration::ZERO).await
    }

    /// Does what shows whether the disk takes anything.
    pub(super) async fn try_spool(&mut self) -> io::Result<()> {
        self.store(0).await?;
        self.on_spool(Spool::touch).await.transpose()?;
        self.on_disk = self.held().entries > 0;
        Ok(())
    }

    /// The end: what is in memory goes to the disk, or is lost.
    pub(super) async fn end(&mut self, batch: Option<Batch>) -> io::Result<()> {
        let stored = self.failed(batch).await;
        let lost: u64 = self.queue.iter().map(|batch| batch.records).sum();
        self.lose(LogDrop::Ending, lost);
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
    pub(super) fn in_memory(&self) -> (u64, Option<u64>) {
        let fresh = || self.queue.iter().filter(|batch| !batch.stored);
        let oldest = fresh().find_map(|batch| batch.entries.first()).map(|entry| entry.at);
        (fresh().map(|batch| batch.records).sum(), oldest)
    }

    /// Bytes that wait in memory.
    fn queued(&self) -> usize {
        self.queue.iter().map(|batch| batch.bytes).sum()
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

#[cfg(test)]
mod tests;
