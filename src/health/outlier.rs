//! Which endpoints live traffic shows to be worse than the others of their pool.
//!
//! Part of `health`, pure. In: what each endpoint of a pool has answered so far, and the time. Out: [`Ruling`]s. A
//! shallow check tells nothing of a replica that answers 500 to everything else; its neighbours do. So nobody is judged
//! by itself alone: what all suffer alike (a database that is gone) ejects nobody, and a slow answer is an answer.
//!
//! # The way of an ejected endpoint
//! Out for a time that doubles with each repetition; then one exchange tries it out, at best one that can be repeated
//! elsewhere. A good answer brings it back, anything else ejects it anew. Meanwhile checks have the last word: one that
//! is down by them begins afresh when it comes up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use crate::config::pool::Outliers;

/// What is known of one endpoint at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample<K> {
    /// Which one.
    pub key: K,
    /// Whether it may be picked, as far as checks and operators say.
    pub usable: bool,
    /// Attempts on it so far; wraps.
    pub attempts: u32,
    /// Those that ended in an error of any kind; wraps.
    pub errors: u32,
    /// Failures in a row.
    pub rows: Rows,
    /// Exchanges on it now.
    pub in_flight: u32,
    /// Whether an exchange is trying it out.
    pub on_trial: bool,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rows {
    /// Failed connects.
    pub connects: u32,
    /// Attempts without an answer in time.
    pub silences: u32,
    /// Failures of any kind, and answers that say "cannot serve".
    pub gateway: u32,
}

/// What becomes of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ruling {
    /// It takes nothing for so long.
    Eject(Cause, Duration),
    /// One exchange may try it out; any one, when none that could be repeated came.
    Trial {
        /// Whether it may be any.
        any: bool,
    },
    /// It is back, since its trial went well.
    Return,
    /// What was seen before no longer counts: it has been down, and is up again.
    Forgive,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// So many failures and answers that say "cannot serve", in a row.
    Gateway(u32),
    /// So many failed connects in a row.
    Connect(u32),
    /// So many attempts in a row without an answer in time.
    Silent(u32),
    /// So many percent of its answers are errors, of the others' so many.
    Errors(u32, u32),
    /// Its trial failed.
    Trial,
    /// Its trial was not answered for as long as an ejection lasts.
    TrialSilent,
}

/// What is remembered of a pool's endpoints.
#[derive(Debug)]
pub struct Panel<K>(HashMap<K, Case>);

#[derive(Debug, Default)]
struct Case {
    state: State,
    /// Counters of some moments past, the oldest of them at least `window` old.
    past: VecDeque<(u64, u32, u32)>,
    /// Ejections not yet forgotten.
    times: u32,
    /// When the last one was, or was forgotten.
    since: u64,
    usable: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    In,
    Out {
        until: u64,
    },
    /// A trial is open, or under way.
    Trial {
        since: u64,
        attempts: u32,
        errors: u32,
        taken: bool,
        any: bool,
    },
}

/// Attempts and errors within the window.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    attempts: u64,
    errors: u64,
}

/// Moments remembered per window.
const MOMENTS: u64 = 20;

/// How much rarer than by chance a share of errors must be: so many standard deviations.
const DEVIATIONS: f64 = 3.0;

/// An exchange that took the trial is given this long to show up as in flight.
const GRACE: u64 = 500;

/// How long only exchanges that can be repeated may take a trial; then any one.
const CHOOSY: u64 = 3_000;

