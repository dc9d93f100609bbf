//! Who is picked, and that no endpoint ever gets more than its cap; workers in parallel included.

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

#[test]
fn weighted_turns_are_spread_out() {
    let roster = Roster::new(&pool(&[50, 10, 10]));

    let order: Vec<String> = (0..7).map(|_| name(&roster, &rule(Strategy::RoundRobin))).collect();

    assert_eq!(order, ["e0", "e0", "e1", "e0", "e2", "e0", "e0"]);
}

#[test]
fn endpoint_that_is_down_leaves_its_share_to_all_others_alike() {
    let roster = Roster::new(&pool(&[1, 1, 1, 1]));
    all_up(&roster);
    roster.endpoints()[1].vitals.set_standing(Standing::Down, "test");

    let mut counts = HashMap::new();
    for _ in 0..300 {
        *counts.entry(name(&roster, &checked(Strategy::RoundRobin))).or_insert(0) += 1;
    }

    assert_eq!(counts, HashMap::from([("e0".into(), 100), ("e2".into(), 100), ("e3".into(), 100)]));
}

#[test]
fn workers_together_take_exact_turns() {
    let roster = Roster::new(&pool(&[1, 2, 5]));
    let rule = rule(Strategy::RoundRobin);

    let claims: Vec<Claim> = std::thread::scope(|scope| {
        let worker = || (0..1_000).filter_map(|_| claim(&roster, &rule, &[])).collect::<Vec<_>>();
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });

    assert_eq!(claims.len(), 4_000);
    let counts: Vec<u32> = roster.endpoints().iter().map(|endpoint| endpoint.vitals.in_flight()).collect();
    assert_eq!(counts, [500, 1_000, 2_500]);
}

#[test]
fn no_worker_sees_an_endpoint_beyond_its_cap() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastConnection] {
        let roster = Roster::new(&pool(&[1, 3, 1]));
        let rule = Rule { max_in_flight: 5, ..rule(strategy) };
        let beyond = AtomicBool::new(false);
        let most = AtomicU32::new(0);

        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut held = std::collections::VecDeque::new();
                    for round in 0..5_000 {
                        held.extend(claim(&roster, &rule, &[]));
                        // Even a worker that runs alone fills every slot before it gives any back in number.
                        if held.len() == 15 || round % 5 == 4 {
                            held.pop_front();
                        }
                        for endpoint in roster.endpoints() {
                            most.fetch_max(endpoint.vitals.in_flight(), Ordering::Relaxed);
                            beyond.fetch_or(endpoint.vitals.in_flight() > 5, Ordering::Relaxed);
                        }
                    }
                });
            }
        });

        assert!(!beyond.into_inner());
        assert_eq!(most.into_inner(), 5);
        assert!(roster.endpoints().iter().all(|endpoint| endpoint.vitals.in_flight() == 0));
    }
}

#[test]
fn full_is_said_only_when_every_slot_is_taken() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastConnection] {
        let roster = Roster::new(&pool(&[7, 1, 2]));
        let rule = Rule { max_in_flight: 2, ..rule(strategy) };

        let held: Vec<Claim> = (0..6).filter_map(|_| claim(&roster, &rule, &[])).collect();

        assert_eq!(held.len(), 6);
        assert!(matches!(roster.pick(&rule, &after(&[])), Pick::Full));
        drop(held);
        assert!(claim(&roster, &rule, &[]).is_some());
    }
}

#[test]
fn tried_endpoints_are_avoided_and_told_apart_from_full_ones() {
    let roster = Roster::new(&pool(&[1, 1]));
    let rule = Rule { max_in_flight: 1, ..rule(Strategy::RoundRobin) };
    let ids: Vec<EndpointId> = roster.endpoints().iter().map(|endpoint| endpoint.id).collect();

    let second = claim(&roster, &rule, &ids[..1]).unwrap();
    assert_eq!(second.endpoint().id, ids[1]);
    assert!(matches!(roster.pick(&rule, &after(&ids[..1])), Pick::Full));
    assert!(matches!(roster.pick(&rule, &after(&ids)), Pick::NoneUntried));
}

#[test]
fn unproven_endpoints_wait_unless_presumed_well_or_unchecked() {
    let roster = Roster::new(&pool(&[1]));
    let proven = checked(Strategy::RoundRobin);

    assert!(matches!(roster.pick(&proven, &after(&[])), Pick::NoneUp));
    assert!(claim(&roster, &Rule { trust: Trust::Presumed, ..proven }, &[]).is_some());
    assert!(claim(&roster, &Rule { trust: Trust::Always, ..proven }, &[]).is_some());
    roster.endpoints()[0].vitals.set_standing(Standing::Late, "slow");
    assert!(claim(&roster, &proven, &[]).is_some());
}

