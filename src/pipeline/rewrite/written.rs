//! The addresses that a worker has written lately: the same clients come over and over.

use std::cell::RefCell;
use std::net::IpAddr;

use crate::head::HeaderValue;
use crate::headers::address_value;

thread_local! {
    static WRITTEN: RefCell<[Option<(IpAddr, HeaderValue)>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// Addresses that are remembered, each at the place that its bits give it.
const PLACES: usize = 64;

/// `address` as a field value.
pub(super) fn address(address: IpAddr) -> HeaderValue {
    WRITTEN.with_borrow_mut(|written| match written.get_mut(place(address)) {
        Some(Some((known, value))) if *known == address => value.clone(),
        Some(place) => place.insert((address, address_value(address))).1.clone(),
        None => address_value(address),
    })
}

fn place(address: IpAddr) -> usize {
    let bits = match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let [upper, lower] = [address.to_bits() >> 64, address.to_bits()].map(|bits| bits & u128::from(u64::MAX));
            u64::try_from(upper ^ lower).unwrap_or_default()
        }
    };
    usize::try_from(bits.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_written_as_itself_however_many_there_are() {
        for _ in 0..2 {
            for number in 0..1_000_u32 {
                let v4 = IpAddr::from(number.wrapping_mul(77_773).to_be_bytes());
                let v6 = IpAddr::from(((u128::from(number) << 64) | 1).to_be_bytes());

                assert_eq!(address(v4), v4.to_string());
                assert_eq!(address(v6), v6.to_string());
            }
        }
    }
}
