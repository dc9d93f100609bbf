//! `[pools.NAME]`'s tables on what happens when endpoints are full, ill or new, as written.

use http::StatusCode;

use super::super::pool::{Outliers, Queue, SlowStart, Zones};
use super::key::{Entry, Key, Or, Section, Table, section};
use super::kinds::{DAY, Flag, Lasting, MINUTE, Parsed, SECOND, Whole, lasting, parsed, whole};
use super::shapes::{List, list, values};
use super::sheet::Words;
use super::words::{FINAL, Status, prefix};

section! {
    /// Exchanges that wait when every endpoint is full. Clients are served in turn, so that a dashboard with forty charts
    /// does not keep another user waiting.
    pub(super) QUEUE: QueueKeys {
        /// How many may wait; 0 refuses at once. Beyond it: 503 `queue_full` with `Retry-After`.
        length: Whole<usize> = whole(0, 100_000), Or("128");
        /// How many of one client address may wait. Beyond it: 503 `queue_client_full` with `Retry-After`.
        per_client: Whole<usize> = whole(1, 100_000), Or("64");
        /// How long an exchange waits at most. Beyond it: 503 `queue_timeout` with `Retry-After`.
        timeout: Lasting = lasting(10, 10 * MINUTE), Or("'10s'");
        /// Paths, with all below them, that wait in a lane of their own, which gets every second slot.
        express: List<Parsed<String>> =
            list(parsed("path", prefix)),
            Or("['/health', '/healthcheck', '/ping', '/login', '/logout', '/api/v1/security']");
        /// How many may wait in that lane, beside `length`; a quarter of them of one client. Who finds no room there waits with
        /// everybody.
        express_length: Whole<usize> = whole(0, 100_000), Or("32");
    }
}

pub(super) fn queue(table: &Table<'_>) -> Option<Queue> {
    let (length, per_client) = (table.get(&QUEUE.length), table.get(&QUEUE.per_client));
    let timeout = table.get(&QUEUE.timeout);
    let (express, express_length) = (table.get(&QUEUE.express), table.get(&QUEUE.express_length));
    if length.zip(per_client).is_some_and(|(length, each)| length > 0 && each > length) && table.has(&QUEUE.per_client)
    {
        let words = Words::new("lets one client fill the whole line").expected("less than `length`");
        table.warn(&QUEUE.per_client, words);
    }
    Some(Queue {
        length: length?,
        per_client: per_client?,
        timeout: timeout?,
        express: values(express?),
        express_length: express_length?,
    })
}

section! {
    /// Ejection of endpoints that live traffic shows to be worse than the pool's others. A failure that all share ejects
    /// nobody.
    pub(super) OUTLIERS: OutliersKeys {
        /// Failures of any kind and `statuses` in a row; 0 does not look.
        gateway_errors: Whole<u32> = whole(0, 1_000), Or("5");
        /// Failed connects in a row; 0 does not look.
        connect_failures: Whole<u32> = whole(0, 1_000), Or("3");
        /// Attempts in a row without a response head in time; 0 does not look.
        timeouts: Whole<u32> = whole(0, 1_000), Or("3");
        /// Statuses that say "cannot serve", as a gateway would. Superset says 504 of a slow query: leave it out.
        statuses: List<Status> = list(FINAL), Or("[502, 503]");
        /// Percentage points by which the share of errors (every 5xx and failure) must exceed that of the pool's others,
        /// beyond what may be chance; 0 does not look.
        error_points: Whole<u8> = whole(0, 100), Or("30");
        /// Attempts within `window`, here and on the others, below which shares say nothing.
        min_requests: Whole<u32> = whole(1, 1_000_000), Or("5");
        /// Past that shares are taken of.
        window: Lasting = lasting(SECOND, 10 * MINUTE), Or("'10s'");
        /// First ejection; each further one is twice as long. After it one exchange tries the endpoint out.
        time: Lasting = lasting(100, DAY), Or("'10s'");
        /// Longest ejection; also how long an endpoint must behave for one of its ejections to be forgotten.
        max_time: Lasting = lasting(100, DAY), Or("'5m'");
        /// Most endpoints of the pool that may be ejected at once, in percent. One may always, the last one never.
        max_ejected: Whole<u8> = whole(0, 100), Or("50");
    }
}

pub(super) fn outliers(table: &Table<'_>) -> Option<Outliers> {
    let gateway_errors = table.get(&OUTLIERS.gateway_errors);
    let connect_failures = table.get(&OUTLIERS.connect_failures);
    let timeouts = table.get(&OUTLIERS.timeouts);
    let statuses: Option<Vec<StatusCode>> = table.get(&OUTLIERS.statuses).map(values);
    let error_points = table.get(&OUTLIERS.error_points);
    let min_requests = table.get(&OUTLIERS.min_requests);
    let window = table.get(&OUTLIERS.window);
    let (time, max_time) = (table.get(&OUTLIERS.time), table.get(&OUTLIERS.max_time));
    let max_ejected = table.get(&OUTLIERS.max_ejected);
    if time.zip(max_time).is_some_and(|(time, most)| most < time) {
        table.error(&OUTLIERS.max_time, Words::new("is less than `time`").expected("at least `time`"));
    }
    if statuses.iter().flatten().any(|status| !status.is_server_error()) {
        let words = Words::new("ejects endpoints for answers that are no server errors");
        table.warn(&OUTLIERS.statuses, words.expected("statuses from 500 on"));
    }
    Some(Outliers {
        gateway_errors: gateway_errors?,
        connect_failures: connect_failures?,
        timeouts: timeouts?,
        statuses: statuses?,
        error_points: error_points?,
        min_requests: min_requests?,
        window: window?,
        time: time?,
        max_time: max_time?,
        max_ejected: max_ejected?,
    })
}

section! {
    /// How an endpoint grows into its share after a recovery, or when it joins a pool that serves already.
    pub(super) SLOW_START: SlowStartKeys {
        /// How long it takes.
        window: Lasting = lasting(100, DAY), Or("'30s'");
        /// Share of its due to begin with, in percent.
        from: Whole<u8> = whole(1, 100), Or("10");
    }
}

pub(super) fn slow_start(table: &Table<'_>) -> Option<SlowStart> {
    let (window, from) = (table.get(&SLOW_START.window), table.get(&SLOW_START.from));
    Some(SlowStart { window: window?, from: from? })
}

section! {
    /// What the proxy's own zone means to a pool. Without `process.zone` nothing.
    pub(super) ZONES: ZonesKeys {
        /// Whether endpoints of the proxy's own zone are preferred.
        prefer: Flag = Flag, Or("true");
        /// Percent of its slots to which one of them is filled before the other zones help.
        fill: Whole<u8> = whole(1, 100), Or("75");
    }
}

pub(super) fn zones(table: &Table<'_>) -> Option<Zones> {
    let (prefer, fill) = (table.get(&ZONES.prefer), table.get(&ZONES.fill));
    Some(Zones { prefer: prefer?, fill: fill? })
}
