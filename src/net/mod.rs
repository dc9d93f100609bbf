//! Sockets and clocks below any protocol.
//!
//! Floor 3.

pub mod timer;
