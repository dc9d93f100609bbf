//! What `top` shows, as read from the admin listener.

use serde::Deserialize;
use serde_json::Value;

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub(super) now: Now,
    pub(super) process: Process,
}

/// The part of `/status` that is shown.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Process {
    pub(super) version: String,
    pub(super) generation: u64,
    pub(super) phase: String,
    pub(super) uptime_seconds: u64,
    pub(super) bans: u64,
    pools: Vec<Value>,
}

/// `/overview`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Now {
    pub(super) at: u64,
    pub(super) per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) latency: Latency,
    pub(super) in_flight: u64,
    pub(super) queued: u64,
    pub(super) tunnels: u64,
    pub(super) connections: u64,
    pub(super) errors: Vec<Errors>,
    pub(super) pools: Vec<Pool>,
    pub(super) events: Vec<Event>,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Latency {
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// A cause of errors.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Errors {
    pub(super) cause: String,
    pub(super) last_minute: u64,
    pub(super) last_ten_minutes: u64,
    pub(super) total: u64,
}

/// A pool.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) latency: Latency,
    pub(super) endpoints: Vec<Endpoint>,
    /// From `/status`.
    #[serde(skip)]
    pub(super) queued: u64,
}

/// An endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) mark: String,
    pub(super) reason: String,
    pub(super) per_second: f64,
    pub(super) errors_per_second: f64,
    /// From `/status`.
    #[serde(skip)]
    pub(super) in_flight: u64,
    /// From `/status`.
    #[serde(skip)]
    pub(super) tunnels: u64,
}

/// Something that happened.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Event {
    pub(super) at: u64,
    pub(super) weight: String,
    pub(super) what: String,
    pub(super) text: String,
}

impl Scene {
    /// Of both answers.
    pub(super) fn read(status: &str, overview: &str) -> Result<Self, serde_json::Error> {
        let (process, mut now): (Process, Now) = (serde_json::from_str(status)?, serde_json::from_str(overview)?);
        let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or_default();
        for pool in &mut now.pools {
            let Some(state) = named(&process.pools, &pool.name) else { continue };
            pool.queued = number(state, "queue_length");
            let endpoints = state.get("endpoints").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for endpoint in &mut pool.endpoints {
                let Some(state) = named(endpoints, &endpoint.name) else { continue };
                (endpoint.in_flight, endpoint.tunnels) = (number(state, "in_flight"), number(state, "tunnels"));
            }
        }
        Ok(Self { now, process })
    }
}

fn named<'a>(all: &'a [Value], name: &str) -> Option<&'a Value> {
    all.iter().find(|each| each.get("name").and_then(Value::as_str) == Some(name))
}
