//! The flight recorder: recent records kept in memory, and those who follow records as they come.
//!
//! Floor 2. In: every record, on the access log's thread. Out: what is asked for by request id, or of late. Four rings
//! of one size, errors, refusals, slow exchanges and a sample of the rest, so that a flood of one kind pushes out
//! nothing of another. What is kept is copied: a piece of a request would keep alive the whole buffer that it was read
//! into. Where addresses are to be anonymised they are so before anything is kept or followed. Deliberately absent: other
//! redaction, which belongs to whoever shows a record, and disks.

mod ring;

use std::cmp::Reverse;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access_log::Consumer;
use super::metrics::RecorderMetrics;
use super::record::{Kind as About, Record, Who};
use super::redact::Redactor;
use crate::config;
use ring::Ring;

/// Why a record is kept.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// It ended with a status of 500 and above, or was broken off by an endpoint or the proxy.
    Error,
    /// The proxy turned the client away.
    Refused,
    /// It took long.
    Slow,
    /// It stands for many of its like.
    Sample,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Error, Self::Refused, Self::Slow, Self::Sample];

    /// The word used in answers and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Refused => "refused",
            Self::Slow => "slow",
            Self::Sample => "sample",
        }
    }

    /// What `record` is, where a duration from `slow` on is a long one.
    pub fn of(record: &Record, slow: Duration) -> Self {
        let status = record.status.unwrap_or(0);
        let broken = record.fault.is_some() || matches!(record.end.who, Who::Upstream | Who::Proxy);
        if status >= 500 {
            Self::Error
        } else if broken && (status >= 400 || record.status.is_none()) {
            Self::Refused
        } else if broken {
            // The head was well, and what followed broke off.
            Self::Error
        } else if record.stages.total >= slow && record.kind != About::TunnelEnd {
            Self::Slow
        } else {
            Self::Sample
        }
    }
}

/// Sees records as they come.
pub trait Follower: fmt::Debug + Send + Sync {
    /// One record. Must not block. Says whether it wants more.
    fn follow(&self, record: &Arc<Record>) -> bool;

    /// Whether it wants no more. One that left is forgotten with the next record, or when another one comes.
    fn has_left(&self) -> bool;
}

/// Keeps records and hands them to followers.
#[derive(Debug)]
pub struct Recorder {
    settings: Mutex<config::Recorder>,
    /// The settings' `slow` in nanoseconds and `sample`, read for each record.
    slow: AtomicU64,
    sample: AtomicU64,
    /// Exchanges that were neither wrong nor slow.
    well: AtomicU64,
    rings: Mutex<[Ring; Kind::ALL.len()]>,
    followers: Mutex<Vec<Arc<dyn Follower>>>,
    following: AtomicUsize,
    metrics: Arc<RecorderMetrics>,
}

impl Recorder {
    /// An empty one.
    pub fn new(settings: config::Recorder, metrics: Arc<RecorderMetrics>) -> Self {
        let new = Self {
            settings: Mutex::new(settings),
            slow: AtomicU64::new(0),
            sample: AtomicU64::new(0),
            well: AtomicU64::new(0),
            rings: Mutex::default(),
            followers: Mutex::default(),
            following: AtomicUsize::new(0),
            metrics,
        };
        new.reconfigure(settings);
        new
    }

    /// Uses other settings. What is beyond them now is let go.
    pub fn reconfigure(&self, settings: config::Recorder) {
        *lock(&self.settings) = settings;
        let slow = u64::try_from(settings.slow.as_nanos()).unwrap_or(u64::MAX);
        self.slow.store(slow, Ordering::Relaxed);
        self.sample.store(if settings.records == 0 { 0 } else { settings.sample }, Ordering::Relaxed);
        let mut rings = lock(&self.rings);
        for (kind, ring) in Kind::ALL.into_iter().zip(rings.iter_mut()) {
            ring.limit(settings.records, settings.memory / Kind::ALL.len() as u64);
            self.metrics.held(kind, ring.len(), ring.bytes());
        }
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        lock(&self.settings).records > 0
    }

    /// Records that may wait for a follower.
    pub fn queue(&self) -> usize {
        lock(&self.settings).queue
    }

    /// All records of this request id, the newest first: a tunnel has two, and a client may use an id again.
    pub fn find(&self, request_id: &[u8]) -> Vec<(Kind, Arc<Record>)> {
        self.recent(usize::MAX, |_, record| record.request_id.as_bytes() == request_id)
    }

    /// At most `most` of the newest records that `wanted` wants, the newest first.
    pub fn recent(&self, most: usize, wanted: impl Fn(Kind, &Record) -> bool) -> Vec<(Kind, Arc<Record>)> {
        let rings = lock(&self.rings);
        let mut found: Vec<(Kind, Arc<Record>)> = Vec::new();
        for (kind, ring) in Kind::ALL.into_iter().zip(rings.iter()) {
            found.extend(
                ring.newest().filter(|record| wanted(kind, record)).take(most).map(|one| (kind, Arc::clone(one))),
            );
        }
        drop(rings);
        found.sort_by_key(|(_, record)| Reverse(record.id));
        found.truncate(most);
        found
    }

    /// Hands every record to `follower` from now on, until it wants no more.
    pub fn admit(&self, follower: Arc<dyn Follower>) {
        let mut followers = lock(&self.followers);
        // Where no record comes, nobody else would notice that they are gone.
        followers.retain(|follower| !follower.has_left());
        followers.push(follower);
        self.count(followers.len());
    }

    fn count(&self, followers: usize) {
        self.following.store(followers, Ordering::Relaxed);
        self.metrics.following(followers);
    }

    fn hand_on(&self, record: &Arc<Record>) {
        let mut followers = lock(&self.followers);
        let before = followers.len();
        followers.retain(|follower| follower.follow(record));
        if followers.len() != before {
            self.count(followers.len());
        }
    }

    /// A copy with as much of the client's address as may be told, unless that is all of it.
    fn told(&self, record: &Record) -> Option<Record> {
        let anonymise = lock(&self.settings).anonymise?;
        let mut told = record.detached();
        told.client.set_ip(Redactor::default().with_prefix(Some(anonymise)).client(record.client.ip()));
        Some(told)
    }

    fn is_kept(&self, kind: Kind) -> bool {
        if kind != Kind::Sample {
            return true;
        }
        let sample = self.sample.load(Ordering::Relaxed);
        sample > 0 && self.well.fetch_add(1, Ordering::Relaxed).is_multiple_of(sample)
    }
}

impl Consumer for Recorder {
    fn take(&self, record: &Arc<Record>) {
        if self.following.load(Ordering::Relaxed) > 0 {
            self.hand_on(&self.told(record).map_or_else(|| Arc::clone(record), Arc::new));
        }
        let kind = Kind::of(record, Duration::from_nanos(self.slow.load(Ordering::Relaxed)));
        if !self.is_kept(kind) {
            return;
        }
        let kept = Arc::new(self.told(record).unwrap_or_else(|| record.detached()));
        let mut rings = lock(&self.rings);
        if let Some(ring) = rings.get_mut(kind as usize) {
            ring.push(kept);
            self.metrics.kept(kind);
            self.metrics.held(kind, ring.len(), ring.bytes());
        }
    }
}

/// Nobody panics while holding one, and a ring or list is whole at every moment.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
