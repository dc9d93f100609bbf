//! `[limits.NAME]` as written, and what other sections share with it.

use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderName;

use super::super::mode::Mode;
use super::super::quota::{Allowance, By, Decides, Limit, Store, WhenAway};
use super::super::units::Span;
use super::key::{Entry, Key, May, Or, Section, Table, section};
use super::kinds::{Choice, DAY, Flag, Lasting, MODE, Parsed, SECOND, Whole, choice, lasting, parsed, whole};
use super::shapes::{List, Sub, list, sub, values};
use super::sheet::Words;
use super::words::header_name;
use crate::lexicon::LimitName;

section! {
    /// A limit on requests: so many over time (`rate`), at once (`concurrency`), or both, for all requests that agree
    /// in `by`. Beyond it: 429 with `Retry-After`, `RateLimit` and `RateLimit-Policy`. Routes name the limits that hold
    /// for them.
    pub(super) LIMIT: LimitKeys {
        /// What requests are counted by, one or several: `address`, `network`, `header:NAME`, `cookie:NAME`, `user` (of
        /// a login), `route`. Requests without the field or cookie are counted by their address. Only keyed hashes are
        /// kept.
        by: List<Parsed<By>> =
            list(parsed("what to count by", by)).some().or_one(), Or("'address'");
        /// How many over time: `100/s`, `10/m`, `1000/h`, `5/10s`.
        rate: Parsed<(NonZeroU32, Duration)> = parsed("rate", rate), May("no limit over time");
        /// How many of them may come at once.
        burst: Whole<u32> = whole(1, 1_000_000), May("the number in `rate`");
        /// How many at once, from a request's head to the last byte of its response or the end of its tunnel.
        concurrency: Whole<u32> = whole(1, 1_000_000), May("no limit at once");
        /// Keys known at once, 32 bytes each. Beyond it new keys take over the count of the mildest: nobody gets more.
        max_keys: Whole<usize> = whole(16, 10_000_000), Or("100_000");
        /// Leading bits of an IPv4 address that make its network.
        network_v4: Whole<u8> = whole(8, 32), Or("24");
        /// Leading bits of an IPv6 address that make its network.
        network_v6: Whole<u8> = whole(16, 128), Or("48");
        /// `observe` counts and logs what `enforce` would refuse, and lets it pass.
        mode: Choice<Mode> = MODE, Or("'enforce'");
        /// Whether it holds for every route that does not name its limits.
        default: Flag = Flag, Or("false");
        /// Whether every answer tells the client what is left, not only a refusal.
        announce: Flag = Flag, Or("false");
        /// `redis` shares the count with all proxies that use the same `[redis]` and `process.fleet_secret`.
        store: Choice<Shared> = STORE, Or("'local'");
        /// How the count is shared.
        fleet: Sub<(Decides, WhenAway)> = sub(&FLEET, fleet), Or("{}");
    }
}

/// Whether a count is shared.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Shared {
    No,
    ByRedis,
}

pub(super) const STORE: Choice<Shared> = choice(&[("local", Shared::No), ("redis", Shared::ByRedis)]);

/// What a limit means.
pub(super) fn limit(name: &str, table: &Table<'_>) -> Option<Limit> {
    let by = table.get(&LIMIT.by).map(values);
    let (rate, burst) = (table.get(&LIMIT.rate), table.get(&LIMIT.burst));
    let concurrency = table.get(&LIMIT.concurrency);
    let max_keys = table.get(&LIMIT.max_keys);
    let network = table.get(&LIMIT.network_v4).zip(table.get(&LIMIT.network_v6));
    let (mode, default) = (table.get(&LIMIT.mode), table.get(&LIMIT.default));
    let announce = table.get(&LIMIT.announce);
    let store = store(table.get(&LIMIT.store), table.get(&LIMIT.fleet));
    if !table.has(&LIMIT.rate) && !table.has(&LIMIT.concurrency) {
        table.written.error(Words::new("limits nothing").expected("`rate`, `concurrency`, or both"));
        return None;
    }
    if table.has(&LIMIT.burst) && !table.has(&LIMIT.rate) {
        table.warn(&LIMIT.burst, Words::new("has no effect without `rate`"));
    }
    if matches!(store, Some(Store::Local)) && table.has(&LIMIT.fleet) {
        table.warn(&LIMIT.fleet, Words::new("has no effect without `store = \"redis\"`"));
    }
    if matches!(store, Some(Store::Redis { .. })) && !table.has(&LIMIT.rate) {
        let words = Words::new("shares only counts over time; what is under way stays with its process");
        table.error(&LIMIT.store, words.expected("a `rate`"));
        return None;
    }
    let rate = rate?.map(|(count, period)| allowance((count, period), burst.flatten()));
    Some(Limit {
        name: LimitName::new(name),
        by: by?,
        rate,
        concurrency: concurrency?.and_then(NonZeroU32::new),
        max_keys: max_keys?,
        network: network?,
        mode: mode?,
        default: default?,
        announce: announce?,
        store: store?,
    })
}

