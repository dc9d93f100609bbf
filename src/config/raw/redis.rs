//! `[redis]` as written.

use super::super::redis::{Redis, RedisTls, Servers};
use super::key::{Entry, Key, May, Must, Or, Section, Table, section};
use super::kinds::{Choice, File, Lasting, Parsed, SECOND, WATCHED, Whole, choice, lasting, parsed, whole};
use super::secret::Secret;
use super::shapes::{List, Sub, Switch, list, sub, switch, values};
use super::sheet::Words;
use super::words::{host_with_port, name, short_text};

section! {
    /// Where proxies share what they count: limits and bans. Only keyed hashes of what clients are known by are kept
    /// there, and every key expires by itself. No request waits for Redis unless its limit says so.
    pub(super) REDIS: RedisKeys {
        /// `single`: one server. `sentinel`: `addresses` are Sentinels. `cluster`: some servers of a cluster.
        kind: Choice<Organised> = choice(&[
            ("single", Organised::Single), ("sentinel", Organised::Sentinel), ("cluster", Organised::Cluster),
        ]), Or("'single'");
        /// Where the servers, or the Sentinels, are.
        addresses: List<Parsed<String>> = list(parsed("host:port", address)).some().or_one(), Must();
        /// The master's name, for Sentinel.
        master: Parsed<String> = parsed("name", name), Or("'mymaster'");
        /// Database; a cluster has only 0.
        database: Whole<u32> = whole(0, 15), Or("0");
        /// User of Redis' access control list.
        username: Parsed<String> = parsed("user name", short_text), May("none");
        /// Password of that user, or of `requirepass`.
        password: Secret = Secret, May("none");
        /// The Sentinels' own password.
        sentinel_password: Secret = Secret, May("none");
        /// TLS to Redis and to the Sentinels.
        tls: Switch<Sub<RedisTls>> = switch(sub(&TLS, tls)), Or("false");
        /// Begins every key, so that several fleets can share a Redis.
        prefix: Parsed<String> = parsed("name", name), Or("'sluicegate'");
        /// How often proxies tell and learn what they let pass. It bounds by how much a fleet exceeds a limit.
        interval: Lasting = lasting(5, 10 * SECOND), Or("'50ms'");
        /// Patience with a connection or an answer; after it Redis counts as away, and is tried again.
        patience: Lasting = lasting(10, 10 * SECOND), Or("'500ms'");
        /// Keys that may wait to be told; beyond it they are dropped and counted.
        max_pending: Whole<usize> = whole(100, 1_000_000), Or("10_000");
        /// Keys that are told at once, and as many questions of limits that Redis decides; the others wait for their turn.
        max_calls: Whole<usize> = whole(1, 10_000), Or("256");
        /// What workers tell that may wait to be summed up by key, less than 100 bytes each, and as many bans and ends of bans
        /// that wait to be told; beyond it they are dropped and counted.
        queue: Whole<usize> = whole(256, 1_048_576), Or("16_384");
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Organised {
    Single,
    Sentinel,
    Cluster,
}

section! {
    /// TLS to Redis.
    TLS: TlsKeys {
        /// Authorities in PEM that sign the servers' certificates.
        authorities: File = WATCHED, May("the public ones");
    }
}

fn tls(table: &Table<'_>) -> Option<RedisTls> {
    Some(RedisTls { authorities: table.get(&TLS.authorities)? })
}

/// What `[redis]` means.
pub(super) fn redis(table: &Table<'_>) -> Option<Redis> {
    let (kind, addresses) = (table.get(&REDIS.kind), table.get(&REDIS.addresses).map(values));
    let (master, database) = (table.get(&REDIS.master), table.get(&REDIS.database));
    let (username, password) = (table.get(&REDIS.username), table.get(&REDIS.password));
    let sentinel_password = table.get(&REDIS.sentinel_password);
    let (tls, prefix) = (table.get(&REDIS.tls), table.get(&REDIS.prefix));
    let (interval, patience) = (table.get(&REDIS.interval), table.get(&REDIS.patience));
    let (max_pending, max_calls) = (table.get(&REDIS.max_pending), table.get(&REDIS.max_calls));
    let queue = table.get(&REDIS.queue);
    if kind.is_some_and(|kind| kind != Organised::Sentinel) {
        for (written, place) in [
            (table.has(&REDIS.master), table.place(&REDIS.master)),
            (table.has(&REDIS.sentinel_password), table.place(&REDIS.sentinel_password)),
        ] {
            if written {
                let words = Words::new("has no effect without `kind = \"sentinel\"`");
                table.written.sheet.report(super::super::findings::Severity::Warning, &place, words);
            }
        }
    }
    if kind == Some(Organised::Cluster) && database.is_some_and(|database| database != 0) {
        table.error(&REDIS.database, Words::new("is not there in a cluster").expected("0"));
        return None;
    }
    let servers = match (kind?, addresses?) {
        (Organised::Single, addresses) => match <[String; 1]>::try_from(addresses) {
            Ok([address]) => Servers::Single(address),
            Err(_) => {
                let words = Words::new("are several, and one server is meant").expected("one address");
                table.error(&REDIS.addresses, words.help("`kind` says whether they are Sentinels or a cluster"));
                return None;
            }
        },
        (Organised::Sentinel, sentinels) => {
            Servers::Sentinel { sentinels, master: master?, password: sentinel_password? }
        }
        (Organised::Cluster, seeds) => Servers::Cluster(seeds),
    };
    Some(Redis {
        servers,
        database: database?.into(),
        username: username?,
        password: password?,
        tls: tls?,
        prefix: prefix?,
        interval: interval?,
        patience: patience?,
        max_pending: max_pending?,
        max_calls: max_calls?,
        queue: queue?,
    })
}

fn address(text: &str) -> Result<String, String> {
    host_with_port(text).map(|_| text.to_owned()).ok_or_else(|| "is no host with a port".into())
}
