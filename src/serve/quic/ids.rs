//! Connection ids that tell which worker a connection is with.
//!
//! The kernel spreads datagrams by the client's address; when that changes (NAT rebinding, Wi-Fi to cellular), it may
//! choose another worker. An id is a nonce and, under a mask that only we can make of the nonce, the worker's number and
//! four zeros: an observer cannot link ids (RFC 9000 §5.1), and an id that a client made up is known as such. Of the nonces
//! only those are taken whose beginning leads the kernel to the worker ([`super::steering`]).

use std::sync::Arc;

use aws_lc_rs::aead::quic::HeaderProtectionKey;
use aws_lc_rs::rand;
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

use super::steering::{HASHED, Steering};

/// Bytes of a nonce, and of what the mask covers.
const NONCE: usize = 5;
const MASKED: usize = 5;

/// Bytes of an id.
pub(super) const LENGTH: usize = NONCE + MASKED;

/// Makes the ids of one worker.
pub(super) struct Ids {
    key: Arc<HeaderProtectionKey>,
    steering: Steering,
    worker: u8,
}

impl Ids {
    pub(super) const fn new(key: Arc<HeaderProtectionKey>, steering: Steering, worker: u8) -> Self {
        Self { key, steering, worker }
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut nonce = [0; NONCE];
        // Without randomness there are no handshakes either.
        let _without = rand::fill(&mut nonce);
        if let Some(first) = nonce.first_chunk_mut::<HASHED>() {
            *first = self.steering.towards(self.worker.into(), *first);
        }
        let [worker, zeros @ ..] = mask(&self.key, nonce);
        let mut id = [0; LENGTH];
        let parts = nonce.into_iter().chain([worker ^ self.worker]).chain(zeros);
        id.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        owner(&self.key, id).map(|_| ()).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// What the kernel steers by, if it steers this datagram.
pub(super) fn steered(datagram: &[u8]) -> Option<[u8; HASHED]> {
    let (first, rest) = datagram.split_first()?;
    (first & 0x80 == 0).then(|| rest.first_chunk().copied())?
}

/// The worker that a datagram belongs to, when it carries an id of ours.
pub(super) fn owner_of(key: &HeaderProtectionKey, datagram: &[u8]) -> Option<u8> {
    let (first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        // RFC 9000 §17.3: a short header is followed by the id at once.
        return owner(key, rest.get(..LENGTH)?);
    }
    // RFC 9000 §17.2: four bytes of version, the id's length, the id.
    let (length, id) = rest.get(4..)?.split_first()?;
    (usize::from(*length) == LENGTH).then(|| owner(key, id.get(..LENGTH)?))?
}

/// The worker that made `id`, if one did.
fn owner(key: &HeaderProtectionKey, id: &[u8]) -> Option<u8> {
    let (nonce, masked) = id.split_first_chunk::<NONCE>()?;
    let mask = mask(key, *nonce);
    let mut plain = masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask);
    let worker = plain.next()?;
    (masked.len() == MASKED && plain.all(|byte| byte == 0)).then_some(worker)
}

fn mask(key: &HeaderProtectionKey, nonce: [u8; NONCE]) -> [u8; MASKED] {
    let mut sample = [0; 16];
    sample.iter_mut().zip(nonce).for_each(|(place, byte)| *place = byte);
    // The sample has the right length, the only thing that could be wrong.
    key.new_mask(&sample).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::keys::Keys;
    use super::*;

    #[test]
    fn id_tells_its_worker_to_whoever_has_the_key() {
        let (ours, others) = (Keys::new(Some(b"fleet")).unwrap(), Keys::new(Some(b"other")).unwrap());
        let id = Ids::new(Arc::clone(&ours.ids), ours.mixer.over(8), 7).generate_cid();
        let short = [&[0x40][..], &id, b"payload"].concat();
        let long = [&[0xc0, 0, 0, 0, 1, 10][..], &id, b"payload"].concat();

        assert_eq!(owner_of(&ours.ids, &short), Some(7));
        assert_eq!(steered(&short).map(|first| ours.mixer.over(8).worker(first)), Some(7));
        assert_eq!(steered(&long), None);
        assert_eq!(owner_of(&ours.ids, &long), Some(7));
        assert_eq!(owner_of(&others.ids, &short), None);
        assert_eq!(owner_of(&Keys::new(Some(b"fleet")).unwrap().ids, &short), Some(7), "after a restart");
    }

    #[test]
    fn ids_that_a_client_made_up_belong_to_nobody() {
        let keys = Keys::new(None).unwrap();
        let id = Ids::new(Arc::clone(&keys.ids), keys.mixer.over(1), 0).generate_cid();

        for place in 0..LENGTH {
            let mut made_up = id.to_vec();
            made_up[place] ^= 1;
            let other = owner(&keys.ids, &made_up);
            // The worker's own byte is not signed: another worker answers a packet that it cannot decrypt.
            assert_eq!(other.is_some(), place == NONCE, "byte {place}");
        }
        for datagram in [&b""[..], b"\x40", b"\x40short", b"\xc0\0\0\0\x01", b"\xc0\0\0\0\x01\x0ashort"] {
            assert_eq!(owner_of(&keys.ids, datagram), None);
        }
    }

    #[test]
    fn ids_share_nothing_that_can_be_seen() {
        let keys = Keys::new(None).unwrap();
        let mut ids = Ids::new(keys.ids, keys.mixer.over(4), 3);

        let made: std::collections::HashSet<_> = (0..1000).map(|_| ids.generate_cid()[NONCE..].to_vec()).collect();

        assert!(made.len() > 990);
    }
}
