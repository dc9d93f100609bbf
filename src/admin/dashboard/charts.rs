//! The charts, as SVG that the stylesheet colours.
//!
//! Part of `admin::dashboard`, pure. `plotters` draws in marker colours, each of which becomes a class: light and dark
//! are the stylesheet's, and the page needs no inline style. Deliberately absent: numbers that stand nowhere else; what
//! a chart shows, tiles and tables say too, and its label sums it up for those who do not see it.

use std::fmt::Write as _;

use plotters::prelude::*;

use super::history::{History, Sample, percentile};
use crate::admin::words;

/// Drawn size; the page scales it.
const SIZE: (u32, u32) = (640, 180);

/// Samples of a second in one point of the short window.
const SHORT: usize = 5;

/// Samples of a minute in one point of the long window.
const LONG: usize = 3;

/// Causes with a colour of their own in the chart of errors.
const CAUSES: usize = 5;

/// Marker colours: `#0000A0` and on, which nothing else has.
const MARKER: u8 = 0xA0;

/// How far back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Window {
    /// Ten minutes.
    Short,
    /// Six hours.
    Long,
}

/// A chart with what is written around it.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) legend: Vec<Key>,
    pub(super) svg: String,
}

/// A line of a legend.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The class of its colour.
    pub(super) class: String,
    pub(super) name: String,
}

