//! A set of addresses, made of networks.
//!
//! Part of `waf`. Networks become ranges, sorted and merged, so that a look-up is one binary search whatever their
//! number: 17 comparisons for 100,000 of them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// A set of addresses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

/// A line of a file that is no network.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadLine {
    /// It is neither a network nor an address.
    #[error("line {0} is no network such as 10.0.0.0/8")]
    NoNetwork(usize),
    /// There are more lines than [`MAX_LINES`].
    #[error("more than 1,000,000 lines")]
    TooMany,
}

/// Lines of a file at most.
pub const MAX_LINES: usize = 1_000_000;

impl Networks {
    /// Everything that is in one of `networks`. IPv4 mapped into IPv6 is IPv4.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match (network.network().to_canonical(), network.broadcast().to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (first, last) => v6.push((wide(first), wide(last))),
            }
        }
        Self { v4: merged(v4, |last| last.checked_add(1)), v6: merged(v6, |last| last.checked_add(1)) }
    }

    /// Whether `address` is in the set.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => within(&self.v6, address.to_bits()),
        }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// First and last address of each range, those of IPv4 mapped into IPv6.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u128, u128)> {
        let mapped = |bits: u32| Ipv4Addr::from_bits(bits).to_ipv6_mapped().to_bits();
        let v4 = self.v4.iter().map(move |(first, last)| (mapped(*first), mapped(*last)));
        v4.chain(self.v6.iter().copied())
    }

    /// Ranges that are left after merging.
    pub fn len(&self) -> usize {
        self.v4.len().saturating_add(self.v6.len())
    }
}

/// The networks of a file: one a line, `#` before comments.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &str) -> Result<Vec<IpNet>, BadLine> {
    let mut networks = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if index >= MAX_LINES {
            return Err(BadLine::TooMany);
        }
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let network = line.parse::<IpNet>().or_else(|_| line.parse::<IpAddr>().map(IpNet::from));
        networks.push(network.map_err(|_| BadLine::NoNetwork(index.saturating_add(1)))?.trunc());
    }
    Ok(networks)
}

pub(super) const fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn network() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(bits, length)| (IpAddr::V4(Ipv4Addr::from_bits(bits)), length));
        let v6 = (any::<u128>(), 0..=128_u8).prop_map(|(bits, length)| (IpAddr::V6(Ipv6Addr::from_bits(bits)), length));
        prop_oneof![v4, v6].prop_map(|(address, length)| IpNet::new(address, length).unwrap().trunc())
    }

    proptest! {
        #[test]
        fn set_has_what_one_of_its_networks_has(
            networks in prop::collection::vec(network(), 0..20),
            v4 in any::<u32>(),
            v6 in any::<u128>(),
        ) {
            let set = Networks::new(networks.iter().copied());
            let edges = networks.iter().flat_map(|network| [network.network(), network.broadcast()]);
            let others = [IpAddr::V4(Ipv4Addr::from_bits(v4)), IpAddr::V6(Ipv6Addr::from_bits(v6))];

            for address in edges.chain(others) {
                let naive = networks.iter().any(|network| network.contains(&address.to_canonical()) || network.contains(&address));
                prop_assert_eq!(set.contains(address), naive, "{}", address);
            }
        }
    }

    #[test]
    fn neighbours_are_merged() {
        let set = Networks::new(parse("10.0.0.0/9\n10.128.0.0/9 # the other half\n\n2001:db8::1").unwrap());

        assert_eq!(set.len(), 2);
        assert!(set.contains("10.255.255.255".parse().unwrap()));
        assert!(set.contains("::ffff:10.1.2.3".parse().unwrap()), "IPv4 mapped into IPv6 is IPv4");
        assert!(!set.contains("11.0.0.0".parse().unwrap()));
    }

    #[test]
    fn line_that_is_no_network_is_named() {
        assert_eq!(parse("10.0.0.0/8\n10.0.0.0/33\n"), Err(BadLine::NoNetwork(2)));
    }
}
