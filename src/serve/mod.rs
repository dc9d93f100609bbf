//! From bytes of clients to requests, and from answers to bytes.
//!
//! Floor 6.

pub mod date;
pub mod h2;
