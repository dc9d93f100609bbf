//! The upstream side: pools at run time, leases, connections to endpoints, HTTP/1 towards them.
//!
//! Floor 3. Each worker keeps its own idle connections ([`Idle`]); what must be exact over all workers (claims, the
//! queue, the retry budget) lives in [`Pool`] on atomics. No connection is opened before a request needs it: Gunicorn
//! gives a thread to each new connection that says nothing. Deliberately absent: which endpoint to choose
//! (`balance`), whether to try again (`pipeline::retry`).

pub mod connect;
pub mod error;
pub mod idle;
pub mod line;
pub mod link;
pub mod observer;
pub mod pool;
pub mod queue;
mod response;
mod sending;
pub mod tunnel;

pub use error::{Failure, Sent};
pub use idle::Idle;
pub use link::{Exchange, Link, Outcome};
pub use pool::{Lease, Pool, Wish};
