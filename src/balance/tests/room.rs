//! Caps: no endpoint ever gets more than its slots, and "full" is said only when all are taken.

use super::*;

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
