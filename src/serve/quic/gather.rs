//! Datagrams of one driver's turn that leave in one system call.
//!
//! quinn hands over ten of them at a time, for each of which the kernel walks its whole way down; it takes 64 just as well
//! (GSO). What a connection's driver sends in a turn is kept here and leaves at the end of the turn, in order.

use std::net::{IpAddr, SocketAddr};

use quinn::udp::{EcnCodepoint, Transmit};

/// Bytes that leave together at most: what fits one datagram of UDP, which is what the kernel sees until the last moment.
const MOST: usize = 65_000;

/// What one driver has said in its turn and has not left. One for each socket.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Whether a driver has its turn; else what is said leaves at once.
    open: bool,
    /// Datagrams that were said in this turn, those that have left included.
    said: usize,
    to: Option<To>,
    content: Vec<u8>,
}

/// What all datagrams of one call share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct To {
    address: SocketAddr,
    from: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    /// Bytes of each; the last one may be shorter.
    each: usize,
}

impl Gathering {
    /// Begins a driver's turn.
    pub(super) const fn begin(&mut self) {
        (self.open, self.said) = (true, 0);
    }

    /// Ends it; how many datagrams it had.
    pub(super) const fn end(&mut self) -> usize {
        self.open = false;
        self.said
    }

    /// Whether `transmit` was kept. Else it has to wait until what is kept has left.
    pub(super) fn try_keep(&mut self, transmit: &Transmit<'_>, most: usize) -> bool {
        // Without a size of its segments it is one datagram, or the owner wants no offload.
        let Some(each) = transmit.segment_size.filter(|each| self.open && *each > 0) else { return false };
        let to = To { address: transmit.destination, from: transmit.src_ip, ecn: transmit.ecn, each };
        let length = self.content.len() + transmit.contents.len();
        let fits = match self.to {
            None => true,
            Some(kept) => {
                kept == to && self.content.len().is_multiple_of(each) && length <= MOST && length.div_ceil(each) <= most
            }
        };
        if fits {
            if self.content.capacity() == 0 {
                self.content.reserve_exact(MOST);
            }
            self.to = Some(to);
            self.content.extend_from_slice(transmit.contents);
            self.said += transmit.contents.len().div_ceil(each);
        }
        fits
    }

    /// What is kept, as one.
    pub(super) fn kept(&self) -> Option<Transmit<'_>> {
        let to = self.to?;
        Some(Transmit {
            destination: to.address,
            ecn: to.ecn,
            contents: &self.content,
            segment_size: (self.content.len() > to.each).then_some(to.each),
            src_ip: to.from,
        })
    }

    /// Notes that it has left.
    pub(super) fn clear(&mut self) {
        self.to = None;
        self.content.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transmit(to: u16, contents: &[u8], segment_size: Option<usize>) -> Transmit<'_> {
        let destination = SocketAddr::from(([127, 0, 0, 1], to));
        Transmit { destination, ecn: None, contents, segment_size, src_ip: None }
    }

    fn open() -> Gathering {
        let mut gathering = Gathering::default();
        gathering.begin();
        gathering
    }

    #[test]
    fn what_one_driver_says_leaves_as_one() {
        let mut gathering = open();

        assert!(gathering.try_keep(&transmit(1, b"aabb", Some(2)), 64));
        assert!(gathering.try_keep(&transmit(1, b"ccd", Some(2)), 64));

        let kept = gathering.kept().unwrap();
        assert_eq!((kept.contents, kept.segment_size), (&b"aabbccd"[..], Some(2)));
        gathering.clear();
        assert!(gathering.kept().is_none());
        assert_eq!(gathering.end(), 4, "also those that have left");
    }

    #[test]
    fn what_does_not_belong_together_is_not_kept() {
        let ecn = Transmit { ecn: Some(EcnCodepoint::Ce), ..transmit(1, b"cc", Some(2)) };
        for (other, most, why) in [
            (transmit(2, b"cc", Some(2)), 64, "another client"),
            (transmit(1, b"cccc", Some(4)), 64, "other sizes"),
            (transmit(1, b"cc", None), 64, "no offload"),
            (transmit(1, b"cccc", Some(2)), 3, "more than the kernel takes"),
            (ecn, 64, "another mark"),
        ] {
            let mut gathering = open();
            assert!(gathering.try_keep(&transmit(1, b"aabb", Some(2)), 64));
            assert!(!gathering.try_keep(&other, most), "{why}");
        }
        let mut gathering = open();
        assert!(gathering.try_keep(&transmit(1, b"aab", Some(2)), 64));
        assert!(!gathering.try_keep(&transmit(1, b"cc", Some(2)), 64), "the last one is shorter");
        gathering.clear();
        let much = vec![0; MOST - 1000];
        assert!(gathering.try_keep(&transmit(1, &much, Some(1000)), 64));
        assert!(!gathering.try_keep(&transmit(1, &much[..2000], Some(1000)), 1000), "more than fits a datagram");
    }

    #[test]
    fn nothing_is_kept_outside_of_turns() {
        let mut gathering = open();
        assert_eq!(gathering.end(), 0);

        assert!(!gathering.try_keep(&transmit(1, b"aabb", Some(2)), 64));
    }
}
