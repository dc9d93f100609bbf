//! What was, for the charts: a bounded ring of samples, one a second for ten minutes and one a minute for six hours.
//!
//! Part of `admin::dashboard`, pure: `now` is an argument. A sample holds differences of counters and the gauges of its
//! moment, 300 bytes and 16 for each cause of errors; both rings together stay below 1 MiB, whatever the load. What is kept of single endpoints
//! and pools is bounded by [`ENDPOINTS`] and [`POOLS`].

use std::collections::{BTreeMap, VecDeque};

use super::chronicle::Track;
use crate::admin::Status;
use crate::lexicon::{EndpointName, PoolName};
use crate::telemetry::metrics::{BUCKET_BOUNDS, Buckets, Classes, Glance};

/// Seconds that the short ring reaches back.
pub(super) const SECONDS: usize = 600;

/// Minutes that the long ring reaches back.
pub(super) const MINUTES: usize = 360;

/// Endpoints whose past is kept, those of the first pools first: about 1.5 KiB each.
pub(super) const ENDPOINTS: usize = 1_024;

/// Pools whose percentiles are kept: about 12 KiB each.
pub(super) const POOLS: usize = 256;

/// Seconds over which rates of the present are taken.
pub(super) const RATE: usize = 10;

/// Seconds over which percentiles of the present are taken, so that a quiet pool has some.
const PERCENTILES: usize = 60;

/// One second, or one minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// Length in milliseconds.
    pub(super) spans: u64,
    /// Exchanges by status class.
    pub(super) answers: Classes,
    /// Durations of exchanges with pools.
    pub(super) durations: Buckets,
    /// Faults by code, those that happened.
    pub(super) faults: Vec<(&'static str, u64)>,
    /// Content bytes to clients.
    pub(super) bytes_out: u64,
    /// The most there was at the moment of a sample.
    pub(super) in_flight: u64,
    /// Likewise.
    pub(super) queued: u64,
    /// Likewise.
    pub(super) tunnels: u64,
}

/// What is kept of one pool.
#[derive(Debug, Default)]
struct PoolPast {
    before: (Classes, Buckets),
    seconds: VecDeque<(Classes, Buckets)>,
}

/// What is kept of one endpoint.
#[derive(Debug)]
struct EndpointPast {
    /// Exchanges and 5xx answers so far, at the last samples.
    counts: VecDeque<(u64, u64)>,
    track: Track,
}

impl EndpointPast {
    /// One that had these counts at the sample before.
    fn since(counts: (u64, u64)) -> Self {
        Self { counts: VecDeque::from([counts]), track: Track::default() }
    }
}

/// A pool's present.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PoolNow {
    pub(super) per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) durations: Buckets,
}

/// The past.
#[derive(Debug, Default)]
pub(super) struct History {
    last_at: u64,
    before: Glance,
    seconds: VecDeque<Sample>,
    minutes: VecDeque<Sample>,
    /// The minute that is not over, and its seconds so far.
    minute: (Sample, usize),
    pools: BTreeMap<PoolName, PoolPast>,
    endpoints: BTreeMap<(PoolName, EndpointName), EndpointPast>,
    ticks: u64,
}

impl History {
    /// Takes a sample at `now`, in milliseconds since any fixed point.
    pub(super) fn take(&mut self, now: u64, status: &Status, glance: Glance) {
        let spans = if self.ticks == 0 { 1_000 } else { now.saturating_sub(self.last_at).max(1) };
        let sample = Sample::between(&self.before, &glance, status, spans);
        self.note_pools(&glance);
        self.note_endpoints(now, status);
        let (minute, seconds) = &mut self.minute;
        minute.add(&sample);
        *seconds += 1;
        if *seconds == 60 {
            push(&mut self.minutes, std::mem::take(minute), MINUTES);
            *seconds = 0;
        }
        push(&mut self.seconds, sample, SECONDS);
        (self.last_at, self.before, self.ticks) = (now, glance, self.ticks + 1);
    }

    /// The time of the last sample.
    pub(super) const fn last_at(&self) -> u64 {
        self.last_at
    }

    /// Counts so far.
    pub(super) const fn totals(&self) -> &Glance {
        &self.before
    }

    /// The last `seconds` as one.
    pub(super) fn lately(&self, seconds: usize) -> Sample {
        sum(self.seconds.iter().rev().take(seconds))
    }

    /// The last ten minutes, oldest first, so many samples in one. Groups hold their members from one look to the next,
    /// so that a chart moves and does not flicker.
    pub(super) fn short(&self, group: usize) -> Vec<Sample> {
        grouped(&self.seconds, group, self.ticks)
    }

