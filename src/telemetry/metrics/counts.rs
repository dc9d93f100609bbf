//! What was counted of an endpoint, as plain numbers for operators.
//!
//! Floor 2.

use serde::Serialize;

/// What was counted of one endpoint, for operators.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct EndpointCounts {
    /// Exchanges whose last attempt was here.
    pub exchanges: u64,
    /// Those with a 5xx answer.
    pub server_errors: u64,
    /// New connections.
    pub connections_opened: u64,
    /// Connections that did not come about.
    pub connections_failed: u64,
    /// Active checks.
    pub checks: u64,
    /// Those without a good answer in time.
    pub checks_failed: u64,
    /// Changes of standing.
    pub flips: u64,
    /// Ejections by live traffic.
    pub ejections: u64,
}
