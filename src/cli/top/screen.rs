//! The screen of `top`: values in, cells out.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, StatefulWidget, Table, TableState, Widget};

use super::scene::{Endpoint, Latency, Pool, Scene};
use super::{Sort, View};
use crate::admin::words::{bytes, count, millis, rate, span};

/// Lines of the two lists at the bottom, their frame included.
const LISTS: u16 = 9;

/// Columns that a name has at most.
const WIDEST: usize = 44;

/// Draws all of it.
pub(super) fn draw(view: &View, area: Rect, to: &mut Buffer) {
    let [top, table, lists, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(5),
        Constraint::Length(if area.height > 22 { LISTS } else { 0 }),
        Constraint::Length(1),
    ])
    .areas(area);
    head(&view.scene, top, to);
    pools(view, table, to);
    let [left, right] = Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)]).areas(lists);
    errors(&view.scene, left, to);
    events(&view.scene, right, to);
    let (text, style) = match (&view.asking, &view.told) {
        (Some(ask), _) => (format!(" {} y/n", ask.question()), Style::new().add_modifier(Modifier::REVERSED)),
        (None, Some(told)) => (format!(" {told}"), Style::new().add_modifier(Modifier::BOLD)),
        (None, None) if view.still => (String::new(), QUIET),
        (None, None) => (" q quit  s sort  ↑↓ choose  d drain  e enable".to_owned(), QUIET),
    };
    Paragraph::new(text).style(style).render(foot, to);
}

const QUIET: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

fn head(scene: &Scene, area: Rect, to: &mut Buffer) {
    let (now, process) = (&scene.now, &scene.process);
    let value = |text: String| Span::styled(text, STRONG);
    let lines = vec![
        Line::from(vec![
            value(format!("Sluicegate {}", process.version)),
            format!("  {}  generation {}  up {}", process.phase, process.generation, span(process.uptime_seconds))
                .into(),
        ]),
        Line::from(vec![
            value(rate(now.per_second)),
            " /s  5xx ".into(),
            Span::styled(format!("{} /s", rate(now.errors_per_second)), failing(now.errors_per_second)),
            "  50 % ".into(),
            value(millis(now.latency.p50_ms)),
            "  95 % ".into(),
            value(millis(now.latency.p95_ms)),
            "  99 % ".into(),
            value(millis(now.latency.p99_ms)),
        ]),
        Line::from(vec![
            "in flight ".into(),
            value(now.in_flight.to_string()),
            "  queued ".into(),
            value(now.queued.to_string()),
            "  tunnels ".into(),
            value(now.tunnels.to_string()),
            "  connections ".into(),
            value(now.connections.to_string()),
            "  bans ".into(),
            value(process.bans.to_string()),
            format!("  sent {}/s", bytes(now.bytes_per_second)).into(),
        ]),
    ];
    Paragraph::new(lines).render(area, to);
}

fn pools(view: &View, area: Rect, to: &mut Buffer) {
    let heading = |text: &'static str, sort: Option<Sort>| {
        let marked = sort == Some(view.sort);
        Cell::from(if marked { format!("{text}▾") } else { text.to_owned() })
    };
    let header = Row::new([
        heading("POOL / ENDPOINT", Some(Sort::Written)),
        heading("STATE", None),
        heading("/S", Some(Sort::Rate)),
        heading("5XX/S", Some(Sort::Errors)),
        heading("FLIGHT", Some(Sort::InFlight)),
        heading("TUNNELS", None),
        heading("50 %", None),
        heading("95 %", None),
        heading("99 %", None),
        heading("WHY", None),
    ])
    .style(STRONG.add_modifier(Modifier::UNDERLINED));
    let rows = view.lines().into_iter().map(|line| match line {
        super::Of::Pool(pool) => pool_row(pool),
        super::Of::Endpoint(_, endpoint) => endpoint_row(endpoint),
    });
    let names =
        view.scene.now.pools.iter().flat_map(|pool| &pool.endpoints).map(|endpoint| endpoint.name.chars().count());
    let widest = names.max().unwrap_or(0).clamp(18, WIDEST) + 2;
    let widths = [
        Constraint::Length(u16::try_from(widest).unwrap_or(u16::MAX)),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let table =
        Table::new(rows, widths).header(header).row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(view.selected());
    StatefulWidget::render(table, area, to, &mut state);
}

