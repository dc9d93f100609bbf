//! Generations that were: when, and what each reload changed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::admin::status::Generation;
use crate::config::outline::Outline;
use crate::telemetry::events::Chain;

use super::Error;

/// Loads that are remembered, the oldest go first.
const KEPT: usize = 20;

/// Changes that are told of one load; more are counted.
const CHANGES: usize = 50;

/// Longest telling of an error, in characters.
const TOLD: usize = 400;

/// What was loaded.
#[derive(Debug, Default)]
pub(super) struct Generations(Mutex<(VecDeque<Generation>, Outline)>);

impl Generations {
    /// A generation is in place.
    pub(super) fn loaded(&self, number: u64, outline: Outline) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (past, before) = &mut *inner;
        let mut changes = if past.is_empty() { Vec::new() } else { outline.changes_since(before) };
        let more = changes.len().saturating_sub(CHANGES);
        changes.truncate(CHANGES);
        keep(past, Generation { number, at: SystemTime::now(), changes, more, error: None });
        *before = outline;
    }

    /// A load failed; `number` stays.
    pub(super) fn failed(&self, number: u64, error: &Error) {
        let error: String = Chain(error).to_string().chars().take(TOLD).collect();
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = Generation { number, at: SystemTime::now(), changes: Vec::new(), more: 0, error: Some(error) };
        keep(&mut inner.0, failed);
    }

    /// The youngest first.
    pub(super) fn list(&self) -> Vec<Generation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.iter().rev().cloned().collect()
    }
}

fn keep(past: &mut VecDeque<Generation>, generation: Generation) {
    if past.len() >= KEPT {
        past.pop_front();
    }
    past.push_back(generation);
}
