//! `top`: the dashboard in a terminal.
//!
//! Reads `/status` and `/overview` of a running proxy each second, and changes what its operator may change. Without a
//! terminal, or with `--once`, it prints one picture and ends.

mod scene;
mod screen;

use std::time::{Duration, Instant};

use http::StatusCode;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use serde_json::json;

use super::Exit;
use super::client::{Client, Reach, Unreached};
use super::output::Output;
use crate::telemetry::events::Chain;
use scene::{Endpoint, Pool, Scene};

/// Columns of a picture for a pipe.
const WIDTH: u16 = 140;

/// Lines of a picture that are not pools: head, heading, lists, foot.
const AROUND: u16 = 14;

/// Shows it.
pub(super) fn run(reach: &Reach, once: bool, every: Duration, output: &mut Output) -> Exit {
    let client = match reach.find() {
        Ok(client) => client,
        Err(error) => return error.tell(output),
    };
    let scene = match look(&client) {
        Ok(scene) => scene,
        Err(error) => return error.tell(output),
    };
    let view = View { scene, ..View::default() };
    if once || !output.is_terminal() {
        output.text(picture(&view));
        return Exit::Done;
    }
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => {
            output.error(format_args!("sluicegate: no terminal: {error}"));
            return Exit::Failed;
        }
    };
    let ended = play(&client, view, every, |view| {
        terminal.draw(|frame| screen::draw(view, frame.area(), frame.buffer_mut())).map(drop)
    });
    ratatui::restore();
    match ended {
        Ok(()) => Exit::Done,
        Err(error) => {
            output.error(format_args!("sluicegate: terminal: {error}"));
            Exit::Failed
        }
    }
}

/// Until the operator has seen enough.
fn play(
    client: &Client,
    mut view: View,
    every: Duration,
    mut show: impl FnMut(&View) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut next = Instant::now() + every;
    loop {
        show(&view)?;
        if event::poll(next.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match view.press(key) {
                    Wish::Nothing => {}
                    Wish::End => return Ok(()),
                    Wish::Do(ask) => {
                        view.told = Some(ask.carry_out(client));
                        next = Instant::now();
                    }
                },
                _ => {}
            }
        }
        if Instant::now() >= next {
            match look(client) {
                Ok(scene) => view.scene = scene,
                Err(error) => view.told = Some(Chain(&error).to_string()),
            }
            next = Instant::now() + every;
        }
    }
}

fn look(client: &Client) -> Result<Scene, Unreached> {
    let malformed = || Unreached::Malformed(client.to_string());
    let read = |path| match client.look(path)? {
        (StatusCode::OK, text) => Ok(text),
        _ => Err(malformed()),
    };
    Scene::read(&read("/status")?, &read("/overview")?).map_err(|_| malformed())
}

/// The whole as text, as tall as it needs to be.
fn picture(view: &View) -> String {
    let height = u16::try_from(view.lines().len()).unwrap_or(u16::MAX).saturating_add(AROUND).max(24);
    let area = Rect::new(0, 0, WIDTH, height);
    let mut cells = Buffer::empty(area);
    screen::draw(&View { still: true, ..view.clone() }, area, &mut cells);
    text(&cells)
}

/// The characters of a buffer, without what is blank at the end of a line.
fn text(cells: &Buffer) -> String {
    let line =
        |y| (0..cells.area.width).filter_map(|x| cells.cell((x, y))).map(|cell| cell.symbol()).collect::<String>();
    let lines = (0..cells.area.height).map(line);
    lines.map(|line| line.trim_end().to_owned() + "\n").collect::<String>()
}

/// What is shown, and how.
#[derive(Clone, Debug, Default)]
struct View {
    scene: Scene,
    sort: Sort,
    /// A pool, or an endpoint of it; by name, since lines move.
    chosen: Option<(String, Option<String>)>,
    asking: Option<Ask>,
    told: Option<String>,
    /// Nobody can press a key.
    still: bool,
}

/// The order of a pool's endpoints.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Sort {
    /// As written.
    #[default]
    Written,
    Rate,
    Errors,
    InFlight,
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
enum Of<'a> {
    Pool(&'a Pool),
    Endpoint(&'a Pool, &'a Endpoint),
}

/// A change that waits for a yes.
#[derive(Clone, Debug)]
struct Ask {
    drain: bool,
    pool: String,
    endpoint: String,
}

/// What a key asks for.
#[derive(Debug)]
enum Wish {
    Nothing,
    End,
    Do(Ask),
}

impl View {
    /// The line that is chosen.
    fn selected(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.lines().iter().position(|line| line.name() == *chosen)
    }

    fn lines(&self) -> Vec<Of<'_>> {
        let mut lines = Vec::new();
        for pool in &self.scene.now.pools {
            lines.push(Of::Pool(pool));
            let mut endpoints: Vec<&Endpoint> = pool.endpoints.iter().collect();
            match self.sort {
                Sort::Written => {}
                Sort::Rate => endpoints.sort_by(|one, other| other.per_second.total_cmp(&one.per_second)),
                Sort::Errors => {
                    endpoints.sort_by(|one, other| other.errors_per_second.total_cmp(&one.errors_per_second))
                }
                Sort::InFlight => endpoints.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.in_flight)),
            }
            lines.extend(endpoints.into_iter().map(|endpoint| Of::Endpoint(pool, endpoint)));
        }
        lines
    }

    fn press(&mut self, key: KeyEvent) -> Wish {
        if let Some(ask) = self.asking.take() {
            return if key.code == KeyCode::Char('y') { Wish::Do(ask) } else { Wish::Nothing };
        }
        self.told = None;
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::End,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Wish::End,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::Char('d') => self.ask(true),
            KeyCode::Char('e') => self.ask(false),
            _ => {}
        }
        Wish::Nothing
    }

    fn choose(&mut self, step: isize) {
        let lines = self.lines();
        let most = lines.len().saturating_sub(1);
        let next = self.selected().map_or(0, |selected| selected.saturating_add_signed(step).min(most));
        self.chosen = lines.get(next).map(Of::name);
    }

    fn ask(&mut self, drain: bool) {
        let asking = match self.chosen.clone() {
            Some((pool, Some(endpoint))) => Some(Ask { drain, pool, endpoint }),
            Some((_, None)) | None => None,
        };
        if asking.is_none() {
            self.told = Some("choose an endpoint first, with ↑ and ↓".to_owned());
        }
        self.asking = asking;
    }
}

impl Of<'_> {
    fn name(&self) -> (String, Option<String>) {
        match self {
            Self::Pool(pool) => (pool.name.clone(), None),
            Self::Endpoint(pool, endpoint) => (pool.name.clone(), Some(endpoint.name.clone())),
        }
    }
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Written => Self::Rate,
            Self::Rate => Self::Errors,
            Self::Errors => Self::InFlight,
            Self::InFlight => Self::Written,
        }
    }
}

impl Ask {
    fn question(&self) -> String {
        format!("{} {}/{}?", if self.drain { "drain" } else { "enable" }, self.pool, self.endpoint)
    }

    /// What came of it.
    fn carry_out(&self, client: &Client) -> String {
        let body = json!({ "pool": self.pool, "endpoint": self.endpoint });
        let done = if self.drain { "is drained" } else { "is back" };
        match client.change(if self.drain { "/drain" } else { "/undrain" }, &body) {
            Ok((StatusCode::OK, _)) => format!("{}/{} {done}", self.pool, self.endpoint),
            Ok((_, why)) => why.trim_end().to_owned(),
            Err(error) => Chain(&error).to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
