//! `[login]` as written.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::mode::Mode;
use super::super::quota::{Decides, Login, WhenAway};
use super::key::{Entry, Key, Or, Section, Table, section};
use super::kinds::{Choice, Flag, MODE, Parsed, Whole, parsed, whole};
use super::limit::{FLEET, STORE, Shared, allowance, fleet, rate, store};
use super::shapes::{List, Sub, list, sub, values};
use super::words::prefix;

section! {
    /// Guessing passwords. A login is counted when it begins and taken back when it succeeds, so that failures count
    /// and colleagues behind one address do not hurt each other. A failed form login is answered 200 or with a
    /// redirect back to the form by Superset, one of the API with 401. Beyond a limit: 429 `login_limited`; who goes
    /// on all the same collects points towards a ban (`[bans]`) from logging in, and from nothing else, unless many may
    /// share its address (`shield.ban_private`).
    pub(super) LOGIN: LoginKeys {
        /// Whether logins are guarded.
        enabled: Flag = Flag, Or("true");
        /// Paths of Superset's form, whole ones; below the path of a route, or the application's root, too.
        form: List<Parsed<String>> = list(parsed("path", prefix)), Or("['/login']");
        /// Paths of Superset's API for logins, likewise.
        api: List<Parsed<String>> = list(parsed("path", prefix)), Or("['/api/v1/security/login']");
        /// Failures of one address.
        per_address: Parsed<(NonZeroU32, Duration)> = parsed("rate", rate), Or("'10/m'");
        /// How many of them may come at once.
        burst_per_address: Whole<u32> = whole(1, 100_000), Or("20");
        /// Failures on one user name, from wherever they come. Names count in lower case, as Superset has them.
        per_user: Parsed<(NonZeroU32, Duration)> = parsed("rate", rate), Or("'5/m'");
        /// How many of them may come at once.
        burst_per_user: Whole<u32> = whole(1, 100_000), Or("10");
        /// Addresses, and user names, known at once, 32 bytes each.
        max_keys: Whole<usize> = whole(16, 10_000_000), Or("50_000");
        /// `observe` counts and logs what `enforce` would refuse, and lets it pass.
        mode: Choice<Mode> = MODE, Or("'enforce'");
        /// `redis` shares the counts with all proxies that use the same `[redis]` and `process.fleet_secret`.
        store: Choice<Shared> = STORE, Or("'local'");
        /// How the counts are shared.
        fleet: Sub<(Decides, WhenAway)> = sub(&FLEET, fleet), Or("{}");
    }
}

/// What `[login]` means.
pub(super) fn login(table: &Table<'_>) -> Option<Option<Login>> {
    let enabled = table.get(&LOGIN.enabled);
    let (form, api) = (table.get(&LOGIN.form).map(values), table.get(&LOGIN.api).map(values));
    let address = table.get(&LOGIN.per_address).zip(table.get(&LOGIN.burst_per_address));
    let user = table.get(&LOGIN.per_user).zip(table.get(&LOGIN.burst_per_user));
    let (max_keys, mode) = (table.get(&LOGIN.max_keys), table.get(&LOGIN.mode));
    let store = store(table.get(&LOGIN.store), table.get(&LOGIN.fleet));
    let with_burst = |(rate, burst)| allowance(rate, Some(burst));
    let login = Login {
        form: form?,
        api: api?,
        per_address: address.map(with_burst)?,
        per_user: user.map(with_burst)?,
        max_keys: max_keys?,
        mode: mode?,
        store: store?,
    };
    Some(enabled?.then_some(login))
}
