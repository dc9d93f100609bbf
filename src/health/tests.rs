//! When checks change the standing of an endpoint, on a clock of the tests.

use proptest::prelude::*;

use super::*;
use crate::config::pool::Check;

const QUIET: Traffic = Traffic { answered_at: None, failed_at: None, connect_failures: 0 };
const GOOD: Outcome = Outcome::Good { elapsed: Duration::from_millis(10) };
const SLOW: Outcome = Outcome::Good { elapsed: Duration::from_secs(3) };
const DEEP: Outcome = Outcome::Late(Lateness::Deep(Failure::Status(StatusCode::INTERNAL_SERVER_ERROR)));
const SILENT: Outcome = Outcome::Failed(Failure::Silent);
const REFUSED: Outcome = Outcome::Failed(Failure::Refused);

fn health() -> Health {
    Health {
        check: Check::Tcp,
        interval: Duration::from_secs(5),
        fast_interval: Duration::from_secs(1),
        jitter_percent: 20,
        late_after: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        rise: 2,
        fall: 3,
        initially_up: false,
        deep: None,
    }
}

fn flips(outcomes: &[Outcome]) -> Vec<Standing> {
    let mut streak = Streak::new(Standing::Unknown);
    outcomes.iter().filter_map(|outcome| streak.on(*outcome, &health(), &QUIET, 0)).map(|flip| flip.to).collect()
}

fn up() -> Streak {
    let mut streak = Streak::new(Standing::Up);
    streak.on(GOOD, &health(), &QUIET, 0);
    streak
}

#[test]
fn endpoint_rises_and_falls_after_checks_in_a_row() {
    assert_eq!(flips(&[GOOD, REFUSED, GOOD]), []);
    assert_eq!(flips(&[GOOD, GOOD, REFUSED, REFUSED, GOOD, REFUSED, REFUSED]), [Standing::Up]);
    assert_eq!(flips(&[GOOD, GOOD, SILENT, REFUSED, SILENT, GOOD, GOOD]), [Standing::Up, Standing::Down, Standing::Up]);
    assert_eq!(flips(&[REFUSED; 9]), [Standing::Down]);
}

#[test]
fn late_answers_keep_an_endpoint_in_and_bring_it_in() {
    assert_eq!(flips(&[SLOW, SLOW]), [Standing::Late]);
    assert_eq!(flips(&[GOOD, SLOW, GOOD, GOOD]), [Standing::Late, Standing::Up]);
    assert_eq!(flips(&[GOOD, GOOD, SLOW, GOOD, SLOW, SLOW]), [Standing::Up, Standing::Late]);
    assert_eq!(flips(&[GOOD, GOOD, SILENT, SILENT, SLOW, SILENT, SILENT]), [Standing::Up]);
}

#[test]
fn failing_deep_check_degrades_and_never_ejects() {
    let mut outcomes = vec![GOOD, GOOD];
    outcomes.extend([DEEP; 50]);

    assert_eq!(flips(&outcomes), [Standing::Up, Standing::Late]);
}

#[test]
fn silent_check_counts_as_late_while_live_traffic_is_answered() {
    let mut streak = up();
    let busy = Traffic { answered_at: Some(100_000), ..QUIET };

    let seen: Vec<_> = (0..9).filter_map(|_| streak.on(SILENT, &health(), &busy, 104_000)).collect();

    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].to, seen[0].reason), (Standing::Late, Reason::Late(Lateness::Busy)));
    let old: Vec<_> = (0..9).filter_map(|_| streak.on(SILENT, &health(), &busy, 105_001)).collect();
    assert_eq!(old[0].to, Standing::Down);
}

#[test]
fn live_traffic_does_not_excuse_a_refused_connection_or_a_wrong_status() {
    for failure in [Failure::Refused, Failure::Status(StatusCode::SERVICE_UNAVAILABLE)] {
        let mut streak = up();
        let busy = Traffic { answered_at: Some(0), ..QUIET };

        let seen: Vec<_> = (0..3).filter_map(|_| streak.on(Outcome::Failed(failure), &health(), &busy, 0)).collect();

        assert_eq!(seen[0].reason, Reason::Failures(3, failure));
    }
}

