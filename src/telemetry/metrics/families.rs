//! The table of metric families: every name, label and help text of the process in one place.
//!
//! Floor 2. Labels come from the configuration or from closed lists, never from a client, so that the number of series
//! is known once a configuration is. Names follow Prometheus' conventions; the exposition adds the prefix
//! `sluicegate_`, units and `_total`. Deliberately absent: numbers.

use std::fmt::Write as _;

/// One metric family.
#[derive(Debug)]
pub struct Family {
    /// Name without prefix, unit and suffix.
    pub name: &'static str,
    /// Counter, gauge, …
    pub kind: Kind,
    /// Unit, part of the full name.
    pub unit: Unit,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
}

/// Type of a family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Read from state at the scrape.
    Gauge,
    /// Distribution.
    Histogram,
    /// Always 1; the labels tell.
    Info,
}

/// Unit of a family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// A plain number.
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share of one.
    Ratio,
}

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal, $unit:ident, $labels:expr, $help:literal;)*) => {
        $(pub(super) const $id: Family =
            Family { name: $name, kind: Kind::$kind, unit: Unit::$unit, labels: &$labels, help: $help };)*

        /// Every family, in the order of the exposition.
        pub const FAMILIES: &[&Family] = &[$(&$id),*];
    };
}

#[rustfmt::skip] // a table
families! {
    BUILD = Info "build", None, ["version"], "The running version";
    GENERATION = Gauge "config_generation", None, [], "Generation of the configuration in use, from 1";
    LOADED = Gauge "config_loaded", Seconds, [], "When that configuration was loaded, as Unix time";
    RELOAD_FAILED = Gauge "config_reload_failed", None, [], "1 while the last reload has failed";
    RELOADS = Counter "config_reloads", None, ["result"], "Reloads; result is ok or failed (the old generation stays)";
    ADMIN_CHANGES = Counter "admin_changes", None, ["result"], "Changes that operators asked for on the admin listener";
    ADMIN_MAX = Gauge "admin_places", None, ["kind"], "What may be open at once on the admin listener: connections at its address, at its socket, live streams";
    ADMIN_OPEN = Gauge "admin_open", None, ["kind"], "What is open on the admin listener now";
    ADMIN_FULL = Counter "admin_full", None, ["kind"], "How often as much was open as may be: a connection waits then, a stream is refused";
    PHASE = Gauge "phase", None, ["phase"], "1 for the present phase: running, unready, draining, ending";
    PANICS = Counter "panics", None, [], "Panics caught; each is a bug and ended one exchange or was restarted";

    PROCESS_STARTED = Gauge "process_start_time", Seconds, [], "When the process started, as Unix time";
    PROCESS_CPU = Counter "process_cpu", Seconds, [], "Time spent on processors";
    PROCESS_FDS = Gauge "process_open_fds", None, [], "Open file descriptors";
    PROCESS_MAX_FDS = Gauge "process_max_fds", None, [], "Most file descriptors that may be open; absent without a limit";
    PROCESS_THREADS = Gauge "process_threads", None, [], "Threads";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory", Bytes, [], "Virtual memory";
    PROCESS_RESIDENT = Gauge "process_resident_memory", Bytes, [], "Resident memory";

    WORKER_BUSY = Counter "worker_busy", Seconds, ["worker"], "Time in which a worker was not idle; its rate is the worker's load";
    WORKER_CONNECTIONS = Gauge "worker_connections_open", None, ["worker"], "Client connections that a worker has open now";
    WORKER_TASKS = Gauge "worker_tasks", None, ["worker"], "Tasks of a worker that have not ended";
    CONNECTIONS_MAX = Gauge "connections_max", None, [], "Client connections that may be open: process.max_connections, or half of the file descriptors if that is less";

    EXCHANGES = Counter "exchanges", None, ["listener", "protocol", "status"], "Exchanges ended, by status class; status none: the client was gone before";
    ENDS = Counter "exchange_ends", None, ["listener", "end"], "Exchanges ended, by two-letter end code; -- is complete";
    REQUEST_BODY = Counter "request_body", Bytes, ["listener"], "Request body bytes received";
    RESPONSE_BODY = Counter "response_body", Bytes, ["listener"], "Response body bytes sent";
    FAULTS = Counter "faults", None, ["listener", "code"], "Answers by the proxy itself and exchanges it broke off, by reason code";

    CONNECTIONS = Counter "connections", None, ["listener"], "Client connections accepted";
    CONNECTIONS_OPEN = Gauge "connections_open", None, ["listener"], "Client connections open now";
    CONNECTIONS_SPEAKING = Gauge "connections_speaking", None, ["listener", "protocol"], "Client connections open now that have agreed on a protocol, by protocol: h1, h2, h3";
    CONNECTIONS_REFUSED = Counter "connections_refused", None, ["listener", "cause"], "Client connections closed right after accept";
    ACCEPT_BACKOFFS = Counter "accept_backoffs", None, ["listener"], "Pauses of accept after an error of the system";
    HANDSHAKES = Counter "tls_handshakes", None, ["listener", "version", "resumed"], "TLS handshakes completed";
    HANDSHAKE_FAILURES = Counter "tls_handshake_failures", None, ["listener", "cause"], "TLS handshakes that did not complete";
    QUIC_RETRIES = Counter "quic_retries", None, ["listener"], "Clients of QUIC asked to prove their address first";
    QUIC_FORWARDED = Counter "quic_datagrams_forwarded", None, ["listener"], "Datagrams handed to the worker that has their connection, after a client's address changed";
    QUIC_LOST = Counter "quic_datagrams_lost", None, ["listener"], "Datagrams for another worker that its letter box did not take";
    QUIC_OFFENCES = Counter "quic_offences", None, ["listener", "code"], "HTTP/3 connections ended for what the client sent, by error code";
    CERTIFICATE_EXPIRY = Gauge "tls_certificate_expiry", Seconds, ["listener", "certificate"], "When a certificate expires, as Unix time";

    ROUTE_EXCHANGES = Counter "route_exchanges", None, ["route", "status"], "Exchanges ended on a route, by status class";

    VERDICTS = Counter "verdicts", None, ["rule", "action", "mode"], "Requests that a rule of the shield fits, by what it does; mode is enforced, or observed (as if)";

    CRAWLER_PROOFS = Counter "crawler_proofs", None, ["result"], "Addresses of clients that call themselves a search engine, by what reverse and forward DNS say: proven, refuted, unanswered";

    POOL_EXCHANGES = Counter "pool_exchanges", None, ["pool", "status"], "Exchanges ended that asked a pool, by status class";
    DURATION = Histogram "exchange_duration", Seconds, ["pool", "stage"], "Where the time of exchanges went: receive (collected request bodies only), queue, connect (new connections only), first_byte, total";
    QUEUE = Gauge "queue_length", None, ["pool"], "Exchanges waiting for a free endpoint";
    QUEUE_WAITS = Counter "queue_waits", None, ["pool", "lane", "ending"], "Waits for a free endpoint that ended: served, late, left, none_up; or did not begin: full, client_full";
    TIER_SHARE = Gauge "tier_share_percent", None, ["pool", "priority", "zone"], "Share of the traffic that a priority group takes, in the proxy's own zone (near) and elsewhere (far); absent where endpoints are all alike";
    PANICKING = Gauge "pool_panicking", None, ["pool"], "1 while so few endpoints are up that health is not heeded";
    RETRIES = Counter "retries", None, ["pool", "cause"], "Further attempts, by what failed before";
    RETRIES_REFUSED = Counter "retries_refused", None, ["pool"], "Further attempts that the retry budget did not allow";
    HEDGES = Counter "hedges", None, ["pool", "outcome"], "Second questions beside a slow first one: won, or lost";
    RACES = Counter "keepalive_races", None, ["pool", "outcome"], "Idle connections found closed by the endpoint: avoided before anything was sent, lost after";
    DISCOVERY = Counter "discovery_answers", None, ["pool", "result"], "Questions to DNS about a pool's endpoints, by answer: found, empty (no such name or record), failed";
    TUNNELS = Counter "tunnels", None, ["pool"], "Tunnels opened";
    TUNNEL_MESSAGES = Counter "tunnel_messages", None, ["pool", "direction"], "WebSocket messages in tunnels that have ended";
    TUNNEL_BYTES = Counter "tunnel", Bytes, ["pool", "direction"], "Bytes in tunnels that have ended";

    ENDPOINT_EXCHANGES = Counter "endpoint_exchanges", None, ["pool", "endpoint", "status"], "Exchanges ended whose last attempt was on an endpoint, by status class";
    UPSTREAM_CONNECTIONS = Counter "upstream_connections", None, ["pool", "endpoint", "result"], "Connections for attempts: opened, reused, or why there was none";
    FLIPS = Counter "health_flips", None, ["pool", "endpoint", "to"], "Changes of an endpoint's standing";
    PROBES = Counter "probes", None, ["pool", "endpoint", "result"], "Active checks, by result";
    STANDING = Gauge "endpoint_standing", None, ["pool", "endpoint", "standing"], "1 for the present standing: unknown, up, late, down";
    DISABLED = Gauge "endpoint_disabled", None, ["pool", "endpoint"], "1 when taken out by configuration or drained";
    DRAINED = Gauge "endpoint_drained", None, ["pool", "endpoint"], "1 when taken out by an operator";
    IN_FLIGHT = Gauge "endpoint_in_flight", None, ["pool", "endpoint"], "Exchanges in flight";
    PENDING = Gauge "endpoint_pending", None, ["pool", "endpoint"], "Exchanges and tunnels that have no connection yet";
    RETRIES_OPEN = Gauge "endpoint_retries_in_flight", None, ["pool", "endpoint"], "Repeats in flight of what failed elsewhere";
    LIMIT_REACHED = Counter "endpoint_limit_reached", None, ["pool", "endpoint", "limit"], "How often an endpoint came to carry all that it may: in_flight, pending, retries";
    EJECTED = Gauge "endpoint_ejected", None, ["pool", "endpoint"], "1 while ejected for what live traffic showed";
    EJECTIONS = Counter "endpoint_ejections", None, ["pool", "endpoint", "cause"], "Ejections for what live traffic showed, by cause";
    WARMTH = Gauge "endpoint_warmth_percent", None, ["pool", "endpoint"], "Share of its due that an endpoint takes; below 100 after a recovery";
    IDLE_CLOSES = Counter "endpoint_idle_closes", None, ["pool", "endpoint"], "Idle connections that the endpoint closed before they were used again";
    TUNNELS_OPEN = Gauge "endpoint_tunnels_open", None, ["pool", "endpoint"], "Tunnels open now";

    SERVED = Counter "slo_exchanges", None, ["pool", "served"], "Exchanges that count for a pool's objectives: good, slow (later than the threshold), or failed for the sake of client, proxy, endpoint";
    SLO_OBJECTIVE = Gauge "slo_objective", Ratio, ["pool", "objective"], "What is promised: availability, latency";
    SLO_BUDGET = Gauge "slo_budget_left", Ratio, ["pool", "objective"], "What is left of the error budget of 30 days; negative when more than all of it is spent";
    SLO_BURN = Gauge "slo_burn_rate", None, ["pool", "objective", "window"], "How fast the error budget burns, by the past that is looked at: 5m, 30m, 1h, 6h, 3d; 1 spends it in 30 days";
    SLO_SPENT = Gauge "slo_spent_exchanges", None, ["pool", "by"], "Failures of the last 30 days, by who they are to be blamed on: client, proxy, endpoint, zone (lost as a whole)";
    SLO_DOWNTIME = Gauge "slo_downtime", Seconds, ["pool"], "Time of the last 30 days in which a pool served nobody, or most exchanges failed";
    SLO_OBSERVED = Gauge "slo_observed", Seconds, ["pool"], "Time of the last 30 days that was looked at";
    SLO_ALERT = Gauge "slo_alert", None, ["pool", "objective", "alert"], "1 while an error budget burns so fast that somebody should look now (page), or this week (ticket)";
    SLO_ERRORS = Counter "objectives_file_errors", None, [], "Failures to read or write what was measured of objectives";

    LIMIT_REQUESTS = Counter "limit_requests", None, ["limit", "result"], "Requests counted on a limit: passed, limited (too many over time), crowded (too many at once), observed (would have been refused)";
    LIMIT_KEYS = Gauge "limit_keys", None, ["limit"], "Keys that have used something of a limit";
    LIMIT_PUSHED_OUT = Counter "limit_keys_pushed_out", None, ["limit"], "Keys whose count a new key took over, as the table was full";
    LOGINS = Counter "logins", None, ["way", "result"], "Logins by form or api, as Superset answered: succeeded, failed, void; limited: not asked";

    BANS = Counter "bans", None, ["cause"], "Bans imposed, by what they were for; operator and fleet are those from elsewhere";
    BANS_ACTIVE = Gauge "bans_active", None, [], "Bans that last";
    FLEET_UP = Gauge "fleet_up", None, [], "1 while Redis answers; absent without [redis]";
    FLEET_CALLS = Counter "fleet_calls", None, [], "Calls of Redis";
    FLEET_FAILURES = Counter "fleet_failures", None, [], "Links to Redis that failed or could not be opened";
    FLEET_LATE = Counter "fleet_late", None, [], "Requests for which Redis did not decide in time";
    FLEET_WITHOUT = Counter "fleet_without", None, [], "Requests let pass or refused because Redis is away";
    FLEET_DROPPED = Counter "fleet_counts_dropped", None, ["cause"], "Counts not told to the fleet, as a queue was full or Redis has something else under the key";

    TEMP = Gauge "request_buffer_temp", Bytes, [], "Request bodies held in temporary files";
    BUFFERED = Gauge "request_buffer_memory", Bytes, [], "Request bodies held in memory";

    LOG_RECORDS = Counter "access_log_records", None, ["sink"], "Records that a sink has written, or its receiver has taken";
    LOG_DROPPED = Counter "access_log_records_dropped", None, ["sink", "cause"], "Records lost; an exchange never waits for its record. Sink - stands for the workers' queues";
    LOG_ERRORS = Counter "access_log_write_errors", None, ["sink"], "Failed writes, opens, rotations and deliveries of a sink; they are retried";
    LOG_FAILING = Gauge "access_log_sink_failing", None, ["sink"], "1 while a sink fails and its records wait";
    LOG_QUEUE = Gauge "access_log_sink_queue", None, ["sink"], "Records that wait in memory for a sink on another machine";
    LOG_SPOOL = Gauge "access_log_spool", Bytes, ["sink"], "Size of a sink's spool";
    LOG_SPOOL_MAX = Gauge "access_log_spool_max", Bytes, ["sink"], "Size that a sink's spool may have; 0 without one";
    LOG_SPOOL_RECORDS = Gauge "access_log_spool_records", None, ["sink"], "Records that wait in a sink's spool";
    LOG_OLDEST = Gauge "access_log_sink_lag", Seconds, ["sink"], "Age of the oldest record that waits for a sink on another machine";
    EVENTS_DROPPED = Counter "events_dropped", None, [], "Event lines lost because standard error did not keep up";

    EXPORTED = Counter "otlp_exported", None, ["signal"], "What collectors have taken: signal is traces (spans) or metrics (points); absent where none is configured, as all that follow";
    EXPORT_ERRORS = Counter "otlp_export_errors", None, ["signal"], "Deliveries to collectors that failed; spans are sent again, metrics with the next push";
    EXPORT_DROPPED = Counter "otlp_dropped", None, ["signal", "cause"], "Spans and points lost: sink_full (their queue was full), refused (the collector will never take them), ending (they waited when the process ended)";
    EXPORT_FAILING = Gauge "otlp_export_failing", None, ["signal"], "1 while a collector takes nothing";
    EXPORT_QUEUE = Gauge "otlp_export_queue", None, ["signal"], "Spans that wait in memory, and exchanges of which none are made yet";

    RECORDER_RECORDS = Counter "recorder_records", None, ["kind"], "Records put into the flight recorder: error, refused, slow, sample";
    RECORDER_HELD = Gauge "recorder_records_held", None, ["kind"], "Records in the flight recorder now";
    RECORDER_MEMORY = Gauge "recorder_memory", Bytes, ["kind"], "Memory that records in the flight recorder take";
    FOLLOWERS = Gauge "record_followers", None, [], "Operators who follow records live";
    FOLLOWERS_MISSED = Counter "record_followers_missed", None, [], "Records that a follower was too slow for, summed over all of them";
}

