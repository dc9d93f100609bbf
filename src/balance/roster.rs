//! A pool's endpoints at one moment, and the choice among them.
//!
//! Part of `balance`. A roster never changes; [`Roster::succeed`] makes the next one, which shares the cursor and the
//! vitals of every endpoint that stays. Round-robin costs one atomic add per endpoint looked at. Least-connection looks
//! at every endpoint of a pool of up to [`WINDOW`], else at [`WINDOW`] neighbours that shift by one with each pick: the
//! least of 64 differs from the least of 1,000 by little, and the cost stays the same.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::claim::Claim;
use super::cycle;
use super::endpoint::{Endpoint, EndpointId};
use super::vitals::Pulse;
use super::{Pick, Rule, Trust};
use crate::config::pool::{Endpoint as Wanted, Strategy, WhenAllDown};

/// What a succession changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// New endpoints; they want probing and resolving.
    pub added: Vec<Arc<Endpoint>>,
    /// Endpoints that are gone; what is under way on them goes on.
    pub removed: Vec<Arc<Endpoint>>,
    /// Endpoints that stay, as the new roster has them.
    pub kept: Vec<Arc<Endpoint>>,
}

/// A pool's endpoints at one moment.
#[derive(Debug)]
pub struct Roster {
    endpoints: Box<[Arc<Endpoint>]>,
    turns: Box<[u32]>,
    cursor: Arc<AtomicUsize>,
    pulse: Pulse,
    /// The last census: pulse and kind of trust it was taken under (32 bits), usable (16), enabled (16).
    census: AtomicU64,
}

/// Endpoints that least-connection compares.
const WINDOW: usize = 64;

/// Turns that one pick takes before it looks at the endpoints in a row.
const MAX_SKIPS: usize = 256;

/// Census not yet taken: no pulse has this odd key together with more usable than enabled.
const UNCOUNTED: u64 = 0xffff_0000;

/// Which endpoints come into question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    Usable,
    Enabled,
    Nobody,
}

impl Roster {
    /// The first roster of a pool. Every standing is `Unknown`.
    pub fn new(wanted: &[Wanted]) -> Self {
        let pulse = Pulse::default();
        let endpoints = wanted.iter().map(|wanted| Arc::new(Endpoint::fresh(wanted, &pulse))).collect();
        Self::over(endpoints, Arc::default(), pulse)
    }

    /// The next roster, and what is different. Endpoints of equal host and port keep their id and vitals; one that
    /// changed in nothing is the same `Arc`. Nothing shared is altered, so a roster may be made and thrown away.
    pub fn succeed(&self, wanted: &[Wanted]) -> (Self, Changes) {
        let mut known: HashMap<(&str, u16), VecDeque<&Arc<Endpoint>>> = HashMap::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            known.entry((&endpoint.host, endpoint.port)).or_default().push_back(endpoint);
        }

