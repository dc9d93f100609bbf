//! Budgets under simulated time.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::lexicon::PoolName;

/// A Thursday in 2026, in the middle of an hour.
const START: u64 = 1_795_000_000;

fn objectives() -> Objectives {
    Objectives {
        availability: "99.9%".parse().unwrap(),
        latency: "99%".parse().unwrap(),
        latency_threshold: Duration::from_secs(10),
    }
}

/// A pool that is looked at every ten seconds.
struct Pool {
    meter: Meter,
    now: u64,
    good: u64,
    slow: u64,
    client: u64,
    proxy: u64,
    endpoint: u64,
    able: bool,
    endpoints: Vec<(&'static str, Option<&'static str>, u64, bool)>,
}

impl Pool {
    fn new() -> Self {
        let mut pool = Self {
            meter: Meter::default(),
            now: START,
            good: 0,
            slow: 0,
            client: 0,
            proxy: 0,
            endpoint: 0,
            able: true,
            endpoints: Vec::new(),
        };
        pool.look();
        pool
    }

    fn look(&mut self) {
        let endpoints: Vec<EndpointLook<'_>> = self
            .endpoints
            .iter()
            .map(|(name, zone, failed, up)| EndpointLook { name, zone: *zone, failed: *failed, up: *up })
            .collect();
        let look = Look {
            good: self.good,
            slow: self.slow,
            client: self.client,
            proxy: self.proxy,
            endpoint: self.endpoint,
            able: self.able,
            endpoints: &endpoints,
        };
        self.meter.look(self.now, &look);
    }

    /// Lives for so many seconds, `each` happening in every ten of them.
    fn live(&mut self, seconds: u64, mut each: impl FnMut(&mut Self)) {
        for _ in 0..seconds / 10 {
            self.now += 10;
            each(self);
            self.look();
        }
    }

    fn report(&self) -> Report {
        self.meter.report(self.now, &objectives())
    }
}

fn burn(kept: &Kept) -> Vec<(&'static str, f64)> {
    kept.burn_rate.iter().map(|(window, rate)| (window.as_str(), *rate)).collect()
}

#[test]
fn a_pool_that_serves_keeps_its_whole_budget_and_every_class() {
    let mut pool = Pool::new();

    pool.live(HOUR, |pool| pool.good += 100);

    let report = pool.report();
    assert_eq!((report.counted, report.availability.missed), (36_000, 0));
    assert_eq!((report.availability.kept_percent, report.availability.budget_left_percent), (Some(100.0), 100.0));
    assert_eq!((report.availability.allowed, report.availability.alert), (36.0, None));
    assert_eq!((report.downtime.seconds, report.downtime.observed_seconds), (0, HOUR));
    assert_eq!(report.downtime.class, Some("99.95%"));
}

#[test]
fn without_traffic_nothing_is_spent_and_nothing_is_claimed() {
    let mut pool = Pool::new();

    pool.live(HOUR, |_| {});

    let report = pool.report();
    assert_eq!((report.counted, report.availability.kept_percent), (0, None));
    assert_eq!(report.availability.budget_left_percent, 100.0);
    assert!(burn(&report.availability).iter().all(|(_, rate)| *rate == 0.0));
}

#[test]
fn one_failure_in_a_thousand_burns_a_budget_of_a_thousandth_at_rate_one() {
    let mut pool = Pool::new();

    pool.live(DAY, |pool| {
        pool.good += 999;
        pool.endpoint += 1;
    });

    let report = pool.report();
    assert!(burn(&report.availability).iter().all(|(_, rate)| *rate == 1.0), "{:?}", burn(&report.availability));
    assert_eq!(report.availability.budget_left_percent, 0.0);
    assert_eq!(report.availability.alert, Some(Alert::Ticket));
    assert_eq!(report.spent_by, Spent { endpoint: 8_640, ..Spent::default() });
}

#[test]
fn fast_burn_pages_and_stops_paging_minutes_after_the_trouble() {
    let mut pool = Pool::new();
    pool.live(6 * HOUR, |pool| pool.good += 100);

    pool.live(10 * MINUTE, |pool| pool.endpoint += 100);
    let during = pool.report();
    pool.live(6 * MINUTE, |pool| pool.good += 100);
    let after = pool.report();

    assert_eq!(during.availability.alert, Some(Alert::Page));
    assert_eq!(burn(&during.availability)[0], ("5m", 1_000.0));
    assert!(after.availability.alert != Some(Alert::Page) || burn(&after.availability)[1].1 >= 6.0);
    assert_eq!(burn(&after.availability)[0], ("5m", 0.0));
    assert_eq!(after.downtime.seconds, 10 * MINUTE);
    assert_eq!(after.downtime.class, Some("99.95%"));
}

#[test]
fn a_handful_of_failures_at_night_alerts_nobody() {
    let mut pool = Pool::new();

    pool.live(10 * MINUTE, |pool| {
        if pool.now % 200 == 0 {
            pool.proxy += 1;
        }
    });

    let report = pool.report();
    assert!(report.availability.missed > 0 && burn(&report.availability)[0].1 > 100.0);
    assert_eq!(report.availability.alert, None);
}

