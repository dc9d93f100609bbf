//! Judges a request before it may cost anything. Stands behind identification, for nobody is judged without an address,
//! and before limits, for a refused request must not spend what others share.
//!
//! What a client does wrong adds up to a ban: see [`Sentry`] for what is counted and remembered.

mod heard;
mod sentry;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use http::header::USER_AGENT;
use http::{HeaderName, StatusCode};
use tokio::time::sleep;

use crate::config::Mode;
use crate::head::{Fields, request};
use crate::lexicon::LimitName;
use crate::message::Connection;
use crate::route::canonical;
use crate::snapshot::{Route, Snapshot};
use crate::waf::{Check, Facts, Inspection, Proof, Ruling, is_page};

use super::admit::Host;
use super::fault::Fault;
use super::record::Story;
use super::{Parts, now_ns};

pub use sentry::Sentry;
pub(super) use sentry::{Judged, is_one_client};

/// Carries the secret of `shield.token`.
const TOKEN: HeaderName = HeaderName::from_static("x-shield-token");

/// What is known of a request that was let through.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Limits that rules want it counted on.
    pub limits: Vec<LimitName>,
    /// Whether it came with the secret of `shield.token`.
    pub by_token: bool,
}

/// Whether a request comes with the secret of `shield.token`.
pub(super) fn has_token(fields: &Fields, snapshot: &Snapshot) -> bool {
    let secret = snapshot.shield.token.as_ref().zip(fields.get(TOKEN));
    secret.is_some_and(|(secret, token)| secret.equals(token.as_bytes()))
}

impl Parts {
    /// Judges a request for `route`, if there is one.
    ///
    /// # Errors
    /// [`Fault::Denied`], [`Fault::Dropped`].
    pub(super) async fn shield(
        &self,
        head: &mut request::Parts,
        host: &Host,
        connection: &Connection,
        route: Option<&Arc<Route>>,
        snapshot: &Snapshot,
        story: &mut Story,
    ) -> Result<Passed, Fault> {
        let shield = &snapshot.shield;
        let by_token = has_token(&head.headers, snapshot);
        head.headers.remove(TOKEN); // it goes no further, whatever it is
        if by_token {
            return Ok(Passed { limits: Vec::new(), by_token });
        }
        let path = canonical(head.uri.path());
        let agent = heard::class_of(head.headers.get(USER_AGENT));
        let client = story.record().client.ip();
        let proof = if shield.core.wants_proof(agent, client) && !snapshot.config.shield.crawler_domains.is_empty() {
            self.proofs.of(client, now_ns())
        } else {
            Proof::Unproven
        };
        let facts = Facts {
            method: &head.method,
            path: &path,
            below: route.map_or(&path, |route| route.config.below(&path)),
            written: head.uri.path(),
            query: head.uri.query(),
            host: host.name(),
            fields: &head.headers,
            client,
            agent,
            proof,
            fingerprint: connection.tls.as_ref().and_then(|tls| tls.fingerprint.as_ref()),
            checked: route.is_none_or(|route| route.config.shield),
        };
        let Inspection { ruling, hits, limits, exempt } = shield.core.inspect(&facts);
        if !exempt && facts.checked {
            let (page, is_part) = (is_page(facts.method, facts.below), facts.below.starts_with("/static/"));
            story.judged = Some(Judged { page, is_part });
        }
        for hit in hits {
            story.record().verdicts.extend(shield.note(hit));
            let check = Check::ALL.get(hit.rule).filter(|_| hit.mode == Mode::Enforce);
            if let Some(check) = check {
                self.offence(*check, facts.client, snapshot);
            }
        }
        match ruling {
            Ruling::Pass => Ok(Passed { limits, by_token }),
            Ruling::Deny(status) => Err(Fault::Denied(status)),
            Ruling::Drop => Err(Fault::Dropped),
            Ruling::Tarpit(delay) => {
                // Beyond the bound they are answered at once: it is their time that is to be spent, not our memory.
                if let Some(_held) = Held::below(&self.sentry.tarpits, snapshot.config.shield.max_tarpits) {
                    sleep(delay).await;
                }
                Err(Fault::Denied(StatusCode::FORBIDDEN))
            }
        }
    }
}

/// A request that is held back.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn below(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |now: usize| (now < most).then(|| now.saturating_add(1));
        count.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Self(Arc::clone(count)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
