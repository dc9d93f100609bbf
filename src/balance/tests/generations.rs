//! What a roster hands on to the next one.

use super::*;

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

proptest! {
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
}