#[test]
fn late_answers_spend_the_budget_of_latency_alone() {
    let mut pool = Pool::new();

    pool.live(HOUR, |pool| {
        pool.good += 96;
        pool.slow += 2;
        pool.proxy += 2;
    });

    let report = pool.report();
    assert_eq!((report.latency.missed, report.availability.missed), (720, 720));
    // Two of the 98 that were answered, against one in a hundred.
    assert_eq!(burn(&report.latency)[0], ("5m", 2.0408));
    assert_eq!(burn(&report.availability)[0], ("5m", 20.0));
}

#[test]
fn every_class_is_broken_by_its_own_downtime() {
    let mut pool = Pool::new();
    pool.able = false;
    let mut classes = Vec::new();

    for hours in 1..=37 {
        pool.live(HOUR, |_| {});
        classes.push((hours, pool.report().downtime.class));
    }

    // 21.6 and 43.2 minutes, 7.2 and 36 hours of 30 days.
    assert_eq!(classes[0], (1, Some("99%")));
    assert_eq!(classes[6], (7, Some("99%")));
    assert_eq!(classes[7], (8, Some("95%")));
    assert_eq!(classes[35], (36, Some("95%")));
    assert_eq!(classes[36], (37, None));
    let allowed = pool.report().downtime.classes.map(|class| class.allowed_seconds);
    assert_eq!(allowed, [129_600, 25_920, 2_592, 1_296]);
}

#[test]
fn clients_that_give_up_spend_but_do_not_bring_a_pool_down() {
    let mut pool = Pool::new();

    pool.live(HOUR, |pool| pool.client += 1);

    let report = pool.report();
    assert_eq!((report.spent_by.client, report.downtime.seconds), (360, 360 * 10 * u64::from(!pool.able)));
}

#[test]
fn failures_of_a_zone_that_is_lost_are_the_zones() {
    let mut pool = Pool::new();
    pool.endpoints = vec![("a1", Some("a"), 0, true), ("a2", Some("a"), 0, true), ("b1", Some("b"), 0, true)];

    pool.live(MINUTE, |pool| {
        pool.good += 10;
        pool.endpoint += 1;
        pool.endpoints[0].2 += 1;
    });
    pool.live(MINUTE, |pool| {
        pool.good += 10;
        pool.endpoint += 3;
        pool.endpoints[0].2 += 1;
        pool.endpoints[1].2 += 1;
        pool.endpoints[0].3 = false;
        pool.endpoints[1].3 = false;
    });

    let report = pool.report();
    // Of the three, one had no name: nobody could be asked.
    assert_eq!(report.spent_by, Spent { client: 0, proxy: 0, endpoint: 12, zone: 12 });
    let place = |name: &str, zone: Option<&str>, failed| Place {
        name: name.to_owned(),
        zone: zone.map(ToOwned::to_owned),
        failed,
    };
    assert_eq!(report.endpoints, [place("a1", Some("a"), 12), place("a2", Some("a"), 6)]);
    assert_eq!(report.zones, [place("a", None, 18)]);
}

#[test]
fn what_is_older_than_thirty_days_is_forgotten() {
    let mut pool = Pool::new();
    pool.endpoints = vec![("a1", None, 0, true)];
    pool.live(HOUR, |pool| {
        pool.endpoint += 1;
        pool.endpoints[0].2 += 1;
    });

    pool.now += PERIOD + DAY;
    pool.look();

    let report = pool.report();
    assert_eq!((report.counted, report.availability.missed, report.downtime.seconds), (0, 0, 0));
    assert_eq!(report.endpoints, []);
}

#[test]
fn time_in_which_the_process_slept_is_not_observed() {
    let mut pool = Pool::new();

    pool.now += DAY;
    pool.able = false;
    pool.look();

    assert_eq!(pool.report().downtime.observed_seconds, 0);
    assert_eq!(pool.report().downtime.seconds, 0);
}

#[test]
fn counters_that_begin_again_lose_nothing_and_invent_nothing() {
    let mut pool = Pool::new();
    pool.endpoints = vec![("a1", None, 0, true)];
    pool.live(10, |pool| {
        pool.endpoint = 5;
        pool.endpoints[0].2 = 5;
    });

    // It left the roster, came back, and counts from nothing.
    pool.live(10, |pool| {
        pool.endpoint = 7;
        pool.endpoints[0].2 = 2;
    });

    let report = pool.report();
    assert_eq!((report.availability.missed, report.endpoints[0].failed), (7, 7));
}

#[test]
fn names_that_come_and_go_are_bounded_and_the_worst_stay() {
    let mut meter = Meter::default();
    let names: Vec<String> = (0..500).map(|index| format!("10.0.0.{index}:8088")).collect();

    for (index, name) in names.iter().enumerate() {
        let failed = if index == 3 { 1_000 } else { 1 };
        let endpoints = [EndpointLook { name, zone: None, failed, up: true }];
        let look = Look { endpoint: 2_000 * (index as u64 + 1), endpoints: &endpoints, ..Look::default() };
        meter.look(START + index as u64, &look);
    }

    let report = meter.report(START + 500, &objectives());
    assert_eq!(report.endpoints.len(), PLACES);
    assert_eq!(report.endpoints[0].name, "10.0.0.3:8088");
    assert!(meter.last.endpoints.len() <= 1);
}