/// One line or area: its colour, and a value for each point; `None` leaves a gap.
struct Series {
    class: u8,
    name: String,
    values: Vec<Option<f64>>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Form {
    Lines,
    /// On top of each other.
    Stack,
}

/// All charts of a window.
pub(super) fn draw(history: &History, window: Window) -> Vec<Chart> {
    let samples = match window {
        Window::Short => history.short(SHORT),
        Window::Long => history.long(LONG),
    };
    vec![traffic(&samples, window), latency(&samples, window), errors(&samples, window), load(&samples, window)]
}

fn traffic(samples: &[Sample], window: Window) -> Chart {
    let class = |index: usize| move |sample: &Sample| sample.rate(sample.answers.get(index).copied().unwrap_or(0));
    let all = [
        series(0, "2xx", samples, class(2)),
        series(1, "1xx, 3xx", samples, |s| class(1)(s) + class(3)(s)),
        series(2, "4xx", samples, class(4)),
        series(4, "5xx", samples, class(5)),
        series(6, "client gone", samples, class(0)),
    ];
    chart("Traffic", "exchanges a second", Form::Stack, window, &all, words::rate)
}

fn latency(samples: &[Sample], window: Window) -> Chart {
    let line = |class, name: &str, share| Series {
        class,
        name: name.to_owned(),
        values: samples.iter().map(|sample| percentile(&sample.durations, share)).collect(),
    };
    let all = [line(5, "99 %", 0.99), line(3, "95 %", 0.95), line(0, "50 %", 0.5)];
    chart("Latency", "time in which this share was done", Form::Lines, window, &all, |value| words::millis(Some(value)))
}

fn errors(samples: &[Sample], window: Window) -> Chart {
    let mut causes: Vec<(&'static str, u64)> = Vec::new();
    for (cause, count) in samples.iter().flat_map(|sample| &sample.faults) {
        match causes.iter_mut().find(|(known, _)| known == cause) {
            Some((_, sum)) => *sum += count,
            None => causes.push((cause, *count)),
        }
    }
    causes.sort_by_key(|(cause, count)| (std::cmp::Reverse(*count), *cause));
    let own = causes.get(..causes.len().min(CAUSES)).unwrap_or_default();
    let others = causes.get(own.len()..).unwrap_or_default();
    let rate = |of: &[(&'static str, u64)], sample: &Sample| -> f64 {
        of.iter().map(|(cause, _)| sample.rate(sample.faults_of(cause))).sum()
    };
    let mut all: Vec<Series> = Vec::new();
    for (cause, colour) in own.iter().zip([4, 3, 5, 2, 1]) {
        all.push(series(colour, &cause.0.replace('_', " "), samples, |sample| rate(&[*cause], sample)));
    }
    if !others.is_empty() {
        all.push(series(6, "others", samples, |sample| rate(others, sample)));
    }
    chart("Errors by cause", "answers of the proxy itself a second", Form::Stack, window, &all, words::rate)
}

fn load(samples: &[Sample], window: Window) -> Chart {
    let all = [
        series(0, "in flight", samples, |sample| super::history::lossy(sample.in_flight)),
        series(3, "queued", samples, |sample| super::history::lossy(sample.queued)),
        series(5, "tunnels", samples, |sample| super::history::lossy(sample.tunnels)),
    ];
    chart("Load", "the most at once", Form::Lines, window, &all, words::rate)
}

fn series(class: u8, name: &str, samples: &[Sample], value: impl Fn(&Sample) -> f64) -> Series {
    Series { class, name: name.to_owned(), values: samples.iter().map(|sample| Some(value(sample))).collect() }
}

fn chart(
    title: &'static str,
    unit: &'static str,
    form: Form,
    window: Window,
    series: &[Series],
    say: impl Fn(f64) -> String,
) -> Chart {
    let label = label(title, window, series, &say);
    // Nothing that is drawn can fail but writing, and what is written to is memory.
    let drawn = picture(form, window, series, &say).unwrap_or_default();
    let legend = series.iter().map(|each| Key { class: format!("c{}", each.class), name: each.name.clone() });
    Chart { title, unit, legend: legend.collect(), svg: classed(&drawn, &label) }
}

/// What the chart says, in a sentence.
fn label(title: &str, window: Window, series: &[Series], say: impl Fn(f64) -> String) -> String {
    let over = if window == Window::Short { "ten minutes" } else { "six hours" };
    let mut text = format!("{title}, last {over}.");
    for each in series {
        let values = || each.values.iter().flatten().copied();
        let (Some(last), most) = (values().next_back(), values().fold(0.0, f64::max)) else { continue };
        // Writing to a String cannot fail.
        write!(text, " {}: now {}, at most {}.", each.name, say(last), say(most)).ok();
    }
    text
}

fn picture(
    form: Form,
    window: Window,
    series: &[Series],
    say: &dyn Fn(f64) -> String,
) -> Result<String, Box<dyn std::error::Error>> {
    let points = series.first().map_or(0, |first| first.values.len());
    let (minutes, step) = match window {
        Window::Short => (10.0, super::history::lossy(SHORT as u64) / 60.0),
        Window::Long => (360.0, super::history::lossy(LONG as u64)),
    };
    let time = |index: usize| -step * super::history::lossy((points - 1 - index) as u64);
    let stacked = stacked(form, series);
    let most = stacked.iter().flat_map(|each| each.iter().flatten()).copied().fold(0.0, f64::max);
    let top = ceiling(most);

    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(28)
            .x_label_area_size(24)
            .y_label_area_size(66)
            .build_cartesian_2d(-minutes..0.0, 0.0..top)?;
        let text = ("sans-serif", 13).into_font();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(marker(8))
            .axis_style(marker(8))
            .label_style(text.color(&marker(9)))
            .x_labels(6)
            .y_labels(5)
            .x_label_formatter(&|minutes| ago(*minutes))
            .y_label_formatter(&|value| tick(*value, say))
            .draw()?;
        for (each, values) in series.iter().zip(&stacked).rev() {
            let colour = marker(each.class);
            for run in runs(values) {
                let point = |index: usize| Some((time(index), (*values.get(index)?)?.min(top)));
                let points: Vec<(f64, f64)> = run.filter_map(point).collect();
                match form {
                    Form::Stack => chart.draw_series(AreaSeries::new(points, 0.0, colour))?,
                    Form::Lines => chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?,
                };
            }
        }
        area.present()?;
    }
    Ok(svg)
}

/// For a stack, each series with all before it.
fn stacked(form: Form, series: &[Series]) -> Vec<Vec<Option<f64>>> {
    let mut below: Vec<f64> = Vec::new();
    let pile = |each: &Series| {
        below.resize(each.values.len(), 0.0);
        let on = |(value, below): (&Option<f64>, &mut f64)| {
            *below += value.unwrap_or(0.0);
            Some(*below)
        };
        each.values.iter().zip(&mut below).map(on).collect()
    };
    match form {
        Form::Lines => series.iter().map(|each| each.values.clone()).collect(),
        Form::Stack => series.iter().map(pile).collect(),
    }
}

/// Where there are values without a gap.
fn runs(values: &[Option<f64>]) -> Vec<std::ops::Range<usize>> {
    let (mut runs, mut from) = (Vec::new(), None);
    for index in 0..=values.len() {
        let is_there = values.get(index).is_some_and(Option::is_some);
        match (from, is_there) {
            (None, true) => from = Some(index),
            (Some(start), false) => {
                runs.push(start..index);
                from = None;
            }
            _ => {}
        }
    }
    runs
}

/// The top of an axis: a round number above `most`.
fn ceiling(most: f64) -> f64 {
    if most <= 1.0 {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|top| *top >= most * 1.02).unwrap_or(power * 20.0)
}

/// A number at an axis: `0`, `5`, `2 s`, where a table has `5.0` and `2.0 s`.
fn tick(value: f64, say: &dyn Fn(f64) -> String) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = say(value);
    text.strip_suffix(".0").map_or_else(|| text.replace(".0 ", " "), str::to_owned)
}

fn ago(minutes: f64) -> String {
    match minutes {
        now if now > -0.01 => "now".to_owned(),
        hours if hours <= -60.0 => format!("{:.0} h", hours / 60.0),
        minutes => format!("{minutes:.0} min"),
    }
}

const fn marker(class: u8) -> RGBColor {
    RGBColor(0, 0, MARKER + class)
}

/// Marker colours become classes; fonts and sizes become the stylesheet's; the picture gets its label.
fn classed(svg: &str, label: &str) -> String {
    let Some((_, drawn)) = svg.split_once('>') else { return String::new() };
    let (width, height) = SIZE;
    // A label has names of causes alone, from a closed list, and numbers.
    let mut text =
        format!(r#"<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{drawn}"#);
    for class in 0..=9 {
        let colour = MARKER + class;
        for part in ["fill", "stroke"] {
            text = text.replace(&format!("{part}=\"#0000{colour:02X}\""), &format!("class=\"{part}{class}\""));
        }
    }
    text.replace(" font-family=\"sans-serif\"", "").replace(" opacity=\"1\"", "").replace(['\r', '\n'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u64) -> Sample {
        Sample { spans: 5_000, answers: [0, 0, count, 0, 0, 2], faults: vec![("connect", 2)], ..Sample::default() }
    }

    #[test]
    fn picture_has_classes_and_a_label_but_neither_colours_nor_styles() {
        let samples = [sample(10), sample(50), sample(100)];

        let chart = traffic(&samples, Window::Short);

        assert!(chart.svg.contains("2xx: now 20.0, at most 20.0."), "{}", chart.svg);
        assert!(chart.svg.contains("class=\"fill0\"") && chart.svg.ends_with("</svg>"), "{}", chart.svg);
        assert!(!chart.svg.contains("style=") && !chart.svg.contains("#0000"), "{}", chart.svg);
    }

    #[test]
    fn chart_of_nothing_is_a_frame() {
        assert!(errors(&[], Window::Long).svg.starts_with("<svg class=\"chart\""));
    }

    #[test]
    fn axis_ends_at_a_round_number_above_everything() {
        assert_eq!([ceiling(0.0), ceiling(7.0), ceiling(98.0), ceiling(99.0)], [1.0, 8.0, 100.0, 200.0]);
    }

    #[test]
    fn lines_have_gaps_where_there_was_nothing() {
        assert_eq!(runs(&[None, Some(1.0), Some(2.0), None, Some(3.0)]), [1..3, 4..5]);
    }
}
