//! What an operator should know first.
//!
//! Part of `admin::dashboard`, pure.

use super::chronicle::{Mark, Weight};
use super::losses::Losses;
use crate::admin::status::Sink;
use crate::admin::{Status, words};
use crate::lifecycle::Phase;
use crate::telemetry::metrics::phase_word;
use crate::telemetry::slo;

/// Days before its end from which a certificate is worth a warning.
const DAYS: i64 = 14;

/// Percent of a spool from which on it is worth a warning, and from which on records will soon be lost.
const FULL: (u64, u64) = (50, 80);

/// Something that is not as it should be.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    pub(super) weight: Weight,
    pub(super) text: String,
}

/// All of them, the gravest first.
pub(super) fn all(status: &Status, losses: &Losses, now: u64) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut tell = |weight, text: String| alerts.push(Alert { weight, text });
    if status.phase != Phase::Running {
        tell(Weight::Warn, format!("The process is {}.", phase_word(status.phase)));
    }
    if let Some(load) = status.generations.first().filter(|load| load.error.is_some()) {
        tell(Weight::Bad, format!("The configuration on disk was refused; generation {} stays.", load.number));
    }
    for pool in &status.pools {
        let all = pool.endpoints.len();
        let count = |mark| pool.endpoints.iter().filter(|endpoint| Mark::of(endpoint) == mark).count();
        let out = count(Mark::Down) + count(Mark::Ejected);
        let name = &pool.name;
        match out {
            0 => {}
            1 if all == 1 => tell(Weight::Bad, format!("The only endpoint of {name} is out.")),
            out if out == all => tell(Weight::Bad, format!("All {all} endpoints of {name} are out.")),
            1 => tell(Weight::Bad, format!("1 of {all} endpoints of {name} is out.")),
            out => tell(Weight::Bad, format!("{out} of {all} endpoints of {name} are out.")),
        }
        let promised = [("availability", &pool.slo.availability), ("latency", &pool.slo.latency)];
        for (what, kept) in promised {
            let burning = format!("The error budget of {name} for {what} burns");
            match kept.alert {
                Some(slo::Alert::Page) => tell(Weight::Bad, format!("{burning}: hours are left.")),
                Some(slo::Alert::Ticket) => tell(Weight::Warn, format!("{burning}: days are left.")),
                None => {}
            }
        }
        if pool.panicking {
            tell(Weight::Bad, format!("{name} asks all of its endpoints, since too few are up."));
        }
        match count(Mark::Late) {
            0 => {}
            late => tell(Weight::Warn, format!("{late} of {all} endpoints of {name} late or on trial.")),
        }
        match pool.queue_length {
            0 => {}
            1 => tell(Weight::Warn, format!("1 exchange waits for an endpoint of {name}.")),
            queued => tell(Weight::Warn, format!("{} exchanges wait for an endpoint of {name}.", words::count(queued))),
        }
    }
    for drain in &status.drains {
        let ends = drain.seconds_left.map(|left| format!(", for {} more", words::span(left))).unwrap_or_default();
        tell(Weight::Warn, format!("Drained: {}{ends}.", drain.target));
    }
    for sink in &status.sinks {
        if sink.state == "failing" {
            tell(Weight::Warn, format!("The sink {} is failing.", sink.name));
        }
        match filled(sink) {
            full if full >= FULL.1 => {
                tell(Weight::Bad, format!("The spool of {} is {full} % full; then the oldest records go.", sink.name));
            }
            full if full >= FULL.0 => tell(Weight::Warn, format!("The spool of {} is {full} % full.", sink.name)),
            _ => {}
        }
        match losses.lately(now, &sink.name) {
            Some((lost, 0..=1)) => {
                tell(Weight::Bad, format!("{} loses records, {} so far.", sink.name, words::count(lost)))
            }
            Some((lost, ago)) => {
                let ago = words::rough(ago);
                tell(
                    Weight::Warn,
                    format!("{} has lost {} records, the last {ago} ago.", sink.name, words::count(lost)),
                );
            }
            None => {}
        }
    }
    for certificate in status.listeners.iter().flat_map(|listener| &listener.certificates) {
        let file = &certificate.file;
        match certificate.days_left {
            past if past < 0 => tell(Weight::Bad, format!("{file} has expired.")),
            left if left < DAYS => tell(Weight::Warn, format!("{file} expires in {left} days.")),
            _ => {}
        }
    }
    if status.fleet == Some(false) {
        tell(Weight::Warn, "Redis does not answer; limits are this proxy's own meanwhile.".to_owned());
    }
    alerts.sort_by_key(|alert| alert.weight != Weight::Bad);
    alerts
}

/// Percent of its spool that a sink has filled; 0 without one.
fn filled(sink: &Sink) -> u64 {
    sink.spool_bytes.saturating_mul(100).checked_div(sink.spool_max_bytes).unwrap_or_default()
}
