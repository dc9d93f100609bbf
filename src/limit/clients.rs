//! How many of something each client has: connections, streams, tunnels.
//!
//! Part of `limit`. Exact over all workers. A client is an address, or an IPv6 prefix, since a household or a phone has a whole
//! one. An entry exists only while its client has something open, so that the table is bounded by what is open, and
//! by `max_tracked` besides; beyond that new clients share one count, which keeps the bound and throttles a flood
//! rather than the clients that were there before. The table is cut into shards, each behind a lock that is held for
//! one look-up: when a connection or a tunnel opens and when it closes. Streams come and go too often for that: a
//! connection has a [`Share`] of them, taken in steps that double.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shards of a table.
const SHARDS: usize = 64;

/// Counts per client. Cloning shares.
#[derive(Clone, Debug)]
pub struct Clients(Arc<Table>);

#[derive(Debug)]
struct Table {
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    hasher: RandomState,
    most_per_shard: usize,
    max_tracked: usize,
    ipv6_prefix: u8,
}

/// Some of what a client may have, mostly one; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    clients: Clients,
    key: IpAddr,
    shard: usize,
    count: usize,
}

/// What one connection has of what its client may have over all its connections.
#[derive(Debug)]
pub struct Share {
    clients: Clients,
    address: IpAddr,
    held: Option<Permit>,
}

/// The client that all share who came after the table was full.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

impl Clients {
    /// Counts for up to `max_tracked` clients, IPv6 addresses told apart by their first `ipv6_prefix` bits.
    pub fn new(max_tracked: usize, ipv6_prefix: u8) -> Self {
        Self(Arc::new(Table {
            shards: std::array::from_fn(|_| Mutex::default()),
            // Keyed at random: nobody can choose addresses that meet in one shard.
            hasher: RandomState::new(),
            most_per_shard: max_tracked.div_ceil(SHARDS),
            max_tracked,
            ipv6_prefix: ipv6_prefix.min(128),
        }))
    }

    /// A table of the same bounds with counts of its own.
    pub fn separate(&self) -> Self {
        Self::new(self.0.max_tracked, self.0.ipv6_prefix)
    }

    /// One more for the client at `address`, unless it has `most`.
    pub fn admit(&self, address: IpAddr, most: usize) -> Option<Permit> {
        let mut key = self.key(address);
        let shard = self.shard_of(&key);
        let mut counts = self.lock(shard);
        if !counts.contains_key(&key) && counts.len() >= self.0.most_per_shard {
            key = OTHERS;
        }
        let count = counts.entry(key).or_default();
        if *count >= most {
            if *count == 0 {
                counts.remove(&key);
            }
            return None;
        }
        *count = count.saturating_add(1);
        drop(counts);
        Some(Permit { clients: self.clone(), key, shard, count: 1 })
    }

    /// A share, as yet of nothing, for a connection of the client at `address`.
    pub fn share(&self, address: IpAddr) -> Share {
        Share { clients: self.clone(), address, held: None }
    }

    /// Clients that have something.
    pub fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.lock(shard).len()).sum()
    }

    /// Whether no client has anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What stands for the client at `address`: itself, or its IPv6 prefix.
    pub fn key(&self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.0.ipv6_prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }

    fn shard_of(&self, key: &IpAddr) -> usize {
        // The remainder is below the number of shards.
        usize::try_from(self.0.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // `shard` is always in range; the first one stands in so that no panic is possible.
        let [first, ..] = &self.0.shards;
        self.0.shards.get(shard).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// `more` of them, unless the client then had more than `most`.
    fn grow(&mut self, more: usize, most: usize) -> bool {
        let mut counts = self.clients.lock(self.shard);
        let Some(count) = counts.get_mut(&self.key).filter(|count| count.saturating_add(more) <= most) else {
            return false;
        };
        *count = count.saturating_add(more);
        self.count = self.count.saturating_add(more);
        true
    }

    /// Gives back all but `left`.
    fn shrink(&mut self, left: usize) {
        let back = self.count.saturating_sub(left);
        self.count = left.min(self.count);
        let mut counts = self.clients.lock(self.shard);
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(back);
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl Share {
    /// Whether the connection may have `wanted` at once, `most` being what its client may have in all. What it takes for
    /// that it keeps, twice as much each time as far as there is as much.
    pub fn covers(&mut self, wanted: usize, most: usize) -> bool {
        let Some(held) = &mut self.held else {
            self.held = self.clients.admit(self.address, most);
            return self.held.is_some() && (wanted <= 1 || self.covers(wanted, most));
        };
        let Some(more) = wanted.checked_sub(held.count).filter(|more| *more > 0) else { return true };
        held.grow(more.max(held.count), most) || held.grow(more, most)
    }

    /// Nothing is open: gives back all but one, for what comes next.
    pub fn rest(&mut self) {
        if let Some(held) = self.held.as_mut().filter(|held| held.count > 1) {
            held.shrink(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn client_has_no_more_than_its_share() {
        let clients = Clients::new(1000, 64);

        let first = clients.admit(at("10.0.0.1"), 2);
        let second = clients.admit(at("::ffff:10.0.0.1"), 2);

        assert!(first.is_some() && second.is_some());
        assert!(clients.admit(at("10.0.0.1"), 2).is_none(), "an address mapped into IPv6 is the same client");
        assert!(clients.admit(at("10.0.0.2"), 2).is_some());
        drop(first);
        assert!(clients.admit(at("10.0.0.1"), 2).is_some());
    }

    #[test]
    fn household_is_one_client() {
        let clients = Clients::new(1000, 64);
        let _held = clients.admit(at("2001:db8::1"), 1);

        assert!(clients.admit(at("2001:db8::2"), 1).is_none());
        assert!(clients.admit(at("2001:db8:0:1::2"), 1).is_some());
    }

    #[test]
    fn table_is_empty_when_everybody_has_left() {
        let clients = Clients::new(1000, 64);
        let permits: Vec<_> = (0..100_u8).map(|last| clients.admit(IpAddr::from([10, 0, 0, last]), 5)).collect();
        assert_eq!(clients.len(), 100);

        drop(permits);

        assert!(clients.is_empty());
    }

    #[test]
    fn connections_of_a_client_share_what_it_may_have() {
        let clients = Clients::new(1000, 64);
        let (mut one, mut two) = (clients.share(at("10.0.0.1")), clients.share(at("10.0.0.1")));

        assert!((1..=6).all(|wanted| one.covers(wanted, 10)), "takes 8");
        assert!(two.covers(2, 10));
        assert!(!two.covers(3, 10), "all ten are taken");
        assert!(one.covers(8, 10) && !one.covers(9, 10));
        one.rest();
        assert!((3..=9).all(|wanted| two.covers(wanted, 10)) && !two.covers(10, 10));

        drop((one, two));
        assert!(clients.is_empty());
    }

    #[test]
    fn lone_connection_gets_exactly_what_its_client_may_have() {
        let clients = Clients::new(1000, 64);
        let mut share = clients.share(at("10.0.0.1"));

        assert_eq!((1..=300).filter(|wanted| share.covers(*wanted, 100)).count(), 100);
    }

    #[test]
    fn flood_of_addresses_shares_what_is_left() {
        let clients = Clients::new(SHARDS, 64);
        let permits: Vec<_> =
            (0..10_000_u32).map(|host| clients.admit(IpAddr::from((0x0A00_0000 + host).to_be_bytes()), 3)).collect();

        assert!(clients.len() <= 2 * SHARDS);
        assert!(permits.iter().filter(|permit| permit.is_some()).count() <= 4 * SHARDS);
    }
}
