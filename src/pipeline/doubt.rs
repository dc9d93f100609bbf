//! An answer that another endpoint may know better, kept until there is a better one.

use std::sync::Arc;

use crate::balance::{Endpoint, Live};
use crate::snapshot::Pool;
use crate::telemetry::metrics::EndpointMetrics;
use crate::telemetry::record::GaveUp;
use crate::upstream::{Lease, Outcome};

use super::fault::Fault;
use super::now_ms;
use super::record::Story;

/// An answer that another endpoint may know better.
pub(super) struct Doubted<'a> {
    pub(super) outcome: Outcome,
    pub(super) lease: Lease,
    pub(super) counts: Arc<EndpointMetrics>,
    pub(super) said: Said<'a>,
}

/// What an answer says about its endpoint. Noted when dropped at the latest: the endpoint gave it, whether or not the
/// client waits for a better one.
pub(super) struct Said<'a> {
    pool: &'a Pool,
    endpoint: Arc<Endpoint>,
    live: Live,
}

impl<'a> Said<'a> {
    /// `endpoint` has answered like this.
    pub(super) const fn new(pool: &'a Pool, endpoint: Arc<Endpoint>, live: Live) -> Self {
        Self { pool, endpoint, live }
    }

    /// Another endpoint was asked the same and knew better. An error that only one gives is no matter of the request: it
    /// says as much as that the endpoint cannot serve.
    pub(super) fn alone(mut self) {
        if self.live == Live::Erred {
            self.live = Live::Unserved;
        }
    }
}

impl Drop for Said<'_> {
    fn drop(&mut self) {
        self.pool.note_live(&self.endpoint, self.live, now_ms());
    }
}

/// The end when there is no better answer: the one in doubt, else the fault.
pub(super) fn settle(
    kept: Option<Doubted<'_>>,
    fault: Fault,
    why: GaveUp,
    story: &mut Story,
) -> Result<(Outcome, Lease), Fault> {
    story.record().gave_up = Some(if fault == Fault::ExchangeLate { GaveUp::Late } else { why });
    let Doubted { outcome, lease, counts, .. } = kept.ok_or(fault)?;
    story.take_endpoint(&lease, counts);
    Ok((outcome, lease))
}