    /// The last six hours, oldest first.
    pub(super) fn long(&self, group: usize) -> Vec<Sample> {
        grouped(&self.minutes, group, self.ticks / 60)
    }

    /// A pool's present.
    pub(super) fn pool(&self, name: &PoolName) -> PoolNow {
        let Some(past) = self.pools.get(name) else { return PoolNow::default() };
        let mut durations = Buckets::default();
        for (_, seconds) in past.seconds.iter().rev().take(PERCENTILES) {
            add(&mut durations, seconds);
        }
        let recent = past.seconds.iter().rev().take(RATE);
        let (exchanges, errors) = recent.clone().fold((0_u64, 0_u64), |(all, errors), (answers, _)| {
            (all + answers.iter().sum::<u64>(), errors + answers.last().copied().unwrap_or(0))
        });
        let length = recent.count();
        PoolNow { per_second: per(exchanges, length), errors_per_second: per(errors, length), durations }
    }

    /// An endpoint's exchanges and 5xx answers a second, and what became of it.
    pub(super) fn endpoint(&self, pool: &PoolName, name: &EndpointName) -> (f64, f64, Option<&Track>) {
        let Some(past) = self.endpoints.get(&(pool.clone(), name.clone())) else { return (0.0, 0.0, None) };
        let (Some(first), Some(last)) = (past.counts.front(), past.counts.back()) else {
            return (0.0, 0.0, Some(&past.track));
        };
        let length = past.counts.len() - 1;
        let more = |last: u64, first: u64| per(last.saturating_sub(first), length);
        (more(last.0, first.0), more(last.1, first.1), Some(&past.track))
    }

    fn note_pools(&mut self, glance: &Glance) {
        self.pools.retain(|name, _| glance.pools.iter().any(|pool| pool.name == *name));
        for pool in &glance.pools {
            if self.pools.len() >= POOLS && !self.pools.contains_key(&pool.name) {
                continue;
            }
            let past = self.pools.entry(pool.name.clone()).or_default();
            let (answers, durations) = &past.before;
            push(&mut past.seconds, (less(&pool.answers, answers), less(&pool.durations, durations)), PERCENTILES);
            past.before = (pool.answers, pool.durations);
        }
    }

    fn note_endpoints(&mut self, now: u64, status: &Status) {
        let all = status.pools.iter().flat_map(|pool| pool.endpoints.iter().map(|endpoint| (&pool.name, endpoint)));
        let mut kept = std::mem::take(&mut self.endpoints);
        // Who was not there at the sample before has begun to count since, or was beyond the bound.
        let all_were_kept = kept.len() < ENDPOINTS;
        for (pool, endpoint) in all.take(ENDPOINTS) {
            let key = (pool.clone(), endpoint.name.clone());
            let counts = (endpoint.counts.exchanges, endpoint.counts.server_errors);
            let began = if all_were_kept { (0, 0) } else { counts };
            let mut past = kept.remove(&key).unwrap_or_else(|| EndpointPast::since(began));
            push(&mut past.counts, counts, RATE + 1);
            past.track.note(now, endpoint);
            self.endpoints.insert(key, past);
        }
    }
}

