//! Shuts out who is banned, and bans who misbehaves.
//!
//! Stands behind identification, for nobody is judged without an address, and before everything that costs anything.

use std::net::IpAddr;
use std::time::Duration;

use crate::limit::{Ban, Offence, Scope, Subject};
use crate::telemetry::events;

use super::fault::Fault;
use super::{Parts, Pipeline, now_ns};

impl Pipeline {
    /// Refuses who is banned from everything, by address or by TLS fingerprint.
    ///
    /// # Errors
    /// [`Fault::Banned`].
    pub(super) fn shut_out(&self, client: IpAddr, fingerprint: Option<&str>) -> Result<(), Fault> {
        match self.0.bans.find(client, fingerprint, Scope::Everything, now_ns()) {
            None => Ok(()),
            Some(_) => Err(Fault::Banned),
        }
    }
}

impl Parts {
    /// `subject` has offended: points that add up to a ban.
    pub fn offend(&self, subject: &Subject, scope: Scope, offence: Offence) -> Option<Ban> {
        let ban = self.bans.offend(subject, scope, offence, now_ns())?;
        let lasting = Duration::from_nanos(ban.until.saturating_sub(ban.since));
        events::client_banned(&self.metrics, subject, scope.as_str(), offence.cause, lasting, ban.before);
        Some(ban)
    }
}
