//! What happens to the process, one function for each happening: it writes the log line and counts it.
//!
//! Floor 2. Messages are constant, what varies is in dotted fields. Levels: error = somebody must act; warn = degraded
//! and healing by itself; info = a generation, a flip, a phase; debug = a connection. Lines go to standard error
//! through a bounded queue and a thread of their own, so that a terminal or pipe that nobody reads never holds up a
//! worker. Deliberately absent: exchanges; they have records. Cookies, `Authorization` and query values are never
//! given to any of these.

mod endpoints;
mod sinks;
mod stderr;

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;

use super::metrics::{AdminChange, ConnectionRefusal, HandshakeFailure, ListenerMetrics, Metrics, Reload, phase_word};
use crate::lexicon::{ConnectionId, EndpointName, Generation, ListenerName, PoolName};
use crate::lifecycle::Phase;

pub use endpoints::{
    EndpointFlipped, endpoint_ejected, endpoint_on_trial, endpoint_probed, endpoint_returned, endpoint_warming,
    idle_time_learned, limit_reached, panic_mode_entered, panic_mode_left, queue_refusing, retries_refused,
    traffic_shifted,
};
pub use sinks::{
    access_log_failing, access_log_recovered, access_log_reopened, records_lost, sink_failing, sink_recovered,
    spool_failing, spool_left, spool_opened, spool_recovered, spool_segment_skipped,
};
pub use stderr::{Flush, dropped};

/// Why events could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The filter does not parse.
    #[error("filter of events")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in this process has installed events before.
    #[error("events are installed already")]
    Twice,
    /// No thread for standard error.
    #[error("thread of events")]
    Thread(#[source] std::io::Error),
}

/// Sends events to standard error, as text or as JSON lines. `filter` as in `process.log`, e.g. `info`; `queue` lines may wait.
///
/// Hold what it returns until the end of the process: dropping it writes what still waits, for up to a second.
///
/// # Errors
/// When the filter is wrong, or on the second call.
pub fn install(filter: &str, json: bool, queue: usize) -> Result<Flush, InstallError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let (writer, flush) = stderr::start(queue).map_err(InstallError::Thread)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false)
        // Its way of reporting is a print to standard error, which panics when that is closed.
        .log_internal_errors(false);
    let installed = if json {
        tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish())
    } else {
        tracing::subscriber::set_global_default(builder.with_ansi(stderr::is_terminal()).finish())
    };
    installed.map_err(|_| InstallError::Twice)?;
    Ok(flush)
}

