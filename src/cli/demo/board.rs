//! The table in the terminal: what each replica does right now.
//!
//! It asks the admin listener, as any operator would, and the replicas themselves for what they have served. On a
//! terminal it is drawn over itself each second; elsewhere one line comes every ten.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::Value;

use super::replica::Part;
use crate::cli::output::Output;

/// Time between two looks.
const TURN: Duration = Duration::from_secs(1);

/// Looks per line when it is not drawn.
const TURNS_PER_LINE: u64 = 10;

/// Longest status that is read, in bytes.
const MAX_STATUS: u64 = 1024 * 1024;

/// The table.
#[derive(Debug)]
pub(super) struct Board {
    rows: Vec<Row>,
    admin: Option<SocketAddr>,
    live: bool,
    turns: u64,
}

#[derive(Debug)]
struct Row {
    part: Part,
    before: u64,
    rate: u64,
    standing: String,
    reason: String,
    in_flight: u64,
    tunnels: u64,
}

impl Board {
    /// A table of `cast`; drawn over itself when `live`.
    pub(super) fn new(cast: Vec<Part>, admin: Option<SocketAddr>, live: bool) -> Self {
        let row = |part: Part| Row {
            before: part.served.load(Ordering::Relaxed),
            part,
            rate: 0,
            standing: "?".to_owned(),
            reason: String::new(),
            in_flight: 0,
            tunnels: 0,
        };
        Self { rows: cast.into_iter().map(row).collect(), admin, live, turns: 0 }
    }

    /// Shows itself until the other end of `ended` is dropped.
    pub(super) fn show(mut self, ended: &Receiver<()>, output: &mut Output) {
        while ended.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
            self.turns += 1;
            self.look();
            if self.live {
                output.text(self.table());
            } else if self.turns.is_multiple_of(TURNS_PER_LINE) {
                output.line(self.line());
            }
        }
    }

    fn look(&mut self) {
        // While it drains the admin listener may be gone: the last standings stay.
        let status = self.admin.and_then(status);
        for row in &mut self.rows {
            let served = row.part.served.load(Ordering::Relaxed);
            row.rate = served.saturating_sub(row.before);
            row.before = served;
            if let Some(endpoint) = status.as_ref().and_then(|status| find(status, &row.part.address.to_string())) {
                row.read(endpoint);
            }
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        if self.turns > 1 {
            // Back to the table's first line.
            push(&mut text, format_args!("\x1b[{}A", self.rows.len() + 1));
        }
        push(&mut text, format_args!("\x1b[2K\x1b[1m{}\x1b[0m\n", heading()));
        for row in &self.rows {
            let colour = match row.standing.as_str() {
                "up" => 32,
                "late" => 33,
                "down" => 31,
                _ => 90,
            };
            push(&mut text, format_args!("\x1b[2K\x1b[{colour}m{}\x1b[0m\n", row.cells()));
        }
        text
    }

    fn line(&self) -> String {
        let cell = |row: &Row| format!("{} {} {}/s {} in flight", row.part.name, row.standing, row.rate, row.in_flight);
        self.rows.iter().map(cell).collect::<Vec<_>>().join("   ")
    }
}

impl Row {
    fn read(&mut self, endpoint: &Value) {
        let text = |name: &str| endpoint.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name: &str| endpoint.get(name).and_then(Value::as_u64).unwrap_or_default();
        (self.standing, self.reason) = (text("standing"), text("reason"));
        (self.in_flight, self.tunnels) = (number("in_flight"), number("tunnels"));
    }

    fn cells(&self) -> String {
        let bar = "█".repeat(usize::try_from(self.rate.min(20)).unwrap_or_default());
        // A line that wraps would spoil the next drawing.
        let reason: String = self.reason.chars().filter(|c| !c.is_control()).take(34).collect();
        let Self { part, standing, in_flight, tunnels, before, rate, .. } = self;
        format!(
            "  {:<10} {standing:<8} {in_flight:>9} {tunnels:>8} {before:>9} {rate:>6} {bar:<20} {reason}",
            part.name
        )
    }
}

fn heading() -> String {
    format!(
        "  {:<10} {:<8} {:>9} {:>8} {:>9} {:>6}",
        "replica", "standing", "in flight", "tunnels", "answered", "per s"
    )
}

/// The endpoint of that name in the admin listener's status, whichever pool it is in.
fn find<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    let pools = status.get("pools")?.as_array()?;
    let mut endpoints = pools.iter().filter_map(|pool| pool.get("endpoints")?.as_array()).flatten();
    endpoints.find(|endpoint| endpoint.get("name").and_then(Value::as_str) == Some(name))
}

fn status(admin: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect_timeout(&admin, TURN).ok()?;
    stream.set_read_timeout(Some(TURN)).ok()?;
    stream.set_write_timeout(Some(TURN)).ok()?;
    stream.write_all(format!("GET /status HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(MAX_STATUS).read_to_end(&mut answer).ok()?;
    let head = memchr::memmem::find(&answer, b"\r\n\r\n")?;
    serde_json::from_slice(answer.get(head + 4..)?).ok()
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    text.write_fmt(arguments).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_found_in_any_pool() {
        let status = serde_json::json!({ "pools": [
            { "name": "a", "endpoints": [{ "name": "127.0.0.1:1", "standing": "up" }] },
            { "name": "b", "endpoints": [{ "name": "127.0.0.1:2", "standing": "down" }] },
        ] });

        assert_eq!(find(&status, "127.0.0.1:2").unwrap()["standing"], "down");
        assert!(find(&status, "127.0.0.1:3").is_none());
    }
}
