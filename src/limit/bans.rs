//! Who misbehaved, and for how long that shuts them out.
//!
//! Part of `limit`. Offences are points on a meter that empties with time (a [`Rate`]: whoever overdraws it is
//! banned); each further ban of a subject is longer than the one before. Looking somebody up costs one read of a
//! counting filter; only for who is probably in the book is one of its shards locked. The book is bounded: when it is
//! full, the ban that would end first makes room. Deliberately absent: what counts as an offence, and the answer to
//! who is banned.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config::quota::Bans as Settings;

use super::{Decision, Key, Keyring, Rate, prefix_of};

/// Shards of the book.
const SHARDS: usize = 64;

/// Counters of the filter for each ban that the book can hold: an honest client meets one in use by chance, rarely.
const SPARSE: usize = 16;

/// Who is banned.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// An address, or the first address of an IPv6 prefix.
    Address(IpAddr),
    /// A TLS fingerprint.
    Fingerprint(Box<str>),
}

/// From what.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scope {
    /// Every request.
    Everything,
    /// Logging in: colleagues behind the same address go on working.
    Login,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Fingerprint(fingerprint) => f.write_str(fingerprint),
        }
    }
}

impl Scope {
    /// The word used in events, on the command line and between proxies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Login => "login",
        }
    }

    /// The scope of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Everything, Self::Login].into_iter().find(|scope| scope.as_str() == word)
    }
}

/// Something that should not have been done.
#[derive(Clone, Copy, Debug)]
pub struct Offence {
    /// How bad it is, against [`Settings::points`].
    pub points: NonZeroU32,
    /// What it was; one of a closed list, as it becomes a metric's label.
    pub cause: &'static str,
}

/// A ban.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ban {
    /// Who.
    pub subject: Subject,
    /// From what.
    pub scope: Scope,
    /// When it began.
    pub since: u64,
    /// When it ends.
    pub until: u64,
    /// How many bans the subject had before it that are remembered.
    pub before: u32,
    /// Why: an offence's cause, or an operator's words.
    pub cause: Cow<'static, str>,
}

/// The book of bans. Cloning shares.
#[derive(Clone, Debug)]
pub struct Bans(Arc<Book>);

#[derive(Debug)]
struct Book {
    shards: [Mutex<HashMap<Key, Ban>>; SHARDS],
    filter: Box<[AtomicU32]>,
    /// Bans in the book, ended ones that are remembered among them: mostly none.
    written: AtomicU32,
    most_per_shard: usize,
    keys: Keyring,
    ipv6_prefix: u8,
    rules: ArcSwap<Rules>,
}

#[derive(Debug)]
struct Rules {
    settings: Settings,
    meter: Rate,
}

impl Bans {
    /// An empty book, IPv6 addresses told apart by their first `ipv6_prefix` bits.
    pub fn new(settings: Settings, ipv6_prefix: u8) -> Self {
        Self(Arc::new(Book {
            shards: std::array::from_fn(|_| Mutex::default()),
            filter: (0..settings.max.saturating_mul(SPARSE)).map(|_| AtomicU32::new(0)).collect(),
            written: AtomicU32::new(0),
            most_per_shard: settings.max.div_ceil(SHARDS),
            keys: Keyring::new(None),
            ipv6_prefix,
            rules: ArcSwap::from_pointee(Rules::new(settings)),
        }))
    }

    /// Takes other settings; what is in the book stays, points begin anew if anything has changed.
    pub fn renew(&self, settings: Settings) {
        if self.0.rules.load().settings != settings {
            self.0.rules.store(Arc::new(Rules::new(settings)));
        }
    }

    /// The subject at `address`.
    pub fn address(&self, address: IpAddr) -> Subject {
        Subject::Address(prefix_of(address, 32, self.0.ipv6_prefix))
    }

    /// The subject as the book has it: the prefix of an IPv6 address.
    pub fn same(&self, subject: &Subject) -> Subject {
        match subject {
            Subject::Address(address) => self.address(*address),
            Subject::Fingerprint(_) => subject.clone(),
        }
    }

    /// The ban that keeps the client at `address`, with this TLS fingerprint if it has one, from `scope`; a ban from
    /// everything is one from logging in. Whom [`Settings::never`] names is kept from nothing, whoever else is in its
    /// prefix and whenever the ban began.
    pub fn find(&self, address: IpAddr, fingerprint: Option<&str>, scope: Scope, now: u64) -> Option<Ban> {
        if self.0.written.load(Ordering::Acquire) == 0 {
            return None;
        }
        let prefix = prefix_of(address, 32, self.0.ipv6_prefix);
        let scopes: &[Scope] = if scope == Scope::Login { &[Scope::Everything, scope] } else { &[scope] };
        let ban = scopes.iter().find_map(|scope| {
            let by_address = self.0.find(self.0.key_of_address(prefix, *scope), now);
            by_address.or_else(|| self.0.find(self.0.key_of_fingerprint(fingerprint?, *scope), now))
        });
        ban.filter(|_| !self.0.rules.load().spare(address))
    }

