//! `drain` and `undrain`: endpoints out of service and back, on a running proxy.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use super::Exit;
use super::client::{Client, Reach, Unreached};
use super::output::Output;
use crate::config::units::Span;

/// Time between two looks at what is still in flight.
const LOOK: Duration = Duration::from_millis(200);

/// What is drained: one of the two.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct What {
    /// An endpoint, as `/status` names it
    #[arg(value_name = "POOL/ENDPOINT")]
    endpoint: Option<String>,
    /// Every endpoint of a zone, in all pools
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
}

/// How it is drained.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct How {
    /// Put it back by itself after this time, e.g. 15m
    #[arg(long = "for", value_name = "DURATION")]
    lasting: Option<String>,
    /// Return only when nothing is in flight there; fails when that takes longer than this
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "5m")]
    wait: Option<String>,
    /// Even if a pool has no other endpoint
    #[arg(long)]
    force: bool,
}

/// Takes out.
pub(super) fn drain(reach: &Reach, what: &What, how: &How, output: &mut Output) -> Exit {
    let patience = match how.wait.as_deref().map(str::parse::<Span>).transpose() {
        Ok(patience) => patience.map(|Span(patience)| patience),
        Err(error) => {
            output.error(format_args!("sluicegate: --wait {error}, such as 30s"));
            return Exit::Usage;
        }
    };
    let Some(mut body) = what.body(output) else { return Exit::Usage };
    if let Some(fields) = body.as_object_mut() {
        if let Some(lasting) = &how.lasting {
            fields.insert("for".into(), json!(lasting));
        }
        if how.force {
            fields.insert("force".into(), json!(true));
        }
    }
    let asked = reach.find().and_then(|client| client.change("/drain", &body).map(|answer| (client, answer)));
    let client = match asked {
        Ok((client, (StatusCode::OK, _))) => client,
        Ok((_, refused)) => return tell(refused, "", output),
        Err(error) => return error.tell(output),
    };
    let ends = how.lasting.as_ref().map(|lasting| format!(" for {lasting}")).unwrap_or_default();
    output.line(format_args!("{} drained{ends}", what.name()));
    match patience {
        None => Exit::Done,
        Some(patience) => wait(&client, what, patience, output).unwrap_or_else(|error| error.tell(output)),
    }
}

/// Puts back.
pub(super) fn undrain(reach: &Reach, what: &What, output: &mut Output) -> Exit {
    let Some(body) = what.body(output) else { return Exit::Usage };
    match reach.find().and_then(|client| client.change("/undrain", &body)) {
        Ok(answer) => tell(answer, &format!("{} is back", what.name()), output),
        Err(error) => error.tell(output),
    }
}

/// Says what came of a change.
pub(super) fn tell((status, text): (StatusCode, String), done: &str, output: &mut Output) -> Exit {
    if status == StatusCode::OK {
        output.line(done);
        return Exit::Done;
    }
    output.error(format_args!("sluicegate: {}", text.trim_end()));
    Exit::Failed
}

/// Waits until nothing is in flight.
#[expect(clippy::disallowed_methods, reason = "a command of one thread, without a runtime")]
fn wait(client: &Client, what: &What, patience: Duration, output: &mut Output) -> Result<Exit, Unreached> {
    let deadline = Instant::now().checked_add(patience);
    loop {
        let status: Value =
            serde_json::from_str(&client.read("/status")?).map_err(|_| Unreached::Malformed(client.to_string()))?;
        let (in_flight, tunnels) = what.load(&status);
        if in_flight == 0 {
            let left = if tunnels == 0 { String::new() } else { format!(", {tunnels} tunnels are still open") };
            output.line(format_args!("nothing in flight{left}"));
            return Ok(Exit::Done);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            output.error(format_args!("sluicegate: {in_flight} exchanges are still in flight"));
            return Ok(Exit::Failed);
        }
        std::thread::sleep(LOOK);
    }
}

impl What {
    /// As the admin listener wants it.
    fn body(&self, output: &Output) -> Option<Value> {
        match (&self.endpoint, &self.zone) {
            (_, Some(zone)) => Some(json!({ "zone": zone })),
            (Some(endpoint), None) => {
                let parts = endpoint.split_once('/');
                if parts.is_none() {
                    output.error(format_args!("sluicegate: {endpoint} is not POOL/ENDPOINT"));
                }
                parts.map(|(pool, endpoint)| json!({ "pool": pool, "endpoint": endpoint }))
            }
            (None, None) => None,
        }
    }

    fn name(&self) -> String {
        match (&self.endpoint, &self.zone) {
            (_, Some(zone)) => format!("zone {zone}"),
            (endpoint, None) => endpoint.clone().unwrap_or_default(),
        }
    }

    /// Exchanges in flight and tunnels open there.
    fn load(&self, status: &Value) -> (u64, u64) {
        let (mut in_flight, mut tunnels) = (0_u64, 0_u64);
        for pool in status["pools"].as_array().into_iter().flatten() {
            for endpoint in pool["endpoints"].as_array().into_iter().flatten() {
                let named = || format!("{}/{}", text(&pool["name"]), text(&endpoint["name"]));
                let ours = match (&self.endpoint, &self.zone) {
                    (_, Some(zone)) => text(&endpoint["zone"]) == zone,
                    (name, None) => name.as_ref().is_some_and(|name| *name == named()),
                };
                if ours {
                    in_flight = in_flight.saturating_add(endpoint["in_flight"].as_u64().unwrap_or(0));
                    tunnels = tunnels.saturating_add(endpoint["tunnels"].as_u64().unwrap_or(0));
                }
            }
        }
        (in_flight, tunnels)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
