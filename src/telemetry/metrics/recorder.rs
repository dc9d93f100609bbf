//! What the flight recorder counts.
//!
//! Floor 2. Written on the access log's thread alone, so that one shared counter does.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;

use super::cells::Count;
use super::encode::family;
use super::families as f;
use crate::telemetry::recorder::Kind;

/// The flight recorder.
#[derive(Debug, Default)]
pub struct RecorderMetrics {
    kinds: [OfKind; Kind::ALL.len()],
    followers: AtomicU64,
    /// Records that a follower was too slow for.
    pub missed: Count,
}

#[derive(Debug, Default)]
struct OfKind {
    kept: Count,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl RecorderMetrics {
    /// A record was kept.
    pub fn kept(&self, kind: Kind) {
        if let Some(of) = self.kinds.get(kind as usize) {
            of.kept.inc();
        }
    }

    /// So many are held now, of so many bytes.
    pub fn held(&self, kind: Kind, records: usize, bytes: u64) {
        if let Some(of) = self.kinds.get(kind as usize) {
            of.records.store(records as u64, Ordering::Relaxed);
            of.bytes.store(bytes, Ordering::Relaxed);
        }
    }

    /// So many follow now.
    pub fn following(&self, followers: usize) {
        self.followers.store(followers as u64, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kinds = || Kind::ALL.iter().map(|kind| kind.as_str()).zip(&self.kinds);
        family(encoder, &f::RECORDER_RECORDS, |samples| {
            kinds().try_for_each(|(kind, of)| samples.counter(&[kind], of.kept.get()))
        })?;
        family(encoder, &f::RECORDER_HELD, |samples| {
            kinds().try_for_each(|(kind, of)| samples.gauge(&[kind], of.records.load(Ordering::Relaxed)))
        })?;
        family(encoder, &f::RECORDER_MEMORY, |samples| {
            kinds().try_for_each(|(kind, of)| samples.gauge(&[kind], of.bytes.load(Ordering::Relaxed)))
        })?;
        family(encoder, &f::FOLLOWERS, |samples| samples.gauge(&[], self.followers.load(Ordering::Relaxed)))?;
        family(encoder, &f::FOLLOWERS_MISSED, |samples| samples.counter(&[], self.missed.get()))
    }
}