#[test]
fn health_is_not_heeded_below_the_panic_threshold() {
    let roster = Roster::new(&pool(&[1, 1, 1]));
    let rule = Rule { panic_threshold: 50, ..checked(Strategy::RoundRobin) };
    all_up(&roster);
    let [a, b, c] = roster.endpoints() else { unreachable!() };

    a.vitals.set_standing(Standing::Down, "test");
    assert!(!roster.is_in_panic(&rule));
    assert!((0..9).all(|_| name(&roster, &rule) != "e0"));

    b.vitals.set_standing(Standing::Down, "test");
    assert!(roster.is_in_panic(&rule));
    let mut reached: Vec<String> = (0..3).map(|_| name(&roster, &rule)).collect();
    reached.sort();
    assert_eq!(reached, ["e0", "e1", "e2"]);
    assert_eq!(claim(&roster, &rule, &[a.id]).unwrap().endpoint().id, c.id, "a repeat goes where health is");

    c.vitals.set_standing(Standing::Down, "test");
    b.vitals.set_drained(true);
    assert!((0..9).all(|_| !["", "e1"].contains(&name(&roster, &rule).as_str())));
}

#[test]
fn configuration_decides_when_all_are_down() {
    let roster = Roster::new(&pool(&[1, 1]));
    let reject = checked(Strategy::LeastConnection);
    for endpoint in roster.endpoints() {
        endpoint.vitals.set_standing(Standing::Down, "test");
    }

    assert!(matches!(roster.pick(&reject, &after(&[])), Pick::NoneUp));
    let use_all = Rule { when_all_down: WhenAllDown::UseAll, ..reject };
    assert!(claim(&roster, &use_all, &[]).is_some());
    roster.endpoints().iter().for_each(|endpoint| endpoint.vitals.set_drained(true));
    assert!(matches!(roster.pick(&use_all, &after(&[])), Pick::NoneUp));
}

#[test]
fn drained_and_disabled_endpoints_get_nothing_even_when_alone() {
    let mut wanted = pool(&[1, 1]);
    wanted[0].disabled = true;
    let roster = Roster::new(&wanted);
    roster.endpoints()[1].vitals.set_drained(true);

    assert!(matches!(roster.pick(&rule(Strategy::RoundRobin), &after(&[])), Pick::NoneUp));
    roster.endpoints()[1].vitals.set_drained(false);
    assert_eq!(name(&roster, &rule(Strategy::RoundRobin)), "e1");
}

#[test]
fn empty_roster_has_nobody() {
    let roster = Roster::new(&[]);

    assert!(matches!(roster.pick(&rule(Strategy::RoundRobin), &after(&[])), Pick::NoneUp));
    assert!(matches!(roster.pick(&rule(Strategy::LeastConnection), &after(&[])), Pick::NoneUp));
}

#[test]
fn least_connection_counts_tunnels_and_weight() {
    let roster = Roster::new(&pool(&[1, 4]));
    let rule = rule(Strategy::LeastConnection);
    let tunnels = Rule { kind: ClaimKind::Tunnel, ..rule };
    let [light, heavy] = roster.endpoints() else { unreachable!() };
    let _tunnels: Vec<Claim> = (0..3).filter_map(|_| Claim::take(heavy, &tunnels, false)).collect();
    let _light = Claim::take(light, &rule, false);

    let fourth = claim(&roster, &rule, &[]).unwrap();

    assert_eq!(fourth.endpoint().id, heavy.id, "3 of weight 4 is less than 1 of weight 1");
}

#[test]
fn idle_endpoints_get_least_connection_traffic_in_turn() {
    for count in [1, 3, 64, 65, 1_000] {
        let roster = Roster::new(&pool(&vec![1; count]));
        let rule = rule(Strategy::LeastConnection);

        let mut counts: HashMap<EndpointId, usize> = HashMap::new();
        for _ in 0..count * 4 {
            *counts.entry(claim(&roster, &rule, &[]).unwrap().endpoint().id).or_default() += 1;
        }

        assert!(counts.len() == count && counts.values().all(|picks| *picks == 4), "{count} endpoints");
    }
}

