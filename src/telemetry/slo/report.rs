//! What operators are told of a pool's objectives; field names are those of `/status`.

use serde::Serialize;

use super::{DAY, HOUR, MINUTE, Meter, PERIOD, Places, Tally};
use crate::config::objectives::{Objective, Objectives};

/// Who can spend a budget, in the order of [`Spent`]: label values.
pub const SPENDERS: [&str; 4] = ["client", "proxy", "endpoint", "zone"];

/// Downtime that a class of availability allows, in millionths: 95 %, 99 %, 99.9 %, 99.95 %.
const CLASSES: [(&str, u64); 4] = [("95%", 50_000), ("99%", 10_000), ("99.9%", 1_000), ("99.95%", 500)];

/// Fewest failures within an alert's long window: three requests at night are no burning budget.
const LEAST: u64 = 10;

/// A stretch of the past that burn rates are told of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Window {
    /// Five minutes.
    Minutes5,
    /// Half an hour.
    Minutes30,
    /// An hour.
    Hour,
    /// Six hours.
    Hours6,
    /// Three days.
    Days3,
}

impl Window {
    /// All, the shortest first.
    pub const ALL: [Self; 5] = [Self::Minutes5, Self::Minutes30, Self::Hour, Self::Hours6, Self::Days3];

    /// Its length.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Minutes5 => 5 * MINUTE,
            Self::Minutes30 => 30 * MINUTE,
            Self::Hour => HOUR,
            Self::Hours6 => 6 * HOUR,
            Self::Days3 => 3 * DAY,
        }
    }

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minutes5 => "5m",
            Self::Minutes30 => "30m",
            Self::Hour => "1h",
            Self::Hours6 => "6h",
            Self::Days3 => "3d",
        }
    }
}

/// How urgent it is that a budget burns.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Alert {
    /// Within days it will be gone: somebody should look this week.
    Ticket,
    /// Within hours it will be gone: somebody should look now.
    Page,
}

impl Alert {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Page => "page",
        }
    }
}

/// When to raise which alert: both windows burn at least so fast. As the Site Reliability Workbook has it: 2 % of the
/// budget in an hour, 5 % in six, 10 % in three days; the short window ends the alert soon after the trouble.
const RULES: [(Window, Window, f64, Alert); 3] = [
    (Window::Hour, Window::Minutes5, 14.4, Alert::Page),
    (Window::Hours6, Window::Minutes30, 6.0, Alert::Page),
    (Window::Days3, Window::Hours6, 1.0, Alert::Ticket),
];

/// A pool's objectives, and how they are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Exchanges that counted in the last 30 days.
    pub counted: u64,
    /// Answers, and not server errors.
    pub availability: Kept,
    /// Answers in time.
    pub latency: Kept,
    /// The threshold of `latency`, in seconds.
    pub latency_threshold_seconds: f64,
    /// Who spent the budget of `availability` in the last 30 days.
    pub spent_by: Spent,
    /// Endpoints that failed in the last 30 days, the worst first.
    pub endpoints: Vec<Place>,
    /// Zones whose endpoints did.
    pub zones: Vec<Place>,
    /// Time in which the pool served nobody, or most exchanges failed.
    pub downtime: Downtime,
}

/// One objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kept {
    /// What is promised, in percent.
    pub objective_percent: f64,
    /// What was kept in the last 30 days, in percent; `null` while nothing counted.
    pub kept_percent: Option<f64>,
    /// Exchanges that missed it.
    pub missed: u64,
    /// Exchanges that may miss it, of those that counted so far.
    pub allowed: f64,
    /// What is left of the budget, in percent; negative when more than all of it is spent.
    pub budget_left_percent: f64,
    /// How fast the budget burns: 1 spends it in exactly 30 days.
    #[serde(serialize_with = "burn_rates")]
    pub burn_rate: [(Window, f64); 5],
    /// The alert that this raises.
    pub alert: Option<Alert>,
}

/// Failures by who they are to be blamed on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Spent {
    /// Clients that gave up waiting after the latency threshold, or filled the line.
    pub client: u64,
    /// The proxy itself: full queues, its own clocks.
    pub proxy: u64,
    /// Single endpoints.
    pub endpoint: u64,
    /// Endpoints of a zone that was lost as a whole.
    pub zone: u64,
}

impl Spent {
    /// In the order of [`SPENDERS`].
    pub const fn all(&self) -> [u64; 4] {
        [self.client, self.proxy, self.endpoint, self.zone]
    }
}

