//! A slot on an endpoint, given back when dropped.
//!
//! Part of `balance`. A compare-exchange keeps the counts below their caps at every moment, whatever the number of
//! workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Rule;
use super::endpoint::Endpoint;
use super::load::Carried;
use crate::lexicon::Choice;

/// What a slot is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ClaimKind {
    /// One request with its response; counts towards `max_in_flight`.
    Exchange,
    /// An upgraded byte stream; counts towards `max_tunnels`.
    Tunnel,
}

/// A claim on an endpoint for one exchange or tunnel. Dropping it gives the slot back.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    endpoint: Arc<Endpoint>,
    kind: ClaimKind,
    /// What of the endpoint's load is this claim's.
    carried: Carried,
    choice: Choice,
}

impl Claim {
    /// Takes a slot on `endpoint` as `rule` allows, for a `retry` or a first attempt; `None` when a limit is reached.
    pub fn take(endpoint: &Arc<Endpoint>, rule: &Rule, retry: bool) -> Option<Self> {
        let exchange = rule.kind == ClaimKind::Exchange;
        let carried = Carried { in_flight: exchange.into(), pending: 1, retries: retry.into() };
        let load = endpoint.vitals.load();
        if !load.raise(carried, &rule.limits()) {
            return None;
        }
        if !exchange && !raise(endpoint.vitals.tunnel_count(), rule.max_tunnels) {
            load.lower(carried);
            return None;
        }
        Some(Self { endpoint: Arc::clone(endpoint), kind: rule.kind, carried, choice: Choice::Free })
    }

    /// The same claim, with why it is one on this endpoint.
    pub(super) const fn because(mut self, choice: Choice) -> Self {
        self.choice = choice;
        self
    }

    /// Why it is one on this endpoint.
    pub const fn choice(&self) -> Choice {
        self.choice
    }

    /// The endpoint.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What the slot is for.
    pub const fn kind(&self) -> ClaimKind {
        self.kind
    }

    /// There is a connection: the place among those without one is given back. Says how many of them there were.
    pub fn settle(&mut self) -> u32 {
        if self.carried.pending == 0 {
            return 0;
        }
        let settled = match self.kind {
            ClaimKind::Exchange => Carried { pending: 1, ..Carried::default() },
            // A tunnel may live for days; that it began as a repeat is over now.
            ClaimKind::Tunnel => self.carried,
        };
        self.carried.pending = 0;
        if self.kind == ClaimKind::Tunnel {
            self.carried.retries = 0;
        }
        self.endpoint.vitals.load().lower(settled).pending
    }

    /// Turns the claim into one for a tunnel and frees its exchange slot. A tunnel's claim passes unchanged.
    ///
    /// # Errors
    /// The claim as it was, when the endpoint carries `cap` tunnels.
    pub fn into_tunnel(mut self, cap: u32) -> Result<Self, Self> {
        if self.kind == ClaimKind::Tunnel {
            return Ok(self);
        }
        if !raise(self.endpoint.vitals.tunnel_count(), cap) {
            return Err(self);
        }
        self.endpoint.vitals.load().lower(std::mem::take(&mut self.carried));
        self.kind = ClaimKind::Tunnel;
        Ok(self)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let vitals = &self.endpoint.vitals;
        if self.carried != Carried::default() {
            vitals.load().lower(self.carried);
        }
        if self.kind == ClaimKind::Tunnel {
            // Each claim raised the count once, so it cannot pass zero.
            vitals.tunnel_count().fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn raise(count: &AtomicU32, cap: u32) -> bool {
    let raised = |taken: u32| (taken < cap).then(|| taken.saturating_add(1));
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).is_ok()
}
