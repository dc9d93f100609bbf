//! The page and its fragments, from the templates beside this file.
//!
//! Part of `admin::dashboard`, pure. Whatever is written into a template is escaped by it, but for charts and fragments,
//! which are markup already. Each fragment is the content of the element that its id names.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use askama::Template;

use super::alerts::{self, Alert};
use super::budget::Budget;
use super::charts::{self, Chart, Window};
use super::chronicle::{Mark, Note};
use super::history::History;
use super::live::Frame;
use super::overview::{CELL, CELLS, EndpointRow, Errors, Latency, Overview, PoolRow, Verdict};
use crate::admin::status::{Ban, Certificate, Endpoint, Generation, Lane, Limit, Listener, Pool, Status};
use crate::admin::words;
use crate::telemetry::metrics::phase_word;

/// Everything that is shown.
pub(super) struct Scene<'a> {
    pub(super) status: &'a Status,
    pub(super) overview: &'a Overview,
    pub(super) bans: &'a [Ban],
    pub(super) history: &'a History,
}

/// Bans that are listed; `sluicegate bans` lists all.
const BANS: usize = 100;

/// All fragments, in the order of the page.
pub(super) fn fragments(scene: &Scene<'_>) -> Vec<(&'static str, String)> {
    let (status, now) = (scene.status, scene.overview);
    let drawn = |template: Result<String, askama::Error>| template.unwrap_or_default();
    vec![
        ("state", drawn(State { status }.render())),
        ("alerts", drawn(Alerts { alerts: alerts::all(status) }.render())),
        ("tiles", drawn(Tiles { now }.render())),
        ("charts-short", drawn(Charts { charts: charts::draw(scene.history, Window::Short) }.render())),
        ("charts-long", drawn(Charts { charts: charts::draw(scene.history, Window::Long) }.render())),
        ("pools", drawn(Pools { pools: pools(status, now) }.render())),
        ("budget", drawn(Budget::of(&status.pools).render())),
        ("zones", drawn(Zones { zones: zones(status, now) }.render())),
        ("errors", drawn(ErrorTable { errors: &now.errors }.render())),
        (
            "shield",
            drawn(
                Shield {
                    verdicts: spoken(&now.verdicts),
                    silent: silent(&now.verdicts),
                    limits: &status.limits,
                    fleet: status.fleet,
                }
                .render(),
            ),
        ),
        (
            "bans",
            drawn(
                Bans { bans: scene.bans.get(..BANS.min(scene.bans.len())).unwrap_or_default(), all: scene.bans.len() }
                    .render(),
            ),
        ),
        ("records", drawn(Records { glance: scene.history.totals() }.render())),
        ("listeners", drawn(Listeners { listeners: &status.listeners }.render())),
        ("generations", drawn(Generations { now: now.at, generations: &status.generations, status }.render())),
        ("events", drawn(Events { now: now.at, events: &now.events }.render())),
    ]
}

/// The whole page.
pub(super) fn page(frame: &Frame) -> Result<String, askama::Error> {
    Page { frame, version: env!("CARGO_PKG_VERSION") }.render()
}

#[derive(Template)]
#[template(path = "page.html", config = "src/admin/dashboard/askama.toml")]
struct Page<'a> {
    frame: &'a Frame,
    version: &'static str,
}

#[derive(Template)]
#[template(path = "state.html", config = "src/admin/dashboard/askama.toml")]
struct State<'a> {
    status: &'a Status,
}

impl State<'_> {
    const fn phase(&self) -> &'static str {
        phase_word(self.status.phase)
    }

    fn uptime(&self) -> String {
        words::span(self.status.uptime_seconds)
    }
}

#[derive(Template)]
#[template(path = "alerts.html", config = "src/admin/dashboard/askama.toml")]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Template)]
#[template(path = "tiles.html", config = "src/admin/dashboard/askama.toml")]
struct Tiles<'a> {
    now: &'a Overview,
}

impl Overview {
    fn rate(&self) -> String {
        words::rate(self.per_second)
    }

    fn errors_rate(&self) -> String {
        words::rate(self.errors_per_second)
    }

    fn has_errors(&self) -> bool {
        self.errors_per_second > 0.0
    }

    fn bytes_rate(&self) -> String {
        words::bytes(self.bytes_per_second)
    }
}

