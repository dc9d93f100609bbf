//! Background tasks: they write, the data plane reads.
//!
//! Floor 5. Everything here runs on the control runtime, under one [`supervisor`]: the active health checks, name
//! resolution, discovery, operators' drains, error budgets, shipping of records and spans, pushing of metrics, file watching,
//! signals. In: the pools of the present generation. Out: standings, addresses and drains in each endpoint's vitals, and
//! requests to reload, to reopen logs or to drain. Deliberately absent: the data plane; it never waits for anything in here.

pub mod budgets;
pub mod crawlers;
pub mod discovery;
pub mod drains;
pub mod names;
pub mod otlp;
pub mod prober;
pub mod push;
pub mod resolver;
pub mod shipper;
pub mod signals;
pub mod supervisor;
pub mod transport;
pub mod umpire;
pub mod watch;

#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use rustls::ClientConfig;

use crate::balance::Endpoint;
use crate::config::Pool;

/// What the background tasks look after: the endpoints of the present generation.
pub trait Pools: Send + Sync + 'static {
    /// Calls `visit` for each endpoint with its pool's configuration and, when the pool speaks TLS, its client
    /// configuration. Called often: must not block.
    fn each(&self, visit: Visit<'_>);
}

/// Takes one endpoint after the other.
pub type Visit<'a> = &'a mut dyn FnMut(&Arc<Pool>, &Arc<Endpoint>, Option<&Arc<ClientConfig>>);
