//! Priority groups and zones: who helps whom, and when.

use super::*;

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