#[test]
fn least_connection_finds_the_only_free_slot_of_a_thousand() {
    let roster = Roster::new(&pool(&vec![1; 1_000]));
    let rule = Rule { max_in_flight: 1, ..rule(Strategy::LeastConnection) };

    let held: Vec<Claim> = (0..1_000).filter_map(|_| claim(&roster, &rule, &[])).collect();

    assert_eq!(held.len(), 1_000);
    assert!(matches!(roster.pick(&rule, &after(&[])), Pick::Full));
}

#[test]
fn claim_moves_to_a_tunnel_slot_or_stays_as_it_was() {
    let roster = Roster::new(&pool(&[1]));
    let endpoint = &roster.endpoints()[0];
    let counts = || (endpoint.vitals.in_flight(), endpoint.vitals.tunnels());

    let rule = Rule { max_in_flight: 2, ..rule(Strategy::RoundRobin) };

    let tunnel = Claim::take(endpoint, &rule, false).unwrap().into_tunnel(1).unwrap();
    assert_eq!((tunnel.kind(), counts()), (ClaimKind::Tunnel, (0, 1)));
    let kept = Claim::take(endpoint, &rule, false).unwrap().into_tunnel(1).unwrap_err();
    assert_eq!((kept.kind(), counts()), (ClaimKind::Exchange, (1, 1)));
    drop((tunnel, kept));
    assert_eq!(counts(), (0, 0));
}

#[test]
fn reload_keeps_in_flight_counts_health_and_turn() {
    let roster = Roster::new(&pool(&[1, 1, 1]));
    all_up(&roster);
    let held = claim(&roster, &checked(Strategy::RoundRobin), &[]).unwrap();
    let mut next = pool(&[1, 9, 1]);
    next[1].zone = Some(ZoneName::new("b"));
    next[2] = wanted("fresh", 1);

    let (successor, changes) = roster.succeed(&next);

    let names = |list: &[Arc<Endpoint>]| list.iter().map(|endpoint| endpoint.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&changes.added), ["fresh"]);
    assert_eq!(names(&changes.removed), ["e2"]);
    assert_eq!(names(&changes.kept), ["e0", "e1"]);
    assert!(Arc::ptr_eq(&roster.endpoints()[0], &successor.endpoints()[0]));
    assert_eq!((successor.endpoints()[1].id, successor.endpoints()[1].weight), (roster.endpoints()[1].id, 9));
    assert_eq!(successor.endpoints()[0].vitals.in_flight(), 1);
    assert_eq!(successor.endpoints()[1].vitals.standing(), Standing::Up);
    drop(held);
    assert_eq!(successor.endpoints()[0].vitals.in_flight(), 0);
}

#[test]
fn abandoned_succession_leaves_the_old_generation_untouched() {
    let roster = Roster::new(&pool(&[1]));
    let mut next = pool(&[1]);
    next[0].disabled = true;

    let (successor, _) = roster.succeed(&next);

    assert!(successor.endpoints()[0].is_disabled());
    assert!(!roster.endpoints()[0].is_disabled());
}

#[test]
fn standing_set_through_the_old_roster_reaches_the_new_one() {
    let roster = Roster::new(&pool(&[1, 1]));
    all_up(&roster);
    let (successor, _) = roster.succeed(&pool(&[1, 1]));
    let rule = checked(Strategy::RoundRobin);
    assert!(claim(&successor, &rule, &[]).is_some());

    roster.endpoints()[0].vitals.set_standing(Standing::Down, "refused");

    assert!((0..8).all(|_| name(&successor, &rule) == "e1"));
    assert_eq!(&*successor.endpoints()[0].vitals.reason(), "refused");
}

#[test]
fn ip_hosts_need_no_resolver() {
    let mut six = wanted("six", 1);
    six.host = "[::1]".into();
    let mut four = wanted("four", 1);
    four.host = "10.0.0.7".into();
    let roster = Roster::new(&[six, four, wanted("superset-1", 1)]);

    let addresses: Vec<_> = roster.endpoints().iter().map(|endpoint| endpoint.vitals.addresses().to_vec()).collect();

    assert_eq!(addresses, [vec!["[::1]:8088".parse().unwrap()], vec!["10.0.0.7:8088".parse().unwrap()], vec![]]);
}

