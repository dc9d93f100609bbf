//! The configuration as meant.
//!
//! Floor 1. A file is typed twice: `raw` is what was written, [`Config`] is what was meant, with every default filled
//! in and every value in its range. Nothing above this floor sees `raw`. In: TOML text. Out: a [`Config`] or
//! all findings at once. Deliberately absent: anything that opens a socket or reads a key file's content.

pub mod listener;
pub mod pool;
pub mod process;
pub mod route;

use std::sync::Arc;

use crate::lexicon::PoolName;

pub use listener::Listener;
pub use pool::Pool;
pub use process::{AccessLog, Admin, Clients, FaultPages, Process};
pub use route::Route;

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process: workers, global bounds, drain.
    pub process: Process,
    /// What is believed about clients and what is told to endpoints about them.
    pub clients: Clients,
    /// Bound addresses. At least one.
    pub listeners: Vec<Arc<Listener>>,
    /// Sets of interchangeable endpoints. Names are unique.
    pub pools: Vec<Arc<Pool>>,
    /// Tried by specificity: longer host first, then longer path. The default route for `/` is added when a
    /// configuration has one pool and no routes.
    pub routes: Vec<Arc<Route>>,
    /// The operators' listener; `None` when switched off.
    pub admin: Option<Admin>,
    /// Where records go.
    pub access_log: AccessLog,
    /// Own pages for faults.
    pub fault_pages: FaultPages,
}

impl Config {
    /// The pool of that name.
    pub fn pool(&self, name: &PoolName) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| &pool.name == name)
    }
}
