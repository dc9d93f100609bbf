//! The page and its fragments, from the templates beside this file.
//!
//! Part of `admin::dashboard`, pure. Whatever is written into a template is escaped by it, but for charts and fragments,
//! which are markup already. Each fragment is the content of the element that its id names.

use askama::Template;

use super::alerts::{self, Alert};
use super::budget::Budget;
use super::charts::{self, Chart, Window};
use super::chronicle::Note;
use super::history::History;
use super::live::Frame;
use super::losses::Losses;
use super::overview::{Errors, Latency, Overview, Verdict};
use super::pools::{Pools, Zones};
use crate::admin::status::{Ban, Certificate, Generation, Limit, Listener, Sink, Status};
use crate::admin::words;
use crate::telemetry::metrics::phase_word;

/// Everything that is shown.
pub(super) struct Scene<'a> {
    pub(super) status: &'a Status,
    pub(super) overview: &'a Overview,
    pub(super) bans: &'a [Ban],
    pub(super) history: &'a History,
    pub(super) losses: &'a Losses,
}

/// Bans that are listed; `sluicegate bans` lists all.
const BANS: usize = 100;

/// All fragments, in the order of the page.
pub(super) fn fragments(scene: &Scene<'_>) -> Vec<(&'static str, String)> {
    let (status, now) = (scene.status, scene.overview);
    let drawn = |template: Result<String, askama::Error>| template.unwrap_or_default();
    vec![
        ("state", drawn(State { status }.render())),
        ("alerts", drawn(Alerts { alerts: alerts::all(status, scene.losses, now.at) }.render())),
        ("tiles", drawn(Tiles { now }.render())),
        ("charts-short", drawn(Charts { charts: charts::draw(scene.history, Window::Short) }.render())),
        ("charts-long", drawn(Charts { charts: charts::draw(scene.history, Window::Long) }.render())),
        ("pools", drawn(Pools::of(status, now).render())),
        ("budget", drawn(Budget::of(&status.pools).render())),
        ("zones", drawn(Zones::of(status, now).render())),
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
        ("records", drawn(Records { sinks: &status.sinks }.render())),
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
    pub(super) fn p50(&self) -> String {
        words::millis(self.p50_ms)
    }

    pub(super) fn p95(&self) -> String {
        words::millis(self.p95_ms)
    }

    pub(super) fn p99(&self) -> String {
        words::millis(self.p99_ms)
    }
}

#[derive(Template)]
#[template(path = "charts.html", config = "src/admin/dashboard/askama.toml")]
struct Charts {
    charts: Vec<Chart>,
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
    sinks: &'a [Sink],
}

impl Sink {
    fn is_failing(&self) -> bool {
        self.state == "failing"
    }

    fn taken(&self) -> String {
        words::count(self.sent)
    }

    fn waiting(&self) -> String {
        let (memory, disk) = (words::count(self.queue), words::count(self.spool_records));
        let age = words::span(self.oldest_age_seconds);
        #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
        let bytes = words::bytes(self.spool_bytes as f64);
        match (self.queue, self.spool_records) {
            (0, 0) => "nothing".to_owned(),
            (_, 0) => format!("{memory} in memory, the oldest for {age}"),
            (_, _) => format!("{memory} in memory, {disk} on disk ({bytes}), the oldest for {age}"),
        }
    }

    fn lost(&self) -> String {
        let some = self.dropped.iter().filter(|(_, count)| **count > 0);
        let lost: Vec<String> =
            some.map(|(cause, count)| format!("{} {}", words::count(*count), cause.replace('_', " "))).collect();
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