    /// The client at `address` has offended; the ban of its subject, if that was one point too many.
    pub fn offend(&self, address: IpAddr, scope: Scope, offence: Offence, now: u64) -> Option<Ban> {
        let rules = self.0.rules.load();
        if rules.spare(address) {
            return None;
        }
        let subject = self.address(address);
        let key = self.0.key(&subject, scope);
        match rules.meter.check_many(key, offence.points, now) {
            Decision::Admitted(_) => None,
            Decision::Refused(_) => self.0.write(key, now, |before, banned| {
                let until = now.saturating_add(rules.length(before));
                let cause = Cow::Borrowed(offence.cause);
                // Another worker was quicker.
                banned.is_none().then_some(Ban { subject, scope, since: now, until, before, cause })
            }),
        }
    }

    /// Bans `subject` for so long, whatever it did; `None` when that is never done to it. A ban that lasts longer
    /// stays.
    pub fn ban(
        &self,
        subject: &Subject,
        scope: Scope,
        lasting: Duration,
        cause: Cow<'static, str>,
        now: u64,
    ) -> Option<Ban> {
        if let Subject::Address(address) = subject
            && self.0.rules.load().spare(*address)
        {
            return None;
        }
        let subject = self.same(subject);
        let key = self.0.key(&subject, scope);
        let until = now.saturating_add(nanos(lasting));
        self.0.write(key, now, |before, banned| match banned {
            Some(known) if known.until >= until => Some(known.clone()),
            _ => Some(Ban { subject, scope, since: now, until, before, cause }),
        })
    }

    /// Ends a ban; whether there was one. What it was for is forgotten.
    pub fn lift(&self, subject: &Subject, scope: Scope, now: u64) -> bool {
        self.0.take(self.0.key(&self.same(subject), scope)).is_some_and(|ban| ban.until > now)
    }

    /// The ban of `subject` from exactly `scope`.
    pub fn get(&self, subject: &Subject, scope: Scope, now: u64) -> Option<Ban> {
        self.0.find(self.0.key(subject, scope), now)
    }

    /// Bans that the book holds at most.
    pub fn most(&self) -> usize {
        self.0.most_per_shard.saturating_mul(SHARDS)
    }

    /// All bans, those that end last first.
    pub fn list(&self, now: u64) -> Vec<Ban> {
        let shards = (0..SHARDS).map(|at| self.0.lock(at));
        let mut bans: Vec<Ban> = shards
            .flat_map(|shard| shard.values().filter(|ban| ban.until > now).cloned().collect::<Vec<_>>())
            .collect();
        bans.sort_by(|one, other| (other.until, &one.subject).cmp(&(one.until, &other.subject)));
        bans
    }

    /// How many there are.
    pub fn len(&self, now: u64) -> usize {
        (0..SHARDS).map(|at| self.0.lock(at).values().filter(|ban| ban.until > now).count()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self, now: u64) -> bool {
        self.len(now) == 0
    }
}

impl Rules {
    fn new(settings: Settings) -> Self {
        let meter = Rate::new(settings.points, settings.within, settings.points, settings.max);
        Self { settings, meter }
    }

    fn spare(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.settings.never.iter().any(|network| network.contains(&address))
    }

    /// Nanoseconds of a ban after so many before it.
    fn length(&self, before: u32) -> u64 {
        let growth = u64::from(self.settings.growth).checked_pow(before).unwrap_or(u64::MAX);
        nanos(self.settings.first).saturating_mul(growth).min(nanos(self.settings.longest))
    }
}

impl Book {
    fn key(&self, subject: &Subject, scope: Scope) -> Key {
        match subject {
            Subject::Address(address) => self.key_of_address(*address, scope),
            Subject::Fingerprint(fingerprint) => self.key_of_fingerprint(fingerprint, scope),
        }
    }

    fn key_of_address(&self, address: IpAddr, scope: Scope) -> Key {
        match address {
            IpAddr::V4(address) => self.keys.key(&[&[scope as u8], &address.octets()]),
            IpAddr::V6(address) => self.keys.key(&[&[scope as u8], &address.octets()]),
        }
    }

