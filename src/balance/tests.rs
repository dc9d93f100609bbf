//! Who is picked, and that no endpoint ever gets more than its cap; workers in parallel included.

mod generations;
mod room;
mod standing;
mod tiers;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;
use crate::config::pool::{Endpoint as Wanted, Strategy};
use crate::lexicon::{EndpointName, ZoneName};

fn wanted(name: &str, weight: u16) -> Wanted {
    Wanted {
        name: EndpointName::new(name),
        host: name.into(),
        port: 8088,
        weight,
        zone: None,
        near: false,
        priority: 0,
        disabled: false,
    }
}

fn pool(weights: &[u16]) -> Vec<Wanted> {
    weights.iter().enumerate().map(|(index, weight)| wanted(&format!("e{index}"), *weight)).collect()
}

fn rule(strategy: Strategy) -> Rule {
    Rule {
        strategy,
        max_in_flight: 1_000_000,
        max_tunnels: 1_000_000,
        max_pending: 60_000,
        max_retries: 60_000,
        spill_below: 50,
        zone_fill: 75,
        panic_threshold: 0,
        when_all_down: WhenAllDown::Reject,
        trust: Trust::Always,
        kind: ClaimKind::Exchange,
    }
}

fn checked(strategy: Strategy) -> Rule {
    Rule { trust: Trust::Proven, ..rule(strategy) }
}

fn all_up(roster: &Roster) {
    for endpoint in roster.endpoints() {
        endpoint.vitals.set_standing(Standing::Up, "test");
    }
}

fn after(tried: &[EndpointId]) -> Ask<'_> {
    Ask { tried, expendable: true }
}

fn claim(roster: &Roster, rule: &Rule, tried: &[EndpointId]) -> Option<Claim> {
    match roster.pick(rule, &after(tried)) {
        Pick::Claimed(claim) => Some(claim),
        Pick::Full | Pick::NoneUp | Pick::NoneUntried => None,
    }
}

fn name(roster: &Roster, rule: &Rule) -> String {
    claim(roster, rule, &[]).map(|claim| claim.endpoint().name.to_string()).unwrap_or_default()
}

fn weights(most: usize) -> impl proptest::strategy::Strategy<Value = Vec<u16>> {
    prop::collection::vec(1_u16..=256, 1..=most)
}

fn tiered(tiers: &[(u8, bool)]) -> Vec<Wanted> {
    let with = |(index, (priority, near)): (usize, &(u8, bool))| Wanted {
        priority: *priority,
        near: *near,
        ..wanted(&format!("e{index}"), 1)
    };
    tiers.iter().enumerate().map(with).collect()
}

/// How often each endpoint is picked in `picks` turns, in the order of the roster.
fn picks(roster: &Roster, rule: &Rule, picks: usize) -> Vec<usize> {
    let mut counts: HashMap<EndpointId, usize> = HashMap::new();
    for _ in 0..picks {
        *counts.entry(claim(roster, rule, &[]).unwrap().endpoint().id).or_default() += 1;
    }
    roster.endpoints().iter().map(|endpoint| counts.get(&endpoint.id).copied().unwrap_or_default()).collect()
}
