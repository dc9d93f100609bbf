//! What the machine did meanwhile: figures from a machine that was busy with something else say so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Ticks of the kernel's accounting in a second, as Linux shows them to programs.
const TICKS: f64 = 100.0;

/// Share of the processors beyond which somebody else's work counts as busy.
const BUSY: f64 = 0.10;

/// Looks at the processors from time to time and tells our own work from that of others.
pub(crate) struct Watch {
    began: Instant,
    all: f64,
    own: BTreeMap<u32, f64>,
}

impl Watch {
    /// Begins to look.
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), all: used(), own: BTreeMap::new() }
    }

    /// Keeps count of processes that come and go, until dropped.
    pub(crate) async fn keep(&mut self) {
        loop {
            self.look();
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Looks once.
    pub(crate) fn look(&mut self) {
        for (pid, seconds) in family() {
            self.own.insert(pid, seconds);
        }
    }

    /// A sentence about the machine; `before` is what the family had used when it started.
    pub(crate) fn sentence(&mut self, before: &BTreeMap<u32, f64>) -> String {
        self.look();
        let processors =
            std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
        let time = self.began.elapsed().as_secs_f64() * f64::from(processors);
        let own: f64 = self.own.iter().map(|(pid, used)| used - before.get(pid).copied().unwrap_or(0.0)).sum();
        let others = ((used() - self.all - own) / time).clamp(0.0, 1.0);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default().to_owned();
        let busy = if others > BUSY { "the machine was BUSY with other work" } else { "the machine was ours" };
        format!(
            "{busy}: others used {:.0} % and the suite {:.0} % of {processors} processors; load average {load}",
            others * 100.0,
            own / time * 100.0
        )
    }
}

/// Processor time of this process and all its descendants so far, in seconds, by process.
pub(crate) fn family() -> BTreeMap<u32, f64> {
    let mut parents = BTreeMap::new();
    let mut times = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name of the program stands in brackets and may hold anything.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        parents.insert(pid, number(1));
        times.insert(pid, f64::from(number(11) + number(12)) / TICKS);
    }
    let mut ours = BTreeSet::from([std::process::id()]);
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| ours.contains(parent) && !ours.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return times.into_iter().filter(|(pid, _)| ours.contains(pid)).collect();
        }
        ours.extend(more);
    }
}

/// Processor time that was not idle since the machine started, in seconds over all processors.
fn used() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or(0.0);
    // user, nice, system, then idle and iowait, then interrupts; steal belongs to another machine.
    (at(0) + at(1) + at(2) + at(5) + at(6) + at(7)) / TICKS
}
