//! What clients do over several requests, as far as it gives a robot away.
//!
//! Counted on meters of fixed size that no request waits for, and brought to the book of bans as offences. Not counted:
//! who is exempt, and addresses that many may share: trusted proxies, and private ones unless the configuration says so.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::config::Shield;
use crate::forwarded::is_trusted;
use crate::limit::{Decision, Key, Keyring, Offence, Rate, Scope, prefix_of};
use crate::message::{Connection, Sign};
use crate::snapshot::Snapshot;
use crate::telemetry::events;
use crate::waf::Check;

use super::super::record::Story;
use super::super::{Parts, now_ns};

/// What the shield remembers from one request to the next, over all workers. Cloning shares.
#[derive(Clone, Debug)]
pub struct Sentry {
    /// Requests that are held back.
    pub(super) tarpits: Arc<AtomicUsize>,
    meters: Arc<Meters>,
}

#[derive(Debug)]
struct Meters {
    keys: Keyring,
    ipv6_prefix: u8,
    /// Answers 404, each weighed against [`MISS`] answers of other kinds.
    misses: Rate,
    /// Pages without anything that belongs to a page.
    pages: Rate,
    /// Streams reset before they were answered, in shares of what a client may.
    resets: Rate,
}

/// What a miss weighs; any other answer takes one of it back, so that one in ten is nobody's concern.
const MISS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// All that a client may reset in a minute; a listener says in how many parts.
const RESETS: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);
const RESETS_WITHIN: Duration = Duration::from_secs(60);

/// What the shield wants to know of a request's end.
#[derive(Clone, Copy, Debug)]
pub(in crate::pipeline) struct Judged {
    /// Whether a person would see the answer.
    pub page: bool,
    /// Whether it is a file that pages are made of. One that is gone belongs to an older release, not to a robot.
    pub is_part: bool,
}

impl Sentry {
    /// Meters for as many clients as configured.
    pub fn new(shield: &Shield, ipv6_prefix: u8) -> Self {
        // What is let pass in a time may also come at once.
        let meter = |(most, within)| Rate::new(most, within, most, shield.max_tracked);
        let (misses, within) = shield.misses;
        let meters = Meters {
            keys: Keyring::new(None),
            ipv6_prefix,
            misses: meter((misses.saturating_mul(MISS), within)),
            pages: meter(shield.pages),
            resets: meter((RESETS, RESETS_WITHIN)),
        };
        Self { tarpits: Arc::default(), meters: Arc::new(meters) }
    }
}

impl Sentry {
    /// The meters, each with its name, for a look now and then.
    pub fn meters(&self) -> [(&'static str, &Rate); 3] {
        [("misses", &self.meters.misses), ("pages", &self.meters.pages), ("resets", &self.meters.resets)]
    }

    /// Requests that are held back.
    pub fn held(&self) -> usize {
        self.tarpits.load(Relaxed)
    }
}

impl Meters {
    fn key(&self, client: IpAddr) -> Key {
        match prefix_of(client, 32, self.ipv6_prefix) {
            IpAddr::V4(address) => self.keys.key(&[&address.octets()]),
            IpAddr::V6(address) => self.keys.key(&[&address.octets()]),
        }
    }
}

impl Parts {
    /// A client has done what a check finds: points that add up to a ban.
    pub(super) fn offence(&self, check: Check, client: IpAddr, snapshot: &Snapshot) {
        let Some(points) = NonZeroU32::new(check.points()).filter(|_| is_one_client(client, snapshot)) else { return };
        self.offend(client, Scope::Everything, Offence { points, cause: check.as_str() });
    }

