//! Shuts out who is banned, and counts requests against what their clients may have.
//!
//! Stands behind identification, for nobody is judged without an address, and before everything that costs anything;
//! limits behind the route, which names them. What is held (`Concurrency`) rides in the exchange's story to its end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::header::COOKIE;

use crate::config::Mode;
use crate::config::quota::By;
use crate::head::{Fields, HeaderValue, request};
use crate::lexicon::LimitName;
use crate::limit::{Ban, Decision, Key, Offence, Scope, prefix_of};
use crate::snapshot::{Policy, Quota, Route, Snapshot};
use crate::telemetry::events;
use crate::telemetry::metrics::LimitResult;

use super::fault::Fault;
use super::identify::Identity;
use super::login::{Attempt, Login};
use super::record::Story;
use super::shield::{Passed, has_token};
use super::{Parts, Pipeline, now_ns};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What requests are counted by.
#[derive(Clone, Copy)]
pub(super) struct Counted<'a> {
    fields: &'a Fields,
    pub(super) client: IpAddr,
    pub(super) ipv6_prefix: u8,
    route: &'a Route,
    /// What the shield made of it: limits that rules named, besides those of the route.
    passed: &'a Passed,
    pub(super) snapshot: &'a Snapshot,
    /// Of a login, once its body is read.
    user: Option<Key>,
}

/// What a client is told of a limit: its policy, and what is left of it.
pub(super) struct Told {
    policy: HeaderValue,
    state: Option<HeaderValue>,
}

impl Pipeline {
    /// Refuses who is banned from everything, by address or by TLS fingerprint, unless nothing judges the request: an
    /// operator who exempts an address, or gives a client the token, means it, and a ban may be a neighbour's.
    ///
    /// # Errors
    /// [`Fault::Banned`].
    pub(super) fn shut_out(
        &self,
        head: &request::Parts,
        fingerprint: Option<&str>,
        snapshot: &Snapshot,
        story: &mut Story,
    ) -> Result<(), Fault> {
        let client = story.record().client.ip();
        match self.0.bans.find(client, fingerprint, Scope::Everything, now_ns()) {
            Some(ban) if !has_token(&head.headers, snapshot) && !snapshot.shield.core.is_exempt(client) => {
                story.record().ban = Some(ban.cause);
                Err(Fault::Banned)
            }
            _ => Ok(()),
        }
    }