impl<K> Default for Panel<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Panel<K> {
    /// Judges the endpoints of a pool, all of them, as of `now` in milliseconds.
    pub fn judge(&mut self, samples: &[Sample<K>], config: &Outliers, now: u64) -> Vec<(K, Ruling)> {
        let present: HashSet<K> = samples.iter().map(|sample| sample.key).collect();
        self.0.retain(|key, _| present.contains(key));
        let mut rulings = Vec::new();
        let mut shares: HashMap<K, Share> = HashMap::with_capacity(samples.len());
        for sample in samples {
            let case = self.0.entry(sample.key).or_default();
            let ruling = case.go_on(sample, config, now);
            rulings.extend(ruling.map(|ruling| (sample.key, ruling)));
            shares.insert(sample.key, case.share(sample, config, now));
        }

        // The worst first: a cap may leave room for one only.
        let mut suspects: Vec<(&Sample<K>, Cause)> = samples
            .iter()
            .filter(|sample| self.is_in(sample) && !rulings.iter().any(|(key, _)| *key == sample.key))
            .filter_map(|sample| Some((sample, self.suspicion(sample, samples, &shares, config)?)))
            .collect();
        suspects.sort_by_key(|(sample, _)| std::cmp::Reverse((sample.rows.gateway, sample.errors)));
        for (sample, cause) in suspects {
            if self.has_room(samples, config)
                && let Some(case) = self.0.get_mut(&sample.key)
            {
                rulings.push((sample.key, case.eject(cause, config, now)));
            }
        }
        rulings
    }

    fn is_in(&self, sample: &Sample<K>) -> bool {
        sample.usable && self.0.get(&sample.key).is_some_and(|case| matches!(case.state, State::In))
    }

    /// Whether one more may go.
    fn has_room(&self, samples: &[Sample<K>], config: &Outliers) -> bool {
        let all = samples.len() as u64;
        let within = samples.iter().filter(|sample| self.is_in(sample)).count();
        let out = self.0.values().filter(|case| !matches!(case.state, State::In)).count() as u64;
        let most = (all.saturating_mul(config.max_ejected.into()) / 100).max(1);
        out < most && within > 1
    }

    /// What speaks against an endpoint that is in, beyond what speaks against the others.
    fn suspicion(
        &self,
        sample: &Sample<K>,
        samples: &[Sample<K>],
        shares: &HashMap<K, Share>,
        config: &Outliers,
    ) -> Option<Cause> {
        let own = shares.get(&sample.key).copied().unwrap_or_default();
        let (rows, mine) = (sample.rows, own.percent());
        let reaches = |is: u32, most: u32| most > 0 && is >= most;
        let errs = reaches(mine, config.error_points.into()) && own.attempts >= config.min_requests.into();
        // Nearly always there is nothing to look into.
        if !errs
            && !reaches(rows.connects, config.connect_failures)
            && !reaches(rows.silences, config.timeouts)
            && !reaches(rows.gateway, config.gateway_errors)
        {
            return None;
        }
        let others = || samples.iter().filter(|other| other.key != sample.key && self.is_in(other));
        let count = others().count();
        if count == 0 {
            return None;
        }
        // What most of the others suffer as well is nobody's own fault.
        let alone = |row: fn(&Rows) -> u32, most: u32| {
            let ill = others().filter(|other| row(&other.rows).saturating_mul(2) >= most).count();
            reaches(row(&rows), most) && ill.saturating_mul(2) <= count
        };
        if alone(|rows| rows.connects, config.connect_failures) {
            return Some(Cause::Connect(rows.connects));
        }
        if alone(|rows| rows.silences, config.timeouts) {
            return Some(Cause::Silent(rows.silences));
        }
        if alone(|rows| rows.gateway, config.gateway_errors) {
            return Some(Cause::Gateway(rows.gateway));
        }
        let theirs = others().filter_map(|other| shares.get(&other.key)).fold(Share::default(), |sum, share| Share {
            attempts: sum.attempts.saturating_add(share.attempts),
            errors: sum.errors.saturating_add(share.errors),
        });
        let rest = theirs.percent();
        let enough = theirs.attempts >= config.min_requests.into();
        let points = mine >= rest.saturating_add(config.error_points.into());
        (errs && enough && points && own.is_beyond_chance(theirs)).then_some(Cause::Errors(mine, rest))
    }
}