impl Sample {
    fn between(before: &Glance, after: &Glance, status: &Status, spans: u64) -> Self {
        let endpoints = || status.pools.iter().flat_map(|pool| &pool.endpoints);
        let mut durations = Buckets::default();
        for pool in &after.pools {
            // A pool that was there before and is a new one now begins at zero.
            match before.pools.iter().find(|earlier| earlier.name == pool.name) {
                Some(earlier) => add(&mut durations, &less(&pool.durations, &earlier.durations)),
                None => add(&mut durations, &pool.durations),
            }
        }
        let faults = after.faults.iter().map(|(code, count)| {
            let earlier = before.faults.get(code).copied().unwrap_or(0);
            (*code, count.saturating_sub(earlier))
        });
        Self {
            spans,
            answers: less(&after.answers, &before.answers),
            durations,
            faults: faults.filter(|(_, count)| *count > 0).collect(),
            bytes_out: after.bytes_out.saturating_sub(before.bytes_out),
            in_flight: endpoints().map(|endpoint| endpoint.in_flight).sum(),
            queued: status.pools.iter().map(|pool| pool.queue_length).sum(),
            tunnels: endpoints().map(|endpoint| endpoint.tunnels).sum(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.spans += other.spans;
        add(&mut self.answers, &other.answers);
        add(&mut self.durations, &other.durations);
        for (code, count) in &other.faults {
            match self.faults.iter_mut().find(|(known, _)| known == code) {
                Some((_, sum)) => *sum += count,
                None => self.faults.push((code, *count)),
            }
        }
        self.bytes_out += other.bytes_out;
        self.in_flight = self.in_flight.max(other.in_flight);
        self.queued = self.queued.max(other.queued);
        self.tunnels = self.tunnels.max(other.tunnels);
    }

    /// So much of it in a second.
    pub(super) fn rate(&self, count: u64) -> f64 {
        if self.spans == 0 { 0.0 } else { lossy(count) * 1_000.0 / lossy(self.spans) }
    }

    /// Exchanges, all together.
    pub(super) fn exchanges(&self) -> u64 {
        self.answers.iter().sum()
    }

    /// Answers with a 5xx status.
    pub(super) fn server_errors(&self) -> u64 {
        self.answers.last().copied().unwrap_or(0)
    }

    /// Faults of one code.
    pub(super) fn faults_of(&self, code: &str) -> u64 {
        self.faults.iter().find(|(known, _)| *known == code).map_or(0, |(_, count)| *count)
    }
}

/// The duration that a share of all stays below, in milliseconds, as far as buckets tell; `None` without any.
pub(super) fn percentile(buckets: &Buckets, share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = lossy(all) * share;
    let (mut below, mut floor) = (0_u64, 0_u64);
    for (count, bound) in buckets.iter().zip(BUCKET_BOUNDS) {
        if lossy(below + count) >= rank {
            // As if those of a bucket were spread evenly.
            let inside = (rank - lossy(below)).max(0.0) / lossy((*count).max(1));
            return Some((lossy(floor) + inside * lossy(bound - floor)) / 1_000.0);
        }
        (below, floor) = (below + count, *bound);
    }
    Some(lossy(floor) / 1_000.0)
}

/// Counters as the numbers that are drawn and shown.
#[expect(clippy::cast_precision_loss, reason = "nobody counts on the last digit of sixteen")]
pub(super) const fn lossy(count: u64) -> f64 {
    count as f64
}

fn per(count: u64, samples: usize) -> f64 {
    if samples == 0 { 0.0 } else { lossy(count) / lossy(samples as u64) }
}

fn less<const N: usize>(after: &[u64; N], before: &[u64; N]) -> [u64; N] {
    let mut difference = *after;
    for (value, earlier) in difference.iter_mut().zip(before) {
        *value = value.saturating_sub(*earlier);
    }
    difference
}

fn add<const N: usize>(sums: &mut [u64; N], more: &[u64; N]) {
    for (sum, value) in sums.iter_mut().zip(more) {
        *sum += value;
    }
}

fn push<T>(ring: &mut VecDeque<T>, value: T, most: usize) {
    if ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(value);
}

fn sum<'a>(samples: impl Iterator<Item = &'a Sample>) -> Sample {
    let mut all = Sample::default();
    samples.for_each(|sample| all.add(sample));
    all
}

/// Groups that begin at multiples of `group` of the number that a sample has since the start.
fn grouped(ring: &VecDeque<Sample>, group: usize, taken: u64) -> Vec<Sample> {
    let first = usize::try_from(taken.saturating_sub(ring.len() as u64)).unwrap_or(0);
    let head = (group - first % group) % group;
    let (mut groups, mut at) = (Vec::with_capacity(ring.len() / group + 2), 0);
    let mut end = if head == 0 { group } else { head };
    while at < ring.len() {
        groups.push(sum(ring.range(at..end.min(ring.len()))));
        (at, end) = (end, end + group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_where_the_buckets_say() {
        let mut buckets = Buckets::default();
        buckets[3] = 90; // 2.5 to 5 ms
        buckets[7] = 10; // 50 to 100 ms

        assert_eq!(percentile(&buckets, 0.9), Some(5.0));
        assert_eq!(percentile(&buckets, 0.95), Some(75.0));
        assert_eq!(percentile(&Buckets::default(), 0.5), None);
    }

    #[test]
    fn groups_hold_their_members_while_the_ring_moves() {
        let mut ring: VecDeque<Sample> = VecDeque::new();
        let mut before = Vec::new();
        for taken in 1..=20_u64 {
            push(&mut ring, Sample { bytes_out: 1 << taken, ..Sample::default() }, 12);
            let groups: Vec<u64> = grouped(&ring, 4, taken).iter().map(|group| group.bytes_out).collect();
            // All but the oldest, which loses members, and the youngest, which gets more.
            if let Some(whole) = before.get(1..usize::max(before.len(), 2) - 1) {
                let whole: &[u64] = whole;
                assert!(whole.iter().skip(1).all(|group| groups.contains(group)), "{whole:?} {groups:?}");
            }
            before = groups;
        }
        assert_eq!(before.len(), 3);
    }
}
