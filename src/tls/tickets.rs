//! Session tickets that every replica of a fleet can open (RFC 8446 §4.6.1, RFC 5077 §4).
//!
//! Floor 3. Keys derive from the fleet's secret and the time, so that replicas agree without talking: each epoch of
//! [`EPOCH`] seconds has its key; tickets of the epoch before are still taken, and those of the next one from replicas
//! whose clocks are ahead. A ticket is epoch ‖ nonce ‖ AES-256-GCM(state). Random nonces allow 2³² tickets a key, two
//! hundred thousand a second. Whoever knows the secret can read sessions of which it has a record, as with any shared
//! ticket key: change it as other secrets are changed. Deliberately absent: anything stored for a session.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

/// How long a key seals tickets, in seconds; it opens them for as long again.
const EPOCH: u64 = 6 * 60 * 60;

/// Bytes of the epoch's number in front of a ticket.
const EPOCH_LEN: usize = 4;

/// Where ticket keys come from; made once for the process.
pub struct Tickets(Option<Prk>);

impl Tickets {
    /// Tickets under the fleet's `secret`; without one under a random secret, which no other process opens.
    pub fn new(secret: Option<&[u8]>) -> Arc<Self> {
        let salt = Salt::new(HKDF_SHA256, b"sluicegate session tickets 1");
        if let Some(secret) = secret {
            return Arc::new(Self(Some(salt.extract(secret))));
        }
        let mut random = [0; 32];
        // A system without randomness shakes no hands; that there are no tickets either is the least of its troubles.
        Arc::new(Self(rand::fill(&mut random).is_ok().then(|| salt.extract(&random))))
    }

    /// Tickets of one purpose. Only settings with the same `context` open each other's tickets: a session that proved
    /// nothing must not be resumed where clients have to prove who they are.
    pub(super) fn ticketer(&self, context: &[u8]) -> Arc<dyn ProducesTickets> {
        let ticketer = self.0.clone().and_then(|secret| Ticketer::new(secret, context, epoch_now()));
        match ticketer {
            Some(ticketer) => Arc::new(ticketer),
            None => Arc::new(NoTickets),
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

fn epoch_now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    u32::try_from(since / EPOCH).unwrap_or(u32::MAX)
}

/// Seals and opens tickets of one context.
pub(super) struct Ticketer {
    secret: Prk,
    context: Box<[u8]>,
    keys: ArcSwap<Keys>,
}

/// Keys around one epoch.
struct Keys {
    epoch: u32,
    previous: LessSafeKey,
    current: LessSafeKey,
    next: LessSafeKey,
}

impl Ticketer {
    pub(super) fn new(secret: Prk, context: &[u8], epoch: u32) -> Option<Self> {
        let keys = Keys::derive(&secret, context, epoch)?;
        Some(Self { secret, context: context.into(), keys: ArcSwap::from_pointee(keys) })
    }

    /// The keys around `epoch`. Two threads may derive the same keys at once; one of the two sets stays.
    fn keys(&self, epoch: u32) -> Option<Arc<Keys>> {
        let keys = self.keys.load_full();
        if keys.epoch == epoch {
            return Some(keys);
        }
        let keys = Arc::new(Keys::derive(&self.secret, &self.context, epoch)?);
        self.keys.store(Arc::clone(&keys));
        Some(keys)
    }

    pub(super) fn seal(&self, plain: &[u8], epoch: u32) -> Option<Vec<u8>> {
        let keys = self.keys(epoch)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let number = epoch.to_be_bytes();
        let mut sealed = plain.to_vec();
        let tag = keys
            .current
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(number), &mut sealed)
            .ok()?;
        Some([number.as_slice(), &nonce, &sealed, tag.as_ref()].concat())
    }

    /// The state in a ticket; `None` for anything that a client made up.
    pub(super) fn open(&self, ticket: &[u8], epoch: u32) -> Option<Vec<u8>> {
        let (number, rest) = ticket.split_first_chunk::<EPOCH_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let sealed_in = u32::from_be_bytes(*number);
        let keys = self.keys(epoch)?;
        let key = if sealed_in == epoch {
            &keys.current
        } else if sealed_in.checked_add(1) == Some(epoch) {
            &keys.previous
        } else if epoch.checked_add(1) == Some(sealed_in) {
            &keys.next
        } else {
            return None;
        };
        let mut plain = sealed.to_vec();
        let length =
            key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(*number), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl Keys {
    fn derive(secret: &Prk, context: &[u8], epoch: u32) -> Option<Self> {
        let key = |epoch: u32| {
            let number = epoch.to_be_bytes();
            let info: [&[u8]; 2] = [&number, context];
            Some(LessSafeKey::new(UnboundKey::from(secret.expand(&info, &AES_256_GCM).ok()?)))
        };
        Some(Self {
            epoch,
            previous: key(epoch.wrapping_sub(1))?,
            current: key(epoch)?,
            next: key(epoch.wrapping_add(1))?,
        })
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // What every ticket reaches: the rest of its epoch and the whole of the next.
        u32::try_from(EPOCH).unwrap_or(0)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, epoch_now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, epoch_now())
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer")
    }
}

/// No tickets: each handshake is a full one.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticketer(secret: &[u8], context: &[u8]) -> Ticketer {
        Ticketer::new(Tickets::new(Some(secret)).0.clone().unwrap(), context, 100).unwrap()
    }

    #[test]
    fn replicas_of_a_fleet_open_each_others_tickets() {
        let ticket = ticketer(b"secret", b"open").seal(b"state", 100).unwrap();

        assert_eq!(ticketer(b"secret", b"open").open(&ticket, 100).unwrap(), b"state");
    }

    #[test]
    fn another_secret_or_purpose_opens_nothing() {
        let ticket = ticketer(b"secret", b"open").seal(b"state", 100).unwrap();

        assert_eq!(ticketer(b"other", b"open").open(&ticket, 100), None);
        assert_eq!(ticketer(b"secret", b"mtls").open(&ticket, 100), None);
    }

    #[test]
    fn ticket_lives_in_its_epoch_and_the_next_and_survives_a_clock_ahead() {
        let fleet = ticketer(b"secret", b"open");
        let ticket = fleet.seal(b"state", 100).unwrap();

        let opened = [98, 99, 100, 101, 102].map(|epoch| fleet.open(&ticket, epoch).is_some());

        assert_eq!(opened, [false, true, true, true, false]);
    }

    #[test]
    fn no_changed_or_cut_ticket_opens() {
        let fleet = ticketer(b"secret", b"open");
        let ticket = fleet.seal(b"state", 100).unwrap();

        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(fleet.open(&changed, 100), None, "byte {place}");
            assert_eq!(fleet.open(&ticket[..place], 100), None, "cut at {place}");
        }
    }
}
