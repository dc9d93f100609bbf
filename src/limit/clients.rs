//! How many of something each client has: connections, tunnels.
//!
//! Part of `limit`. Exact over all workers. A client is an address, or an IPv6 prefix, since a household or a phone has a whole
//! one. An entry exists only while its client has something open, so that the table is bounded by what is open, and
//! by `max_tracked` besides; beyond that new clients share one count, which keeps the bound and throttles a flood
//! rather than the clients that were there before. The table is cut into shards, each behind a lock that is held for
//! one look-up, once when a connection opens and once when it closes: never on the path of a request.

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

/// One of what a client may have; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    clients: Clients,
    key: IpAddr,
    shard: usize,
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
        Some(Permit { clients: self.clone(), key, shard })
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

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.clients.lock(self.shard);
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
            }
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
    fn flood_of_addresses_shares_what_is_left() {
        let clients = Clients::new(SHARDS, 64);
        let permits: Vec<_> =
            (0..10_000_u32).map(|host| clients.admit(IpAddr::from((0x0A00_0000 + host).to_be_bytes()), 3)).collect();

        assert!(clients.len() <= 2 * SHARDS);
        assert!(permits.iter().filter(|permit| permit.is_some()).count() <= 4 * SHARDS);
    }
}
