//! What all collected bodies together may hold.
//!
//! Part of `pipeline::receive`. A body has a share of the memory and one of the disk, which goes wherever the bytes go, also to
//! another thread, and is given back when it is dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::process::Process;

/// What all bodies together may hold, and do. Shared by the workers.
#[derive(Debug)]
pub struct Vault {
    pub(super) memory: Arc<Allowance>,
    pub(super) disk: Arc<Allowance>,
    pub(super) directory: PathBuf,
}

impl Vault {
    /// A vault with the bounds of `process`.
    pub fn new(process: &Process) -> Self {
        Self {
            memory: Allowance::of(process.buffer_memory),
            disk: Allowance::of(process.temp_bytes),
            directory: process.temp_dir.clone(),
        }
    }

    /// Bytes of bodies in memory.
    pub fn in_memory(&self) -> u64 {
        self.memory.used.load(Ordering::Relaxed)
    }

    /// Bytes of bodies in temporary files.
    pub fn on_disk(&self) -> u64 {
        self.disk.used.load(Ordering::Relaxed)
    }
}

/// A bound, in bytes, and what is taken of it.
#[derive(Debug)]
pub(super) struct Allowance {
    most: u64,
    used: AtomicU64,
}

impl Allowance {
    pub(super) fn of(most: u64) -> Arc<Self> {
        Arc::new(Self { most, used: AtomicU64::new(0) })
    }

    /// A share, of nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { of: Arc::clone(self), bytes: 0 }
    }
}

/// What one body has of an allowance.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Allowance>,
    bytes: u64,
}

impl Share {
    /// Takes `bytes` more, if as many are left.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.of.most);
        let grown = self.of.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        self.bytes += if grown { bytes } else { 0 };
        grown
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of it, so that nothing is left here.
    pub(super) fn take(&mut self) -> Self {
        Self { of: Arc::clone(&self.of), bytes: std::mem::take(&mut self.bytes) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