    /// Learns from the answer to a request that was let through.
    pub(in crate::pipeline) fn learn(&self, status: u16, snapshot: &Snapshot, story: &mut Story) {
        let Some(judged) = story.judged else { return };
        let client = story.record().client.ip();
        if !is_one_client(client, snapshot) {
            return;
        }
        let meters = &self.sentry.meters;
        let (key, now) = (meters.key(client), now_ns());
        let refused = |decision| matches!(decision, Decision::Refused(_));
        let is_miss = status == 404 && !judged.is_part;
        if !is_miss {
            meters.misses.give_back(key);
        } else if refused(meters.misses.check_many(key, MISS, now)) {
            self.noticed(Check::Misses, snapshot, story);
        }
        if !judged.page {
            meters.pages.give_back(key);
            meters.pages.give_back(key);
        } else if status == 200 && refused(meters.pages.check(key, now)) {
            self.noticed(Check::Pages, snapshot, story);
        }
    }

    /// The client of a connection has shown a sign of a flood.
    pub(in crate::pipeline) fn flooded(&self, connection: &Connection, sign: Sign) {
        let snapshot = self.live.load();
        let client = connection.client();
        if is_spared(client, &snapshot) {
            return;
        }
        let check = match sign {
            Sign::Resets => Check::RapidReset,
            Sign::Malformed | Sign::Idle => Check::Flood,
        };
        if let Some((_, acts)) = snapshot.shield.note_check(check) {
            events::flood(connection.id, client, sign.as_str());
            if acts {
                self.offence(check, client, &snapshot);
            }
        }
    }

    /// The client of a connection has reset a stream before it was answered, and `answered` were since it last did.
    /// Whether its address has reset too many, on whichever connections: what one may do a thousand may not.
    pub(in crate::pipeline) fn abandoned(&self, connection: &Connection, answered: usize) -> bool {
        if is_spared(connection.client(), &self.live.load()) {
            return false;
        }
        let meters = &self.sentry.meters;
        let (key, now) = (meters.key(connection.client()), now_ns());
        let each = RESETS.get() / connection.listener.max_resets_per_client.max(1);
        let each = NonZeroU32::new(each).unwrap_or(NonZeroU32::MIN);
        meters.resets.give_back_many(key, u64::from(each.get()).saturating_mul(answered as u64));
        let too_many = matches!(meters.resets.check_many(key, each, now), Decision::Refused(_));
        if too_many {
            self.flooded(connection, Sign::Resets);
        }
        too_many
    }

    fn noticed(&self, check: Check, snapshot: &Snapshot, story: &mut Story) {
        let Some((verdict, acts)) = snapshot.shield.note_check(check) else { return };
        story.record().verdicts.push(verdict);
        if acts {
            self.offence(check, story.record().client.ip(), snapshot);
        }
    }
}

/// Whether what is done on the connections of a client counts for nothing.
fn is_spared(client: IpAddr, snapshot: &Snapshot) -> bool {
    // A proxy in front carries many clients.
    is_trusted(client, &snapshot.config.clients.trusted_proxies) || snapshot.shield.core.is_exempt(client)
}

/// Whether what is done from an address is one client's, so that it can add up to a ban: behind a trusted proxy, and
/// behind a private address unless the configuration says otherwise, there may be many.
pub(in crate::pipeline) fn is_one_client(client: IpAddr, snapshot: &Snapshot) -> bool {
    (snapshot.config.shield.ban_private || !is_private(client))
        && !is_trusted(client, &snapshot.config.clients.trusted_proxies)
}

/// Whether an address is nobody's in particular: private (RFC 1918, RFC 4193), loopback, link-local, or shared by the
/// customers of a provider (RFC 6598).
fn is_private(client: IpAddr) -> bool {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let is_shared = matches!(address.octets(), [100, 64..=127, ..]);
            address.is_loopback() || address.is_private() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_many_may_share_are_private() {
        for (private, public) in [
            ("10.0.0.1", "11.0.0.1"),
            ("100.64.0.1", "100.63.255.255"),
            ("100.127.255.255", "100.128.0.0"),
            ("172.31.0.1", "172.32.0.1"),
            ("169.254.1.1", "169.253.1.1"),
            ("::ffff:100.100.0.1", "::ffff:100.200.0.1"),
            ("fd00::1", "2001:db8::1"),
            ("fe80::1", "2600::1"),
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }
}
