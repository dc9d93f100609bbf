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
    STARTED = Gauge "start_time", Seconds, [], "When the process started, as Unix time";
    GENERATION = Gauge "config_generation", None, [], "Generation of the configuration in use, from 1";
    RELOADS = Counter "config_reloads", None, ["result"], "Reloads; result is ok or failed (the old generation stays)";
    ADMIN_CHANGES = Counter "admin_changes", None, ["result"], "Changes that operators asked for on the admin listener";
    PHASE = Gauge "phase", None, ["phase"], "1 for the present phase: running, unready, draining, ending";
    PANICS = Counter "panics", None, [], "Panics caught; each is a bug and ended one exchange or was restarted";

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

    POOL_EXCHANGES = Counter "pool_exchanges", None, ["pool", "status"], "Exchanges ended that asked a pool, by status class";
    DURATION = Histogram "exchange_duration", Seconds, ["pool", "stage"], "Where the time of exchanges went: queue, connect (new connections only), first_byte, total";
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
    FLEET_DROPPED = Counter "fleet_counts_dropped", None, ["cause"], "Counts not told to the fleet, as a queue was full";

    TEMP = Gauge "request_buffer_temp", Bytes, [], "Request bodies held in temporary files";
    BUFFERED = Gauge "request_buffer_memory", Bytes, [], "Request bodies held in memory";

    LOG_RECORDS = Counter "access_log_records", None, [], "Records written to the access log";
    LOG_DROPPED = Counter "access_log_records_dropped", None, ["cause"], "Records lost; an exchange never waits for its record";
    LOG_ERRORS = Counter "access_log_write_errors", None, [], "Failed writes, opens and rotations of the access log; they are retried";
    EVENTS_DROPPED = Counter "events_dropped", None, [], "Event lines lost because standard error did not keep up";

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
        };
        format!("{PREFIX}_{}{unit}{}", self.name, self.kind.suffix())
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

/// Prefix of every name.
pub(super) const PREFIX: &str = "sluicegate";

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
