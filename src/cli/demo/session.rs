//! Sessions as Superset has them by default: a signed cookie that every replica can read, and a CSRF token bound to it.
//!
//! Nothing is stored, nothing is shared but the key: whichever replica gets the next request knows the user.

use aws_lc_rs::hmac;
use http::header;

use crate::head::{Fields, HeaderValue};

/// The key that all replicas of the demo share, made anew at each start.
#[derive(Debug)]
pub(super) struct Keys(hmac::Key);

/// Who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Session {
    /// Empty: nobody has logged in.
    pub user: String,
    nonce: String,
}

impl Keys {
    pub(super) fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new()).map(Self)
    }

    /// The session that the request's cookie names, if its signature is ours.
    pub(super) fn find(&self, fields: &Fields) -> Option<Session> {
        let cookies = fields.get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
        let value = cookies.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix("session="))?;
        let (payload, signature) = value.rsplit_once('.')?;
        hmac::verify(&self.0, payload.as_bytes(), &unhex(signature)?).ok()?;
        let (user, nonce) = payload.split_once('.')?;
        Some(Session { user: user.to_owned(), nonce: nonce.to_owned() })
    }

    /// The cookie that carries the session.
    pub(super) fn cookie(&self, session: &Session) -> Option<HeaderValue> {
        let payload = format!("{}.{}", session.user, session.nonce);
        let signature = hex(hmac::sign(&self.0, payload.as_bytes()).as_ref());
        HeaderValue::try_from(format!("session={payload}.{signature}; Secure; HttpOnly; Path=/; SameSite=Lax")).ok()
    }

    /// The token that a form of this session must bring back.
    pub(super) fn csrf(&self, session: &Session) -> String {
        hex(hmac::sign(&self.0, format!("csrf:{}", session.nonce).as_bytes()).as_ref())
    }
}

impl Session {
    /// A new session of `user`; nobody's when empty.
    pub(super) fn begin(user: &str) -> Self {
        Self { user: user.to_owned(), nonce: nonce() }
    }
}

/// 128 random bits as text.
pub(super) fn nonce() -> String {
    let mut bytes = [0; 16];
    // Without a source of randomness the demo's certificate could not have been made.
    aws_lc_rs::rand::fill(&mut bytes).ok();
    hex(&bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}
