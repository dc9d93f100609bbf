//! Records that sinks have lost lately.
//!
//! Part of `admin::dashboard`, pure. Counters say how many were lost ever; what somebody has to know is whether it goes on.

use std::collections::BTreeMap;

use crate::admin::Status;
use crate::lexicon::SinkName;

/// Milliseconds after which a loss is an old one.
const LATELY: u64 = 10 * 60 * 1_000;

/// What sinks have lost; of those alone that are in the status.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<SinkName, Loss>);

#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    ever: u64,
    /// Since there was none for a while.
    lately: u64,
    last_at: u64,
}

impl Losses {
    /// Takes note of what is lost by now, in milliseconds since any fixed point.
    pub(super) fn note(&mut self, now: u64, status: &Status) {
        let mut known = std::mem::take(&mut self.0);
        for sink in &status.sinks {
            let mut loss = known.remove(&sink.name).unwrap_or_default();
            let ever: u64 = sink.dropped.values().sum();
            let more = ever.saturating_sub(loss.ever);
            if more > 0 {
                let old = now.saturating_sub(loss.last_at) > LATELY;
                loss.lately = if old { more } else { loss.lately + more };
                loss.last_at = now;
            }
            loss.ever = ever;
            self.0.insert(sink.name.clone(), loss);
        }
    }

    /// How many a sink has lost lately, and for how many seconds it has lost no more.
    pub(super) fn lately(&self, now: u64, sink: &SinkName) -> Option<(u64, u64)> {
        let loss = self.0.get(sink).filter(|loss| loss.lately > 0)?;
        let ago = now.saturating_sub(loss.last_at);
        (ago <= LATELY).then_some((loss.lately, ago / 1_000))
    }
}
