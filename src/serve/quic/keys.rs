//! Keys that a restart and the other replicas of a fleet must share.
//!
//! A client whose server has restarted is told so by a stateless reset (RFC 9000 §10.3), and brings the token of a
//! Retry (§8.1.2) to whichever replica the network takes it: both work under keys derived from the fleet's secret.
//! Without one they are random.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::quic::{AES_128, HeaderProtectionKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::{hmac, rand};

use super::steering::Mixer;

/// Keys of QUIC, made once for the process.
#[derive(Clone)]
pub struct Keys {
    pub(super) reset: Arc<hmac::Key>,
    pub(super) token: Arc<Prk>,
    /// Hides and signs what our connection ids say.
    pub(super) ids: Arc<HeaderProtectionKey>,
    /// How the kernel sees it all the same.
    pub(super) mixer: Mixer,
}

/// The system gives no randomness, or its cryptography does not work.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no keys for QUIC: the system's cryptography fails")]
pub struct NoKeys;

impl From<Unspecified> for NoKeys {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

/// Bytes that a [`Mixer`] is made from.
const MIXER: usize = 12;

/// The length of a [`Mixer`]'s secret.
struct Short;

impl KeyType for Short {
    fn len(&self) -> usize {
        MIXER
    }
}

impl Keys {
    /// Keys under the fleet's `secret`; without one under a random secret.
    ///
    /// # Errors
    /// [`NoKeys`].
    pub fn new(secret: Option<&[u8]>) -> Result<Self, NoKeys> {
        let mut random = [0; 32];
        rand::fill(&mut random)?;
        let secret = secret.unwrap_or(&random);
        // The secret is that of session tickets as well; salts keep the purposes apart.
        let root = Salt::new(HKDF_SHA256, b"sluicegate quic 1").extract(secret);
        let mut mixer = [0; MIXER];
        root.expand(&[b"steering"], Short)?.fill(&mut mixer)?;
        Ok(Self {
            mixer: Mixer::new(mixer),
            reset: Arc::new(root.expand(&[b"stateless reset"], hmac::HMAC_SHA256)?.into()),
            token: Arc::new(Salt::new(HKDF_SHA256, b"sluicegate quic tokens 1").extract(secret)),
            ids: Arc::new(root.expand(&[b"connection ids"], &AES_128)?.into()),
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}
