//! How much one client may hold open.
//!
//! Floor 2, pure. In: a client's address and a cap. Out: a [`Permit`], or `None` when the client is at its cap. Called
//! by `net` for connections and by `pipeline` for tunnels, with one table each, shared by all workers, so that caps are
//! exact. Deliberately absent: rates, which need a clock.
//!
//! # Bound
//! An address is in the table only while it holds something, so the table never has more entries than there are open
//! connections (or tunnels), and never more than `max_tracked`. At that bound an address not yet in the table is
//! admitted without being counted: refusing would let whoever opens many addresses lock out everybody else, while the
//! caps over all clients still hold. [`Clients::uncounted`] tells how often it happened.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts of the table with a lock each; a lock is held for one look-up and never across an await.
const SHARDS: usize = 64;

/// Counts what each client holds. Cloning shares.
#[derive(Clone, Debug)]
pub struct Clients(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    /// Seeded at random, so that nobody can aim addresses at one shard.
    hasher: RandomState,
    tracked: AtomicUsize,
    max_tracked: usize,
    ipv6_mask: u128,
    uncounted: AtomicU64,
}

/// Something that a client holds. Dropping it gives it back.
#[derive(Debug)]
#[must_use]
pub struct Permit(Option<(Arc<Shared>, IpAddr)>);

impl Clients {
    /// An empty table for at most `max_tracked` addresses at once. IPv6 clients are told apart by their first
    /// `ipv6_prefix` bits (1 to 128; more counts as 128).
    pub fn new(max_tracked: usize, ipv6_prefix: u8) -> Self {
        let host_bits = 128_u32.saturating_sub(ipv6_prefix.into());
        Self(Arc::new(Shared {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            tracked: AtomicUsize::new(0),
            max_tracked,
            ipv6_mask: u128::MAX.checked_shl(host_bits).unwrap_or_default(),
            uncounted: AtomicU64::new(0),
        }))
    }

    /// One more for `client`, unless it holds `most` already.
    pub fn admit(&self, client: IpAddr, most: usize) -> Option<Permit> {
        let shared = &self.0;
        let key = shared.key(client);
        let mut shard = shared.shard(&key)?;
        if let Some(held) = shard.get_mut(&key) {
            if *held >= most {
                return None;
            }
            *held = held.saturating_add(1);
        } else if most == 0 {
            return None;
        } else if shared.reserve() {
            shard.insert(key, 1);
        } else {
            shared.uncounted.fetch_add(1, Ordering::Relaxed);
            return Some(Permit(None));
        }
        drop(shard);
        Some(Permit(Some((Arc::clone(shared), key))))
    }

    /// What `client` holds.
    pub fn held(&self, client: IpAddr) -> usize {
        let key = self.0.key(client);
        self.0.shard(&key).and_then(|shard| shard.get(&key).copied()).unwrap_or_default()
    }

    /// Addresses in the table.
    pub fn tracked(&self) -> usize {
        self.0.tracked.load(Ordering::Relaxed)
    }

    /// Permits given without a count since the start, because the table was full.
    pub fn uncounted(&self) -> u64 {
        self.0.uncounted.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((shared, key)) = self.0.take() {
            shared.give_back(&key);
        }
    }
}

impl Shared {
    fn key(&self, client: IpAddr) -> IpAddr {
        match client.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & self.ipv6_mask)),
        }
    }

    fn shard(&self, key: &IpAddr) -> Option<MutexGuard<'_, HashMap<IpAddr, usize>>> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).ok()?;
        Some(self.shards.get(index)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reserve(&self) -> bool {
        let one_more = |tracked: usize| (tracked < self.max_tracked).then(|| tracked.saturating_add(1));
        self.tracked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn give_back(&self, key: &IpAddr) {
        let Some(mut shard) = self.shard(key) else { return };
        let Some(held) = shard.get_mut(key) else { return };
        *held = held.saturating_sub(1);
        if *held == 0 {
            shard.remove(key);
            self.tracked.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn client_at_its_cap_is_refused_until_it_gives_back() {
        let clients = Clients::new(10, 64);
        let held: Vec<_> = (0..2).filter_map(|_| clients.admit(address("192.0.2.1"), 2)).collect();

        assert!(clients.admit(address("192.0.2.1"), 2).is_none());
        assert!(clients.admit(address("::ffff:192.0.2.1"), 2).is_none());
        assert!(clients.admit(address("192.0.2.2"), 2).is_some());
        drop(held);
        assert!(clients.admit(address("192.0.2.1"), 2).is_some());
        assert_eq!(clients.tracked(), 0);
    }

    #[test]
    fn ipv6_clients_are_told_apart_by_prefix() {
        let clients = Clients::new(10, 64);
        let _held = clients.admit(address("2001:db8::1"), 1);

        assert!(clients.admit(address("2001:db8::ffff:1"), 1).is_none());
        assert!(clients.admit(address("2001:db8:0:1::1"), 1).is_some());
        assert_eq!(Clients::new(1, 128).0.ipv6_mask, u128::MAX);
        assert_eq!(Clients::new(1, 0).0.ipv6_mask, 0);
    }

    #[test]
    fn full_table_admits_new_clients_uncounted_and_still_caps_known_ones() {
        let clients = Clients::new(1, 64);
        let known = clients.admit(address("192.0.2.1"), 1).unwrap();

        let unknown: Vec<_> = (0..5).filter_map(|_| clients.admit(address("192.0.2.2"), 1)).collect();

        assert_eq!((unknown.len(), clients.uncounted(), clients.tracked()), (5, 5, 1));
        assert!(clients.admit(address("192.0.2.1"), 1).is_none());
        drop((known, unknown));
        assert_eq!((clients.tracked(), clients.held(address("192.0.2.2"))), (0, 0));
    }

    #[test]
    fn cap_of_zero_admits_nobody() {
        assert!(Clients::new(1, 64).admit(address("192.0.2.1"), 0).is_none());
    }

    #[test]
    fn workers_together_never_pass_a_cap() {
        let clients = Clients::new(4, 64);

        let most = std::thread::scope(|scope| {
            let worker = || {
                let mut most = 0;
                for round in 0..3_000_usize {
                    let client = address(&format!("192.0.2.{}", round % 3));
                    let _held = (clients.admit(client, 3), clients.admit(client, 3));
                    most = most.max(clients.held(client));
                }
                most
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).max()
        });

        assert!(most.unwrap() <= 3);
        assert_eq!(clients.tracked(), 0);
    }

    proptest! {
        #[test]
        fn counts_follow_the_permits(steps in prop::collection::vec((0_u8..6, any::<bool>()), 0..200), max in 1_usize..8) {
            let clients = Clients::new(max, 64);
            let mut held: Vec<Vec<Permit>> = (0..6).map(|_| Vec::new()).collect();
            for (client, open) in steps {
                let permits = &mut held[usize::from(client)];
                if open {
                    permits.extend(clients.admit(IpAddr::from([192, 0, 2, client]), 3));
                } else {
                    permits.pop();
                }
                prop_assert!(clients.tracked() <= max);
                let counted = permits.iter().filter(|permit| permit.0.is_some()).count();
                prop_assert_eq!(clients.held(IpAddr::from([192, 0, 2, client])), counted);
                prop_assert!(counted <= 3);
            }
            held.clear();
            prop_assert_eq!(clients.tracked(), 0);
        }
    }
}
