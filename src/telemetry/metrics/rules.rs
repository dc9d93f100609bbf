//! What a rule of the shield, or a limit, counts.
//!
//! Floor 2. Sharded by worker, since a rule may fit every request.

use super::cells::{Count, Shards};

/// A rule of the shield, or a limit.
#[derive(Debug)]
pub struct RuleMetrics {
    action: &'static str,
    /// Enforced and observed.
    shards: Shards<[Count; 2]>,
}

impl RuleMetrics {
    pub(super) fn new(workers: usize, action: &'static str) -> Self {
        Self { action, shards: Shards::new(workers) }
    }

    /// The word for what it does.
    pub const fn action(&self) -> &'static str {
        self.action
    }

    /// It fits a request.
    pub fn verdict(&self, observed: bool) {
        let [enforced, only_observed] = self.shards.mine();
        if observed { only_observed.inc() } else { enforced.inc() }
    }

    /// Enforced and observed so far.
    pub fn counts(&self) -> [u64; 2] {
        [self.shards.sum(|[enforced, _]| enforced.get()), self.shards.sum(|[_, observed]| observed.get())]
    }
}
