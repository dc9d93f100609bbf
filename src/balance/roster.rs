//! A pool's endpoints at one moment, and the choice among them.
//!
//! Part of `balance`. A roster never changes; [`Roster::succeed`] makes the next one, which shares the cursor and the
//! vitals of every endpoint that stays. Round-robin costs one atomic add per endpoint looked at. Least-connection looks
//! at every endpoint of a pool of up to [`WINDOW`], else at [`WINDOW`] neighbours that shift by one with each pick: the
//! least of 64 differs from the least of 1,000 by little, and the cost stays the same.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwapOption, Guard};

use super::claim::{Claim, ClaimKind};
use super::cycle;
use super::endpoint::{Endpoint, Tier};
use super::plan::{Plan, Reach, spread};
use super::vitals::{Pulse, WARM};
use super::{Ask, Pick, Rule};
use crate::config::pool::{Endpoint as Wanted, Strategy};
use crate::lexicon::Choice;

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
    cursors: Arc<Cursors>,
    /// Whose tier's turn it is, where several have a share.
    shares: AtomicUsize,
    pulse: Pulse,
    /// Who comes into question, as of the last beat of the pulse.
    plan: ArcSwapOption<Plan>,
}

/// Whose turn it is: among all, and in each tier by itself. With one cursor for all, turns taken in one tier would decide
/// over those in another.
#[derive(Debug, Default)]
struct Cursors {
    all: AtomicUsize,
    tiers: [[AtomicUsize; 2]; 10],
}

impl Cursors {
    fn of(&self, tier: Option<Tier>) -> &AtomicUsize {
        let cursor = |tier: Tier| self.tiers.get(usize::from(tier.priority))?.get(usize::from(tier.far));
        tier.and_then(cursor).unwrap_or(&self.all)
    }
}

/// Endpoints that least-connection compares.
const WINDOW: usize = 64;

