//! SCRAM (RFC 5802) with SHA-256 (RFC 7677) or SHA-512, as a client without channel binding.
//!
//! Pure, but slow by design: the many rounds that the server asks for take milliseconds. The server proves that it knows the
//! password, too.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// What is wrong with what a server said.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScramError {
    /// It is not what SCRAM has there.
    #[error("the broker's words are not those of SCRAM")]
    Garbled,
    /// Its nonce does not begin with ours: it is an answer to somebody else.
    #[error("the broker answers somebody else's words")]
    Nonce,
    /// So few rounds make the password easy to guess; so many would take too long.
    #[error("the broker asks for {0} rounds, not 4,096 to 1,000,000")]
    Rounds(u32),
    /// It does not know the password.
    #[error("the broker has not shown that it knows the password")]
    Unproven,
}

/// Rounds that are accepted. RFC 7677 §4 has the lower bound; the upper one takes about a second.
const ROUNDS: std::ops::RangeInclusive<u32> = 4_096..=1_000_000;

/// "No channel binding", as the last message repeats it: base64 of `n,,`.
const UNBOUND: &str = "biws";

/// A conversation that has begun.
pub struct Scram {
    hash: Hash,
    password: Vec<u8>,
    /// Our first message, without what is said of channel binding.
    bare: String,
    nonce: String,
}

/// What the server has to say at the end.
pub struct Expected(Vec<u8>);

impl Scram {
    /// A conversation for `user`; the nonce has visible characters without a comma, and was never used before.
    pub fn new(hash: Hash, user: &str, password: &[u8], nonce: String) -> Self {
        // RFC 5802 §5.1.
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self { hash, password: password.to_vec(), bare: format!("n={user},r={nonce}"), nonce }
    }

    /// Our first message.
    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    /// Our last message, after the server's first, and what the server must say to it.
    ///
    /// # Errors
    /// What is wrong with the server's.
    pub fn last(&self, theirs: &[u8]) -> Result<(Vec<u8>, Expected), ScramError> {
        let text = std::str::from_utf8(theirs).map_err(|_| ScramError::Garbled)?;
        let mut parts = text.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Garbled);
        let (nonce, salt, rounds) = (part("r=")?, part("s=")?, part("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Garbled)?;
        let rounds: u32 = rounds.parse().map_err(|_| ScramError::Garbled)?;
        let within = NonZeroU32::new(rounds).filter(|_| ROUNDS.contains(&rounds)).ok_or(ScramError::Rounds(rounds))?;

        let salted = self.hash.salted(&self.password, &salt, within);
        let key = self.hash.mac(&salted, b"Client Key");
        let unproven = format!("c={UNBOUND},r={nonce}");
        let all = format!("{},{text},{unproven}", self.bare);
        let signature = self.hash.mac(&self.hash.digest(&key), all.as_bytes());
        let proof: Vec<u8> = key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let theirs = self.hash.mac(&self.hash.mac(&salted, b"Server Key"), all.as_bytes());
        Ok((format!("{unproven},p={}", STANDARD.encode(proof)).into_bytes(), Expected(theirs)))
    }
}

impl Expected {
    /// Whether the server's last message shows that it knows the password.
    ///
    /// # Errors
    /// It does not.
    pub fn is_met_by(&self, theirs: &[u8]) -> Result<(), ScramError> {
        let text = std::str::from_utf8(theirs).map_err(|_| ScramError::Garbled)?;
        let signature = text.split(',').next().and_then(|part| part.strip_prefix("v=")).ok_or(ScramError::Garbled)?;
        let signature = STANDARD.decode(signature).map_err(|_| ScramError::Garbled)?;
        constant_time::verify_slices_are_equal(&signature, &self.0).map_err(|_| ScramError::Unproven)
    }
}

impl Hash {
    fn salted(self, password: &[u8], salt: &[u8], rounds: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut out = vec![0; self.algorithm().output_len()];
        pbkdf2::derive(algorithm, rounds, salt, password, &mut out);
        out
    }

    fn mac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec()
    }

    fn digest(self, text: &[u8]) -> Vec<u8> {
        digest::digest(self.algorithm(), text).as_ref().to_vec()
    }

    const fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversation of RFC 7677 §3.
    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn conversation() -> Scram {
        Scram::new(Hash::Sha256, "user", b"pencil", "rOprNGfwEbeRWgbNEkqO".to_owned())
    }

    #[test]
    fn conversation_is_that_of_the_rfc() {
        let scram = conversation();

        assert_eq!(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, expected) = scram.last(SERVER_FIRST).unwrap();

        let said = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(String::from_utf8(last).unwrap(), said);
        expected.is_met_by(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn server_that_does_not_know_the_password_is_not_believed() {
        let (_, expected) = conversation().last(SERVER_FIRST).unwrap();

        let other = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=";
        assert!(expected.is_met_by(other).is_err());
        assert_eq!(expected.is_met_by(b"v=AAAA"), Err(ScramError::Unproven));
        assert_eq!(expected.is_met_by(b"e=other-error"), Err(ScramError::Garbled));
    }

    #[test]
    fn server_cannot_weaken_or_stretch_the_conversation() {
        let last = |theirs: &str| conversation().last(theirs.as_bytes()).err();
        let of = |rounds: u32| format!("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i={rounds}");

        assert_eq!(last(&of(1)), Some(ScramError::Rounds(1)));
        assert_eq!(last(&of(u32::MAX)), Some(ScramError::Rounds(u32::MAX)));
        assert_eq!(last("r=another,s=AAAA,i=4096"), Some(ScramError::Nonce));
        assert_eq!(last("r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096"), Some(ScramError::Nonce));
        assert_eq!(last("m=ext,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096"), Some(ScramError::Garbled));
        assert_eq!(last(""), Some(ScramError::Garbled));
    }

    #[test]
    fn names_cannot_pass_for_more_than_a_name() {
        let scram = Scram::new(Hash::Sha512, "a,b=c", b"p", "n".to_owned());

        assert_eq!(scram.first(), b"n,,n=a=2Cb=3Dc,r=n");
    }
}
