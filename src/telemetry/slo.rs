//! How a pool keeps what was promised of it: its error budget, how fast it is spent, and who spends it.
//!
//! Floor 2, pure. In: cumulative counts of exchanges, looked at every few seconds, and which endpoints could serve. Out: a
//! [`Report`] for operators. What was seen is kept in rings of fixed length (an hour by half minutes, six hours by five
//! minutes, 30 days by hours), so that a pool takes a fixed amount of memory whatever happens. Time is Unix time, since the past outlives
//! the process. Deliberately absent: files and clocks; they are `control`'s.

mod report;
mod ring;
mod stored;

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;

use crate::config::objectives::Objectives;
use report::Window;
use ring::Ring;

pub use report::{Alert, Class, Downtime, Kept, Place, Report, SPENDERS, Spent, Window as BurnWindow};
pub use stored::{Broken, Stored, VERSION};

/// Seconds of the past over which a budget is kept.
pub const PERIOD: u64 = 30 * DAY;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Time between two looks that counts at most: longer ones saw a process that slept.
const LONGEST_LOOK: u64 = 60;

/// Endpoints, and zones, of a pool whose failures are kept apart. Discovered endpoints change their names with each rollout.
const PLACES: usize = 64;

/// What was seen of a pool, cumulative since the process (or the pool) began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look<'a> {
    /// Exchanges that were served within the threshold.
    pub good: u64,
    /// Exchanges that were served, but late.
    pub slow: u64,
    /// Failures that are the clients': they gave up waiting, or filled the line.
    pub client: u64,
    /// Failures that are the proxy's own.
    pub proxy: u64,
    /// Failures of endpoints, those without a name included.
    pub endpoint: u64,
    /// Whether an exchange that came now would find an endpoint.
    pub able: bool,
    /// The endpoints now.
    pub endpoints: &'a [EndpointLook<'a>],
}

/// An endpoint within a [`Look`].
#[derive(Clone, Copy, Debug)]
pub struct EndpointLook<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its zone.
    pub zone: Option<&'a str>,
    /// Exchanges that failed on it, cumulative.
    pub failed: u64,
    /// Whether it may be asked.
    pub up: bool,
}

/// What happened in a stretch of time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
struct Tally {
    counted: u64,
    slow: u64,
    /// Failures by [`SPENDERS`].
    failed: [u64; 4],
    /// Seconds that were looked at.
    observed: u64,
    /// Seconds of those in which the pool was down.
    down: u64,
}

impl Tally {
    fn failures(&self) -> u64 {
        self.failed.iter().fold(0, |sum, one| sum.saturating_add(*one))
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.counted = self.counted.saturating_add(more.counted);
        self.slow = self.slow.saturating_add(more.slow);
        for (sum, one) in self.failed.iter_mut().zip(more.failed) {
            *sum = sum.saturating_add(one);
        }
        self.observed = self.observed.saturating_add(more.observed);
        self.down = self.down.saturating_add(more.down);
    }
}

/// The meter of one pool.
#[derive(Clone, Debug)]
pub struct Meter {
    hour: Ring<Tally>,
    six_hours: Ring<Tally>,
    period: Ring<Tally>,
    endpoints: Places,
    zones: Places,
    /// What the last look saw.
    last: Last,
}

/// Failures by endpoint or zone, by days.
type Places = BTreeMap<String, (Option<String>, Ring<u64>)>;

#[derive(Clone, Debug, Default)]
struct Last {
    at: Option<u64>,
    /// Good, slow, client, proxy, endpoint.
    counts: [u64; 5],
    endpoints: BTreeMap<String, u64>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            hour: Ring::new(MINUTE / 2, 120),
            six_hours: Ring::new(5 * MINUTE, 72),
            period: Ring::new(HOUR, 720),
            endpoints: Places::new(),
            zones: Places::new(),
            last: Last::default(),
        }
    }
}

impl Meter {
    /// Takes what has happened since the last look.
    pub fn look(&mut self, now: u64, seen: &Look<'_>) {
        let since = |now: u64, before: u64| if now < before { now } else { now - before };
        let counts = [seen.good, seen.slow, seen.client, seen.proxy, seen.endpoint];
        let mut new = counts;
        for (count, before) in new.iter_mut().zip(self.last.counts) {
            *count = since(*count, before);
        }
        let [good, slow, client, proxy, endpoint] = new;

        let failed: Vec<u64> = seen
            .endpoints
            .iter()
            .map(|each| since(each.failed, self.last.endpoints.get(each.name).copied().unwrap_or_default()))
            .collect();
        let mut of_zones = 0;
        for (each, count) in seen.endpoints.iter().zip(&failed).filter(|(_, count)| **count > 0) {
            Self::charge(&mut self.endpoints, now, each.name, each.zone, *count);
            if let Some(zone) = each.zone {
                Self::charge(&mut self.zones, now, zone, None, *count);
                if zone_is_lost(zone, seen.endpoints) {
                    of_zones += *count;
                }
            }
        }
        let of_zones = of_zones.min(endpoint);

        let seconds = self.last.at.map_or(0, |at| now.saturating_sub(at));
        let observed = if seconds > LONGEST_LOOK { 0 } else { seconds };
        let counted = new.iter().fold(0_u64, |sum, one| sum.saturating_add(*one));
        // The clients' own misfortunes do not make a pool be down.
        let lost = proxy.saturating_add(endpoint);
        let down = if counted > client { lost.saturating_mul(2) > counted - client } else { !seen.able };
        let tally = Tally {
            counted: good.saturating_add(slow).saturating_add(client).saturating_add(lost),
            slow,
            failed: [client, proxy, endpoint - of_zones, of_zones],
            observed,
            down: if down { observed } else { 0 },
        };
        self.add(now, tally);
        self.last = Last {
            at: Some(now),
            counts,
            endpoints: seen.endpoints.iter().map(|each| (each.name.to_owned(), each.failed)).collect(),
        };
    }

    fn add(&mut self, now: u64, tally: Tally) {
        self.hour.add(now, tally);
        self.six_hours.add(now, tally);
        self.period.add(now, tally);
    }

    fn charge(places: &mut Places, now: u64, name: &str, zone: Option<&str>, count: u64) {
        if places.len() >= PLACES && !places.contains_key(name) {
            // Whoever spent least is forgotten; the sums by kind keep it.
            let least = places.iter().min_by_key(|(_, (_, days))| days.over(now, PERIOD));
            if let Some(name) = least.map(|(name, _)| name.clone()) {
                places.remove(&name);
            }
        }
        let (known, days) = places.entry(name.to_owned()).or_insert_with(|| (None, Ring::new(DAY, 30)));
        *known = zone.map(ToOwned::to_owned);
        days.add(now, count);
    }

    fn over(&self, now: u64, window: Window) -> Tally {
        let seconds = window.seconds();
        if seconds <= HOUR {
            self.hour.over(now, seconds)
        } else if seconds <= 6 * HOUR {
            self.six_hours.over(now, seconds)
        } else {
            self.period.over(now, seconds)
        }
    }

    /// What operators are told, by what is promised now.
    pub fn report(&self, now: u64, objectives: &Objectives) -> Report {
        report::report(self, now, objectives)
    }
}

/// Whether none of the endpoints in `zone` may be asked, and there are several, and others elsewhere: what fails there
/// then is the zone's.
fn zone_is_lost(zone: &str, endpoints: &[EndpointLook<'_>]) -> bool {
    let here = || endpoints.iter().filter(|each| each.zone == Some(zone));
    here().all(|each| !each.up) && (2..endpoints.len()).contains(&here().count())
}

#[cfg(test)]
mod tests;