/// Turns that one pick takes before it looks at the endpoints in a row.
const MAX_SKIPS: usize = 256;

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
        (Self::over(endpoints, Arc::clone(&self.cursors), self.pulse.clone()), changes)
    }

    fn over(endpoints: Vec<Arc<Endpoint>>, cursors: Arc<Cursors>, pulse: Pulse) -> Self {
        let weights: Vec<u16> = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        Self {
            endpoints: endpoints.into_boxed_slice(),
            turns: cycle::turns(&weights),
            cursors,
            shares: AtomicUsize::new(0),
            pulse,
            plan: ArcSwapOption::empty(),
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
        self.plan(rule).as_ref().is_some_and(|plan| plan.panics)
    }

    /// Where the traffic goes at this moment: tiers with their shares in percent. Empty when health is not heeded.
    pub fn shares(&self, rule: &Rule) -> Vec<(Tier, u32)> {
        self.plan(rule).as_ref().map(|plan| plan.percent()).unwrap_or_default()
    }

    /// Chooses an endpoint that is not among those tried and takes a slot on it.
    pub fn pick(&self, rule: &Rule, ask: &Ask<'_>) -> Pick {
        let plan = self.plan(rule);
        let Some(plan) = plan.as_ref() else { return Pick::NoneUp };
        let (trust, retry, all) = (rule.trust, !ask.tried.is_empty(), self.cursors.of(None));
        let untried = |endpoint: &Endpoint| !endpoint.is_disabled() && !ask.tried.contains(&endpoint.id);
        let favoured = |endpoint: &Endpoint| untried(endpoint) && endpoint.is_favoured(trust);
        let within = |endpoint: &Endpoint| untried(endpoint) && plan.includes(endpoint, trust);

        if plan.reach == Reach::Nobody {
            return Pick::NoneUp;
        }
        if plan.trial
            && !retry
            && let Some(claim) = self.try_out(rule, ask)
        {
            return Pick::Claimed(claim.because(Choice::Trial));
        }
        // What failed once in panic deserves an endpoint that is known to be well, if there is any.
        if plan.panics
            && retry
            && let Some(claim) = self.claim(rule, retry, all, favoured)
        {
            return Pick::Claimed(claim);
        }
        if let Some(tier) = plan.turn(&self.shares) {
            let fits = |endpoint: &Endpoint| {
                endpoint.tier == tier && within(endpoint) && (tier.far || has_room_for_neighbours(endpoint, rule))
            };
            if let Some(claim) = self.claim(rule, retry, self.cursors.of(Some(tier)), fits) {
                return Pick::Claimed(plan.explain(claim));
            }
        }
        if let Some(claim) = self.claim(rule, retry, all, within) {
            return Pick::Claimed(plan.explain(claim));
        }
        if self.endpoints.iter().any(|endpoint| within(endpoint)) {
            return Pick::Full;
        }
        // An ejected endpoint or a backup is better than none.
        let usable = |endpoint: &Endpoint| untried(endpoint) && endpoint.is_usable(trust);
        if let Some(claim) = self.claim(rule, retry, all, usable) {
            Pick::Claimed(claim.because(Choice::Resort))
        } else if self.endpoints.iter().any(|endpoint| !endpoint.is_disabled() && plan.includes(endpoint, trust)) {
            Pick::NoneUntried
        } else {
            Pick::NoneUp
        }
    }

    /// The plan as of now; made anew only after a standing changed.
    fn plan(&self, rule: &Rule) -> Guard<Option<Arc<Plan>>> {
        // Read before the standings are, so that a change meanwhile makes the next pick look again.
        let pulse = self.pulse.count();
        let plan = self.plan.load();
        if plan.as_ref().is_some_and(|plan| plan.holds(pulse, rule)) {
            return plan;
        }
        self.plan.store(Some(Arc::new(Plan::new(pulse, rule, &self.endpoints))));
        self.plan.load()
    }

    /// An ejected endpoint whose trial this exchange is to be.
    fn try_out(&self, rule: &Rule, ask: &Ask<'_>) -> Option<Claim> {
        // A tunnel's answer tells little: its token may be at fault.
        if rule.kind == ClaimKind::Tunnel {
            return None;
        }
        let usable = |endpoint: &&Arc<Endpoint>| !endpoint.is_disabled() && endpoint.is_usable(rule.trust);
        self.endpoints.iter().filter(usable).find_map(|endpoint| {
            let before = endpoint.vitals.take_trial(ask.expendable)?;
            let claim = Claim::take(endpoint, rule, false);
            if claim.is_none() {
                endpoint.vitals.set_bench(before);
            }
            claim
        })
    }

    fn claim(&self, rule: &Rule, retry: bool, cursor: &AtomicUsize, fits: impl Fn(&Endpoint) -> bool) -> Option<Claim> {
        let take = |endpoint: &Arc<Endpoint>| Claim::take(endpoint, rule, retry);
        let chosen = match rule.strategy {
            Strategy::RoundRobin => self.in_turn(cursor, &fits, take).map(|claim| claim.because(Choice::Turn)),
            Strategy::LeastConnection => self
                .least(cursor, |endpoint| fits(endpoint) && endpoint.free(rule, retry), take)
                .map(|claim| claim.because(Choice::Least)),
        };
        // Others may have taken the turns and the last slots in between: nobody is told "full" while there is a slot.
        chosen.or_else(|| {
            let start = cursor.load(Ordering::Relaxed).checked_rem(self.endpoints.len())?;
            self.from(start).filter(|endpoint| fits(endpoint)).find_map(take)
        })
    }

    /// The endpoint whose turn it is. One that is passed over uses up its turn: were the search to go on without moving
    /// the cursor, the neighbour of an endpoint that is down would carry double.
    fn in_turn(
        &self,
        cursor: &AtomicUsize,
        fits: impl Fn(&Endpoint) -> bool,
        take: impl Fn(&Arc<Endpoint>) -> Option<Claim>,
    ) -> Option<Claim> {
        for _ in 0..self.turns.len().min(MAX_SKIPS) {
            let turn = cursor.fetch_add(1, Ordering::Relaxed).checked_rem(self.turns.len())?;
            let endpoint = self.endpoints.get(*self.turns.get(turn)? as usize)?;
            if fits(endpoint)
                && endpoint.vitals.takes_turn()
                && let Some(claim) = take(endpoint)
            {
                return Some(claim);
            }
        }
        None
    }

    /// The endpoint that carries least for its weight; among equals each in turn, by weight.
    fn least(
        &self,
        cursor: &AtomicUsize,
        fits: impl Fn(&Endpoint) -> bool,
        take: impl Fn(&Arc<Endpoint>) -> Option<Claim>,
    ) -> Option<Claim> {
        let count = self.endpoints.len();
        let pick = cursor.fetch_add(1, Ordering::Relaxed);
        let (start, turn) = if count <= WINDOW {
            (0, pick)
        } else {
            // The window moves by one each pick, the turn within it by one each round: every endpoint comes equally often.
            (pick.checked_rem(count)?, pick.checked_div(count)?)
        };
        let window = || self.from(start).take(WINDOW).filter(|endpoint| fits(endpoint));

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
        let weight: usize = equals().map(|endpoint| share(endpoint)).sum();
        // Where one is cold, shares are of hundredths: spread the turns, or one would be asked a hundred times in a row.
        let cold = equals().any(|endpoint| endpoint.vitals.warmth() < WARM);
        let mut turn = match cold {
            true => spread(turn, weight),
            false => turn.wrapping_mul(WARM.into()).checked_rem(weight).unwrap_or_default(),
        };
        for endpoint in equals() {
            let share = share(endpoint);
            if turn < share {
                return take(endpoint);
            }
            turn = turn.saturating_sub(share);
        }
        None
    }

    /// All endpoints, beginning with the one at `start`.
    fn from(&self, start: usize) -> impl Iterator<Item = &Arc<Endpoint>> {
        let (before, after) = self.endpoints.split_at_checked(start).unwrap_or((&[], &self.endpoints));
        after.iter().chain(before)
    }
}

/// Whether an endpoint of the proxy's own zone is not yet so full that others should help.
fn has_room_for_neighbours(endpoint: &Endpoint, rule: &Rule) -> bool {
    let taken = match rule.kind {
        ClaimKind::Exchange => endpoint.vitals.in_flight(),
        ClaimKind::Tunnel => endpoint.vitals.tunnels(),
    };
    u64::from(taken).saturating_mul(100) < u64::from(rule.slots()).saturating_mul(rule.zone_fill.into())
}

/// What is due to an endpoint, in hundredths of its weight.
fn share(endpoint: &Endpoint) -> usize {
    usize::from(endpoint.weight.max(1)).saturating_mul(endpoint.vitals.warmth().into())
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
        Self { carried, weight: u64::try_from(share(endpoint)).unwrap_or(u64::MAX) }
    }

    fn compare(self, other: Self) -> std::cmp::Ordering {
        // Cross-multiplied: 2^33 × 2^15 fits.
        self.carried.saturating_mul(other.weight).cmp(&other.carried.saturating_mul(self.weight))
    }
}
