#![doc = include_str!("architecture.md")]

// Floor 0: words, heads, bodies, phases, the time.
pub mod body;
pub mod head;
pub mod lexicon;
pub mod lifecycle;
pub mod turn;
// Floor 1: configuration.
pub mod config;
// Floor 2: pure cores, messages, telemetry.
pub mod balance;
pub mod forwarded;
pub mod h1;
pub mod h3;
pub mod headers;
pub mod health;
pub mod kafka;
pub mod limit;
pub mod message;
pub mod route;
pub mod telemetry;
pub mod waf;
// Floor 3: sockets, TLS, the upstream side.
pub mod fleet;
pub mod net;
pub mod tls;
pub mod upstream;
// Floor 5: background tasks.
pub mod control;
pub mod pipeline;
// Floor 4: the world of one generation.
pub mod snapshot;
// Floor 6: the faces to clients and operators.
pub mod admin;
pub mod serve;
// Floor 7: the whole.
pub mod app;
// Floor 8: the command line.
pub mod cli;
