//! `[recorder]`: what of the exchanges is kept in memory, to be asked for by request id.

use std::time::Duration;

use super::sink::{Anonymise, Sink};

/// What is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recorder {
    /// Records of each kind. Default 1,000; 0 keeps none, and nothing can be looked up or followed.
    pub records: usize,
    /// Bytes that records of all kinds may take, an equal part for each. Default 16 MiB.
    pub memory: u64,
    /// Duration from which an exchange counts as slow. Default 2 s.
    pub slow: Duration,
    /// Of how many exchanges that are neither wrong nor slow one is kept. Default 100; 0 keeps none.
    pub sample: u64,
    /// Records that may wait for each of those who follow; more are dropped, and counted. Default 1,024.
    pub queue: usize,
    /// How much is told of a client's address. Default: as little as the sink that tells least.
    pub anonymise: Option<Anonymise>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            records: 1_000,
            memory: 16 << 20,
            slow: Duration::from_secs(2),
            sample: 100,
            queue: 1_024,
            anonymise: None,
        }
    }
}

/// As much of an address as every one of `sinks` may be told; `None` for all of it.
pub(super) fn told_by_all(sinks: &[Sink]) -> Option<Anonymise> {
    sinks.iter().filter_map(|sink| sink.anonymise).reduce(|one, other| Anonymise {
        ipv4_prefix: one.ipv4_prefix.min(other.ipv4_prefix),
        ipv6_prefix: one.ipv6_prefix.min(other.ipv6_prefix),
    })
}
