//! Objectives of pools and what is left of their error budgets.
//!
//! Part of `admin::dashboard`, pure.

use askama::Template;

use super::words;
use crate::admin::status::Pool;
use crate::telemetry::slo::{Alert, BurnWindow, Kept, Report};

/// Percent of a budget from which on what is left is little.
const LITTLE: f64 = 25.0;

/// The fragment.
#[derive(Template)]
#[template(path = "budget.html", config = "src/admin/dashboard/askama.toml")]
pub(super) struct Budget<'a> {
    pools: Vec<View<'a>>,
}

struct View<'a> {
    name: String,
    slo: &'a Report,
    objectives: [Objective; 2],
}

/// One objective in words.
struct Objective {
    promised: String,
    kept: String,
    left: String,
    class: &'static str,
    burns: String,
}

impl<'a> Budget<'a> {
    pub(super) fn of(pools: &'a [Pool]) -> Self {
        Self { pools: pools.iter().map(|pool| View::of(pool.name.to_string(), &pool.slo)).collect() }
    }
}

impl<'a> View<'a> {
    fn of(name: String, slo: &'a Report) -> Self {
        let threshold = words::millis(Some(slo.latency_threshold_seconds * 1_000.0));
        let objectives = [
            Objective::of(&slo.availability, format!("{} % answered", slo.availability.objective_percent)),
            Objective::of(&slo.latency, format!("{} % within {threshold}", slo.latency.objective_percent)),
        ];
        Self { name, slo, objectives }
    }

    fn spent(&self) -> String {
        let spent = self.slo.spent_by;
        let parts = [
            (spent.endpoint, "by endpoints"),
            (spent.zone, "by zones"),
            (spent.proxy, "by the proxy"),
            (spent.client, "by clients"),
        ];
        let some = parts.iter().filter(|(count, _)| *count > 0);
        let each: Vec<String> = some.map(|(count, who)| format!("{} {who}", words::count(*count))).collect();
        if each.is_empty() { "nothing".to_owned() } else { each.join(", ") }
    }

    fn down(&self) -> String {
        let downtime = &self.slo.downtime;
        let seconds = words::span(downtime.seconds);
        match downtime.class {
            Some(class) => format!("{seconds}, which keeps the class {class}"),
            None => format!("{seconds}, more than any class allows"),
        }
    }
}

impl Objective {
    fn of(kept: &Kept, promised: String) -> Self {
        let left = kept.budget_left_percent;
        let class = match kept.alert {
            Some(Alert::Page) => "bad",
            _ if left < 0.0 => "bad",
            Some(Alert::Ticket) => "warn",
            None if left < LITTLE => "warn",
            None => "good",
        };
        let burns = [BurnWindow::Hour, BurnWindow::Hours6, BurnWindow::Days3].map(|window| {
            let rate = kept.burn_rate.iter().find(|(of, _)| *of == window).map_or(0.0, |(_, rate)| *rate);
            format!("{} {}", window.as_str(), words::rate(rate))
        });
        Self {
            promised,
            kept: kept.kept_percent.map_or_else(|| "–".to_owned(), |percent| format!("{percent:.3} %")),
            left: format!("{left:.0} %"),
            class,
            burns: burns.join(" · "),
        }
    }
}