#[test]
fn live_answer_ends_a_row_of_failures() {
    let roster = Roster::new(&pool(&[1]));
    let vitals = &roster.endpoints()[0].vitals;
    assert_eq!(vitals.recent(), Recent::default());

    vitals.note_live(Live::ConnectFailed, 10);
    vitals.note_live(Live::Silent, 20);
    let bad = Recent { answered_at: None, failed_at: Some(20), failures: 2, connect_failures: 1 };
    assert_eq!(vitals.recent(), bad);

    vitals.note_live(Live::Answered, 30);
    let good = Recent { answered_at: Some(30), failed_at: Some(20), failures: 0, connect_failures: 0 };
    assert_eq!(vitals.recent(), good);
}

fn weights(most: usize) -> impl proptest::strategy::Strategy<Value = Vec<u16>> {
    prop::collection::vec(1_u16..=256, 1..=most)
}

proptest! {
    #[test]
    fn each_cycle_gives_everyone_its_weight(weights in weights(16)) {
        let turns = cycle::turns(&weights);
        let sum: usize = weights.iter().map(|weight| usize::from(*weight)).sum();

        prop_assert!(sum.is_multiple_of(turns.len()));
        for (index, weight) in weights.iter().enumerate() {
            let taken = turns.iter().filter(|turn| **turn as usize == index).count();
            prop_assert_eq!(taken * (sum / turns.len()), usize::from(*weight));
        }
    }

    #[test]
    fn turns_are_spread_evenly(weights in weights(12)) {
        let turns = cycle::turns(&weights);
        let longest = |index: usize| {
            let at: Vec<usize> =
                turns.iter().chain(turns.iter()).enumerate().filter(|(_, turn)| **turn as usize == index).map(|(at, _)| at).collect();
            (at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(turns.len()), at.len() / 2)
        };

        for index in 0..weights.len() {
            let (gap, share) = longest(index);
            prop_assert!(gap <= 2 * turns.len().div_ceil(share) + 1, "gap {} with {} of {}", gap, share, turns.len());
        }
    }

    #[test]
    fn held_least_connection_claims_follow_the_weights(weights in weights(8), count in 1_usize..400) {
        let roster = Roster::new(&pool(&weights));
        let held: Vec<Claim> =
            (0..count).filter_map(|_| claim(&roster, &rule(Strategy::LeastConnection), &[])).collect();

        prop_assert_eq!(held.len(), count);
        let loads: Vec<(u32, u32)> =
            roster.endpoints().iter().map(|endpoint| (endpoint.vitals.in_flight(), endpoint.weight.into())).collect();
        for (carried, weight) in &loads {
            for (other, other_weight) in &loads {
                // Whoever was picked last carried no more, for its weight, than anybody else.
                prop_assert!(carried.saturating_sub(1) * other_weight <= other * weight);
            }
        }
    }

    #[test]
    fn succession_keeps_who_stays_and_names_who_comes_and_goes(
        before in prop::collection::btree_set(0_u8..20, 0..12), after in prop::collection::btree_set(0_u8..20, 0..12),
    ) {
        let list = |set: &std::collections::BTreeSet<u8>| -> Vec<Wanted> {
            set.iter().map(|number| wanted(&format!("e{number}"), 1)).collect()
        };
        let old = Roster::new(&list(&before));
        let (new, changes) = old.succeed(&list(&after));

        prop_assert_eq!(changes.kept.len(), before.intersection(&after).count());
        prop_assert_eq!(changes.added.len(), after.difference(&before).count());
        prop_assert_eq!(changes.removed.len(), before.difference(&after).count());
        prop_assert_eq!(new.endpoints().len(), after.len());
        for kept in &changes.kept {
            prop_assert!(old.endpoints().iter().any(|endpoint| Arc::ptr_eq(endpoint, kept)));
        }
    }

    /// Generations come and go under traffic: whoever stays keeps its number and its claims, whoever goes keeps them
    /// until they end, and nobody is ever beyond its cap.
    #[test]
    fn claims_survive_any_row_of_generations(
        steps in prop::collection::vec((0_u8..5, any::<prop::sample::Index>(), prop::collection::btree_map(0_u8..6, 1_u16..=9, 0..6)), 1..80),
        least: bool,
    ) {
        let list = |of: &std::collections::BTreeMap<u8, u16>| -> Vec<Wanted> {
            of.iter().map(|(number, weight)| wanted(&format!("e{number}"), *weight)).collect()
        };
        let strategy = if least { Strategy::LeastConnection } else { Strategy::RoundRobin };
        let rule = Rule { max_in_flight: 3, ..rule(strategy) };
        let mut roster = Roster::new(&pool(&[1, 2, 3]));
        let mut held: Vec<Claim> = Vec::new();
        for (step, index, next) in steps {
            match step {
                0..=2 => {
                    let carried: u32 = roster.endpoints().iter().map(|endpoint| endpoint.vitals.in_flight()).sum();
                    let room = u32::try_from(roster.endpoints().len()).unwrap() * 3 - carried;
                    let claimed = claim(&roster, &rule, &[]);
                    prop_assert_eq!(claimed.is_some(), room > 0);
                    held.extend(claimed);
                }
                3 if !held.is_empty() => drop(held.swap_remove(index.index(held.len()))),
                4 => {
                    let (successor, _) = roster.succeed(&list(&next));
                    for known in roster.endpoints() {
                        let stays = successor.endpoints().iter().find(|endpoint| endpoint.name == known.name);
                        prop_assert!(stays.is_none_or(|endpoint| endpoint.id == known.id));
                    }
                    roster = successor;
                }
                _ => {}
            }
            for endpoint in roster.endpoints() {
                let mine = held.iter().filter(|claim| claim.endpoint().id == endpoint.id).count();
                prop_assert_eq!(endpoint.vitals.in_flight() as usize, mine);
                prop_assert!(mine <= 3);
            }
        }
        let everybody: Vec<Arc<Endpoint>> = held.iter().map(|claim| Arc::clone(claim.endpoint())).collect();
        drop(held);
        prop_assert!(everybody.iter().all(|endpoint| endpoint.vitals.in_flight() == 0));
    }

    #[test]
    fn picks_never_leave_the_reach(
        standings in prop::collection::vec((0_u8..4, any::<bool>(), 0_u32..3), 1..9), threshold in 0_u8..=100, least: bool,
        use_all: bool, tried in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let roster = Roster::new(&pool(&vec![1; standings.len()]));
        let mut held = Vec::new();
        for (endpoint, (standing, drained, load)) in roster.endpoints().iter().zip(&standings) {
            let standing = [Standing::Unknown, Standing::Up, Standing::Late, Standing::Down][usize::from(*standing)];
            endpoint.vitals.set_standing(standing, "test");
            endpoint.vitals.set_drained(*drained);
            let two = Rule { max_in_flight: 2, ..checked(Strategy::RoundRobin) };
            held.extend((0..*load).filter_map(|_| Claim::take(endpoint, &two, false)));
        }
        let tried: Vec<EndpointId> = tried.iter().map(|index| index.get(roster.endpoints()).id).collect();
        let rule = Rule {
            strategy: if least { Strategy::LeastConnection } else { Strategy::RoundRobin },
            max_in_flight: 2,
            panic_threshold: threshold,
            when_all_down: if use_all { WhenAllDown::UseAll } else { WhenAllDown::Reject },
            ..checked(Strategy::RoundRobin)
        };
        let enabled: Vec<&Arc<Endpoint>> = roster.endpoints().iter().filter(|endpoint| !endpoint.is_disabled()).collect();
        let well: Vec<&Arc<Endpoint>> = enabled.iter().copied()
            .filter(|endpoint| matches!(endpoint.vitals.standing(), Standing::Up | Standing::Late)).collect();
        let panic = well.len() * 100 < enabled.len() * usize::from(threshold);
        let reach = if panic || (well.is_empty() && use_all) { enabled } else { well };
        let untried: Vec<_> = reach.iter().filter(|endpoint| !tried.contains(&endpoint.id)).collect();
        let free = untried.iter().any(|endpoint| endpoint.vitals.in_flight() < 2);

        match roster.pick(&rule, &after(&tried)) {
            Pick::Claimed(claim) => {
                prop_assert!(untried.iter().any(|endpoint| endpoint.id == claim.endpoint().id));
                prop_assert!(claim.endpoint().vitals.in_flight() <= 2);
            }
            Pick::Full => prop_assert!(!untried.is_empty() && !free),
            Pick::NoneUntried => prop_assert!(untried.is_empty() && !reach.is_empty()),
            Pick::NoneUp => prop_assert!(reach.is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })] // 500,000 steps each
    #[test]
    fn long_cycles_are_bounded_and_near_the_weights(weights in weights(120)) {
        let turns = cycle::turns(&weights);
        let sum: usize = weights.iter().map(|weight| usize::from(*weight)).sum();

        prop_assert!(turns.len() <= cycle::MAX_TURNS + weights.len());
        for (index, weight) in weights.iter().enumerate() {
            let taken = turns.iter().filter(|turn| **turn as usize == index).count() as f64;
            let due = usize::from(*weight) as f64 / sum as f64 * turns.len() as f64;
            prop_assert!(taken >= 1.0 && (taken - due).abs() < 1.5, "{} turns for {}", taken, due);
        }
    }
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

#[test]
fn backups_serve_for_what_is_missing_of_the_first_group() {
    let roster = Roster::new(&tiered(&[(0, false), (0, false), (0, false), (0, false), (1, false)]));
    let rule = Rule { panic_threshold: 20, ..checked(Strategy::RoundRobin) };
    all_up(&roster);
    let down = |index: usize| roster.endpoints()[index].vitals.set_standing(Standing::Down, "test");

    assert_eq!(picks(&roster, &rule, 400)[4], 0);
    down(0);
    down(1);
    assert_eq!(picks(&roster, &rule, 400), [0, 0, 200, 200, 0], "half of it is enough");
    down(2);
    let shares = picks(&roster, &rule, 400);
    assert!((198..=202).contains(&shares[3]) && (198..=202).contains(&shares[4]), "a quarter takes half: {shares:?}");
    down(3);
    assert!(!roster.is_in_panic(&rule), "the backup is well");
    assert_eq!(picks(&roster, &rule, 40), [0, 0, 0, 0, 40]);
}

#[test]
fn pool_is_in_panic_only_when_none_of_its_groups_is_well() {
    let roster = Roster::new(&tiered(&[(0, false), (0, false), (1, false), (1, false)]));
    let rule = Rule { panic_threshold: 50, ..checked(Strategy::RoundRobin) };
    all_up(&roster);
    let down = |index: usize| roster.endpoints()[index].vitals.set_standing(Standing::Down, "test");

    down(0);
    down(1);
    assert!(!roster.is_in_panic(&rule));
    down(2);
    assert!(!roster.is_in_panic(&rule));
    down(3);
    assert!(roster.is_in_panic(&rule));
    assert_eq!(picks(&roster, &rule, 40), [10, 10, 10, 10]);
}

#[test]
fn own_zone_is_preferred_while_as_much_of_it_is_well_as_elsewhere() {
    let zones = [(0, true), (0, true), (0, false), (0, false), (0, false), (0, false)];
    let roster = Roster::new(&tiered(&zones));
    let rule = Rule { panic_threshold: 20, ..checked(Strategy::RoundRobin) };
    all_up(&roster);
    let set = |index: usize, standing| _ = roster.endpoints()[index].vitals.set_standing(standing, "test");

    assert_eq!(picks(&roster, &rule, 600), [300, 300, 0, 0, 0, 0]);
    set(0, Standing::Down);
    // Half of the zone is well and five of six in all: 3 in 5 stay.
    let shares = picks(&roster, &rule, 1_000);
    assert!((590..=610).contains(&shares[1]), "{shares:?}");
    assert!(shares[2..].iter().all(|share| (95..=105).contains(share)), "{shares:?}");
    set(1, Standing::Down);
    assert_eq!(picks(&roster, &rule, 400), [0, 0, 100, 100, 100, 100], "the zone is gone");
    set(0, Standing::Up);
    set(1, Standing::Late);
    assert_eq!(picks(&roster, &rule, 600), [300, 300, 0, 0, 0, 0], "and comes back");
}

#[test]
fn other_zones_help_before_the_own_one_is_full() {
    let roster = Roster::new(&tiered(&[(0, true), (0, false), (0, false)]));
    let rule = Rule { max_in_flight: 8, ..checked(Strategy::LeastConnection) };
    all_up(&roster);

    let held: Vec<Claim> = (0..12).filter_map(|_| claim(&roster, &rule, &[])).collect();

    let carried: Vec<u32> = roster.endpoints().iter().map(|endpoint| endpoint.vitals.in_flight()).collect();
    assert_eq!((held.len(), carried), (12, vec![6, 3, 3]), "three quarters at home, the rest where least is carried");
}

#[test]
fn ejected_endpoint_takes_nothing_while_another_can() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastConnection] {
        let roster = Roster::new(&pool(&[1, 1]));
        let rule = Rule { max_in_flight: 2, ..checked(strategy) };
        all_up(&roster);
        let [bad, good] = roster.endpoints() else { unreachable!() };
        bad.vitals.set_bench(Bench::Out);

        let held: Vec<Claim> = (0..2).filter_map(|_| claim(&roster, &rule, &[])).collect();
        assert!(held.iter().all(|claim| claim.endpoint().id == good.id));
        assert!(
            matches!(roster.pick(&rule, &after(&[])), Pick::Full),
            "waiting for who is well beats asking who is not"
        );
        assert_eq!(claim(&roster, &rule, &[good.id]).unwrap().endpoint().id, bad.id, "the last resort of a repeat");
        good.vitals.set_standing(Standing::Down, "test");
        assert_eq!(claim(&roster, &rule, &[]).unwrap().endpoint().id, bad.id, "better than nobody");
    }
}

