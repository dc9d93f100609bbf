//! Chooses the endpoint for one exchange or tunnel, and counts what each endpoint carries.
//!
//! Floor 2, pure. In: a [`Roster`], a [`Rule`] and the endpoints already tried. Out: a [`Pick`], which holds a
//! [`Claim`] on one endpoint or says why there is none. `control` writes standings and addresses into [`Vitals`],
//! workers read them; all sharing is by atomics, so that sums are exact over all workers. Deliberately absent: affinity
//! of any kind (Superset keeps its session in a cookie that every replica can read, so any replica can serve any
//! request), waiting (the queue stands above), clocks and logging.
//!
//! # Who may be picked
//! 1. An endpoint that is disabled by configuration or drained by an operator: never.
//! 2. When the pool has no health checks: every other.
//! 3. Else those that are usable: `Up`, `Late` (a busy replica is not a dead one), and `Unknown` only where the
//!    configuration presumes so.
//! 4. When fewer than `panic_threshold` percent of the enabled ones are usable, health is not heeded: a failing Redis
//!    fails all replicas at once, and an emptied pool would turn a disturbance into an outage. A repeat still goes to
//!    a usable endpoint first.
//! 5. When none is usable, `when_all_down` decides.
//!
//! Endpoints already tried are avoided in every case.
//!
//! # Who of them is preferred
//! Live traffic may have ejected an endpoint ([`Bench`]): it takes nothing while another one can, but for one exchange
//! at a time that tries it out. The lower priority group takes everything while `spill_below` percent of its weight is
//! well, and beneath that a share in proportion; what is left goes to the next one. Within a group, endpoints of the
//! proxy's own zone are preferred in the same way. Panic is for a pool none of whose groups is well.

mod budget;
mod by_id;
mod claim;
mod cycle;
pub mod drain;
mod endpoint;
mod keepalive;
mod load;
mod percentile;
mod plan;
mod roster;
mod traffic;
mod vitals;

pub use budget::{Budget, Fill};
pub use by_id::ById;
pub use claim::{Claim, ClaimKind};
pub use endpoint::{Endpoint, EndpointId, Tier};
pub use keepalive::KeepAlive;
pub use load::{Caps, Reached};
pub use percentile::Percentile;
pub use roster::{Changes, Roster};
pub use traffic::{Live, Recent, Seen, Tally};
pub use vitals::{Bench, Vitals, WARM};

use crate::config::pool::{Pool, Strategy, WhenAllDown};
pub use crate::lexicon::Standing;

/// What a pool's configuration says about picking, ready for use. Made once per generation and kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// How one of several is chosen.
    pub strategy: Strategy,
    /// Exchanges an endpoint may carry at once.
    pub max_in_flight: u32,
    /// Tunnels an endpoint may carry at once.
    pub max_tunnels: u32,
    /// Exchanges and tunnels without a connection that an endpoint may have at once.
    pub max_pending: u32,
    /// Repeats that an endpoint may carry at once.
    pub max_retries: u32,
    /// Percent of a priority group's weight that must be well for it to take everything.
    pub spill_below: u8,
    /// Percent of its slots to which an endpoint of the proxy's own zone is filled before others help.
    pub zone_fill: u8,
    /// Percent of the enabled endpoints that must be usable for health to be heeded; 0 always heeds it.
    pub panic_threshold: u8,
    /// When none is usable.
    pub when_all_down: WhenAllDown,
    /// Whether an endpoint must have proven itself.
    pub trust: Trust,
    /// What is claimed.
    pub kind: ClaimKind,
}

impl Rule {
    /// The rule of `pool` for claims of `kind`.
    pub const fn new(pool: &Pool, kind: ClaimKind) -> Self {
        let trust = match &pool.health {
            None => Trust::Always,
            Some(health) if health.initially_up => Trust::Presumed,
            Some(_) => Trust::Proven,
        };
        Self {
            strategy: pool.strategy,
            max_in_flight: pool.max_in_flight,
            max_tunnels: pool.max_tunnels,
            max_pending: pool.max_pending,
            max_retries: pool.max_retries,
            spill_below: pool.spill_below,
            zone_fill: pool.zones.fill,
            panic_threshold: pool.panic_threshold,
            when_all_down: pool.when_all_down,
            trust,
            kind,
        }
    }

    /// Most of each sort on one endpoint.
    pub const fn limits(&self) -> Caps {
        Caps { in_flight: self.max_in_flight, pending: self.max_pending, retries: self.max_retries }
    }

    /// Slots of the claimed kind on each endpoint.
    pub const fn slots(&self) -> u32 {
        match self.kind {
            ClaimKind::Exchange => self.max_in_flight,
            ClaimKind::Tunnel => self.max_tunnels,
        }
    }
}

/// What a pick is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Endpoints that failed the exchange already: another one is wanted, and the claim counts as a repeat.
    pub tried: &'a [EndpointId],
    /// Whether the exchange can be repeated elsewhere, so that an ejected endpoint may be tried out with it.
    pub expendable: bool,
}

/// Whether an endpoint must have proven itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// Checked, and `Unknown` is not usable: a starting Gunicorn accepts connections and answers none for half a minute.
    Proven,
    /// Checked, but usable until a check says otherwise (`initially_up`).
    Presumed,
    /// Not checked: standings are not looked at, whatever an earlier generation left in them.
    Always,
}

/// What came of a pick.
#[derive(Debug)]
#[must_use]
pub enum Pick {
    /// An endpoint, with a slot taken on it.
    Claimed(Claim),
    /// Endpoints not yet tried may be used, but none of them has a free slot: wait for one.
    Full,
    /// No endpoint may be used: all are out.
    NoneUp,
    /// Endpoints may be used, but each was tried already.
    NoneUntried,
}

#[cfg(test)]
mod tests;
