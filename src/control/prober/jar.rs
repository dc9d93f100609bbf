//! Cookies that an endpoint has set on the prober.
//!
//! Superset answers every request without a session cookie with a new session, which it writes to Redis: probes that
//! send none fill Redis with millions of sessions a month. Only what serves that end is here: name and value are kept,
//! deletion is heeded (RFC 6265 §5.2, §5.3). `Path`, `Domain` and `Secure` are not: the jar belongs to one endpoint,
//! and a plain connection to it must still return the `Secure` cookie it has set.

use std::time::SystemTime;

use crate::head::HeaderValue;

/// Cookies kept; the oldest one makes room.
const MAX_COOKIES: usize = 32;

/// Bytes of the `Cookie` field; below Gunicorn's limit of 8,190 for one field.
const MAX_BYTES: usize = 8_000;

/// The cookies of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Jar(Vec<(String, String)>);

impl Jar {
    /// Takes in one `Set-Cookie` value. What does not parse is ignored.
    pub(crate) fn absorb(&mut self, value: &[u8], now: SystemTime) {
        let Ok(text) = std::str::from_utf8(value) else { return };
        let mut parts = text.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || !is_clean(name) || !is_clean(value) {
            return;
        }
        self.0.retain(|(kept, _)| kept != name);
        if !deletes(parts, now) {
            self.0.push((name.to_owned(), value.to_owned()));
            while self.0.len() > MAX_COOKIES || self.bytes() > MAX_BYTES {
                self.0.remove(0);
            }
        }
    }

    /// The `Cookie` field to send; `None` when there is nothing to send.
    pub(crate) fn field(&self) -> Option<HeaderValue> {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { None } else { HeaderValue::try_from(pairs.join("; ")).ok() }
    }

    /// Forgets everything: a cookie that an endpoint no longer likes must not keep it down.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len() + 3).sum()
    }
}

/// Whether the attributes ask for the cookie's removal. `Max-Age` goes before `Expires` (RFC 6265 §5.3 step 3).
fn deletes<'a>(attributes: impl Iterator<Item = &'a str>, now: SystemTime) -> bool {
    let mut expired = false;
    for attribute in attributes {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("max-age") {
            // Not a number: the attribute is ignored (RFC 6265 §5.2.2).
            if let Ok(seconds) = value.parse::<i64>() {
                return seconds <= 0;
            }
        } else if name.eq_ignore_ascii_case("expires") {
            expired = httpdate::parse_http_date(value).is_ok_and(|at| at <= now);
        }
    }
    expired
}

fn is_clean(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(set: &[&str]) -> Jar {
        let mut jar = Jar::default();
        for value in set {
            jar.absorb(value.as_bytes(), SystemTime::now());
        }
        jar
    }

    #[test]
    fn later_value_replaces_the_earlier_one() {
        let jar = jar(&["session=old; Path=/", "async-token=x; HttpOnly", "session=new; Secure; SameSite=Lax"]);

        assert_eq!(jar.field().unwrap(), "async-token=x; session=new");
    }

    #[test]
    fn deletion_by_age_or_date_is_heeded() {
        let jar = jar(&[
            "a=1",
            "b=2",
            "c=3",
            "a=; Max-Age=0",
            "b=; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "c=4; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60",
        ]);

        assert_eq!(jar.field().unwrap(), "c=4");
    }

    #[test]
    fn jar_stays_within_its_bounds() {
        let mut jar = Jar::default();
        for number in 0..100 {
            jar.absorb(format!("n{number}=v").as_bytes(), SystemTime::now());
        }
        assert_eq!(jar.0.len(), MAX_COOKIES);

        for number in 0..10 {
            jar.absorb(format!("big{number}={}", "v".repeat(3_000)).as_bytes(), SystemTime::now());
        }
        assert!(jar.field().unwrap().len() <= MAX_BYTES);

        jar.absorb(format!("huge={}", "v".repeat(9_000)).as_bytes(), SystemTime::now());
        assert!(jar.field().is_none());
    }

    #[test]
    fn broken_values_are_ignored() {
        let jar = jar(&["", "=x", "no-equals", "bad=a\u{7}b", "good=1"]);

        assert_eq!(jar.field().unwrap(), "good=1");
    }
}
