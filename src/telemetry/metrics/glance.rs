//! What was counted so far, as plain numbers: what the dashboard and `top` take differences of.
//!
//! Floor 2. Read once a second on the control runtime; costs a sum over the workers' shards and takes none of their
//! locks but those that a scrape takes. Deliberately absent: gauges, which are state, and rates, which need two looks.

use std::collections::BTreeMap;

use super::Metrics;
use super::cells::{BOUNDS, CLASSES, Count, Durations, Shards, Statuses};
use crate::lexicon::PoolName;

/// Status classes: none (the client had gone before), 1xx to 5xx.
pub type Classes = [u64; CLASSES.len()];

/// Durations by bucket; what is beyond the last bound comes last.
pub type Buckets = [u64; BOUNDS.len() + 1];

/// Upper bounds of [`Buckets`] in microseconds.
pub const BUCKET_BOUNDS: &[u64; BOUNDS.len()] = &BOUNDS;

/// Counts since the process began, or since what they are about did.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    /// Exchanges by status class.
    pub answers: Classes,
    /// Answers of the proxy itself and exchanges broken off, by reason code.
    pub faults: BTreeMap<&'static str, u64>,
    /// Content bytes from clients.
    pub bytes_in: u64,
    /// Content bytes to clients.
    pub bytes_out: u64,
    /// Pools.
    pub pools: Vec<PoolGlance>,
    /// Rules that have an action.
    pub verdicts: Vec<Verdicts>,
    /// Bans by cause.
    pub bans: BTreeMap<&'static str, u64>,
}

/// One pool's.
#[derive(Clone, Debug)]
pub struct PoolGlance {
    /// Its name.
    pub name: PoolName,
    /// Its exchanges by status class.
    pub answers: Classes,
    /// Their durations, first byte of the request to last byte of the answer.
    pub durations: Buckets,
}

/// What a rule of the shield has said.
#[derive(Clone, Debug)]
pub struct Verdicts {
    /// Its name.
    pub rule: String,
    /// What it does.
    pub action: &'static str,
    /// Requests that it was done to.
    pub enforced: u64,
    /// Requests that it would have been done to.
    pub observed: u64,
}

impl Metrics {
    /// Everything the dashboard shows a rate of.
    pub fn glance(&self) -> Glance {
        let inner = &self.0;
        let mut glance = Glance::default();
        for (_, listener) in inner.listeners.alive() {
            listener.shards.each(|shard| {
                for statuses in [&shard.http1, &shard.http2, &shard.http3] {
                    add(&mut glance.answers, statuses);
                }
                shard.faults.add_to(&mut glance.faults);
                glance.bytes_in += shard.bytes_in.get();
                glance.bytes_out += shard.bytes_out.get();
            });
        }
        inner.bans.add_to(&mut glance.bans);
        for (name, pool) in inner.pools.alive() {
            let mut answers = Classes::default();
            pool.shards.each(|shard| add(&mut answers, &shard.statuses));
            let durations = buckets(&pool.shards, |shard| &shard.total);
            glance.pools.push(PoolGlance { name, answers, durations });
        }
        for ((name, action), rule) in inner.rules.alive() {
            let [enforced, observed] = rule.counts();
            glance.verdicts.push(Verdicts { rule: name.to_string(), action, enforced, observed });
        }
        glance
    }
}

fn add(sums: &mut Classes, statuses: &Statuses) {
    for (class, sum) in sums.iter_mut().enumerate() {
        *sum += statuses.get(class);
    }
}

fn buckets<T: Default>(shards: &Shards<T>, durations: impl Fn(&T) -> &Durations) -> Buckets {
    let mut sums = Buckets::default();
    shards.each(|shard| {
        let cells = durations(shard).cells();
        for (sum, cell) in sums.iter_mut().zip(cells) {
            *sum += Count::get(cell);
        }
    });
    sums
}
