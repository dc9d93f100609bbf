//! Pools, their endpoints with what became of each, and zones over all pools.
//!
//! Part of `admin::dashboard`, pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use askama::Template;

use super::chronicle::Mark;
use super::overview::{CELL, CELLS, EndpointRow, Overview, PoolRow};
use crate::admin::status::{Endpoint, Lane, Pool, Share, Status};
use crate::admin::words;

#[derive(Template)]
#[template(path = "pools.html", config = "src/admin/dashboard/askama.toml")]
pub(super) struct Pools<'a> {
    pools: Vec<PoolView<'a>>,
}

struct PoolView<'a> {
    pool: &'a Pool,
    row: &'a PoolRow,
    endpoints: Vec<EndpointView<'a>>,
}

struct EndpointView<'a> {
    endpoint: &'a Endpoint,
    row: &'a EndpointRow,
    since: String,
}

impl<'a> Pools<'a> {
    pub(super) fn of(status: &'a Status, now: &'a Overview) -> Self {
        Self { pools: pools(status, now) }
    }
}

fn pools<'a>(status: &'a Status, now: &'a Overview) -> Vec<PoolView<'a>> {
    let endpoint = |(endpoint, row): (&'a Endpoint, &'a EndpointRow)| EndpointView {
        endpoint,
        row,
        since: words::ago(now.at, endpoint.since),
    };
    let pool = |(pool, row): (&'a Pool, &'a PoolRow)| PoolView {
        pool,
        row,
        endpoints: pool.endpoints.iter().zip(&row.endpoints).map(endpoint).collect(),
    };
    status.pools.iter().zip(&now.pools).map(pool).collect()
}

impl PoolView<'_> {
    fn rate(&self) -> String {
        words::rate(self.row.per_second)
    }

    fn errors(&self) -> String {
        words::rate(self.row.errors_per_second)
    }

    fn strategy(&self) -> String {
        self.pool.strategy.replace('_', " ")
    }

    fn retried(&self) -> String {
        let made: u64 = self.pool.retries.made.values().sum();
        let causes = self.pool.retries.made.iter().map(|(cause, count)| format!("{} {cause}", words::count(*count)));
        let causes: Vec<String> = causes.collect();
        match (made, self.pool.retries.refused) {
            (0, 0) => "none".to_owned(),
            (_, 0) => causes.join(", "),
            (_, refused) => format!("{}; {} refused by the budget", causes.join(", "), words::count(refused)),
        }
    }

    fn shares(&self) -> String {
        let share = |share: &Share| format!("priority {} {}: {} %", share.priority, share.zone, share.percent);
        self.pool.shares.iter().map(share).collect::<Vec<_>>().join(", ")
    }
}

impl Lane {
    fn endings(&self) -> String {
        let some = self.ended.iter().filter(|(_, count)| **count > 0);
        let each: Vec<String> = some.map(|(end, count)| format!("{} {end}", words::count(*count))).collect();
        if each.is_empty() { "nobody has waited".to_owned() } else { each.join(", ") }
    }
}

impl EndpointView<'_> {
    const fn mark(&self) -> &'static str {
        self.row.mark.as_str()
    }

    fn rate(&self) -> String {
        words::rate(self.row.per_second)
    }

    fn errors(&self) -> String {
        words::rate(self.row.errors_per_second)
    }

    fn is_failing(&self) -> bool {
        self.row.errors_per_second > 0.0
    }

    /// Weight, priority, zone, warmth: what is not as usual.
    fn place(&self) -> String {
        let endpoint = self.endpoint;
        let parts = [
            endpoint.zone.as_ref().map(|zone| format!("zone {zone}")),
            (endpoint.priority > 0).then(|| format!("priority {}", endpoint.priority)),
            (endpoint.weight != 1).then(|| format!("weight {}", endpoint.weight)),
            (endpoint.warmth < 100).then(|| format!("warming up, {} %", endpoint.warmth)),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }

    /// The past as a strip of coloured spans, neighbours of one colour in one piece.
    fn strip(&self) -> String {
        let width = CELLS * 4;
        let minutes = CELLS * CELL / 60_000;
        let mut svg = format!(
            r#"<svg class="past" viewBox="0 0 {width} 14" preserveAspectRatio="none" role="img" aria-label="{}">"#,
            self.past_in_words(minutes)
        );
        let mut from = 0;
        for run in self.row.past.chunk_by(|one, other| one == other) {
            let class = run.first().copied().flatten().map_or("none", Mark::as_str);
            // Writing to a String cannot fail.
            write!(svg, r#"<rect class="is-{class}" x="{}" width="{}" height="14"/>"#, from * 4, run.len() * 4).ok();
            from += run.len();
        }
        svg + "</svg>"
    }

    fn past_in_words(&self, minutes: u64) -> String {
        let mut spans = BTreeMap::new();
        for mark in self.row.past.iter().flatten() {
            *spans.entry(*mark).or_insert(0_u64) += 1;
        }
        let all: u64 = spans.values().sum();
        let share = |(mark, count): (&Mark, &u64)| format!("{} {} %", mark.as_str(), count * 100 / all.max(1));
        let shares: Vec<String> = spans.iter().map(share).collect();
        format!("Last {minutes} minutes: {}", shares.join(", "))
    }
}

#[derive(Template)]
#[template(path = "zones.html", config = "src/admin/dashboard/askama.toml")]
pub(super) struct Zones {
    zones: Vec<Zone>,
}

/// A failure domain over all pools.
#[derive(Default)]
struct Zone {
    name: String,
    endpoints: usize,
    up: usize,
    in_flight: u64,
    per_second: f64,
    drained: bool,
}

impl Zone {
    fn rate(&self) -> String {
        words::rate(self.per_second)
    }
}

impl Zones {
    pub(super) fn of(status: &Status, now: &Overview) -> Self {
        Self { zones: zones(status, now) }
    }
}

fn zones(status: &Status, now: &Overview) -> Vec<Zone> {
    let mut zones = BTreeMap::<&str, Zone>::new();
    for view in pools(status, now).iter().flat_map(|pool| &pool.endpoints) {
        let Some(name) = view.endpoint.zone.as_deref() else { continue };
        let zone = zones.entry(name).or_default();
        zone.name = name.to_owned();
        zone.endpoints += 1;
        zone.up += usize::from(matches!(view.row.mark, Mark::Up | Mark::Late));
        zone.in_flight += view.endpoint.in_flight;
        zone.per_second += view.row.per_second;
    }
    for zone in zones.values_mut() {
        zone.drained = status.drains.iter().any(|drain| drain.target == format!("zone {}", zone.name));
    }
    zones.into_values().collect()
}
