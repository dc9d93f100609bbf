//! Replicas that fall ill, over simulated time.

use proptest::prelude::*;

use super::*;

const CONFIG: Outliers = Outliers {
    gateway_errors: 5,
    connect_failures: 3,
    timeouts: 3,
    statuses: Vec::new(),
    error_points: 30,
    min_requests: 5,
    window: Duration::from_secs(10),
    time: Duration::from_secs(10),
    max_time: Duration::from_secs(60),
    max_ejected: 50,
};

/// What a replica does with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Does {
    Answer,
    /// 500.
    Err,
    /// 503.
    Refuse,
    /// No connection.
    Hide,
    /// No answer in time.
    Hang,
}

/// A pool whose replicas are asked in turn, as far as the panel leaves them in.
struct Pool {
    panel: Panel<usize>,
    samples: Vec<Sample<usize>>,
    out: Vec<bool>,
    open: Vec<bool>,
    now: u64,
}

impl Pool {
    fn of(count: usize) -> Self {
        let sample = |key| Sample {
            key,
            usable: true,
            attempts: 0,
            errors: 0,
            rows: Rows::default(),
            in_flight: 0,
            on_trial: false,
        };
        let samples = (0..count).map(sample).collect();
        let mut pool =
            Self { panel: Panel::default(), samples, out: vec![false; count], open: vec![false; count], now: 0 };
        pool.judge();
        pool
    }

    fn ask(&mut self, replica: usize, does: Does) {
        let sample = &mut self.samples[replica];
        sample.attempts = sample.attempts.wrapping_add(1);
        sample.errors = sample.errors.wrapping_add(u32::from(does != Does::Answer));
        let rows = sample.rows;
        sample.rows = match does {
            Does::Answer | Does::Err => Rows::default(),
            Does::Refuse => Rows { connects: 0, silences: 0, gateway: rows.gateway + 1 },
            Does::Hide => Rows { connects: rows.connects + 1, gateway: rows.gateway + 1, ..rows },
            Does::Hang => Rows { silences: rows.silences + 1, gateway: rows.gateway + 1, ..rows },
        };
    }

    fn judge(&mut self) -> Vec<(usize, Ruling)> {
        let rulings = self.panel.judge(&self.samples, &CONFIG, self.now);
        for (key, ruling) in &rulings {
            self.out[*key] = matches!(ruling, Ruling::Eject(..) | Ruling::Trial { .. });
            self.open[*key] = matches!(ruling, Ruling::Trial { .. });
            if matches!(ruling, Ruling::Return | Ruling::Forgive) {
                self.samples[*key].rows = Rows::default();
            }
            if !self.open[*key] {
                self.samples[*key].on_trial = false;
            }
        }
        rulings
    }

    /// `rounds` rounds of requests a quarter of a second apart; says what was ruled.
    fn live(&mut self, rounds: usize, does: impl Fn(usize) -> Does) -> Vec<(usize, Ruling)> {
        let mut rulings = Vec::new();
        for _ in 0..rounds {
            for replica in 0..self.samples.len() {
                if self.open[replica] {
                    self.samples[replica].on_trial = true;
                    self.open[replica] = false;
                    self.ask(replica, does(replica));
                } else if !self.out[replica] {
                    self.ask(replica, does(replica));
                }
            }
            rulings.extend(self.judge());
            self.now += 250;
        }
        rulings
    }
}

fn ejected(rulings: &[(usize, Ruling)]) -> Vec<(usize, Cause, u64)> {
    let of = |(key, ruling): &(usize, Ruling)| match ruling {
        Ruling::Eject(cause, time) => Some((*key, *cause, time.as_secs())),
        Ruling::Trial { .. } | Ruling::Return | Ruling::Forgive => None,
    };
    rulings.iter().filter_map(of).collect()
}

fn only(ill: usize, does: Does) -> impl Fn(usize) -> Does {
    move |replica| if replica == ill { does } else { Does::Answer }
}

#[test]
fn each_way_to_be_ill_is_found_by_its_own_sign() {
    let found = |does| ejected(&Pool::of(3).live(12, only(1, does)))[0];

    assert_eq!(found(Does::Err), (1, Cause::Errors(100, 0), 10));
    assert_eq!(found(Does::Refuse), (1, Cause::Gateway(5), 10));
    assert_eq!(found(Does::Hide), (1, Cause::Connect(3), 10));
    assert_eq!(found(Does::Hang), (1, Cause::Silent(3), 10));
}