    fn key_of_fingerprint(&self, fingerprint: &str, scope: Scope) -> Key {
        self.keys.key(&[&[scope as u8], b"fingerprint", fingerprint.as_bytes()])
    }

    fn find(&self, key: Key, now: u64) -> Option<Ban> {
        if self.counter(key)?.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.lock(shard_of(key)).get(&key).filter(|ban| ban.until > now).cloned()
    }

    /// Writes the ban that `fresh` makes of the number of those before it, and of the one that lasts, if any does.
    fn write(&self, key: Key, now: u64, fresh: impl FnOnce(u32, Option<&Ban>) -> Option<Ban>) -> Option<Ban> {
        let remembered = nanos(self.rules.load().settings.remembered);
        let mut shard = self.lock(shard_of(key));
        let (before, banned) = match shard.get(&key) {
            Some(known) if known.until > now => (known.before, Some(known)),
            Some(known) if known.until.saturating_add(remembered) > now => (known.before.saturating_add(1), None),
            _ => (0, None),
        };
        let ban = fresh(before, banned)?;
        if shard.insert(key, ban.clone()).is_none() {
            self.count(key, 1);
        }
        if shard.len() > self.most_per_shard {
            let first = shard.iter().filter(|(known, _)| **known != key).min_by_key(|(_, ban)| ban.until);
            if let Some(first) = first.map(|(key, _)| *key) {
                shard.remove(&first);
                self.count(first, -1);
            }
        }
        Some(ban)
    }

    fn take(&self, key: Key) -> Option<Ban> {
        let taken = self.lock(shard_of(key)).remove(&key);
        if taken.is_some() {
            self.count(key, -1);
        }
        taken
    }

    fn count(&self, key: Key, by: i32) {
        self.written.fetch_add(by.cast_unsigned(), Ordering::AcqRel);
        if let Some(counter) = self.counter(key) {
            counter.fetch_add(by.cast_unsigned(), Ordering::AcqRel);
        }
    }

