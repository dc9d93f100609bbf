//! The line against what it promises: nobody is lost, nobody overtakes in its own row, and nobody waits for more than a
//! round of the others.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { length: 100, per_client: 60, express_length: 16 };

fn client(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

/// Serves up to `slots` and says who they were.
fn serve<T>(line: &mut Line<T>, mut slots: usize) -> Vec<T> {
    let mut served = Vec::new();
    let offer = |_: &T| match slots.checked_sub(1) {
        Some(left) => {
            slots = left;
            (Service::Done, ())
        }
        None => (Service::Over, ()),
    };
    line.serve(offer, |who, ()| served.push(who));
    served
}

#[test]
fn dashboard_with_forty_charts_does_not_keep_another_user_waiting() {
    let mut line = Line::default();
    for chart in 0..40 {
        line.join(Lane::Main, client(1), &BOUNDS, ("dashboard", chart)).unwrap();
    }
    line.join(Lane::Main, client(2), &BOUNDS, ("other", 0)).unwrap();

    assert_eq!(serve(&mut line, 3), [("dashboard", 0), ("other", 0), ("dashboard", 1)]);
}

#[test]
fn lanes_take_turns_and_one_that_is_empty_leaves_its_turn() {
    let mut line = Line::default();
    for number in 0..4 {
        line.join(Lane::Main, client(number), &BOUNDS, "query").unwrap();
        line.join(Lane::Express, client(number), &BOUNDS, "login").unwrap();
    }

    assert_eq!(serve(&mut line, 6), ["login", "query", "login", "query", "login", "query"]);
    assert_eq!(serve(&mut line, 9), ["login", "query"]);
    line.join(Lane::Main, client(1), &BOUNDS, "query").unwrap();
    line.join(Lane::Main, client(1), &BOUNDS, "query").unwrap();
    assert_eq!(serve(&mut line, 9), ["query", "query"]);
}

#[test]
fn each_bound_has_its_own_refusal() {
    let bounds = Bounds { length: 3, per_client: 2, express_length: 4 };
    let mut line = Line::default();
    let mut join = |lane, number| line.join(lane, client(number), &bounds, ()).err();

    assert_eq!((join(Lane::Main, 1), join(Lane::Main, 1)), (None, None));
    assert_eq!(join(Lane::Main, 1), Some(NoPlace::ClientFull));
    assert_eq!((join(Lane::Main, 2), join(Lane::Main, 3)), (None, Some(NoPlace::Full)));
    assert_eq!((join(Lane::Express, 1), join(Lane::Express, 1)), (None, Some(NoPlace::ClientFull)));
    assert_eq!(line.len(), 4);
}

#[test]
fn who_finds_no_room_in_the_express_lane_stands_in_everybodys() {
    let bounds = Bounds { length: 3, per_client: 2, express_length: 4 };
    let mut line = Line::default();
    let mut lanes = Vec::new();

    while let Ok(ticket) = line.join(Lane::Express, client(1), &bounds, ()) {
        lanes.push(ticket.lane());
    }

    assert_eq!(lanes, [Lane::Express, Lane::Main, Lane::Main]);
    assert_eq!(line.join(Lane::Express, client(2), &bounds, ()).unwrap().lane(), Lane::Express);
}

#[test]
fn who_cannot_be_served_now_holds_nobody_up() {
    let mut line = Line::default();
    for who in ["picky", "plain"] {
        line.join(Lane::Main, client(1), &BOUNDS, who).unwrap();
    }
    line.join(Lane::Main, client(2), &BOUNDS, "plain").unwrap();

    let mut served = Vec::new();
    line.serve(|who| (if *who == "picky" { Service::Skip } else { Service::Done }, ()), |who, ()| served.push(who));

    assert_eq!((served.as_slice(), line.len()), (["plain", "plain"].as_slice(), 1));
}

proptest! {
    /// Clients come, go and are served in any order. While a client waits, each of the others is served at most once
    /// more than it; its own are served in their order; and every place is accounted for.
    #[test]
    fn nobody_is_lost_and_nobody_is_starved(steps in prop::collection::vec((0_u8..6, 0_u8..4, any::<prop::sample::Index>()), 1..300)) {
        let mut line: Line<(u8, u64)> = Line::default();
        let mut waiting: Vec<(Ticket, u8, u64)> = Vec::new();
        // How often each client was served since the one who waits came to wait or was last served.
        let mut since: HashMap<(u8, u8), u32> = HashMap::new();
        let mut number = 0;
        for (step, who, index) in steps {
            match step {
                0..=2 => {
                    number += 1;
                    if let Ok(ticket) = line.join(Lane::Main, client(who), &BOUNDS, (who, number)) {
                        if !waiting.iter().any(|(_, client, _)| *client == who) {
                            since.retain(|(of, _), _| *of != who);
                        }
                        waiting.push((ticket, who, number));
                    }
                }
                3 if !waiting.is_empty() => {
                    let (ticket, ..) = waiting.swap_remove(index.index(waiting.len()));
                    line.leave(&ticket);
                    line.leave(&ticket);
                }
                _ => {
                    for (who, number) in serve(&mut line, 1) {
                        let first = waiting.iter().filter(|(_, of, _)| *of == who).map(|(.., number)| *number).min();
                        prop_assert_eq!(Some(number), first);
                        waiting.retain(|(.., of)| *of != number);
                        since.retain(|(of, _), _| *of != who);
                        for (_, other, _) in waiting.iter().filter(|(_, other, _)| *other != who) {
                            since.entry((*other, who)).or_insert(0);
                        }
                        let waiters: Vec<u8> = waiting.iter().map(|(_, other, _)| *other).filter(|other| *other != who).collect();
                        for ((of, by), count) in &mut since {
                            if *by == who && waiters.contains(of) {
                                *count += 1;
                                prop_assert!(*count <= 1, "{} was served {} times while {} waited", by, count, of);
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(line.len(), waiting.len());
            prop_assert_eq!(line.main.turns.len(), line.main.waiting.len());
        }
        let rest = serve(&mut line, usize::MAX).len();
        prop_assert_eq!((rest, line.len()), (waiting.len(), 0));
    }
}