#[test]
fn ejections_do_not_bring_a_pool_into_panic() {
    let roster = Roster::new(&pool(&[1, 1, 1]));
    let rule = Rule { panic_threshold: 50, ..checked(Strategy::RoundRobin) };
    all_up(&roster);
    let [dead, bad, good] = roster.endpoints() else { unreachable!() };
    dead.vitals.set_standing(Standing::Down, "test");
    bad.vitals.set_bench(Bench::Out);

    assert!(!roster.is_in_panic(&rule));
    assert!((0..9).all(|_| claim(&roster, &rule, &[]).unwrap().endpoint().id == good.id));
}

#[test]
fn one_exchange_that_can_be_repeated_tries_an_ejected_endpoint_out() {
    let roster = Roster::new(&pool(&[1, 1]));
    let rule = checked(Strategy::LeastConnection);
    all_up(&roster);
    let [bad, good] = roster.endpoints() else { unreachable!() };
    bad.vitals.set_bench(Bench::Trial);
    let ask = |expendable| match roster.pick(&rule, &Ask { tried: &[], expendable }) {
        Pick::Claimed(claim) => claim.endpoint().id,
        other => panic!("{other:?}"),
    };

    assert_eq!(ask(false), good.id);
    assert_eq!(ask(true), bad.id);
    assert_eq!((bad.vitals.bench(), ask(true)), (Bench::OnTrial, good.id));
    bad.vitals.set_bench(Bench::OpenTrial);
    assert_eq!((ask(false), ask(false)), (bad.id, good.id));
}

