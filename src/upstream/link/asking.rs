//! What is asked of an endpoint, and on what terms.
//!
//! Part of `upstream::link`.

use std::time::Duration;

use tokio::time::Instant;

use crate::body::Body;
use crate::head::request;
use crate::message::Interim;

/// What is asked of an endpoint.
pub struct Exchange<'a> {
    /// The head, as rewritten for the endpoint.
    pub head: &'a request::Parts,
    /// Content.
    pub body: Body,
    /// Takes the endpoint's interim responses.
    pub interim: &'a Interim,
    /// Whether a tunnel is asked for.
    pub upgrade: bool,
    /// Clocks and bounds.
    pub limits: Limits,
    /// Whether to wait for the response head no longer, though its clock has not run out.
    pub leave: Option<Leave<'a>>,
}

/// When to leave an endpoint that keeps an exchange waiting for its response head.
#[derive(Clone, Copy)]
pub struct Leave<'a> {
    /// Wait after which it is slow.
    pub after: Option<Duration>,
    /// Whether to leave. Asked with true once, when `after` is over ([`Failure::Slow`](crate::upstream::Failure::Slow)), and
    /// with false each time the wait looks up ([`Failure::Hangs`](crate::upstream::Failure::Hangs)), which is every few
    /// seconds at least.
    pub asks: &'a (dyn Fn(bool) -> bool + Sync),
}

/// Clocks and bounds of an exchange with an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest pause while the endpoint takes the request.
    pub write_idle: Duration,
    /// From the last request byte to the response head.
    pub first_byte: Duration,
    /// Longest pause in the response body.
    pub between_bytes: Duration,
    /// End of the whole exchange.
    pub deadline: Option<Instant>,
    /// Longest response head, in bytes.
    pub head_bytes: usize,
}

impl Limits {
    /// Whether the end of the whole exchange has come.
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
