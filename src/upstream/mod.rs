//! The endpoints' side.
//!
//! Floor 3.

pub mod observer;
pub mod tunnel;