fn text(meter: &Meter) -> String {
    Stored::encode([(&PoolName::new("superset"), meter)])
}

#[test]
fn a_stored_meter_goes_on_as_if_nothing_had_happened() {
    let mut pool = Pool::new();
    pool.endpoints = vec![("a1", Some("a"), 0, true)];
    pool.live(2 * DAY, |pool| {
        pool.good += 50;
        pool.slow += 1;
        pool.endpoint += 1;
        pool.endpoints[0].2 += 1;
    });

    let stored = Stored::decode(&text(&pool.meter)).unwrap();

    let again = &stored.0[&PoolName::new("superset")];
    assert_eq!(again.report(pool.now, &objectives()), pool.report());
    assert_eq!(text(again), text(&pool.meter));
    assert!(text(again).len() < 64 * 1024, "{}", text(again).len());
}

#[test]
fn what_was_damaged_is_refused_with_a_reason() {
    let mut pool = Pool::new();
    pool.live(MINUTE, |pool| pool.good += 1);
    let text = text(&pool.meter);

    assert_eq!(Stored::decode("").unwrap_err(), Broken::Format);
    assert_eq!(Stored::decode("{}\n").unwrap_err(), Broken::Format);
    assert_eq!(Stored::decode(text.get(..text.len() - 9).unwrap()).unwrap_err(), Broken::Checksum);
    assert_eq!(
        Stored::decode(&text.replacen("objectives 1", "objectives 2", 1)).unwrap_err(),
        Broken::Version("2".into())
    );
    let empty = "{\"superset\":{}}";
    let forged = format!("sluicegate-objectives 1 {:016x}\n{empty}\n", {
        use std::hash::Hasher as _;
        let mut hasher = siphasher::sip::SipHasher13::new();
        hasher.write(empty.as_bytes());
        hasher.finish()
    });
    assert!(matches!(Stored::decode(&forged), Err(Broken::Content(_))));
}

proptest! {
    #[test]
    fn sums_of_windows_are_those_of_the_events_in_them(
        events in prop::collection::vec((1u64..4_000, 0u64..50, 0u64..5, 0u64..5, 0u64..5), 1..200)
    ) {
        let mut pool = Pool::new();
        let mut told = Vec::new();
        for (after, good, slow, proxy, endpoint) in events {
            pool.now += after;
            pool.good += good;
            pool.slow += slow;
            pool.proxy += proxy;
            pool.endpoint += endpoint;
            pool.look();
            told.push((pool.now, good + slow + proxy + endpoint, proxy + endpoint));
        }

        for window in Window::ALL {
            let step = match window {
                Window::Minutes5 | Window::Minutes30 | Window::Hour => 30,
                Window::Hours6 => 300,
                Window::Days3 => 3_600,
            };
            // The oldest slot of a window is only there when its whole stretch is within reach.
            let from = pool.now / step + 1 - window.seconds() / step;
            let within = told.iter().filter(|(at, ..)| at / step >= from);
            let (counted, failed) = within.fold((0, 0), |(all, bad), (_, more, worse)| (all + more, bad + worse));
            let tally = pool.meter.over(pool.now, window);
            prop_assert_eq!((tally.counted, tally.failures()), (counted, failed), "{}", window.as_str());
        }
        let whole: u64 = told.iter().map(|(_, counted, _)| counted).sum();
        prop_assert_eq!(pool.report().counted, whole);
        prop_assert_eq!(pool.report().spent_by.all().iter().sum::<u64>(), pool.report().availability.missed);
    }

    #[test]
    fn no_clock_and_no_count_breaks_a_meter(
        looks in prop::collection::vec((any::<u64>(), any::<[u64; 5]>(), any::<bool>(), any::<u64>()), 0..60)
    ) {
        let mut meter = Meter::default();
        for (now, [good, slow, client, proxy, endpoint], able, failed) in looks {
            let endpoints = [EndpointLook { name: "a", zone: Some("z"), failed, up: able }];
            meter.look(now, &Look { good, slow, client, proxy, endpoint, able, endpoints: &endpoints });
            let report = meter.report(now, &objectives());

            prop_assert!(report.availability.budget_left_percent <= 100.0);
            prop_assert!(report.downtime.seconds <= report.downtime.observed_seconds);
            prop_assert!(burn(&report.availability).iter().all(|(_, rate)| rate.is_finite() && *rate >= 0.0));
        }
        prop_assert!(Stored::decode(&text(&meter)).is_ok());
    }

    #[test]
    fn any_text_is_decoded_without_a_panic(text in "\\PC*") {
        prop_assert!(Stored::decode(&text).is_err());
        let headed = format!("sluicegate-objectives 1 {text}\n");
        prop_assert!(Stored::decode(&headed).is_err());
    }
}
