//! Handles by name, held weakly: a series lives as long as somebody counts with it.
//!
//! Floor 2.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Handles by name.
#[derive(Debug)]
pub(super) struct Handles<N, H>(Mutex<BTreeMap<N, Weak<H>>>);

impl<N, H> Default for Handles<N, H> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<N: Clone + Ord, H> Handles<N, H> {
    pub(super) fn get(&self, name: &N, fresh: impl FnOnce() -> H) -> Arc<H> {
        let mut handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.get(name).and_then(Weak::upgrade) {
            return handle;
        }
        let handle = Arc::new(fresh());
        handles.insert(name.clone(), Arc::downgrade(&handle));
        handle
    }

    /// Those that somebody holds; forgets the others.
    pub(super) fn alive(&self) -> Vec<(N, Arc<H>)> {
        let mut handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|_, handle| handle.strong_count() > 0);
        handles.iter().filter_map(|(name, handle)| Some((name.clone(), handle.upgrade()?))).collect()
    }
}