section! {
    /// How a count is shared by the proxies of a fleet.
    pub(super) FLEET: FleetKeys {
        /// `process`: each proxy decides at once by what it knows, and learns in the background what others let pass.
        /// `redis`: Redis is asked for each request, within `timeout`.
        decides: Choice<Deciding> =
            choice(&[("process", Deciding::Process), ("redis", Deciding::Redis)]), Or("'process'");
        /// Longest wait of a request for Redis, when that decides.
        timeout: Lasting = lasting(1, SECOND), Or("'10ms'");
        /// What happens while Redis is away: `local` keeps the limit in each process, `allow` lets everything pass,
        /// `deny` refuses everything.
        when_away: Choice<WhenAway> = choice(&[
            ("local", WhenAway::Local), ("allow", WhenAway::Allow), ("deny", WhenAway::Deny),
        ]), Or("'local'");
    }
}

#[derive(Clone, Copy)]
pub(super) enum Deciding {
    Process,
    Redis,
}

/// What sharing means.
pub(super) fn fleet(table: &Table<'_>) -> Option<(Decides, WhenAway)> {
    let (decides, timeout) = (table.get(&FLEET.decides), table.get(&FLEET.timeout));
    let when_away = table.get(&FLEET.when_away);
    let decides = match decides? {
        Deciding::Process => Decides::Process,
        Deciding::Redis => Decides::Redis(timeout?),
    };
    Some((decides, when_away?))
}

/// Where states are.
pub(super) fn store(shared: Option<Shared>, fleet: Option<(Decides, WhenAway)>) -> Option<Store> {
    let (decides, when_away) = fleet?;
    Some(match shared? {
        Shared::No => Store::Local,
        Shared::ByRedis => Store::Redis { decides, when_away },
    })
}

/// A rate with its burst.
pub(super) fn allowance((count, period): (NonZeroU32, Duration), burst: Option<u32>) -> Allowance {
    Allowance { count, period, burst: burst.and_then(NonZeroU32::new).unwrap_or(count) }
}

/// `COUNT/TIME`: `10/s`, `10/m`, `10/h`, `10/d`, or a duration.
pub(super) fn rate(text: &str) -> Result<(NonZeroU32, Duration), String> {
    let (count, period) = text.split_once('/').ok_or("is no rate such as `10/s`")?;
    let count = count.trim().parse().map_err(|_| "does not begin with a whole number above 0")?;
    let unit = period.trim();
    let lone = unit.starts_with(|c: char| c.is_ascii_alphabetic());
    let Span(period) = if lone { format!("1{unit}") } else { unit.to_owned() }
        .parse()
        .map_err(|_| "does not end with a time: `/s`, `/m`, `/h`, `/d`, or `/10s`")?;
    let longest = Duration::from_millis(DAY);
    if period.is_zero() || period > longest {
        return Err("has a time that is not within 1ms and 1d".into());
    }
    Ok((count, period))
}

fn by(text: &str) -> Result<By, String> {
    match text.split_once(':') {
        Some(("header", name)) => header_name(name).map(By::Header),
        // RFC 6265 §4.1.1: a cookie's name is a token, as a field's name is.
        Some(("cookie", name)) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(_) => Ok(By::Cookie(name.to_owned())),
            Err(_) => Err("names no cookie".into()),
        },
        Some(_) => Err("is not `header:NAME` or `cookie:NAME`".into()),
        None => match text {
            "address" => Ok(By::Address),
            "network" => Ok(By::Network),
            "user" => Ok(By::User),
            "route" => Ok(By::Route),
            _ => Err("is none of address, network, header:NAME, cookie:NAME, user, route".into()),
        },
    }
}