#[test]
fn cold_endpoint_takes_the_share_that_its_warmth_allows() {
    for (strategy, within) in [(Strategy::RoundRobin, 195..=205), (Strategy::LeastConnection, 180..=240)] {
        let roster = Roster::new(&pool(&[1, 1, 1]));
        let rule = checked(strategy);
        all_up(&roster);
        roster.endpoints()[1].vitals.set_warmth(20);

        let shares = picks(&roster, &rule, 2_200);

        // 20 of 220 parts.
        assert!(within.contains(&shares[1]), "{strategy:?}: {shares:?}");
        assert!(shares[0].abs_diff(shares[2]) <= 60, "{strategy:?}: {shares:?}");
    }
}

#[test]
fn cold_endpoint_takes_more_rather_than_let_anybody_wait() {
    let roster = Roster::new(&pool(&[1, 1]));
    let rule = Rule { max_in_flight: 2, ..checked(Strategy::RoundRobin) };
    all_up(&roster);
    roster.endpoints()[0].vitals.set_warmth(1);

    assert_eq!((0..4).filter_map(|_| claim(&roster, &rule, &[])).collect::<Vec<_>>().len(), 4);
}

#[test]
fn endpoint_that_swallows_connects_holds_no_more_than_its_share() {
    let roster = Roster::new(&pool(&[1]));
    let rule = Rule { max_pending: 2, ..rule(Strategy::RoundRobin) };

    let mut first = claim(&roster, &rule, &[]).unwrap();
    let second = claim(&roster, &rule, &[]).unwrap();
    assert!(matches!(roster.pick(&rule, &after(&[])), Pick::Full));
    assert_eq!(first.settle(), 2);
    assert_eq!(first.settle(), 0, "once only");
    let third = claim(&roster, &rule, &[]).unwrap();

    let vitals = &roster.endpoints()[0].vitals;
    assert_eq!((vitals.in_flight(), vitals.pending(), vitals.reached().pending), (3, 2, 2));
    drop((first, second, third));
    assert_eq!((vitals.in_flight(), vitals.pending(), vitals.retries()), (0, 0, 0));
}

