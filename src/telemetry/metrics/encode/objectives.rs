//! The families of pools' objectives.
//!
//! Floor 2.

use std::fmt;
use std::sync::Arc;

use super::{Page, Samples, by_cause, f, family};
use crate::lexicon::PoolName;
use crate::telemetry::metrics::{Inner, PoolMetrics, State};
use crate::telemetry::slo::{Alert, Kept, Report, SPENDERS};

pub(super) fn encode(
    inner: &Inner,
    pools: &[(PoolName, Arc<PoolMetrics>)],
    state: &State,
    page: &mut Page<'_>,
) -> fmt::Result {
    family(page, &f::SERVED, |samples| {
        pools
            .iter()
            .try_for_each(|(name, pool)| by_cause(samples, &[name.as_str()], |served| pool.served_so_far(served)))
    })?;
    family(page, &f::SLO_OBJECTIVE, |samples| {
        each(samples, state, |samples, labels, kept| samples.gauge_f64(labels, ratio(kept.objective_percent)))
    })?;
    family(page, &f::SLO_BUDGET, |samples| {
        each(samples, state, |samples, labels, kept| samples.gauge_f64(labels, ratio(kept.budget_left_percent)))
    })?;
    family(page, &f::SLO_BURN, |samples| {
        each(samples, state, |samples, labels, kept| {
            kept.burn_rate.iter().try_for_each(|(window, rate)| {
                let [pool, objective] = *labels;
                samples.gauge_f64(&[pool, objective, window.as_str()], *rate)
            })
        })
    })?;
    let reports = || state.pools.iter().map(|pool| (pool.name.as_str(), &pool.slo));
    family(page, &f::SLO_SPENT, |samples| {
        reports().try_for_each(|(pool, report): (_, &Report)| {
            let mut spent = SPENDERS.iter().zip(report.spent_by.all());
            spent.try_for_each(|(by, count)| samples.gauge(&[pool, by], count))
        })
    })?;
    family(page, &f::SLO_DOWNTIME, |samples| {
        reports().try_for_each(|(pool, report)| samples.gauge(&[pool], report.downtime.seconds))
    })?;
    family(page, &f::SLO_OBSERVED, |samples| {
        reports().try_for_each(|(pool, report)| samples.gauge(&[pool], report.downtime.observed_seconds))
    })?;
    family(page, &f::SLO_ALERT, |samples| {
        each(samples, state, |samples, [pool, objective], kept| {
            [Alert::Page, Alert::Ticket].into_iter().try_for_each(|alert| {
                samples.gauge(&[pool, objective, alert.as_str()], u64::from(kept.alert == Some(alert)))
            })
        })
    })?;
    family(page, &f::SLO_ERRORS, |samples| samples.counter(&[], inner.objectives_errors.get()))
}

/// As a share of one, without the noise that the division leaves.
fn ratio(percent: f64) -> f64 {
    (percent * 10_000.0).round() / 1_000_000.0
}

/// Both objectives of every pool, with the labels of each.
fn each(
    samples: &mut Samples<'_>,
    state: &State,
    mut write: impl FnMut(&mut Samples<'_>, &[&str; 2], &Kept) -> fmt::Result,
) -> fmt::Result {
    state.pools.iter().try_for_each(|pool| {
        write(samples, &[pool.name.as_str(), "availability"], &pool.slo.availability)?;
        write(samples, &[pool.name.as_str(), "latency"], &pool.slo.latency)
    })
}