    fn counter(&self, key: Key) -> Option<&AtomicU32> {
        let scaled = u128::from(key.0) * self.filter.len() as u128;
        self.filter.get(usize::try_from(scaled >> 64).ok()?)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, HashMap<Key, Ban>> {
        // `shard` is always in range; the first one stands in so that no panic is possible.
        let [first, ..] = &self.shards;
        self.shards.get(shard).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shard_of(key: Key) -> usize {
    // The remainder is below the number of shards.
    usize::try_from(key.0 % SHARDS as u64).unwrap_or(0)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::SECOND;
    use super::*;

    const MINUTE: u64 = 60 * SECOND;

    fn settings(most: usize) -> Settings {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Settings {
            max: most,
            points: NonZeroU32::new(10).unwrap(),
            within: minutes(10),
            first: minutes(1),
            growth: 4,
            longest: minutes(60),
            remembered: minutes(24 * 60),
            never: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8:7::7/128".parse().unwrap()],
        }
    }

    fn bans(most: usize) -> Bans {
        Bans::new(settings(most), 64)
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn offence(points: u32) -> Offence {
        Offence { points: NonZeroU32::new(points).unwrap(), cause: "scan" }
    }

    #[test]
    fn who_collects_too_many_points_is_banned_for_a_while() {
        let bans = bans(100);
        let client = at("10.0.0.1");

        assert_eq!(bans.offend(client, Scope::Everything, offence(10), 0), None);
        let ban = bans.offend(client, Scope::Everything, offence(1), 0).unwrap();

        assert_eq!((ban.since, ban.until, ban.before), (0, MINUTE, 0));
        assert!(bans.find(at("10.0.0.1"), None, Scope::Everything, MINUTE - 1).is_some());
        assert!(bans.find(at("10.0.0.2"), None, Scope::Everything, 0).is_none());
        assert!(bans.find(at("10.0.0.1"), None, Scope::Everything, MINUTE).is_none());
    }

    #[test]
    fn points_are_forgiven_with_time() {
        let bans = bans(100);
        let client = at("10.0.0.1");

        let banned =
            (0..60).any(|minute| bans.offend(client, Scope::Everything, offence(1), minute * MINUTE).is_some());

        assert!(!banned, "one a minute is what ten in ten minutes allow");
    }

    #[test]
    fn bans_of_one_client_grow_up_to_the_longest() {
        let bans = bans(100);
        let client = at("10.0.0.1");
        let mut now = 0;
        let mut lengths = Vec::new();

        for _ in 0..5 {
            let ban = bans.offend(client, Scope::Everything, offence(11), now).unwrap();
            lengths.push((ban.until - ban.since) / MINUTE);
            now = ban.until;
        }

        assert_eq!(lengths, [1, 4, 16, 60, 60]);
        let much_later = now + 25 * 60 * MINUTE;
        assert_eq!(bans.offend(client, Scope::Everything, offence(11), much_later).unwrap().before, 0);
    }

    #[test]
    fn ban_from_logging_in_is_none_from_the_rest() {
        let bans = bans(100);
        bans.offend(at("10.0.0.1"), Scope::Login, offence(11), 0).unwrap();
        bans.offend(at("10.0.0.2"), Scope::Everything, offence(11), 0).unwrap();

        assert!(bans.find(at("10.0.0.1"), None, Scope::Everything, 1).is_none());
        assert!(bans.find(at("10.0.0.1"), None, Scope::Login, 1).is_some());
        assert!(bans.find(at("10.0.0.2"), None, Scope::Login, 1).is_some());
    }

    #[test]
    fn fingerprint_is_banned_wherever_it_comes_from() {
        let bans = bans(100);
        let subject = Subject::Fingerprint("t13d1516h2_8daaf6152771_02713d6af862".into());
        bans.ban(&subject, Scope::Everything, Duration::from_secs(60), "by hand".into(), 0).unwrap();

        assert!(
            bans.find(at("10.9.9.9"), Some("t13d1516h2_8daaf6152771_02713d6af862"), Scope::Everything, 1).is_some()
        );
        assert!(bans.find(at("10.9.9.9"), Some("t13d"), Scope::Everything, 1).is_none());
        assert!(bans.lift(&subject, Scope::Everything, 1));
        assert!(!bans.lift(&subject, Scope::Everything, 1));
        assert!(bans.is_empty(1));
    }

    #[test]
    fn household_is_banned_as_one_and_spared_networks_never() {
        let bans = bans(100);
        bans.ban(&Subject::Address(at("2001:db8::1")), Scope::Everything, Duration::from_secs(60), "x".into(), 0)
            .unwrap();

        assert!(bans.find(at("2001:db8::2"), None, Scope::Everything, 1).is_some());
        let spared = at("192.0.2.7");
        assert_eq!(bans.offend(spared, Scope::Everything, offence(100), 0), None);
        assert_eq!(
            bans.ban(&Subject::Address(spared), Scope::Everything, Duration::from_secs(60), "x".into(), 0),
            None
        );
    }

    #[test]
    fn address_that_is_never_banned_suffers_for_no_neighbour_and_no_neighbour_for_it() {
        let bans = bans(100);
        let (spared, neighbour) = (at("2001:db8:7::7"), at("2001:db8:7::8"));

        assert_eq!(bans.offend(spared, Scope::Everything, offence(100), 0), None);
        bans.offend(neighbour, Scope::Everything, offence(100), 0).unwrap();

        assert!(bans.find(neighbour, None, Scope::Everything, 1).is_some());
        assert!(bans.find(spared, None, Scope::Everything, 1).is_none());
        assert!(bans.find(spared, None, Scope::Login, 1).is_none());
    }

    #[test]
    fn ban_that_stands_keeps_nobody_out_who_is_never_banned_from_now_on() {
        let bans = bans(100);
        bans.offend(at("198.51.100.1"), Scope::Everything, offence(100), 0).unwrap();
        let fingerprint = Subject::Fingerprint("t13d".into());
        bans.ban(&fingerprint, Scope::Everything, Duration::from_secs(60), "by hand".into(), 0).unwrap();

        bans.renew(Settings { never: vec!["198.51.100.0/24".parse().unwrap()], ..settings(100) });

        assert!(bans.find(at("198.51.100.1"), None, Scope::Everything, 1).is_none());
        assert!(bans.find(at("::ffff:198.51.100.1"), Some("t13d"), Scope::Everything, 1).is_none());
        assert!(bans.find(at("192.0.2.1"), Some("t13d"), Scope::Everything, 1).is_some());
    }

    #[test]
    fn full_book_keeps_the_longest_bans() {
        let bans = bans(4 * SHARDS);
        let host = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 1..5_000_u32 {
            let long = Duration::from_secs(if number % 100 == 0 { 100_000 } else { 60 });
            bans.ban(&Subject::Address(host(number)), Scope::Everything, long, "x".into(), 0);
        }

        let listed = bans.list(1);

        assert!(listed.len() <= 4 * SHARDS);
        let long = listed.iter().filter(|ban| ban.until > 100 * MINUTE).count();
        assert!(long > 40, "{long} of 49, {} in all", listed.len());
        for ban in &listed {
            let Subject::Address(address) = ban.subject else { panic!("an address") };
            assert!(bans.find(address, None, Scope::Everything, 1).is_some());
        }
    }
}