#[test]
fn repeats_leave_slots_to_first_attempts() {
    let roster = Roster::new(&pool(&[1, 1]));
    let rule = Rule { max_retries: 1, max_in_flight: 3, ..rule(Strategy::RoundRobin) };
    let failed = [roster.endpoints()[0].id];
    let other = &roster.endpoints()[1].vitals;

    let repeat = claim(&roster, &rule, &failed).unwrap();
    assert!(matches!(roster.pick(&rule, &after(&failed)), Pick::Full));
    let held: Vec<Claim> = (0..5).filter_map(|_| claim(&roster, &rule, &[])).collect();

    assert_eq!((held.len(), other.in_flight(), other.retries()), (5, 3, 1));
    drop(repeat);
    assert_eq!((other.in_flight(), other.retries()), (2, 0));
}

#[test]
fn rows_of_failures_are_told_apart() {
    let roster = Roster::new(&pool(&[1]));
    let vitals = &roster.endpoints()[0].vitals;

    vitals.note_live(Live::ConnectFailed, 1);
    let seen = vitals.note_live(Live::Silent, 2);
    assert_eq!(seen, Seen { errors: 2, connects: 1, silences: 1, gateway: 2 });
    let seen = vitals.note_live(Live::Unserved, 3);
    assert_eq!(seen, Seen { errors: 3, connects: 0, silences: 0, gateway: 3 });
    let seen = vitals.note_live(Live::Erred, 4);
    assert_eq!(seen, Seen { errors: 4, ..Seen::default() });
    assert_eq!(vitals.note_live(Live::Answered, 5), Seen::default());
    assert_eq!(vitals.tally(), Tally { attempts: 5, errors: 4, seen: Seen::default() });
}

