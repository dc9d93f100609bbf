//! Who comes into question at one moment, and in which shares.
//!
//! Part of `balance`. Made when a standing has changed, so that a pick only looks it up. Shares are of priority groups,
//! and within a group of the proxy's own zone and the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::endpoint::{Endpoint, Tier};
use super::{Claim, Rule, Trust};
use crate::config::pool::WhenAllDown;
use crate::lexicon::Choice;

/// Which endpoints come into question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// Usable and not ejected.
    Favoured,
    /// Usable; all of them are ejected.
    Usable,
    /// All that are not disabled: health is not heeded.
    Enabled,
    /// None.
    Nobody,
}

/// Who comes into question.
#[derive(Debug)]
pub(super) struct Plan {
    pulse: u32,
    terms: Terms,
    pub(super) reach: Reach,
    /// Whether so few are usable that health is not heeded.
    pub(super) panics: bool,
    /// Whether an ejected endpoint waits to be tried out.
    pub(super) trial: bool,
    /// Tiers that have a share, in order, each with the sum of the shares up to its own. Empty: no tier is told apart.
    shares: Box<[(Tier, u64)]>,
}

/// What of a rule makes the plan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Terms {
    trust: Trust,
    panic_threshold: u8,
    when_all_down: WhenAllDown,
    spill_below: u8,
}

/// A priority group, or the part of it in the proxy's own zone; sums of weights.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    well: u64,
    near_well: u64,
    /// Whatever an operator has drained counts: it is missing all the same.
    all: u64,
    near_all: u64,
    /// Not drained.
    enabled: u64,
    /// Endpoints that checks say are usable, and those that are not disabled.
    usable_count: u64,
    enabled_count: u64,
}

/// Shares are of this whole; products of two weights' sums and this fit.
const WHOLE: u64 = 10_000;

impl Plan {
    pub(super) fn new(pulse: u32, rule: &Rule, endpoints: &[Arc<Endpoint>]) -> Self {
        let trust = rule.trust;
        let enabled = || endpoints.iter().filter(|endpoint| !endpoint.is_disabled());
        let usable = |endpoint: &&Arc<Endpoint>| endpoint.is_usable(trust);
        let reach = if enabled().any(|endpoint| endpoint.is_favoured(trust)) { Reach::Favoured } else { Reach::Usable };

        let mut groups: BTreeMap<u8, Group> = BTreeMap::new();
        for endpoint in endpoints.iter().filter(|endpoint| !endpoint.disabled) {
            let group = groups.entry(endpoint.tier.priority).or_default();
            group.add(endpoint, trust, reach);
        }
        let threshold = u64::from(rule.panic_threshold);
        let ill =
            |group: &Group| group.usable_count.saturating_mul(100) < group.enabled_count.saturating_mul(threshold);
        let mut peopled = groups.values().filter(|group| group.enabled_count > 0).peekable();
        let panics = trust != Trust::Always && peopled.peek().is_some() && peopled.all(ill);

        let (any_enabled, any_usable) = (enabled().next().is_some(), enabled().any(|endpoint| usable(&endpoint)));
        let reach = match rule.when_all_down {
            _ if !any_enabled => Reach::Nobody,
            _ if panics => Reach::Enabled,
            _ if any_usable => reach,
            WhenAllDown::UseAll => Reach::Enabled,
            WhenAllDown::Reject => Reach::Nobody,
        };
        let heeded = matches!(reach, Reach::Favoured | Reach::Usable);
        let shares = if heeded { shares(&groups, rule.spill_below) } else { Box::default() };
        let trial = endpoints.iter().any(|endpoint| endpoint.vitals.bench().is_open());
        Self { pulse, terms: Terms::of(rule), reach, panics, trial, shares }
    }

    /// Whether it was made under this pulse and rule.
    pub(super) fn holds(&self, pulse: u32, rule: &Rule) -> bool {
        self.pulse == pulse && self.terms == Terms::of(rule)
    }

    /// Whether `endpoint`, which is not disabled, comes into question.
    pub(super) fn includes(&self, endpoint: &Endpoint, trust: Trust) -> bool {
        let reached = match self.reach {
            Reach::Favoured => endpoint.is_favoured(trust),
            Reach::Usable => endpoint.is_usable(trust),
            Reach::Enabled => true,
            Reach::Nobody => false,
        };
        reached
            && (self.shares.is_empty() || self.shares.iter().any(|(tier, _)| tier.priority == endpoint.tier.priority))
    }

