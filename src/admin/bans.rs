//! `/bans`, `/ban` and `/unban`: who is shut out, by hand as well.
//!
//! Part of `admin`. A ban names whom it is about, an address or a TLS fingerprint (JA4): `{"who": "203.0.113.9", "for":
//! "1h"}`; `"scope": "login"` keeps from logging in only, `"reason"` is for those who read the list.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::Operations;
use super::changes::{Done, Wrong};
use crate::config::units::Span;
use crate::limit::{Scope, Subject};

/// Longest ban by hand.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Length of a ban that does not say.
const USUAL: Duration = Duration::from_secs(3600);

/// Longest reason in bytes.
const REASON: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    who: String,
    scope: Option<String>,
    #[serde(rename = "for")]
    lasting: Option<String>,
    reason: Option<String>,
}

/// Bans.
pub(super) fn ban(operations: &dyn Operations, body: &[u8]) -> Result<Done, Wrong> {
    let body = read(body)?;
    let (subject, scope, lasting) = (body.subject()?, body.scope()?, body.lasting()?);
    let reason = match &body.reason {
        None => Cow::Borrowed("operator"),
        Some(reason) if reason.len() <= REASON && !reason.contains(char::is_control) => Cow::Owned(reason.clone()),
        Some(_) => return Err(Wrong::Malformed(format!("`reason` must be one line of at most {REASON} bytes"))),
    };
    operations.ban(subject.clone(), scope, lasting, reason)?;
    let span = Span(lasting).to_string();
    let what = format!("{subject} from {} for {span}", scope.as_str());
    Ok(Done { what, answer: json!({ "banned": subject.to_string(), "scope": scope.as_str(), "for": span }) })
}

/// Ends a ban.
pub(super) fn unban(operations: &dyn Operations, body: &[u8]) -> Result<Done, Wrong> {
    let body = read(body)?;
    if body.lasting.is_some() || body.reason.is_some() {
        return Err(Wrong::Malformed("`for` and `reason` are for banning".into()));
    }
    let (subject, scope) = (body.subject()?, body.scope()?);
    operations.unban(&subject, scope)?;
    let what = format!("{subject} from {}", scope.as_str());
    Ok(Done { what, answer: json!({ "unbanned": subject.to_string(), "scope": scope.as_str() }) })
}

fn read(body: &[u8]) -> Result<Body, Wrong> {
    serde_json::from_slice(body).map_err(|error| Wrong::Malformed(format!("not a ban: {error}")))
}

impl Body {
    fn subject(&self) -> Result<Subject, Wrong> {
        if let Ok(address) = self.who.parse() {
            return Ok(Subject::Address(address));
        }
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        match self.who.len() {
            36 if self.who.chars().all(fits) => Ok(Subject::Fingerprint(self.who.as_str().into())),
            _ => Err(Wrong::Malformed("`who` must be an IP address or a JA4 fingerprint".into())),
        }
    }

    fn scope(&self) -> Result<Scope, Wrong> {
        let word = self.scope.as_deref().unwrap_or(Scope::Everything.as_str());
        Scope::parse(word).ok_or_else(|| Wrong::Malformed("`scope` must be `everything` or `login`".into()))
    }

    fn lasting(&self) -> Result<Duration, Wrong> {
        let Some(text) = &self.lasting else { return Ok(USUAL) };
        let wrong = || Wrong::Malformed("`for` must be a duration such as \"1h\", at most 365d".into());
        let Span(lasting) = text.parse().map_err(|_| wrong())?;
        if lasting.is_zero() || lasting > LONGEST { Err(wrong()) } else { Ok(lasting) }
    }
}