        let mut changes = Changes::default();
        let mut endpoints = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let before = known.get_mut(&(wanted.host.as_str(), wanted.port)).and_then(VecDeque::pop_front);
            let endpoint = match before {
                Some(before) if before.is_as(wanted) => Arc::clone(before),
                Some(before) => Arc::new(before.as_now(wanted)),
                None => Arc::new(Endpoint::fresh(wanted, &self.pulse)),
            };
            let list = if before.is_some() { &mut changes.kept } else { &mut changes.added };
            list.push(Arc::clone(&endpoint));
            endpoints.push(endpoint);
        }
        changes.removed = known.into_values().flatten().map(Arc::clone).collect();
        changes.removed.sort_unstable_by_key(|endpoint| endpoint.id);
        (Self::over(endpoints, Arc::clone(&self.cursor), self.pulse.clone()), changes)
    }

    fn over(endpoints: Vec<Arc<Endpoint>>, cursor: Arc<AtomicUsize>, pulse: Pulse) -> Self {
        let weights: Vec<u16> = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        Self {
            endpoints: endpoints.into_boxed_slice(),
            turns: cycle::turns(&weights),
            cursor,
            pulse,
            census: AtomicU64::new(UNCOUNTED),
        }
    }

    /// Whether it has the same endpoints, with the same settings, in the same order.
    pub fn is_as(&self, other: &Self) -> bool {
        self.endpoints.len() == other.endpoints.len()
            && self.endpoints.iter().zip(&other.endpoints).all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
    }

    /// The endpoints, in the order of the configuration.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Whether so few endpoints are usable that health is not heeded.
    pub fn is_in_panic(&self, rule: &Rule) -> bool {
        let (usable, enabled) = self.count(rule.trust);
        rule.trust != Trust::Always && usable.saturating_mul(100) < enabled.saturating_mul(rule.panic_threshold.into())
    }

    /// Chooses an endpoint that is not among `tried` and takes a slot on it.
    pub fn pick(&self, rule: &Rule, tried: &[EndpointId]) -> Pick {
        let reach = self.reach(rule);
        if reach == Reach::Nobody {
            return Pick::NoneUp;
        }
        // What failed once in panic deserves an endpoint that is known to be well, if there is any.
        if reach == Reach::Enabled
            && !tried.is_empty()
            && rule.trust != Trust::Always
            && let Some(claim) = self.claim(rule, tried, Reach::Usable)
        {
            return Pick::Claimed(claim);
        }
        if let Some(claim) = self.claim(rule, tried, reach) {
            return Pick::Claimed(claim);
        }
        let within = |endpoint: &&Arc<Endpoint>| within(endpoint, rule, reach);
        if self.endpoints.iter().filter(within).any(|endpoint| !tried.contains(&endpoint.id)) {
            Pick::Full
        } else if self.endpoints.iter().any(|endpoint| within(&endpoint)) {
            Pick::NoneUntried
        } else {
            Pick::NoneUp
        }
    }

    fn reach(&self, rule: &Rule) -> Reach {
        let (usable, enabled) = self.count(rule.trust);
        if enabled == 0 {
            Reach::Nobody
        } else if rule.trust == Trust::Always || self.is_in_panic(rule) {
            Reach::Enabled
        } else if usable > 0 {
            Reach::Usable
        } else {
            match rule.when_all_down {
                WhenAllDown::UseAll => Reach::Enabled,
                WhenAllDown::Reject => Reach::Nobody,
            }
        }
    }

    /// How many are usable and how many are enabled, counted anew only after a standing changed.
    fn count(&self, trust: Trust) -> (u32, u32) {
        // Read before the standings are, so that a change during the count makes the next pick count again.
        let pulse = self.pulse.count() << 2;
        let key = u64::from(pulse | trust as u32) << 32;
        let census = self.census.load(Ordering::Acquire);
        let (usable, enabled) = ((census >> 16) & 0xffff, census & 0xffff);
        if census >> 32 == key >> 32 && usable <= enabled {
            return (u32::try_from(usable).unwrap_or_default(), u32::try_from(enabled).unwrap_or_default());
        }

        let (mut usable, mut enabled) = (0_u16, 0_u16);
        for endpoint in self.endpoints.iter().filter(|endpoint| !endpoint.is_disabled()) {
            enabled = enabled.saturating_add(1);
            usable = usable.saturating_add(endpoint.is_usable(trust).into());
        }
        self.census.store(key | (u64::from(usable) << 16) | u64::from(enabled), Ordering::Release);
        (usable.into(), enabled.into())
    }

    fn claim(&self, rule: &Rule, tried: &[EndpointId], reach: Reach) -> Option<Claim> {
        let fits = |endpoint: &Endpoint| within(endpoint, rule, reach) && !tried.contains(&endpoint.id);
        match rule.strategy {
            Strategy::RoundRobin => self.in_turn(rule, fits),
            Strategy::LeastConnection => self.least(rule, fits),
        }
    }

    /// The endpoint whose turn it is. One that is passed over uses up its turn: were the search to go on without moving
    /// the cursor, the neighbour of an endpoint that is down would carry double.
    fn in_turn(&self, rule: &Rule, fits: impl Fn(&Endpoint) -> bool) -> Option<Claim> {
        for _ in 0..self.turns.len().min(MAX_SKIPS) {
            let turn = self.cursor.fetch_add(1, Ordering::Relaxed).checked_rem(self.turns.len())?;
            let endpoint = self.endpoints.get(*self.turns.get(turn)? as usize)?;
            if fits(endpoint)
                && let Some(claim) = Claim::take(endpoint, rule.kind, rule.slots())
            {
                return Some(claim);
            }
        }
        // Other workers may have taken the turns in between: nobody is told "full" while there is a slot.
        self.first(rule, fits)
    }

    /// The endpoint that carries least for its weight; among equals each in turn, by weight.
    fn least(&self, rule: &Rule, fits: impl Fn(&Endpoint) -> bool) -> Option<Claim> {
        let count = self.endpoints.len();
        let pick = self.cursor.fetch_add(1, Ordering::Relaxed);
        let (start, turn) = if count <= WINDOW {
            (0, pick)
        } else {
            // The window moves by one each pick, the turn within it by one each round: every endpoint comes equally often.
            (pick.checked_rem(count)?, pick.checked_div(count)?)
        };
        let window = || self.from(start).take(WINDOW).filter(|endpoint| fits(endpoint) && endpoint.free(rule));

        let mut equals: [Option<&Arc<Endpoint>>; WINDOW] = [None; WINDOW];
        let (mut length, mut best) = (0_usize, None);
        for endpoint in window() {
            let load = Load::of(endpoint);
            match best.map(|best| load.compare(best)) {
                None | Some(std::cmp::Ordering::Less) => {
                    best = Some(load);
                    length = 0;
                }
                Some(std::cmp::Ordering::Equal) => {}
                Some(std::cmp::Ordering::Greater) => continue,
            }
            if let Some(slot) = equals.get_mut(length) {
                *slot = Some(endpoint);
                length = length.saturating_add(1);
            }
        }

        let equals = || equals.iter().take(length).flatten();
        let weight: usize = equals().map(|endpoint| usize::from(endpoint.weight.max(1))).sum();
        let mut turn = turn.checked_rem(weight).unwrap_or_default();
        for endpoint in equals() {
            let share = usize::from(endpoint.weight.max(1));
            if turn < share {
                if let Some(claim) = Claim::take(endpoint, rule.kind, rule.slots()) {
                    return Some(claim);
                }
                break;
            }
            turn = turn.saturating_sub(share);
        }
        // Its last slot went to another worker this moment, or the window is full.
        self.first(rule, fits)
    }

    /// Any endpoint with a free slot, the next in the list first.
    fn first(&self, rule: &Rule, fits: impl Fn(&Endpoint) -> bool) -> Option<Claim> {
        let start = self.cursor.load(Ordering::Relaxed).checked_rem(self.endpoints.len())?;
        self.from(start)
            .filter(|endpoint| fits(endpoint))
            .find_map(|endpoint| Claim::take(endpoint, rule.kind, rule.slots()))
    }

    /// All endpoints, beginning with the one at `start`.
    fn from(&self, start: usize) -> impl Iterator<Item = &Arc<Endpoint>> {
        let (before, after) = self.endpoints.split_at_checked(start).unwrap_or((&[], &self.endpoints));
        after.iter().chain(before)
    }
}

fn within(endpoint: &Endpoint, rule: &Rule, reach: Reach) -> bool {
    !endpoint.is_disabled()
        && match reach {
            Reach::Usable => endpoint.is_usable(rule.trust),
            Reach::Enabled => true,
            Reach::Nobody => false,
        }
}

/// What an endpoint carries, per weight.
#[derive(Clone, Copy, Debug)]
struct Load {
    carried: u64,
    weight: u64,
}

impl Load {
    fn of(endpoint: &Endpoint) -> Self {
        let vitals = &endpoint.vitals;
        let carried = u64::from(vitals.in_flight()).saturating_add(vitals.tunnels().into());
        Self { carried, weight: u64::from(endpoint.weight).max(1) }
    }

    fn compare(self, other: Self) -> std::cmp::Ordering {
        // Cross-multiplied: 2^33 × 2^16 fits.
        self.carried.saturating_mul(other.weight).cmp(&other.carried.saturating_mul(self.weight))
    }
}