impl Family {
    /// The name as a scrape shows it.
    pub fn full_name(&self) -> String {
        let unit = match self.unit {
            Unit::None => "",
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
            Unit::Ratio => "_ratio",
        };
        format!("{}{unit}{}", self.prefixed(), self.kind.suffix())
    }

    /// The name without unit and suffix. What every client library of Prometheus tells of a process has no prefix.
    pub(super) fn prefixed(&self) -> String {
        if self.name.starts_with("process_") { self.name.to_owned() } else { format!("{PREFIX}_{}", self.name) }
    }
}

impl Kind {
    /// What the samples' name has beyond the family's.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// Prefix of every name of ours.
const PREFIX: &str = "sluicegate";

/// The table of metrics as Markdown, for the README.
pub fn reference() -> String {
    let mut text = String::from("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            family.full_name(),
            family.kind.word(),
            labels.join(", "),
            family.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let names: BTreeSet<String> = FAMILIES.iter().map(|family| family.full_name()).collect();

        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            assert!(family.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", family.name);
            assert!(!family.name.ends_with("total") && !family.help.ends_with('.'), "{}", family.name);
            assert!(!family.labels.contains(&"le"), "{}", family.name);
        }
    }

    #[test]
    fn reference_has_a_row_for_each_family() {
        let reference = reference();

        assert_eq!(reference.lines().count(), FAMILIES.len() + 2);
        assert!(reference.contains("| `sluicegate_exchange_duration_seconds` | histogram | `pool`, `stage` |"));
        assert!(reference.contains("| `sluicegate_request_body_bytes_total` | counter |"));
    }
}
