//! How long answers take, as one percentile of them.
//!
//! Part of `balance`. An estimate that needs one number, not a window: each time above it raises it a little, each one below
//! lowers it a little less or more, so that it settles where the wanted share lies below (the idea is Ma, Muthukrishnan and
//! Sandler's, "Frugal Streaming for Estimating Quantiles", 2013; steps are in proportion, as times are). Atomics only: what
//! a race between two workers costs is one step.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Largest step, as a share of the estimate.
const STEP: f64 = 0.05;

/// Times before the estimate is worth anything.
const ENOUGH: u64 = 100;

/// One percentile of the times of late.
#[derive(Debug)]
pub struct Percentile {
    /// The share that lies below it.
    share: f64,
    /// Microseconds.
    estimate: AtomicU64,
    seen: AtomicU64,
}

impl Percentile {
    /// The estimate of a percentile, from 1 to 99.
    pub fn new(percentile: u8) -> Self {
        let share = f64::from(percentile.clamp(1, 99)) / 100.0;
        Self { share, estimate: AtomicU64::new(0), seen: AtomicU64::new(0) }
    }

    /// Something took `time`.
    pub fn note(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let before = self.estimate.load(Ordering::Relaxed);
        let after = match before {
            0 => time,
            before if time > before => scaled(before, 1.0 + STEP * self.share),
            before if time < before => scaled(before, 1.0 - STEP * (1.0 - self.share)),
            before => before,
        };
        self.estimate.store(after, Ordering::Relaxed);
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// The percentile, once enough was seen.
    pub fn estimate(&self) -> Option<Duration> {
        let enough = self.seen.load(Ordering::Relaxed) >= ENOUGH;
        enough.then(|| Duration::from_micros(self.estimate.load(Ordering::Relaxed)))
    }
}

/// `value` times `factor`, moved by at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "positive, and casts of floats saturate"
)]
fn scaled(value: u64, factor: f64) -> u64 {
    let product = (value as f64 * factor) as u64;
    if factor > 1.0 { product.max(value.saturating_add(1)) } else { product.min(value.saturating_sub(1)).max(1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_known_before_enough_was_seen() {
        let known = Percentile::new(95);
        for _ in 0..ENOUGH - 1 {
            known.note(Duration::from_millis(10));
        }
        assert_eq!(known.estimate(), None);
        known.note(Duration::from_millis(10));
        assert!(known.estimate().is_some());
    }

    proptest! {
        #[test]
        fn estimate_settles_where_the_percentile_is(percentile in 50_u8..=99, seed: u64, scale in 1_000_u64..1_000_000) {
            let known = Percentile::new(percentile);
            let mut random = fastrand::Rng::with_seed(seed);
            let mut below = 0;
            // Even over a range: the percentile is that share of it.
            for at in 0..20_000 {
                let time = Duration::from_micros(random.u64(1..=scale));
                known.note(time);
                if at >= 10_000 && known.estimate().is_some_and(|estimate| time <= estimate) {
                    below += 1;
                }
            }
            let share = f64::from(below) / 10_000.0;
            prop_assert!((share - f64::from(percentile) / 100.0).abs() < 0.04, "{share} below, {percentile} wanted");
        }
    }
}