/// An error with its causes, joined by colons: `%Chain(&error)`.
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A name has no address, or could not be asked for; the addresses known before stay in use.
pub fn name_unresolved(pool: &PoolName, endpoint: &EndpointName, error: &(dyn Error + 'static)) {
    warn!(%pool, %endpoint, error = %Chain(error), "name not resolved");
}

/// DNS names an endpoint that it did not name before.
pub fn endpoint_discovered(pool: &PoolName, endpoint: &EndpointName) {
    info!(%pool, %endpoint, "endpoint discovered");
}

/// DNS does not name an endpoint any more; what is under way there goes on.
pub fn endpoint_left(pool: &PoolName, endpoint: &EndpointName, in_flight: u32, tunnels: u32) {
    info!(%pool, %endpoint, in_flight, tunnels, "endpoint left");
}

/// DNS names no endpoints for a pool. Written once for each row of such answers.
pub fn discovery_failing(pool: &PoolName, name: &str, kept: bool, error: &(dyn Error + 'static)) {
    warn!(%pool, dns.name = name, kept, error = %Chain(error), "discovery found nothing");
}

/// DNS names endpoints again.
pub fn discovery_recovered(pool: &PoolName, name: &str) {
    info!(%pool, dns.name = name, "discovery answers again");
}

/// A new generation is in place.
pub fn reloaded(metrics: &Metrics, generation: Generation, file: &Path, took: Duration) {
    metrics.reload(Reload::Ok);
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    info!(config.generation = %generation, config.file = %file.display(), took_ms, "configuration loaded");
}

/// A reload failed; the old generation stays.
pub fn reload_failed(metrics: &Metrics, generation: Generation, file: &Path, error: &(dyn Error + 'static)) {
    metrics.reload(Reload::Failed);
    error!(
        config.generation = %generation,
        config.file = %file.display(),
        error = %Chain(error),
        "configuration not loaded, the old generation stays"
    );
}

/// Something in the configuration is unsafe or without effect.
pub fn configuration_warning(finding: &dyn fmt::Display) {
    warn!(%finding, "configuration warning");
}

/// The limit on open files allows fewer client connections than the configuration.
pub fn descriptors_short(configured: usize, allowed: usize, limit: Option<u64>) {
    warn!(
        configured,
        allowed, limit, "the limit on open files allows fewer client connections than process.max_connections"
    );
}

/// The admin listener accepts connections.
pub fn admin_bound(address: SocketAddr) {
    info!(%address, "admin listening");
}

/// The admin listener's Unix socket accepts connections.
pub fn admin_socket_bound(path: &Path) {
    info!(path = %path.display(), "admin socket listening");
}

/// An operator has changed something.
pub fn operator_changed(metrics: &Metrics, action: &'static str, what: &str, from: &str) {
    metrics.admin_change(AdminChange::Made);
    info!(admin.action = action, admin.target = what, admin.from = from, "operator change");
}

/// A change was asked for and not made.
pub fn operator_refused(metrics: &Metrics, action: &'static str, result: AdminChange, from: &str, reason: &str) {
    metrics.admin_change(result);
    warn!(admin.action = action, admin.result = result.as_str(), admin.from = from, reason, "operator change refused");
}

/// An endpoint takes no new exchanges from now on, or takes them again, because an operator said so.
pub fn endpoint_drained(pool: &PoolName, endpoint: &EndpointName, out: bool, in_flight: u32, tunnels: u32) {
    if out {
        info!(%pool, %endpoint, in_flight, tunnels, "endpoint drained");
    } else {
        info!(%pool, %endpoint, "endpoint back from its drain");
    }
}

/// A drain has ended at the time that was given with it.
pub fn drain_expired(target: &dyn fmt::Display) {
    info!(admin.target = %target, "drain expired");
}

/// What was measured of objectives before cannot be read; measuring begins anew.
pub fn objectives_unreadable(metrics: &Metrics, file: &Path, error: &(dyn Error + 'static)) {
    metrics.objectives_error();
    warn!(path = %file.display(), error = %Chain(error), "objectives not read, their past begins anew");
}

/// What is measured of objectives cannot be written.
pub fn objectives_unwritable(metrics: &Metrics, file: &Path, error: &(dyn Error + 'static)) {
    metrics.objectives_error();
    warn!(path = %file.display(), error = %Chain(error), "objectives not written");
}

/// An error budget burns so fast that somebody should know.
pub fn budget_burning(pool: &PoolName, objective: &'static str, alert: &'static str, left_percent: f64) {
    warn!(%pool, objective, alert, budget.left_percent = left_percent, "error budget burning");
}

/// It does not any more.
pub fn budget_calm(pool: &PoolName, objective: &'static str, left_percent: f64) {
    info!(%pool, objective, budget.left_percent = left_percent, "error budget calm");
}

/// Everything is bound and running.
pub fn serving(took: Duration) {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    info!(took_ms, version = env!("CARGO_PKG_VERSION"), "serving");
}

/// A background task did not finish in time.
pub fn task_cut(task: &str) {
    warn!(task, "background task cut at the end");
}

/// An endpoint's name has other addresses than before.
pub fn name_resolved(pool: &PoolName, endpoint: &EndpointName, before: usize, now: usize) {
    info!(%pool, %endpoint, addresses.before = before, addresses.now = now, "name resolved");
}

/// A setting was changed that is only read at start.
pub fn needs_restart(setting: &str) {
    warn!(config.key = setting, "change takes effect after a restart");
}

/// A listener accepts connections.
pub fn listener_bound(listener: &ListenerName, address: SocketAddr, tls: bool) {
    info!(%listener, %address, tls, "listening");
}

/// A listener does not accept connections any more.
pub fn listener_closed(listener: &ListenerName, address: SocketAddr) {
    info!(%listener, %address, "listener closed");
}

/// The system refuses to accept (out of file descriptors, for one); accepting pauses.
pub fn accept_backed_off(metrics: &ListenerMetrics, listener: &ListenerName, pause: Duration, error: &std::io::Error) {
    metrics.backed_off();
    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    warn!(%listener, pause_ms, error = %Chain(error), "accepting pauses");
}

/// A connection was closed right after accept.
pub fn connection_refused(
    metrics: &ListenerMetrics,
    listener: &ListenerName,
    peer: SocketAddr,
    cause: ConnectionRefusal,
) {
    metrics.refused(cause);
    debug!(%listener, client.address = %peer, cause = cause.as_str(), "connection refused");
}

/// A TLS handshake did not complete.
pub fn handshake_failed(
    metrics: &ListenerMetrics,
    listener: &ListenerName,
    connection: ConnectionId,
    cause: HandshakeFailure,
    error: Option<&(dyn Error + 'static)>,
) {
    metrics.handshake_failed(cause);
    let error = error.map(|error| tracing::field::display(Chain(error)));
    debug!(%listener, conn.id = %connection, cause = cause.as_str(), error, "handshake failed");
}

/// A client broke HTTP/3; its connection was ended.
pub fn http3_offence(
    metrics: &ListenerMetrics,
    listener: &ListenerName,
    connection: ConnectionId,
    code: &'static str,
    what: &'static str,
) {
    metrics.quic.offended(code);
    debug!(%listener, conn.id = %connection, code, what, "connection broken off");
}

/// The system gives UDP sockets smaller buffers than the configuration wants: bursts may be lost.
pub fn socket_buffer_capped(listener: &ListenerName, wanted: usize, granted: usize) {
    warn!(%listener, wanted, granted, "UDP socket buffers are capped by net.core.rmem_max and wmem_max");
}

/// The kernel does not take the filter that steers datagrams to their workers: they are handed over in process.
pub fn steering_refused(listener: &ListenerName, address: SocketAddr, error: &std::io::Error) {
    warn!(%listener, %address, %error, "the kernel does not steer QUIC datagrams");
}

/// UDP is bound for HTTP/3; `steering` says who brings datagrams to their workers.
pub fn quic_bound(listener: &ListenerName, address: SocketAddr, steering: &'static str) {
    info!(%listener, %address, steering, "listening for HTTP/3");
}

/// Certificates were read anew.
pub fn certificates_loaded(listener: &ListenerName, certificates: usize) {
    info!(%listener, certificates, "certificates loaded");
}

/// A certificate expires soon.
pub fn certificate_expiring(listener: &ListenerName, file: &Path, days_left: i64) {
    if days_left < 0 {
        error!(%listener, certificate.file = %file.display(), days_left, "certificate has expired");
    } else {
        warn!(%listener, certificate.file = %file.display(), days_left, "certificate expires soon");
    }
}

/// The process enters a phase.
pub fn phase_entered(phase: Phase, connections: u64) {
    info!(phase = phase_word(phase), connections.open = connections, "phase entered");
}

/// The drain is over; what was still open at the deadline is cut.
pub fn drained(took: Duration, cut: u64) {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if cut == 0 {
        info!(took_ms, "drained");
    } else {
        warn!(took_ms, connections.cut = cut, "drain deadline passed");
    }
}

/// A panic was caught: a bug of ours, which ended one exchange. The panic hook has written where it was.
pub fn panic_caught(metrics: &Metrics) {
    metrics.panic();
    error!("panic caught");
}

/// A client floods its connection; `sign` says how.
pub fn flood(connection: ConnectionId, client: IpAddr, sign: &'static str) {
    debug!(connection.id = %connection, %client, sign, "client floods");
}

/// A client is banned for what it did; `subject` is its address or fingerprint.
pub fn client_banned(
    metrics: &Metrics,
    subject: &dyn fmt::Display,
    scope: &'static str,
    cause: &'static str,
    lasting: Duration,
    before: u32,
) {
    metrics.banned(cause);
    let seconds = lasting.as_secs();
    warn!(%subject, scope, cause, seconds, bans.before = before, "client banned");
}

/// Redis answers: counts and bans are shared with other proxies.
pub fn fleet_joined() {
    info!("redis answers, counts are shared");
}

/// Redis is away; each limit does what it says for that. Written once for each time.
pub fn fleet_away(error: &(dyn Error + 'static)) {
    warn!(error = %Chain(error), "redis is away, counts are not shared");
}

/// A background task ended that should not, most likely by a panic; the supervisor starts it again after `pause`.
pub fn task_restarted(task: &'static str, pause: Duration) {
    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    warn!(task, pause_ms, "task restarts");
}

#[cfg(test)]
mod tests;
