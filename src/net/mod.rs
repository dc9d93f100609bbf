//! Sockets and clocks below any protocol.
//!
//! Floor 3.

pub mod bind;
pub mod date;
pub mod descriptors;
pub mod inbox;
pub mod io;
pub mod outbox;
pub mod proxy_protocol;
pub mod timer;
mod unsent;
