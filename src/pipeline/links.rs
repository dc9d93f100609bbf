//! Connections to endpoints: an idle one where there is one, else a new one, and where they go afterwards.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::balance::Endpoint;
use crate::config::pool::UpstreamClocks;
use crate::lexicon::Clock;
use crate::snapshot::Pool;
use crate::telemetry::metrics::{ConnectResult, EndpointMetrics};
use crate::telemetry::record::{self, Stage};
use crate::upstream::connect::{Opening, Until, connect};
use crate::upstream::idle::Way;
use crate::upstream::link::Home;
use crate::upstream::{Failure, Idle, Lease, Link};

use super::record::Story;

/// The connection that an attempt wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// Whether an idle one will do.
    pub(super) reuse: bool,
    /// What a new one is for.
    pub(super) opening: Opening,
}

/// A connection for the attempt on the leased endpoint before the exchange has its `end`.
pub(super) async fn obtain(
    pool: &Pool,
    lease: &Lease,
    idle: &Idle,
    want: Want,
    end: Option<Instant>,
    metrics: &EndpointMetrics,
    story: &mut Story,
) -> Result<Link, Failure> {
    let endpoint = lease.endpoint();
    let way = Way::new(endpoint.id, pool.upstream.security.as_ref());
    if !want.reuse {
        idle.expect(way, endpoint);
    } else if let Some(link) = reused(idle, way, endpoint, metrics) {
        story.connected(endpoint, record::Link::Reused, Duration::ZERO);
        return Ok(link);
    }
    story.reach(Stage::Connect);
    let since = Instant::now();
    // In a box of its own: nearly every exchange finds a connection, and would have to carry room for a handshake.
    let link = Box::pin(open(pool, endpoint, end, want.opening, metrics)).await;
    let how = if link.is_ok() { record::Link::Opened } else { record::Link::None };
    story.connected(endpoint, how, since.elapsed());
    link
}

/// An idle connection to `endpoint`, if there is one.
pub(super) fn reused(idle: &Idle, way: Way, endpoint: &Arc<Endpoint>, metrics: &EndpointMetrics) -> Option<Link> {
    let link = idle.take(way, endpoint)?;
    metrics.connection(ConnectResult::Reused);
    Some(link)
}

/// A new connection to `endpoint` before the exchange has its `end`.
pub(super) async fn open(
    pool: &Pool,
    endpoint: &Endpoint,
    end: Option<Instant>,
    opening: Opening,
    metrics: &EndpointMetrics,
) -> Result<Link, Failure> {
    let clocks = &pool.upstream.config.clocks;
    let late = Instant::now() + clocks.connect;
    let until = match end {
        Some(end) if end < late => Until { at: end, clock: Clock::Exchange },
        _ => Until { at: late, clock: Clock::Connect },
    };
    let mut addresses = endpoint.vitals.addresses();
    if addresses.is_empty() {
        // It may have come with a reload this moment, in place of all others. A name that does not resolve waits no longer.
        let answered = timeout_at(until.at, endpoint.vitals.asked()).await.is_ok();
        if !answered && until.clock == Clock::Exchange {
            return Err(Failure::Late(Clock::Exchange));
        }
        addresses = endpoint.vitals.addresses();
    }
    let security = pool.upstream.security.as_ref();
    let link = connect(&addresses, &endpoint.host, security, clocks.unacknowledged, until, opening).await;
    metrics.connection(match &link {
        Ok(_) => ConnectResult::Opened,
        // The end of the exchange says nothing of the endpoint.
        Err(Failure::Late(Clock::Exchange)) => return link,
        Err(Failure::Late(_)) => ConnectResult::Timeout,
        Err(Failure::Tls(_)) => ConnectResult::Tls,
        Err(Failure::Unresolved) => ConnectResult::Unresolved,
        Err(Failure::Connect(error)) if error.kind() == io::ErrorKind::ConnectionRefused => ConnectResult::Refused,
        Err(_) => ConnectResult::Error,
    });
    link
}

/// Where a connection to `endpoint` goes when its exchange is over.
pub(super) fn home(pool: &Pool, endpoint: &Endpoint, idle: &Idle) -> Home {
    let config = &pool.upstream.config;
    Home {
        idle: idle.clone(),
        way: Way::new(endpoint.id, pool.upstream.security.as_ref()),
        most: config.max_idle,
        limit: rest_of(endpoint, &config.clocks),
    }
}

/// How long a connection to `endpoint` may rest.
fn rest_of(endpoint: &Endpoint, clocks: &UpstreamClocks) -> Duration {
    if clocks.learn_idle { endpoint.vitals.keep_alive().limit(clocks.idle) } else { clocks.idle }
}