proptest! {
    /// However endpoints are tiered, ill, ejected and full: a pick takes no one that is out while one that is well has
    /// room, and says "full" only when that is so.
    #[test]
    fn tiers_and_ejections_never_cost_a_slot(
        endpoints in prop::collection::vec((0_u8..3, any::<bool>(), 0_u8..4, any::<bool>(), 0_u32..3), 1..10), least: bool,
        spill_below in 1_u8..=100, turns in 1_usize..20,
    ) {
        let tiers: Vec<(u8, bool)> = endpoints.iter().map(|(priority, near, ..)| (*priority, *near)).collect();
        let roster = Roster::new(&tiered(&tiers));
        let strategy = if least { Strategy::LeastConnection } else { Strategy::RoundRobin };
        let rule = Rule { max_in_flight: 2, spill_below, ..checked(strategy) };
        let mut held = Vec::new();
        for (endpoint, (.., standing, ejected, load)) in roster.endpoints().iter().zip(&endpoints) {
            endpoint.vitals.set_standing([Standing::Up, Standing::Up, Standing::Late, Standing::Down][usize::from(*standing)], "test");
            if *ejected {
                endpoint.vitals.set_bench(Bench::Out);
            }
            held.extend((0..*load).filter_map(|_| Claim::take(endpoint, &rule, false)));
        }
        let well = |endpoint: &&Arc<Endpoint>| endpoint.is_favoured(Trust::Proven);
        let any_well = roster.endpoints().iter().any(|endpoint| well(&endpoint));
        let any_usable = roster.endpoints().iter().any(|endpoint| endpoint.is_usable(Trust::Proven));
        let shares = roster.shares(&rule);
        prop_assert!(shares.iter().all(|(_, percent)| *percent <= 100));

        for _ in 0..turns {
            match roster.pick(&rule, &after(&[])) {
                Pick::Claimed(claim) => {
                    let endpoint = claim.endpoint();
                    prop_assert!(endpoint.is_usable(Trust::Proven));
                    prop_assert!(!any_well || well(&endpoint));
                    prop_assert!(shares.is_empty() || shares.iter().any(|(tier, _)| tier.priority == endpoint.tier.priority));
                    held.push(claim);
                }
                Pick::Full => {
                    let in_reach = |endpoint: &&Arc<Endpoint>| {
                        (well(endpoint) || (!any_well && endpoint.is_usable(Trust::Proven)))
                            && (shares.is_empty() || shares.iter().any(|(tier, _)| tier.priority == endpoint.tier.priority))
                    };
                    prop_assert!(roster.endpoints().iter().filter(in_reach).all(|endpoint| endpoint.vitals.in_flight() == 2));
                }
                Pick::NoneUp => prop_assert!(!any_usable),
                Pick::NoneUntried => prop_assert!(false, "nobody was tried"),
            }
        }
    }
}
