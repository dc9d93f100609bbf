//! One upstream address.
//!
//! Part of `balance`. What one generation says of an endpoint is immutable here; what outlives it is in [`Vitals`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use super::claim::ClaimKind;
use super::vitals::{Bench, Pulse, Vitals};
use super::{Rule, Trust};
use crate::config::pool::Endpoint as Wanted;
use crate::lexicon::{EndpointName, Standing, ZoneName};

/// Identifies an endpoint in this process for as long as its address stays in its pool, over all generations.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EndpointId(u64);

impl EndpointId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an endpoint stands in the order of preference; the lesser one is preferred.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tier {
    /// Priority group: 0 first, the others are backups.
    pub priority: u8,
    /// Not in the proxy's own zone.
    pub far: bool,
}

/// One upstream address as one generation sees it.
#[derive(Debug)]
pub struct Endpoint {
    /// Its number in this process.
    pub id: EndpointId,
    /// The address as written.
    pub name: EndpointName,
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Share of traffic relative to the others; 1 to 256.
    pub weight: u16,
    /// Failure domain.
    pub zone: Option<ZoneName>,
    /// Where it stands in the order of preference.
    pub tier: Tier,
    /// Taken out by this generation's configuration. Not in [`Vitals`]: a reload that fails must leave no trace.
    pub disabled: bool,
    /// Counts and health, shared with every other generation that has this endpoint.
    pub vitals: Vitals,
}

impl Endpoint {
    pub(super) fn fresh(wanted: &Wanted, pulse: &Pulse) -> Self {
        let host = wanted.host.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, wanted.port));
        Self::new(wanted, EndpointId::next(), Vitals::new(pulse.clone(), address.as_slice()))
    }

    /// The same endpoint as a later generation has it.
    pub(super) fn as_now(&self, wanted: &Wanted) -> Self {
        Self::new(wanted, self.id, self.vitals.clone())
    }

    fn new(wanted: &Wanted, id: EndpointId, vitals: Vitals) -> Self {
        Self {
            id,
            name: wanted.name.clone(),
            host: wanted.host.clone(),
            port: wanted.port,
            weight: wanted.weight,
            zone: wanted.zone.clone(),
            tier: Tier { priority: wanted.priority, far: !wanted.near },
            disabled: wanted.disabled,
            vitals,
        }
    }

    /// Whether it takes no new exchanges: disabled by configuration or drained by an operator.
    pub fn is_disabled(&self) -> bool {
        self.disabled || self.vitals.is_drained()
    }

    pub(super) fn is_as(&self, wanted: &Wanted) -> bool {
        self.name == wanted.name
            && self.weight == wanted.weight
            && self.zone == wanted.zone
            && self.tier == (Tier { priority: wanted.priority, far: !wanted.near })
            && self.disabled == wanted.disabled
    }

    pub(super) fn is_usable(&self, trust: Trust) -> bool {
        match (trust, self.vitals.standing()) {
            (Trust::Always, _) | (_, Standing::Up | Standing::Late) | (Trust::Presumed, Standing::Unknown) => true,
            (Trust::Presumed | Trust::Proven, Standing::Down) | (Trust::Proven, Standing::Unknown) => false,
        }
    }

    /// Usable, and not ejected.
    pub(super) fn is_favoured(&self, trust: Trust) -> bool {
        self.is_usable(trust) && self.vitals.bench() == Bench::In
    }

    pub(super) fn free(&self, rule: &Rule, retry: bool) -> bool {
        let tunnel_fits = rule.kind == ClaimKind::Exchange || self.vitals.tunnels() < rule.max_tunnels;
        tunnel_fits && self.vitals.load().fits(&rule.limits(), retry)
    }
}
