//! Guards logins: failures of an address and on a user name.
//!
//! Stands behind the body, which names the user, and before an endpoint is asked. A login is counted when it begins,
//! so that a hundred at once are a hundred, and taken back when it did not fail. Superset's 401 counts on the one path
//! of its API for logins only: its beacons get 401 from honest users whose session has ended.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::CONTENT_TYPE;

use crate::config;
use crate::config::Mode;
use crate::head::{HeaderValue, request, response};
use crate::limit::login::{Outcome, Way};
use crate::limit::{Decision, Key, Meter, Offence, Scope, prefix_of};
use crate::snapshot::{Guard, Snapshot};
use crate::telemetry::metrics::LoginResult;

use super::fault::Fault;
use super::forward::Outgoing;
use super::quota::{Counted, seconds};
use super::record::Story;
use super::shield::is_one_client;
use super::{Parts, Pipeline, now_ns};

/// How long an address stays known for a user who logged in from it.
const KNOWN: u64 = 30 * 24 * 60 * 60 * crate::limit::SECOND;

/// What a refused login costs.
const REFUSED: Offence = Offence { points: NonZeroU32::MIN, cause: "login" };

/// A request that is a login.
pub(super) struct Login {
    guard: Arc<Guard>,
    way: Way,
    media: Option<HeaderValue>,
}

/// A login under way; dropping it without an end leaves it counted.
pub(super) struct Attempt {
    guard: Arc<Guard>,
    way: Way,
    address: Key,
    user: Key,
    pair: Key,
    /// What it is counted on.
    spent: Vec<(Arc<Meter>, Key)>,
}

impl Login {
    /// Whether `head` is a login, before anything of it is rewritten.
    pub(super) fn find(head: &request::Parts, route: &config::Route, snapshot: &Snapshot) -> Option<Self> {
        if head.method != Method::POST {
            return None;
        }
        let guard = snapshot.quotas.login.as_ref()?;
        let path = head.uri.path();
        let way = match (guard.is_form(route, path), guard.is_api(route, path)) {
            (true, _) => Way::Form,
            (false, true) => Way::Api,
            (false, false) => return None,
        };
        Some(Self { guard: Arc::clone(guard), way, media: head.headers.get(CONTENT_TYPE).cloned() })
    }

    /// The user's name in its body, if it can be read.
    pub(super) fn user_of(&self, body: &Outgoing) -> Option<String> {
        self.way.user(self.media.as_ref(), &body.in_memory()?)
    }
}

impl Pipeline {
    /// Counts a login, its body read.
    ///
    /// # Errors
    /// [`Fault::LoginLimited`].
    pub(super) async fn begin_login(
        &self,
        login: Login,
        user: Option<String>,
        counted: Counted<'_>,
        story: &mut Story,
    ) -> Result<Attempt, Fault> {
        let Login { guard, way, .. } = login;
        let keys = &self.0.keys;
        let name = user.as_deref().unwrap_or("").as_bytes();
        let mut address = keys.begin();
        address.add(b"login");
        address.add_address(prefix_of(counted.client, 32, counted.ipv6_prefix));
        let address = address.end();
        let user = keys.key(&[b"login user", name]);
        let pair = keys.key(&[&address.0.to_be_bytes(), name]);
        let mut attempt = Attempt { guard, way, address, user, pair, spent: Vec::new() };
        match self.check_login(&mut attempt, counted, story).await {
            Err(wait) if attempt.guard.config.mode == Mode::Enforce => {
                self.0.metrics.login(way == Way::Form, LoginResult::Limited);
                // Whoever logs in from behind the same load balancer waits for the limit, and no longer.
                if is_one_client(counted.client, counted.snapshot) && !counted.is_spared() {
                    self.0.offend(counted.client, Scope::Login, REFUSED);
                }
                Err(Fault::LoginLimited(seconds(wait)))
            }
            Err(_) => {
                self.0.metrics.login(way == Way::Form, LoginResult::Observed);
                Ok(attempt)
            }
            Ok(()) => Ok(attempt),
        }
    }

    async fn check_login(
        &self,
        attempt: &mut Attempt,
        counted: Counted<'_>,
        story: &mut Story,
    ) -> Result<(), Duration> {
        let now = now_ns();
        let ban = self.0.bans.find(counted.client, None, Scope::Login, now);
        if let Some(ban) = ban.filter(|_| !counted.is_spared()) {
            story.record().ban = Some(ban.cause);
            return Err(Duration::from_nanos(ban.until.saturating_sub(now)));
        }
        let known = attempt.guard.known.peek(attempt.pair).is_some_and(|since| since.saturating_add(KNOWN) > now);
        let per_address = (Arc::clone(&attempt.guard.per_address), attempt.address);
        let per_user = (!known).then(|| (Arc::clone(&attempt.guard.per_user), attempt.user));
        for (meter, key) in std::iter::once(per_address).chain(per_user) {
            match self.0.fleet.check(&meter, key, now).await {
                Decision::Admitted(_) => attempt.spent.push((meter, key)),
                Decision::Refused(wait) => return Err(wait),
            }
        }
        Ok(())
    }
}

impl Attempt {
    /// The login's key for limits of the operator that count by user.
    pub(super) const fn user(&self) -> Key {
        self.user
    }

    /// The login has this answer.
    pub(super) fn end(self, head: &response::Parts, route: &config::Route, parts: &Parts) {
        let outcome = self.way.outcome(head.status, &head.headers, |path| self.guard.is_form(route, path));
        let result = match outcome {
            Outcome::Succeeded => {
                let now = now_ns();
                let _always = self.guard.known.update(self.pair, 0, |_, _| Ok::<_, ()>(((), now)));
                self.give_back(parts);
                LoginResult::Succeeded
            }
            Outcome::Failed => LoginResult::Failed,
            Outcome::Void => return self.void(parts),
        };
        parts.metrics.login(self.way == Way::Form, result);
    }

    /// Nobody has judged the login: no endpoint, or none that answered. An outage must not lock its users out.
    pub(super) fn void(self, parts: &Parts) {
        self.give_back(parts);
        parts.metrics.login(self.way == Way::Form, LoginResult::Void);
    }

    fn give_back(&self, parts: &Parts) {
        self.spent.iter().for_each(|(meter, key)| parts.fleet.give_back(meter, *key));
    }
}
