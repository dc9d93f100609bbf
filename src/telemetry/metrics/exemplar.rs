//! The last sampled trace of each bucket, so that a graph's peak leads to the story behind it.
//!
//! Floor 2. Only exchanges whose trace is recorded somewhere are noted. The lock is a worker's own: a scrape alone ever meets
//! it, and whoever does leaves its exchange out.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cells::{BOUNDS, bucket_of};
use crate::head::HeaderValue;

/// Digits of a trace id.
const DIGITS: usize = 32;

/// A sampled exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// The digits of its trace's id.
    pub(super) trace: [u8; DIGITS],
    /// How long it took.
    pub(super) value: Duration,
    /// When it was over.
    pub(super) at: SystemTime,
}

/// One for each bucket, at most.
pub(super) type Newest = [Option<Exemplar>; BOUNDS.len() + 1];

/// The last exemplar of each bucket.
#[derive(Debug, Default)]
pub(super) struct Exemplars(Mutex<Newest>);

impl Exemplars {
    /// Notes an exchange that took `value`, if its trace is sampled.
    pub(super) fn note(&self, traceparent: Option<&HeaderValue>, value: Duration, at: SystemTime) {
        let Some(trace) = traceparent.and_then(sampled) else { return };
        if let Ok(mut buckets) = self.0.try_lock()
            && let Some(bucket) = buckets.get_mut(bucket_of(value))
        {
            *bucket = Some(Exemplar { trace, value, at });
        }
    }

    /// Puts those that are newer in the place of others.
    pub(super) fn add_to(&self, newest: &mut Newest) {
        let buckets = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (newest, ours) in newest.iter_mut().zip(buckets) {
            if newest.map(|newest| newest.at) < ours.map(|ours| ours.at) {
                *newest = ours;
            }
        }
    }
}

impl Exemplar {
    /// As OpenMetrics has it after a sample.
    pub(super) fn text(&self) -> String {
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut text = String::with_capacity(96);
        // Writing to a String cannot fail.
        let _infallible = write!(
            text,
            " # {{trace_id=\"{}\"}} {} {}.{:03}",
            String::from_utf8_lossy(&self.trace),
            self.value.as_secs_f64(),
            at.as_secs(),
            at.subsec_millis()
        );
        text
    }
}

/// The trace's id of a `traceparent` that asks for recording; ours are always of version 00.
fn sampled(traceparent: &HeaderValue) -> Option<[u8; DIGITS]> {
    let text = traceparent.as_bytes();
    text.ends_with(b"-01").then(|| text.get(3..3 + DIGITS)?.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sampled_traces_become_exemplars_and_the_newest_stays() {
        let exemplars = Exemplars::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let trace = |last: &str| {
            HeaderValue::from_str(&format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{last}")).unwrap()
        };

        exemplars.note(Some(&trace("00")), Duration::from_millis(20), at(1));
        exemplars.note(None, Duration::from_millis(20), at(1));
        let mut newest = [None; BOUNDS.len() + 1];
        exemplars.add_to(&mut newest);
        assert_eq!(newest.iter().flatten().count(), 0);

        exemplars.note(Some(&trace("01")), Duration::from_millis(20), at(2));
        exemplars.note(Some(&trace("01")), Duration::from_millis(21), at(3));
        exemplars.add_to(&mut newest);
        let found: Vec<String> = newest.iter().flatten().map(Exemplar::text).collect();
        assert_eq!(found, [" # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} 0.021 3.000"]);
    }
}
