//! A slot on an endpoint, given back when dropped.
//!
//! Part of `balance`. A compare-exchange keeps the count below its cap at every moment, whatever the number of workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::endpoint::Endpoint;
use super::vitals::Vitals;

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
}

impl Claim {
    /// Takes a slot of `kind` on `endpoint`; `None` when `cap` of them are taken.
    pub fn take(endpoint: &Arc<Endpoint>, kind: ClaimKind, cap: u32) -> Option<Self> {
        raise(count(&endpoint.vitals, kind), cap).then(|| Self { endpoint: Arc::clone(endpoint), kind })
    }

    /// The endpoint.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What the slot is for.
    pub const fn kind(&self) -> ClaimKind {
        self.kind
    }

    /// Turns the claim into one for a tunnel and frees its exchange slot. A tunnel's claim passes unchanged.
    ///
    /// # Errors
    /// The claim as it was, when the endpoint carries `cap` tunnels.
    pub fn into_tunnel(mut self, cap: u32) -> Result<Self, Self> {
        if self.kind == ClaimKind::Tunnel {
            return Ok(self);
        }
        if !raise(count(&self.endpoint.vitals, ClaimKind::Tunnel), cap) {
            return Err(self);
        }
        lower(count(&self.endpoint.vitals, self.kind));
        self.kind = ClaimKind::Tunnel;
        Ok(self)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lower(count(&self.endpoint.vitals, self.kind));
    }
}

fn count(vitals: &Vitals, kind: ClaimKind) -> &AtomicU32 {
    match kind {
        ClaimKind::Exchange => vitals.in_flight_count(),
        ClaimKind::Tunnel => vitals.tunnel_count(),
    }
}

fn raise(count: &AtomicU32, cap: u32) -> bool {
    let raised = |taken: u32| (taken < cap).then(|| taken.saturating_add(1));
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).is_ok()
}

// Each claim raised the count once, so it cannot pass zero.
fn lower(count: &AtomicU32) {
    count.fetch_sub(1, Ordering::Relaxed);
}