#[test]
fn what_all_suffer_ejects_nobody() {
    for does in [Does::Err, Does::Refuse, Does::Hide, Does::Hang] {
        let mut pool = Pool::of(3);
        pool.live(40, |_| Does::Answer);

        assert_eq!(ejected(&pool.live(200, |_| does)), [], "{does:?}");
    }
}

#[test]
fn few_errors_here_and_there_eject_nobody() {
    let mut pool = Pool::of(3);
    let step = std::cell::Cell::new(0_u32);
    // Every fifth answer is 500, on whichever replica it falls.
    let broken_chart = |_| {
        step.set(step.get() + 1);
        if step.get().is_multiple_of(5) { Does::Err } else { Does::Answer }
    };

    assert_eq!(ejected(&pool.live(500, broken_chart)), []);
}

#[test]
fn ejection_lasts_twice_as_long_each_time_up_to_a_bound() {
    let mut pool = Pool::of(3);

    let times: Vec<u64> = ejected(&pool.live(1_000, only(0, Does::Err))).iter().map(|(.., time)| *time).collect();

    assert_eq!(times[..5], [10, 20, 40, 60, 60]);
}

#[test]
fn good_trial_brings_an_endpoint_back_and_good_conduct_makes_forget() {
    let mut pool = Pool::of(3);
    assert_eq!(ejected(&pool.live(8, only(2, Does::Refuse))).len(), 1);

    let rulings = pool.live(45, |_| Does::Answer);
    assert_eq!(rulings, [(2, Ruling::Trial { any: false }), (2, Ruling::Return)]);
    assert_eq!(ejected(&pool.live(8, only(2, Does::Refuse)))[0].2, 20);
    pool.live(4 * 20 + 4 * 130, |_| Does::Answer);
    assert_eq!(ejected(&pool.live(8, only(2, Does::Refuse)))[0].2, 10, "two minutes make two ejections forgotten");
}

#[test]
fn trial_that_nobody_takes_is_opened_to_all_and_one_that_is_dropped_again() {
    let mut pool = Pool::of(2);
    pool.live(8, only(0, Does::Refuse));
    pool.now += 10_000;
    assert_eq!(pool.judge(), [(0, Ruling::Trial { any: false })]);
    pool.now += 3_000;
    assert_eq!(pool.judge(), [(0, Ruling::Trial { any: true })]);

    pool.samples[0].on_trial = true;
    pool.samples[0].in_flight = 1;
    assert_eq!(pool.judge(), []);
    pool.now += 1_000;
    pool.samples[0].in_flight = 0;
    assert_eq!(pool.judge(), [(0, Ruling::Trial { any: true })], "its client left");
    pool.samples[0].on_trial = true;
    pool.samples[0].in_flight = 1;
    assert_eq!(pool.judge(), []);
    pool.now += 10_000;
    assert_eq!(pool.judge(), [(0, Ruling::Eject(Cause::TrialSilent, Duration::from_secs(20)))]);
}

#[test]
fn checks_have_the_last_word() {
    let mut pool = Pool::of(3);
    pool.live(8, only(0, Does::Refuse));

    pool.samples[0].usable = false;
    assert_eq!(pool.judge(), [(0, Ruling::Forgive)]);
    pool.samples[0].rows = Rows { connects: 9, silences: 0, gateway: 9 };
    pool.samples[0].usable = true;
    assert_eq!(pool.judge(), [(0, Ruling::Forgive)], "what was before it came up does not count");
}

proptest! {
    /// Whatever replicas do and whenever they go down: never more than the cap is out, never the last one, and once all
    /// is well everybody comes back.
    #[test]
    fn pool_is_never_emptied_and_always_heals(
        count in 1_usize..7, steps in prop::collection::vec((0_usize..7, 0_u8..6, 1_u64..2_000), 1..400),
    ) {
        let mut pool = Pool::of(count);
        for (replica, step, pause) in steps {
            let replica = replica % count;
            match step {
                0 => pool.samples[replica].usable ^= true,
                _ if pool.out[replica] && !pool.open[replica] => {}
                does => {
                    if std::mem::take(&mut pool.open[replica]) {
                        pool.samples[replica].on_trial = true;
                    }
                    pool.ask(replica, [Does::Answer, Does::Err, Does::Refuse, Does::Hide, Does::Hang][usize::from(does - 1)]);
                }
            }
            pool.judge();
            pool.now += pause;

            let out = pool.out.iter().filter(|out| **out).count();
            prop_assert!(out <= (count / 2).max(1) && out < count.max(1));
        }
        pool.samples.iter_mut().for_each(|sample| sample.usable = true);
        pool.live(4 * 130, |_| Does::Answer);
        prop_assert!(pool.out.iter().all(|out| !out));
    }
}