impl Case {
    /// What time and its trial make of an endpoint.
    fn go_on<K>(&mut self, sample: &Sample<K>, config: &Outliers, now: u64) -> Option<Ruling> {
        let was_usable = std::mem::replace(&mut self.usable, sample.usable);
        if !sample.usable || !was_usable {
            self.past.clear();
            let was_in = matches!(self.state, State::In);
            self.state = State::In;
            return (sample.usable || !was_in).then_some(Ruling::Forgive);
        }
        match self.state {
            State::In => {
                let most = millis(config.max_time);
                if self.times > 0 && now.saturating_sub(self.since) >= most {
                    self.times = self.times.saturating_sub(1);
                    self.since = now;
                }
                None
            }
            State::Out { until } if now >= until => {
                let (attempts, errors) = (sample.attempts, sample.errors);
                self.state = State::Trial { since: now, attempts, errors, taken: false, any: false };
                Some(Ruling::Trial { any: false })
            }
            State::Out { .. } => None,
            State::Trial { since, attempts, errors, taken, any } => {
                let answered = sample.attempts != attempts;
                if answered && sample.errors == errors {
                    self.state = State::In;
                    self.past.clear();
                    self.since = now;
                    return Some(Ruling::Return);
                }
                if answered {
                    return Some(self.eject(Cause::Trial, config, now));
                }
                let waited = now.saturating_sub(since);
                let trial = |since, taken, any| State::Trial { since, attempts, errors, taken, any };
                if sample.on_trial && !taken {
                    self.state = trial(now, true, any);
                } else if taken && sample.in_flight == 0 && waited >= GRACE {
                    // Its client went away.
                    self.state = trial(now, false, any);
                    return Some(Ruling::Trial { any });
                } else if taken && waited >= millis(config.time) {
                    return Some(self.eject(Cause::TrialSilent, config, now));
                } else if !taken && !any && waited >= CHOOSY {
                    self.state = trial(now, false, true);
                    return Some(Ruling::Trial { any: true });
                }
                None
            }
        }
    }

    fn eject(&mut self, cause: Cause, config: &Outliers, now: u64) -> Ruling {
        let doubled = 1_u32.checked_shl(self.times.min(31)).unwrap_or(u32::MAX);
        let time = config.time.saturating_mul(doubled).min(config.max_time);
        self.times = self.times.saturating_add(1).min(31);
        self.since = now;
        self.past.clear();
        self.state = State::Out { until: now.saturating_add(millis(time)) };
        Ruling::Eject(cause, time)
    }

    /// What came of its attempts within the window.
    fn share<K>(&mut self, sample: &Sample<K>, config: &Outliers, now: u64) -> Share {
        let window = millis(config.window);
        let (past, step) = (&mut self.past, window / MOMENTS);
        if past.back().is_none_or(|(at, ..)| now.saturating_sub(*at) >= step) {
            past.push_back((now, sample.attempts, sample.errors));
        }
        // The oldest that is kept begins the window.
        while past.get(1).is_some_and(|(at, ..)| now.saturating_sub(*at) >= window) {
            past.pop_front();
        }
        let (_, attempts, errors) = past.front().copied().unwrap_or((now, sample.attempts, sample.errors));
        let attempts = u64::from(sample.attempts.wrapping_sub(attempts));
        // Read at different moments: never more errors than attempts.
        Share { attempts, errors: u64::from(sample.errors.wrapping_sub(errors)).min(attempts) }
    }
}

impl Share {
    fn percent(self) -> u32 {
        let percent = self.errors.saturating_mul(100).checked_div(self.attempts).unwrap_or(0);
        u32::try_from(percent).unwrap_or(100)
    }

    /// Whether the difference from the others' share is more than chance makes: the test of two proportions.
    #[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^52")]
    fn is_beyond_chance(self, others: Self) -> bool {
        let (own_count, others_count) = (self.attempts as f64, others.attempts as f64);
        let (own_errors, others_errors) = (self.errors as f64, others.errors as f64);
        let pooled = (own_errors + others_errors) / (own_count + others_count);
        let deviation = (pooled * (1.0 - pooled) * (1.0 / own_count + 1.0 / others_count)).sqrt();
        let difference = own_errors / own_count - others_errors / others_count;
        difference > DEVIATIONS * deviation
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(count) => write!(f, "{count} gateway errors in a row"),
            Self::Connect(count) => write!(f, "{count} failed connects in a row"),
            Self::Silent(count) => write!(f, "{count} attempts in a row without an answer in time"),
            Self::Errors(own, others) => write!(f, "{own} % of its answers are errors, {others} % of the others'"),
            Self::Trial => f.write_str("the exchange that tried it out failed"),
            Self::TrialSilent => f.write_str("the exchange that tried it out got no answer"),
        }
    }
}

#[cfg(test)]
mod tests;
