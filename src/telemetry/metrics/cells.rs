//! The numbers behind the metrics: plain relaxed atomics, one set for each worker.
//!
//! Floor 2. A worker adds to its own shard, so that counting an exchange never bounces a cache line between cores; a
//! scrape sums the shards. Deliberately absent: names and labels; they are in the table of families.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Cause;
use super::exemplar::Exemplar;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Says which worker the present thread is, from 0; called once when a worker's thread starts.
///
/// Threads that never call it share the first worker's shard, which is correct and only slower.
pub fn set_worker(index: usize) {
    SHARD.set(index);
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `by` more.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One `T` for each worker.
#[derive(Debug)]
pub(super) struct Shards<T> {
    first: Padded<T>,
    rest: Box<[Padded<T>]>,
}

/// Two cache lines, as the prefetcher of x86 fetches pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Shards<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self { first: Padded::default(), rest: (1..workers).map(|_| Padded::default()).collect() }
    }

    /// The present worker's.
    pub(super) fn mine(&self) -> &T {
        match SHARD.get().checked_sub(1).and_then(|index| self.rest.get(index)) {
            Some(shard) => &shard.0,
            None => &self.first.0,
        }
    }

    pub(super) fn each(&self, mut with: impl FnMut(&T)) {
        with(&self.first.0);
        self.rest.iter().for_each(|shard| with(&shard.0));
    }

    pub(super) fn sum(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.rest.iter().fold(of(&self.first.0), |sum, shard| sum.wrapping_add(of(&shard.0)))
    }
}

/// Status classes as label values; the first stands for "the client was gone before".
pub(super) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Exchanges by status class.
#[derive(Debug, Default)]
pub(super) struct Statuses([Count; CLASSES.len()]);

impl Statuses {
    pub(super) fn inc(&self, status: Option<u16>) {
        let class = usize::from(status.map_or(0, |status| status / 100));
        if let Some(count) = self.0.get(class).or_else(|| self.0.first()) {
            count.inc();
        }
    }

    pub(super) fn get(&self, class: usize) -> u64 {
        self.0.get(class).map_or(0, Count::get)
    }
}

/// Counts by a cause out of a closed list.
#[derive(Debug)]
pub(super) struct Causes<C> {
    counts: Box<[Count]>,
    of: PhantomData<C>,
}

impl<C: Cause> Default for Causes<C> {
    fn default() -> Self {
        Self { counts: C::ALL.iter().map(|_| Count::default()).collect(), of: PhantomData }
    }
}

impl<C: Cause> Causes<C> {
    pub(super) fn inc(&self, cause: C) {
        if let Some(count) = self.counts.get(cause.index()) {
            count.inc();
        }
    }

    pub(super) fn add(&self, cause: C, more: u64) {
        if let Some(count) = self.counts.get(cause.index()) {
            count.add(more);
        }
    }

    pub(super) fn get(&self, cause: C) -> u64 {
        self.counts.get(cause.index()).map_or(0, Count::get)
    }
}

/// Upper bounds of the buckets in microseconds: half a millisecond (a static file) to five minutes (a slow chart).
pub(super) const BOUNDS: [u64; 18] = [
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
];

/// The bucket that a duration belongs to.
pub(super) fn bucket_of(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    BOUNDS.partition_point(|bound| *bound < micros)
}

/// A histogram of durations. The crate's own takes a lock for each observation.
#[derive(Debug, Default)]
pub(super) struct Durations {
    buckets: [Count; BOUNDS.len()],
    beyond: Count,
    sum_micros: Count,
}

impl Durations {
    pub(super) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets.get(bucket_of(duration)).unwrap_or(&self.beyond).inc();
        self.sum_micros.add(micros);
    }

    /// The buckets, what is beyond the last bound included.
    pub(super) fn cells(&self) -> impl Iterator<Item = &Count> {
        self.buckets.iter().chain([&self.beyond])
    }
}

/// A histogram as a scrape sees it: seconds, and (bound, count) not accumulated.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub(super) sum: f64,
    pub(super) count: u64,
    pub(super) buckets: Vec<(f64, u64)>,
    /// Sampled exchanges that are in it.
    pub(super) exemplars: Vec<Exemplar>,
}

impl Histogram {
    pub(super) fn of<T: Default>(shards: &Shards<T>, durations: impl Fn(&T) -> &Durations) -> Self {
        let mut buckets = Vec::with_capacity(BOUNDS.len() + 1);
        for (index, bound) in BOUNDS.iter().enumerate() {
            let count = shards.sum(|shard| durations(shard).buckets.get(index).map_or(0, Count::get));
            buckets.push((Duration::from_micros(*bound).as_secs_f64(), count));
        }
        buckets.push((f64::INFINITY, shards.sum(|shard| durations(shard).beyond.get())));
        let sum = Duration::from_micros(shards.sum(|shard| durations(shard).sum_micros.get())).as_secs_f64();
        Self { sum, count: buckets.iter().map(|(_, count)| count).sum(), buckets, exemplars: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_all_workers_are_summed() {
        let shards = Shards::<Count>::new(3);
        std::thread::scope(|scope| {
            for worker in 0..5 {
                let shards = &shards;
                scope.spawn(move || {
                    set_worker(worker);
                    for _ in 0..1000 {
                        shards.mine().inc();
                    }
                });
            }
        });

        assert_eq!(shards.sum(Count::get), 5000);
    }

    #[test]
    fn duration_on_a_bound_belongs_to_its_bucket() {
        let shards = Shards::<Durations>::new(1);
        shards.mine().observe(Duration::from_micros(1_000));
        shards.mine().observe(Duration::from_micros(1_001));
        shards.mine().observe(Duration::from_secs(1_000));

        let histogram = Histogram::of(&shards, |durations| durations);

        assert_eq!(histogram.count, 3);
        assert_eq!(histogram.buckets[1], (0.001, 1));
        assert_eq!(histogram.buckets[2], (0.0025, 1));
        assert_eq!(histogram.buckets.last(), Some(&(f64::INFINITY, 1)));
    }
}
