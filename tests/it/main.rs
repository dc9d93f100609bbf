//! Behaviour as clients and endpoints see it: the real binary over real sockets, a file for each behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics; the exemption for tests does not reach what they share"
)]

mod rig;

mod admin_api;
mod attacks;
mod balancing;
mod bodies;
mod clocks;
mod dashboard;
mod discovery;
mod draining;
mod exchanges;
mod fleet;
mod floods;
mod framing_h1;
mod framing_h2;
mod headers;
mod health;
mod hostile_endpoints;
mod http3;
mod http3_fleet;
mod http3_floods;
mod http3_hostile;
mod http3_life;
mod http3_moves;
mod http3_tuning;
mod kafka;
mod limits;
mod listeners;
mod logins;
mod metrics;
mod objectives;
mod operating;
mod otlp_metrics;
mod otlp_traces;
mod outliers;
mod queueing;
mod receivers;
mod records;
mod reloading;
mod retries;
mod rolling;
mod routes;
mod seeds;
mod shield;
mod sinks;
mod spools;
mod streaming;
mod surroundings;
mod websockets;
