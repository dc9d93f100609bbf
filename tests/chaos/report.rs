//! What a scenario found: counted, judged by what it allows, and written as a line of a table.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::load::{Fate, Loss, Protocol};
use crate::stage::{Fleet, Proxy};

/// Classes of availability, as hosting is sold by them.
const CLASSES: [f64; 4] = [99.95, 99.9, 99.0, 95.0];

/// Losses shown of each kind.
const SHOWN: usize = 4;

/// What a scenario found.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    /// Of those, what could not be asked again: it changes something, or its answer had begun.
    pub(crate) unrepeatable: usize,
    /// Longest time without a good answer to anybody.
    pub(crate) gap: Duration,
    /// Longest that a good answer took.
    pub(crate) slowest: Duration,
    /// From the fault until no new request went to the replica.
    pub(crate) eject: Option<Duration>,
    /// From the cure until the replica served again.
    pub(crate) back: Option<Duration>,
    /// What else is worth a word, with figures.
    pub(crate) remarks: Vec<String>,
    /// What should not be.
    pub(crate) wrong: Vec<String>,
    /// Requests, and of these failed, for each protocol.
    pub(crate) protocols: Vec<(Protocol, usize, usize)>,
}

/// Which losses a scenario states beforehand.
pub(crate) type Allowed<'a> = &'a dyn Fn(&Fate) -> bool;

/// When something was broken: from just before to just after. On a busy machine a fault takes its time, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Broken {
    /// Breaks something.
    pub(crate) async fn by(fault: impl Future<Output = ()>) -> Self {
        let from = Instant::now();
        fault.await;
        Self { from, to: Instant::now() }
    }

    /// Whether `fate` was under way then. What was sent in the same moment may have met the fault.
    pub(crate) fn met(&self, fate: &Fate) -> bool {
        const SENT: Duration = Duration::from_millis(100);
        fate.began <= self.to + SENT && fate.ended >= self.from
    }
}

/// Allows what cannot be asked again of what was under way at one of `faults`.
pub(crate) fn under_way_at(faults: &[Broken]) -> impl Fn(&Fate) -> bool {
    move |fate| !fate.is_needless() && faults.iter().any(|fault| fault.met(fate))
}

/// Allows nothing.
pub(crate) fn nothing(_: &Fate) -> bool {
    false
}

/// What became of a request, and what the proxies say of it.
fn told(fate: &Fate, proxies: &[&Proxy]) -> String {
    let (protocol, took) = (fate.protocol.name(), fate.took());
    let mut text = format!("\n      {:?} {} over {protocol} after {took:?}: {:?}", fate.kind, fate.id, fate.result);
    for record in proxies.iter().filter_map(|proxy| proxy.record(fate.id)) {
        let word = |key: &str| format!("{key} {} ", record[key]);
        let stages = ["queue_ms", "connect_ms", "first_byte_ms", "total_ms"].map(word);
        let words = ["time", "status", "endpoint", "attempts", "end", "fault"].map(word);
        let _infallible = write!(text, "\n        {}{}", words.concat(), stages.concat());
    }
    text
}

impl Finding {
    /// Counts `fates`, and finds wrong what is lost beyond `allowed` or was done twice.
    pub(crate) fn of(fates: &[Fate], allowed: Allowed<'_>, fleet: &Fleet, proxies: &[&Proxy]) -> Self {
        let fates: Vec<Fate> = fates.iter().map(|fate| as_recorded(fate, proxies)).collect();
        let mut finding = Self { requests: fates.len(), ..Self::default() };
        let lost: Vec<&Fate> = fates.iter().filter(|fate| fate.result.is_err()).collect();
        finding.failed = lost.len();
        finding.unrepeatable = lost.iter().filter(|fate| !fate.is_needless()).count();
        let mut good: Vec<Instant> = fates.iter().filter(|fate| fate.result.is_ok()).map(|fate| fate.ended).collect();
        good.sort_unstable();
        finding.gap = good.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        finding.slowest = fates.iter().filter(|fate| fate.result.is_ok()).map(Fate::took).max().unwrap_or_default();
        for protocol in Protocol::ALL {
            let of = |fate: &&Fate| fate.protocol == protocol;
            let count = fates.iter().filter(of).count();
            finding.protocols.push((protocol, count, lost.iter().copied().filter(of).count()));
        }
        let beyond: Vec<&&Fate> =
            lost.iter().filter(|fate| fate.result == Err(Loss::Wrong) || !allowed(fate)).collect();
        if !beyond.is_empty() {
            let mut text = format!("{} lost beyond what is stated", beyond.len());
            for fate in beyond.iter().take(SHOWN) {
                text.push_str(&told(fate, proxies));
            }
            finding.wrong.push(text);
        }
        let twice = fleet.done_twice();
        if twice > 0 {
            finding.wrong.push(format!("{twice} requests that change something were done twice"));
        }
        finding
    }

    /// Finds wrong that one of the good answers among `fates` took as long as `most`.
    pub(crate) fn no_slower<'f>(
        &mut self,
        most: Duration,
        fates: impl IntoIterator<Item = &'f Fate>,
        proxies: &[&Proxy],
    ) {
        let good = fates.into_iter().filter(|fate| fate.result.is_ok());
        if let Some(slowest) = good.max_by_key(|fate| fate.took()).filter(|fate| fate.took() >= most) {
            self.wrong.push(format!("an answer took {:?}{}", slowest.took(), told(slowest, proxies)));
        }
    }

    /// Finds wrong what is not so.
    pub(crate) fn insist(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.wrong.push(what.into());
        }
    }

    /// Finds wrong that something did not happen, or not soon enough.
    pub(crate) fn within(&mut self, what: &str, took: Option<Duration>, most: Duration) -> Option<Duration> {
        match took {
            None => self.wrong.push(format!("{what}: not at all")),
            Some(took) if took > most => self.wrong.push(format!("{what}: {took:.1?}, not within {most:?}")),
            Some(_) => {}
        }
        took
    }

    /// Adds a word with figures.
    pub(crate) fn remark(&mut self, words: impl Into<String>) {
        self.remarks.push(words.into());
    }

    /// Share of requests that were answered well, in percent.
    pub(crate) fn availability(&self) -> f64 {
        if self.requests == 0 {
            return 0.0;
        }
        let (requests, failed) = (count(self.requests), count(self.failed));
        100.0 * (requests - failed) / requests
    }

    /// The class of availability that was reached.
    pub(crate) fn class(&self) -> String {
        let reached = CLASSES.iter().find(|class| self.availability() >= **class);
        reached.map_or_else(|| "below 95".to_owned(), ToString::to_string)
    }
}

/// An answer that broke off in its body may have begun without the client's having seen it: HTTP/2 lets a reset overtake
/// what was to be sent before it. The proxy's record knows.
fn as_recorded(fate: &Fate, proxies: &[&Proxy]) -> Fate {
    let mut fate = fate.clone();
    if let Err(Loss::Unanswered(why)) = &fate.result
        && proxies.iter().filter_map(|proxy| proxy.record(fate.id)).any(|record| record["end"] == "UD")
    {
        fate.result = Err(Loss::BrokenOff(why.clone()));
    }
    fate
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// A duration as tables have it.
pub(crate) fn brief(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// A duration, or nothing.
pub(crate) fn perhaps(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "–".to_owned(), brief)
}