/// An endpoint or a zone with the failures it is to be blamed for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// An endpoint's zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Failures in the last 30 days.
    pub failed: u64,
}

/// Downtime in the last 30 days.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Downtime {
    /// Seconds down.
    pub seconds: u64,
    /// Seconds that a process looked at: while none ran, nobody knows.
    pub observed_seconds: u64,
    /// The highest class of availability that this keeps; `null` when none.
    pub class: Option<&'static str>,
    /// Every class, the easiest first.
    pub classes: [Class; 4],
}

/// A class of availability.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Class {
    /// Its name: `99.9%`.
    pub class: &'static str,
    /// Seconds of downtime that it allows in 30 days.
    pub allowed_seconds: u64,
    /// What is left of them; negative when it is broken.
    pub left_seconds: i64,
}

pub(super) fn report(meter: &Meter, now: u64, objectives: &Objectives) -> Report {
    let whole = meter.period.over(now, PERIOD);
    let windows = Window::ALL.map(|window| (window, meter.over(now, window)));
    let [client, proxy, endpoint, zone] = whole.failed;
    Report {
        counted: whole.counted,
        availability: kept(objectives.availability, &whole, &windows, |tally| (tally.failures(), tally.counted)),
        // Failures count once, and there.
        latency: kept(objectives.latency, &whole, &windows, |tally| {
            (tally.slow, tally.counted.saturating_sub(tally.failures()))
        }),
        latency_threshold_seconds: objectives.latency_threshold.as_secs_f64(),
        spent_by: Spent { client, proxy, endpoint, zone },
        endpoints: places(&meter.endpoints, now),
        zones: places(&meter.zones, now),
        downtime: downtime(&whole),
    }
}

fn kept(
    objective: Objective,
    whole: &Tally,
    windows: &[(Window, Tally); 5],
    of: impl Fn(&Tally) -> (u64, u64),
) -> Kept {
    let (missed, counted) = of(whole);
    let allowed = as_f64(counted) * objective.budget();
    let burn_rate = windows.map(|(window, tally)| {
        let (missed, counted) = of(&tally);
        (window, share(missed, counted).unwrap_or_default() / objective.budget())
    });
    let burns = |wanted: Window| burn_rate.iter().find(|(window, _)| *window == wanted).map_or(0.0, |(_, rate)| *rate);
    let missed_in =
        |wanted: Window| windows.iter().find(|(window, _)| *window == wanted).map_or(0, |(_, tally)| of(tally).0);
    let raised = RULES
        .iter()
        .filter(|(long, short, rate, _)| missed_in(*long) >= LEAST && burns(*long) >= *rate && burns(*short) >= *rate);
    Kept {
        objective_percent: round(objective.share() * 100.0),
        kept_percent: share(missed, counted).map(|missed| round(100.0 - missed * 100.0)),
        missed,
        allowed: round(allowed),
        budget_left_percent: if allowed > 0.0 { round(100.0 - as_f64(missed) / allowed * 100.0) } else { 100.0 },
        burn_rate: burn_rate.map(|(window, rate)| (window, round(rate))),
        alert: raised.map(|(.., alert)| *alert).max(),
    }
}

fn places(places: &Places, now: u64) -> Vec<Place> {
    let mut all: Vec<Place> = places
        .iter()
        .map(|(name, (zone, days))| Place { name: name.clone(), zone: zone.clone(), failed: days.over(now, PERIOD) })
        .filter(|place| place.failed > 0)
        .collect();
    all.sort_by(|one, other| other.failed.cmp(&one.failed).then_with(|| one.name.cmp(&other.name)));
    all
}

fn downtime(whole: &Tally) -> Downtime {
    let classes = CLASSES.map(|(class, millionths)| {
        let allowed = PERIOD * millionths / 1_000_000;
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        Class { class, allowed_seconds: allowed, left_seconds: signed(allowed) - signed(whole.down) }
    });
    Downtime {
        seconds: whole.down,
        observed_seconds: whole.observed,
        class: classes.iter().rev().find(|class| class.left_seconds >= 0).map(|class| class.class),
        classes,
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| as_f64(part) / as_f64(whole))
}

/// Counts beyond 2⁵³ lose their last digits, which no percentage shows.
#[expect(clippy::cast_precision_loss, reason = "see above")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// To what a reader needs.
fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

// Serde hands over references.
fn burn_rates<S: serde::Serializer>(rates: &[(Window, f64); 5], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(rates.iter().map(|(window, rate)| (window.as_str(), rate)))
}
