//! Who or what something is counted for: 64 bits under a secret.
//!
//! Part of `limit`. The table keeps no address, no cookie and no name, only their keyed hashes: nobody can choose
//! values that meet in one set of it, and nobody who reads a shared store learns a user's name.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use siphasher::sip::SipHasher13;

/// Something that is counted for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(pub u64);

/// Makes keys. Replicas that share a secret make the same ones, whichever compiler built them and on whichever machine.
#[derive(Clone)]
pub struct Keyring(SipHasher13);

impl Keyring {
    /// Keys under the fleet's `secret`; without one under a random secret, different in each process.
    pub fn new(secret: Option<&[u8]>) -> Self {
        // SipHash of a secret prefix: its state is as secret as what went in first, and is copied for each key.
        let mut primed = SipHasher13::new();
        match secret {
            Some(secret) => {
                primed.write(b"sluicegate limits 1");
                primed.write(secret);
                primed.write(&(secret.len() as u64).to_le_bytes());
            }
            None => {
                let random = RandomState::new();
                (0..4_u64).for_each(|at| primed.write_u64(random.hash_one(at)));
            }
        }
        Self(primed)
    }

    /// The key of `parts`.
    pub fn key(&self, parts: &[&[u8]]) -> Key {
        let mut making = self.begin();
        parts.iter().for_each(|part| making.add(part));
        making.end()
    }

    /// A key whose parts come one by one.
    pub fn begin(&self) -> Making {
        Making(self.0)
    }
}

/// A key to be. Parts are told apart by their lengths.
pub struct Making(SipHasher13);

impl Making {
    /// One more part.
    pub fn add(&mut self, part: &[u8]) {
        self.0.write(&(part.len() as u64).to_le_bytes());
        self.0.write(part);
    }

    /// One more part, an address.
    pub fn add_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.add(&address.octets()),
            IpAddr::V6(address) => self.add(&address.octets()),
        }
    }

    /// The key.
    pub fn end(self) -> Key {
        Key(self.0.finish())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

/// The first bits of an address: `v4` of an IPv4 address (also one mapped into IPv6), `v6` of an IPv6 address.
pub fn prefix_of(address: IpAddr, v4: u8, v6: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(v4.into())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(v6.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_with_one_secret_agree_and_others_do_not() {
        let parts: &[&[u8]] = &[b"address", b"\x0a\x00\x00\x01"];
        let of = |secret: Option<&[u8]>| Keyring::new(secret).key(parts);

        assert_eq!(of(Some(b"one")), of(Some(b"one")));
        assert_ne!(of(Some(b"one")), of(Some(b"other")));
        assert_ne!(of(None), of(None));
    }

    #[test]
    fn keys_are_the_same_in_every_build() {
        let key = Keyring::new(Some(b"fleet")).key(&[b"address", b"\x0a\x00\x00\x01"]);

        assert_eq!(key, Key(531_584_486_713_447_193), "proxies of different releases would not count together");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let ring = Keyring::new(None);

        assert_ne!(ring.key(&[b"ab", b"c"]), ring.key(&[b"a", b"bc"]));
        assert_ne!(ring.key(&[b""]), ring.key(&[]));
    }

    #[test]
    fn prefixes_make_neighbours_one() {
        let of = |text: &str| prefix_of(text.parse().unwrap(), 24, 56);

        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.200"));
        assert_ne!(of("10.0.0.1"), of("10.0.1.1"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:ff::1"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:1:1::1"));
    }
}