    /// Counts a request on the limits of its route and of the rules that it met: those that its head is enough for, or the
    /// others once it is known who logs in. One that is refused by a later limit has been counted by those before it.
    ///
    /// # Errors
    /// [`Fault::RateLimited`], [`Fault::ConcurrencyLimited`].
    pub(super) async fn count(&self, by_head: bool, counted: Counted<'_>, story: &mut Story) -> Result<(), Fault> {
        for quota in counted.limits().filter(|quota| quota.is_by_head() == by_head) {
            match self.count_one(quota, counted, story).await {
                Ok(()) => quota.metrics.decided(LimitResult::Passed),
                Err(_) if quota.config.mode == Mode::Observe => {
                    quota.metrics.decided(LimitResult::Observed);
                    story.record().limits.push((quota.config.name.clone(), true));
                }
                Err(fault) => {
                    story.record().limits.push((quota.config.name.clone(), false));
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// Counts a login, its body read, on the guard's limits and on those of its route that count by user.
    ///
    /// # Errors
    /// [`Fault::LoginLimited`], [`Fault::RateLimited`], [`Fault::ConcurrencyLimited`].
    pub(super) async fn guard_login(
        &self,
        login: Login,
        user: Option<String>,
        counted: Counted<'_>,
        story: &mut Story,
    ) -> Result<Attempt, Fault> {
        let attempt = self.begin_login(login, user, counted, story).await?;
        self.count(false, Counted { user: Some(attempt.user()), ..counted }, story).await?;
        Ok(attempt)
    }

    async fn count_one(&self, quota: &Arc<Quota>, counted: Counted<'_>, story: &mut Story) -> Result<(), Fault> {
        let Some(key) = self.key(quota, counted) else { return Ok(()) };
        let enforced = quota.config.mode == Mode::Enforce;
        if let Some(meter) = &quota.meter {
            match self.0.fleet.check(meter, key, now_ns()).await {
                Decision::Admitted(left) if enforced && quota.config.announce => {
                    quota.over_time.iter().for_each(|policy| story.note_limit(told(policy, left, None)));
                }
                Decision::Admitted(_) => {}
                Decision::Refused(wait) => {
                    if enforced {
                        quota.metrics.decided(LimitResult::Limited);
                        quota.over_time.iter().for_each(|policy| story.note_limit(told(policy, 0, Some(wait))));
                    }
                    return Err(Fault::RateLimited(seconds(wait)));
                }
            }
        }
        if let Some(places) = &quota.places {
            match places.enter(key) {
                Some(place) => story.hold(place),
                None => {
                    if enforced {
                        quota.metrics.decided(LimitResult::Crowded);
                        let wait = Some(Duration::from_secs(1));
                        quota.at_once.iter().for_each(|policy| story.note_limit(told(policy, 0, wait)));
                    }
                    return Err(Fault::ConcurrencyLimited);
                }
            }
        }
        Ok(())
    }

    /// The key of a request for a limit; `None` when the limit does not count it.
    fn key(&self, quota: &Quota, counted: Counted<'_>) -> Option<Key> {
        let mut making = self.0.keys.begin();
        making.add(quota.config.name.as_str().as_bytes());
        for by in &quota.config.by {
            match by {
                By::Address => making.add_address(prefix_of(counted.client, 32, counted.ipv6_prefix)),
                By::Network => {
                    let (v4, v6) = quota.config.network;
                    making.add_address(prefix_of(counted.client, v4, v6));
                }
                By::Route => making.add(counted.route.config.name.as_str().as_bytes()),
                By::User => making.add(&counted.user?.0.to_be_bytes()),
                By::Header(name) => match counted.fields.get(name) {
                    Some(value) => making.add(value.as_bytes()),
                    None => making.add_address(prefix_of(counted.client, 32, counted.ipv6_prefix)),
                },
                By::Cookie(name) => match cookie(counted.fields, name) {
                    Some(value) => making.add(value),
                    None => making.add_address(prefix_of(counted.client, 32, counted.ipv6_prefix)),
                },
            }
        }
        Some(making.end())
    }
}

impl<'a> Counted<'a> {
    /// A request for `route` with these `fields` that the shield has let through.
    pub(super) fn of(
        fields: &'a Fields,
        identity: &Identity,
        snapshot: &'a Snapshot,
        route: &'a Route,
        passed: &'a Passed,
    ) -> Self {
        let ipv6_prefix = snapshot.config.clients.ipv6_prefix;
        Self { fields, client: identity.client.ip(), ipv6_prefix, route, passed, snapshot, user: None }
    }

    /// Whether no ban keeps its client from anything, as nothing judges it.
    pub(super) fn is_spared(self) -> bool {
        self.passed.by_token || self.snapshot.shield.core.is_exempt(self.client)
    }

    /// The limits of the route, then those that rules named and that are not among them: each counts once.
    fn limits(self) -> impl Iterator<Item = &'a Arc<Quota>> {
        let route = &self.route.limits;
        let of_route = move |name: &LimitName| route.iter().any(|quota| quota.config.name == *name);
        let fresh = move |(at, name): &(usize, &LimitName)| {
            !of_route(name) && !self.passed.limits.iter().take(*at).any(|earlier| earlier == *name)
        };
        let named = self.passed.limits.iter().enumerate().filter(fresh);
        let named = named.filter_map(|(_, name)| self.snapshot.quotas.get(name));
        route.iter().chain(named)
    }
}

impl Parts {
    /// The client at `address` has offended: points that add up to a ban.
    pub(super) fn offend(&self, address: IpAddr, scope: Scope, offence: Offence) -> Option<Ban> {
        let now = now_ns();
        let ban = self.bans.offend(address, scope, offence, now)?;
        let lasting = Duration::from_nanos(ban.until.saturating_sub(now));
        events::client_banned(&self.metrics, &ban.subject, scope.as_str(), offence.cause, lasting, ban.before);
        self.fleet.tell_ban(&ban, now);
        Some(ban)
    }
}

/// Draft-ietf-httpapi-ratelimit-headers-11 §3 and §4. Without a `wait` no window is told (`t` is optional, §4.1): what is
/// left comes back bit by bit, and a window of no seconds would invite a client to send all of it at once (§8.5). With
/// one it ends when `Retry-After` does (§6).
fn told(policy: &Policy, left: u32, wait: Option<Duration>) -> Told {
    let window = wait.map(|wait| format!(";t={}", seconds(wait))).unwrap_or_default();
    let state = format!("\"{}\";r={left}{window}", policy.name);
    Told { policy: policy.field.clone(), state: HeaderValue::try_from(state).ok() }
}

impl Told {
    /// Puts the fields into an answer.
    pub(super) fn announce(self, fields: &mut Fields) {
        fields.append(RATE_LIMIT_POLICY, self.policy);
        if let Some(state) = self.state {
            fields.append(RATE_LIMIT, state);
        }
    }
}

/// Whole seconds, rounded up (RFC 9110 §10.2.3).
pub(super) fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// The value of a cookie (RFC 6265 §5.4), the first of several.
fn cookie<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    let pairs = fields.get_all(COOKIE).flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