/// What is in a cell that says nothing; `Cell::default()` of ratatui 0.30 is no column wide, and moves those behind it.
const EMPTY: &str = "";

fn pool_row(pool: &Pool) -> Row<'static> {
    let Latency { p50_ms, p95_ms, p99_ms } = pool.latency;
    let sum = |of: fn(&Endpoint) -> u64| pool.endpoints.iter().map(of).sum::<u64>().to_string();
    let queued = if pool.queued > 0 { format!("{} queued", pool.queued) } else { String::new() };
    Row::new([
        Cell::from(pool.name.clone()),
        EMPTY.into(),
        rate(pool.per_second).into(),
        Cell::from(rate(pool.errors_per_second)).style(failing(pool.errors_per_second)),
        sum(|endpoint| endpoint.in_flight).into(),
        sum(|endpoint| endpoint.tunnels).into(),
        millis(p50_ms).into(),
        millis(p95_ms).into(),
        millis(p99_ms).into(),
        Cell::from(queued).style(Style::new().fg(Color::Yellow)),
    ])
    .style(STRONG)
}

fn endpoint_row(endpoint: &Endpoint) -> Row<'static> {
    let colour = match endpoint.mark.as_str() {
        "up" => Color::Green,
        "late" => Color::Yellow,
        "down" | "ejected" => Color::Red,
        _ => Color::DarkGray,
    };
    let reason = if endpoint.mark == "up" { String::new() } else { endpoint.reason.clone() };
    Row::new([
        Cell::from(format!("  {}", endpoint.name)),
        Cell::from(endpoint.mark.clone()).style(Style::new().fg(colour)),
        rate(endpoint.per_second).into(),
        Cell::from(rate(endpoint.errors_per_second)).style(failing(endpoint.errors_per_second)),
        endpoint.in_flight.to_string().into(),
        endpoint.tunnels.to_string().into(),
        EMPTY.into(),
        EMPTY.into(),
        EMPTY.into(),
        reason.into(),
    ])
}

fn errors(scene: &Scene, area: Rect, to: &mut Buffer) {
    let rows = scene.now.errors.iter().map(|each| {
        Row::new([
            each.cause.replace('_', " "),
            count(each.last_minute),
            count(each.last_ten_minutes),
            count(each.total),
        ])
    });
    let widths = [Constraint::Fill(1), Constraint::Length(7), Constraint::Length(7), Constraint::Length(8)];
    let header = Row::new(["CAUSE", "1 MIN", "10 MIN", "EVER"]).style(QUIET);
    let table = Table::new(rows, widths).header(header).block(framed(" errors by cause "));
    Widget::render(table, area, to);
}

fn events(scene: &Scene, area: Rect, to: &mut Buffer) {
    let line = |event: &super::scene::Event| {
        let style = match event.weight.as_str() {
            "bad" => Style::new().fg(Color::Red),
            "warn" => Style::new().fg(Color::Yellow),
            "good" => Style::new().fg(Color::Green),
            _ => Style::new(),
        };
        let ago = span(scene.now.at.saturating_sub(event.at) / 1_000);
        Line::from(vec![
            Span::styled(format!("{ago:>12} ago  "), QUIET),
            Span::styled(format!("{} ", event.what), STRONG),
            Span::styled(event.text.clone(), style),
        ])
    };
    let lines: Vec<Line<'static>> = scene.now.events.iter().take(LISTS.into()).map(line).collect();
    Paragraph::new(lines).block(framed(" events ")).render(area, to);
}

fn framed(title: &'static str) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title)
}

fn failing(rate: f64) -> Style {
    if rate > 0.0 { Style::new().fg(Color::Red) } else { Style::new() }
}
