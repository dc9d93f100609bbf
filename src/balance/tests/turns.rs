//! Who is next: shares by weight, in turns and by load, also of workers in parallel.

use super::*;

#[test]
fn weighted_turns_are_spread_out() {
    let roster = Roster::new(&pool(&[50, 10, 10]));

    let order: Vec<String> = (0..7).map(|_| name(&roster, &rule(Strategy::RoundRobin))).collect();

    assert_eq!(order, ["e0", "e0", "e1", "e0", "e2", "e0", "e0"]);
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
}