impl Latency {
    fn p50(&self) -> String {
        words::millis(self.p50_ms)
    }

    fn p95(&self) -> String {
        words::millis(self.p95_ms)
    }

    fn p99(&self) -> String {
        words::millis(self.p99_ms)
    }
}

#[derive(Template)]
#[template(path = "charts.html", config = "src/admin/dashboard/askama.toml")]
struct Charts {
    charts: Vec<Chart>,
}

#[derive(Template)]
#[template(path = "pools.html", config = "src/admin/dashboard/askama.toml")]
struct Pools<'a> {
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
        let share = |share: &crate::admin::status::Share| {
            format!("priority {} {}: {} %", share.priority, share.zone, share.percent)
        };
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
struct Zones {
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

#[derive(Template)]
#[template(path = "errors.html", config = "src/admin/dashboard/askama.toml")]
struct ErrorTable<'a> {
    errors: &'a [Errors],
}

impl Errors {
    fn name(&self) -> String {
        self.cause.replace('_', " ")
    }

    fn counts(&self) -> [String; 3] {
        [self.last_minute, self.last_ten_minutes, self.total].map(words::count)
    }
}

#[derive(Template)]
#[template(path = "shield.html", config = "src/admin/dashboard/askama.toml")]
struct Shield<'a> {
    verdicts: Vec<&'a Verdict>,
    silent: usize,
    limits: &'a [Limit],
    fleet: Option<bool>,
}

/// Rules that have said something.
fn spoken(verdicts: &[Verdict]) -> Vec<&Verdict> {
    verdicts.iter().filter(|each| each.enforced + each.observed > 0).collect()
}

/// How many have not.
fn silent(verdicts: &[Verdict]) -> usize {
    verdicts.len() - spoken(verdicts).len()
}

impl Verdict {
    fn counts(&self) -> [String; 2] {
        [self.enforced, self.observed].map(words::count)
    }
}

#[derive(Template)]
#[template(path = "bans.html", config = "src/admin/dashboard/askama.toml")]
struct Bans<'a> {
    bans: &'a [Ban],
    all: usize,
}

impl Ban {
    fn left(&self) -> String {
        words::rough(self.seconds_left)
    }
}

#[derive(Template)]
#[template(path = "records.html", config = "src/admin/dashboard/askama.toml")]
struct Records<'a> {
    glance: &'a crate::telemetry::metrics::Glance,
}

impl Records<'_> {
    fn written(&self) -> String {
        words::count(self.glance.records_written)
    }

    fn lost(&self) -> String {
        let lost: Vec<String> = self
            .glance
            .records_lost
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(cause, count)| format!("{} {}", words::count(*count), cause.replace('_', " ")))
            .collect();
        if lost.is_empty() { "none".to_owned() } else { lost.join(", ") }
    }
}

#[derive(Template)]
#[template(path = "listeners.html", config = "src/admin/dashboard/askama.toml")]
struct Listeners<'a> {
    listeners: &'a [Listener],
}

impl Listener {
    fn at(&self) -> String {
        self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn protocols(&self) -> String {
        let each =
            self.speaking.iter().map(|(protocol, open)| format!("{} {}", words::count(*open), protocol.as_str()));
        each.collect::<Vec<_>>().join(", ")
    }
}

impl Certificate {
    const fn class(&self) -> &'static str {
        match self.days_left {
            ..=2 => "bad",
            3..=14 => "warn",
            _ => "good",
        }
    }
}

#[derive(Template)]
#[template(path = "generations.html", config = "src/admin/dashboard/askama.toml")]
struct Generations<'a> {
    now: u64,
    generations: &'a [Generation],
    status: &'a Status,
}

impl Generations<'_> {
    fn when(&self, generation: &Generation) -> String {
        words::clock(self.now, words::unix_ms(generation.at))
    }
}

#[derive(Template)]
#[template(path = "events.html", config = "src/admin/dashboard/askama.toml")]
struct Events<'a> {
    now: u64,
    events: &'a [Note],
}

impl Events<'_> {
    fn when(&self, note: &Note) -> String {
        words::clock(self.now, note.at)
    }
}

impl Note {
    const fn class(&self) -> &'static str {
        self.weight.as_str()
    }
}