    /// The tier whose turn it is; `None` where none is told apart.
    pub(super) fn turn(&self, turns: &AtomicUsize) -> Option<Tier> {
        match &*self.shares {
            [] => None,
            [(tier, _)] => Some(*tier),
            [.., (_, whole)] => {
                let whole = usize::try_from(*whole).unwrap_or(usize::MAX);
                let at = spread(turns.fetch_add(1, Ordering::Relaxed), whole);
                self.shares.iter().find(|(_, upto)| (at as u64) < *upto).map(|(tier, _)| *tier)
            }
        }
    }

    /// The claim, with what of this plan led to its endpoint; where nothing did, with how it was chosen among equals.
    pub(super) fn explain(&self, claim: Claim) -> Claim {
        match (self.reach, &*self.shares) {
            (Reach::Enabled, _) => claim.because(Choice::Panic),
            (Reach::Usable, _) => claim.because(Choice::Resort),
            (_, [(preferred, _), ..]) if claim.endpoint().tier != *preferred => claim.because(Choice::Spill),
            _ => claim,
        }
    }

    /// The tiers with their shares in percent.
    pub(super) fn percent(&self) -> Vec<(Tier, u32)> {
        let whole = self.shares.last().map_or(1, |(_, whole)| (*whole).max(1));
        let mut before = 0;
        let mut percent = |(tier, upto): &(Tier, u64)| {
            let share = upto.saturating_sub(std::mem::replace(&mut before, *upto));
            (*tier, u32::try_from(share.saturating_mul(100).saturating_add(whole / 2) / whole).unwrap_or(100))
        };
        self.shares.iter().map(&mut percent).collect()
    }
}

impl Group {
    fn add(&mut self, endpoint: &Endpoint, trust: Trust, reach: Reach) {
        let weight = u64::from(endpoint.weight.max(1));
        let near = if endpoint.tier.far { 0 } else { weight };
        self.all = self.all.saturating_add(weight);
        self.near_all = self.near_all.saturating_add(near);
        if endpoint.is_disabled() {
            return;
        }
        self.enabled = self.enabled.saturating_add(weight);
        self.enabled_count = self.enabled_count.saturating_add(1);
        let usable = endpoint.is_usable(trust);
        self.usable_count = self.usable_count.saturating_add(usable.into());
        if usable && (reach == Reach::Usable || endpoint.is_favoured(trust)) {
            self.well = self.well.saturating_add(weight);
            self.near_well = self.near_well.saturating_add(near);
        }
    }

    /// What it can take of the whole: all while at least `spill_below` percent of its weight is well.
    fn capacity(&self, spill_below: u8) -> u64 {
        let due = self.enabled.saturating_mul(u64::from(spill_below).max(1));
        self.well.saturating_mul(100).saturating_mul(WHOLE).checked_div(due).unwrap_or(0).min(WHOLE)
    }

    /// What of `share` stays in the proxy's own zone: all while as much of it is well as of the group on average.
    /// Proxies of the other zones do likewise, so that each endpoint ends up with an equal load.
    fn near_share(&self, share: u64) -> u64 {
        if self.near_well == 0 {
            return 0;
        }
        let due = self.near_all.saturating_mul(self.well);
        let near = share.saturating_mul(self.near_well).saturating_mul(self.all);
        near.checked_div(due).unwrap_or(0).min(share)
    }
}

/// The shares of the tiers. Empty when every endpoint is of one tier.
fn shares(groups: &BTreeMap<u8, Group>, spill_below: u8) -> Box<[(Tier, u64)]> {
    let split = |group: &Group| group.near_all > 0 && group.near_all < group.all;
    if groups.len() < 2 && !groups.values().any(split) {
        return Box::default();
    }
    let (mut left, mut upto) = (WHOLE, 0_u64);
    let mut shares = Vec::new();
    for (priority, group) in groups {
        let share = group.capacity(spill_below).min(left);
        left = left.saturating_sub(share);
        let near = group.near_share(share);
        for (far, share) in [(false, near), (true, share.saturating_sub(near))] {
            if share > 0 {
                upto = upto.saturating_add(share);
                shares.push((Tier { priority: *priority, far }, upto));
            }
        }
    }
    shares.into_boxed_slice()
}

impl Terms {
    const fn of(rule: &Rule) -> Self {
        let Rule { trust, panic_threshold, when_all_down, spill_below, .. } = *rule;
        Self { trust, panic_threshold, when_all_down, spill_below }
    }
}

/// The `turn`th of a row of numbers below `bound` that are spread evenly however few of them one looks at.
pub(super) fn spread(turn: usize, bound: usize) -> usize {
    // Multiples of the golden ratio (Weyl's sequence), in 1/2^32.
    let turn = u32::try_from(turn & 0xffff_ffff).unwrap_or_default().wrapping_mul(0x9e37_79b9);
    let at = u64::from(turn).saturating_mul(u64::try_from(bound).unwrap_or(u64::MAX)) >> 32;
    usize::try_from(at).unwrap_or_default()
}