#[test]
fn refused_check_confirms_what_live_traffic_met() {
    let dead = Traffic { answered_at: None, failed_at: Some(0), connect_failures: 3 };

    let flip = up().on(REFUSED, &health(), &dead, 0).unwrap();

    assert_eq!((flip.from, flip.to, flip.reason), (Standing::Up, Standing::Down, Reason::Traffic(3, Failure::Refused)));
    assert_eq!(up().on(SILENT, &health(), &dead, 0), None);
    assert_eq!(up().on(REFUSED, &health(), &Traffic { connect_failures: 2, ..dead }, 0), None);
}

#[test]
fn checks_come_faster_in_transition_and_while_live_traffic_fails() {
    let middle =
        |streak: &Streak, traffic: &Traffic, now| streak.next_delay(&health(), traffic, now, 1 << 31).as_millis();
    let failing = Traffic { failed_at: Some(1_000), ..QUIET };
    let recovered = Traffic { answered_at: Some(1_001), ..failing };

    assert_eq!(middle(&Streak::new(Standing::Unknown), &QUIET, 0), 1_000);
    assert_eq!(middle(&up(), &QUIET, 0), 5_000);
    assert_eq!(middle(&up(), &failing, 2_000), 1_000);
    assert_eq!(middle(&up(), &failing, 7_000), 5_000);
    assert_eq!(middle(&up(), &recovered, 2_000), 5_000);
    let mut streak = up();
    streak.on(REFUSED, &health(), &QUIET, 0);
    assert_eq!(middle(&streak, &QUIET, 0), 1_000);
    let flips = (0..2).filter_map(|_| streak.on(REFUSED, &health(), &QUIET, 0)).count();
    assert_eq!(flips, 1);
    assert_eq!(middle(&streak, &failing, 1_000), 5_000, "it is down, everybody knows");
}

#[test]
fn reasons_are_words() {
    assert_eq!(Reason::Failures(3, Failure::Status(StatusCode::BAD_GATEWAY)).to_string(), "status 502, 3 in a row");
    assert_eq!(Reason::Late(Lateness::Slow(Duration::from_millis(3_210))).to_string(), "answered after 3.2s");
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![GOOD, SLOW, DEEP, SILENT, REFUSED])
}

proptest! {
    #[test]
    fn standing_follows_from_the_last_checks(
        outcomes in prop::collection::vec(outcome(), 0..60), rise in 1_u32..5, fall in 1_u32..5,
    ) {
        let health = Health { rise, fall, ..health() };
        let mut streak = Streak::new(Standing::Unknown);
        for (index, outcome) in outcomes.iter().enumerate() {
            let before = streak.standing();
            let flip = streak.on(*outcome, &health, &QUIET, 0);

            prop_assert_eq!(flip.is_some(), before != streak.standing());
            let in_a_row = |alike: fn(&Outcome) -> bool| outcomes[..=index].iter().rev().take_while(|past| alike(past)).count();
            let failures = in_a_row(|past| matches!(past, Outcome::Failed(_)));
            let alive = in_a_row(|past| !matches!(past, Outcome::Failed(_)));
            // Down exactly when the last failures suffice and nothing has brought it back.
            prop_assert!(failures < fall as usize || streak.standing() == Standing::Down);
            prop_assert!(alive < rise as usize || matches!(streak.standing(), Standing::Up | Standing::Late));
            if let Some(flip) = flip {
                prop_assert_eq!((flip.from, flip.to), (before, streak.standing()));
                prop_assert!(flip.to != Standing::Down || failures >= fall as usize);
            }
        }
    }

    #[test]
    fn jitter_stays_within_its_share(percent in 0_u8..=100, random: u32) {
        let health = Health { jitter_percent: percent, ..health() };

        let delay = up().next_delay(&health, &QUIET, 0, random).as_millis();

        let share = 50 * u128::from(percent);
        prop_assert!((5_000 - share..=5_000 + share).contains(&delay), "{} ms", delay);
    }
}
