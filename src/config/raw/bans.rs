//! `[bans]` as written.

use std::num::NonZeroU32;

use ipnet::IpNet;

use super::super::quota::Bans;
use super::key::{Entry, Key, Or, Section, Table, section};
use super::kinds::{DAY, Lasting, MINUTE, Parsed, SECOND, Whole, lasting, network, parsed, whole};
use super::shapes::{List, list, values};
use super::sheet::Words;

section! {
    /// How bans come about, grow and end. Misdeeds are points: what honest users never do, such as asking for
    /// `/wp-login.php`, or guessing passwords. Who is banned is answered 403 `banned`; who is banned from logging in
    /// only, 429 `login_limited` there. `sluicegate bans` lists them.
    pub(super) BANS: BansKeys {
        /// Bans remembered at once; beyond it the one that would end first goes. Needs a restart.
        max: Whole<usize> = whole(64, 1_000_000), Or("10_000");
        /// Points that a client may collect within `within`; one more is a ban.
        points: Whole<u32> = whole(1, 10_000), Or("20");
        /// The time in which that many points are forgiven.
        within: Lasting = lasting(SECOND, DAY), Or("'10m'");
        /// Length of a first ban.
        first: Lasting = lasting(SECOND, 30 * DAY), Or("'5m'");
        /// By how much each further ban of a client is longer.
        growth: Whole<u32> = whole(1, 100), Or("4");
        /// Longest ban that the proxy imposes by itself.
        longest: Lasting = lasting(SECOND, 365 * DAY), Or("'24h'");
        /// How long after its end a ban still makes the next one longer.
        remembered: Lasting = lasting(MINUTE, 365 * DAY), Or("'24h'");
        /// Networks that are never banned, whatever their neighbours in an IPv6 prefix do, such as those of your monitoring and of Superset's own report workers.
        never: List<Parsed<IpNet>> = list(parsed("network", network)), Or("[]");
    }
}

/// What `[bans]` means.
pub(super) fn bans(table: &Table<'_>) -> Option<Bans> {
    let (max, points, within) = (table.get(&BANS.max), table.get(&BANS.points), table.get(&BANS.within));
    let (first, growth, longest) = (table.get(&BANS.first), table.get(&BANS.growth), table.get(&BANS.longest));
    let (remembered, never) = (table.get(&BANS.remembered), table.get(&BANS.never).map(values));
    if let (Some(first), Some(longest)) = (first, longest)
        && first > longest
    {
        table.error(&BANS.first, Words::new("is more than `longest`").expected("at most `longest`"));
        return None;
    }
    if points.is_some_and(|points| points < 5) {
        let words = Words::new("bans a colleague who mistypes a few times").expected("5 or more");
        table.warn(&BANS.points, words);
    }
    Some(Bans {
        max: max?,
        points: NonZeroU32::new(points?)?,
        within: within?,
        first: first?,
        growth: growth?,
        longest: longest?,
        remembered: remembered?,
        never: never?,
    })
}
