//! Who is asked at all: checks, drains, panic, ejections, and what was tried before.

use super::*;

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
