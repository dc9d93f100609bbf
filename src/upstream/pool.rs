//! A pool at run time and the leases on its endpoints.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::balance::{Ask, Budget, Changes, Claim, ClaimKind, Endpoint, EndpointId, Pick, Roster, Rule};
use crate::config;
use crate::config::pool::Endpoint as Wanted;
use crate::lexicon::Choice;

use super::connect::Security;
use super::line::{Bounds, Lane, NoPlace, Ticket};
use super::queue::{Ending, Queue};

/// A named set of interchangeable endpoints, as one generation configures it. What must outlive a generation (who the
/// endpoints are, their claims and health, who waits) is shared with the generations before and after.
#[derive(Debug)]
pub struct Pool {
    /// As configured.
    pub config: Arc<config::Pool>,
    /// TLS towards the endpoints.
    pub security: Option<Security>,
    /// Retries it may still spend.
    pub budget: Arc<Budget>,
    /// Endpoints it may ask for assets that one does not have: as many as it has exchanges.
    pub assets: Arc<Budget>,
    exchanges: Rule,
    tunnels: Rule,
    lasting: Arc<Lasting>,
}

/// What outlives a generation.
#[derive(Debug)]
struct Lasting {
    roster: ArcSwap<Roster>,
    /// What discovery found last; written endpoints are in the configuration.
    discovered: ArcSwap<Vec<Wanted>>,
    /// The newest generation's rule for exchanges; those who wait are served by it.
    rule: ArcSwap<Rule>,
    queue: Queue,
    /// As last told to operators.
    panicking: AtomicBool,
}

/// Why there is no lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoLease {
    /// No endpoint may be used.
    NoneUp,
    /// All that may be used were tried.
    NoneUntried,
    /// All are full, and as many wait as may.
    QueueFull,
    /// All are full, and as many of this client wait as may.
    ClientFull,
    /// None became free in time.
    QueueLate,
}

/// What a lease is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Exchange or tunnel.
    pub kind: ClaimKind,
    /// Endpoints that failed it already. With one, the lease counts as a repeat.
    pub tried: &'a [EndpointId],
    /// Whether it can be repeated elsewhere, so that an ejected endpoint may be tried out with it.
    pub expendable: bool,
    /// Whose it is: clients that wait are served in turn.
    pub client: IpAddr,
    /// Path of the request, for the lane it waits in.
    pub path: &'a str,
    /// When it is wanted no longer.
    pub until: Option<Instant>,
}

/// A claim on an endpoint for one exchange or tunnel; dropping it gives the claim back and serves who waits.
#[derive(Debug)]
#[must_use]
pub struct Lease {
    claim: Option<Claim>,
    endpoint: Arc<Endpoint>,
    lasting: Arc<Lasting>,
}

impl Pool {
    /// The pool as `config` wants it, carrying on from `previous`.
    pub fn new(config: Arc<config::Pool>, security: Option<Security>, previous: Option<&Self>) -> Self {
        let rule = Rule::new(&config, ClaimKind::Exchange);
        let tunnels = Rule::new(&config, ClaimKind::Tunnel);
        let budget = match previous {
            Some(old) if old.config.retry.budget_percent == config.retry.budget_percent => Arc::clone(&old.budget),
            _ => Arc::new(Budget::new(config.retry.budget_percent)),
        };
        let roster = match previous {
            Some(old) => {
                if config.discover.is_none() {
                    old.lasting.discovered.store(Arc::default());
                }
                let wanted = joined(&config.endpoints, &old.lasting.discovered.load());
                old.lasting.roster.load().succeed(&wanted).0
            }
            None => Roster::new(&config.endpoints),
        };
        let lasting = match previous {
            Some(old) => Arc::clone(&old.lasting),
            None => Arc::new(Lasting {
                roster: ArcSwap::from_pointee(Roster::new(&[])),
                discovered: ArcSwap::default(),
                rule: ArcSwap::from_pointee(rule),
                queue: Queue::default(),
                // Nobody is known to be up at the start; that is no news.
                panicking: AtomicBool::new(true),
            }),
        };
        let assets = previous.map_or_else(|| Arc::new(Budget::new(100)), |old| Arc::clone(&old.assets));
        let pool = Self { config, security, budget, assets, exchanges: rule, tunnels, lasting };
        pool.lasting.roster.store(Arc::new(roster));
        pool.lasting.rule.store(Arc::new(rule));
        pool
    }

    /// The endpoints at this moment.
    pub fn roster(&self) -> Arc<Roster> {
        self.lasting.roster.load_full()
    }

    /// Takes what discovery found in place of what it found before; says what is different. Claims and health of
    /// endpoints that stay live on, and what is under way on those that leave goes on.
    pub fn discover(&self, found: Vec<Wanted>) -> Changes {
        let wanted = joined(&self.config.endpoints, &found);
        self.lasting.discovered.store(Arc::new(found));
        let (roster, changes) = self.lasting.roster.load().succeed(&wanted);
        if !(changes.added.is_empty() && changes.removed.is_empty() && roster.is_as(&self.lasting.roster.load())) {
            self.lasting.roster.store(Arc::new(roster));
        }
        changes
    }

    /// Exchanges that wait.
    pub fn waiting(&self) -> usize {
        self.lasting.queue.len()
    }

    /// Those who wait, and what became of those who did.
    pub fn queue(&self) -> &Queue {
        &self.lasting.queue
    }

    /// How endpoints are picked for exchanges.
    pub const fn rule(&self) -> &Rule {
        &self.exchanges
    }

    /// Whether so few endpoints are up that health is ignored, when that has changed since the last call.
    pub fn panic_changed(&self) -> Option<bool> {
        let now = self.lasting.roster.load().is_in_panic(&self.lasting.rule.load());
        (self.lasting.panicking.swap(now, Ordering::Relaxed) != now).then_some(now)
    }

    /// Leases an endpoint that is not among those tried, waiting in line when all are full.
    ///
    /// # Errors
    /// [`NoLease`]. Tunnels do not wait: [`NoLease::QueueFull`] at once.
    pub async fn lease(&self, wish: Wish<'_>) -> Result<Lease, NoLease> {
        let ask = Ask { tried: wish.tried, expendable: wish.expendable };
        if wish.kind == ClaimKind::Tunnel {
            return match self.lasting.roster.load().pick(&self.tunnels, &ask) {
                Pick::Claimed(claim) => Ok(self.leased(claim)),
                Pick::Full => Err(NoLease::QueueFull),
                Pick::NoneUp => Err(NoLease::NoneUp),
                Pick::NoneUntried => Err(NoLease::NoneUntried),
            };
        }
        // Nobody overtakes those who wait.
        if self.lasting.queue.is_empty() {
            match self.lasting.pick(&ask) {
                Pick::Claimed(claim) => return Ok(self.leased(claim)),
                Pick::Full => {}
                Pick::NoneUp => return Err(NoLease::NoneUp),
                Pick::NoneUntried => return Err(NoLease::NoneUntried),
            }
        }
        let config = &self.config.queue;
        let bounds =
            Bounds { length: config.length, per_client: config.per_client, express_length: config.express_length };
        let lane = if config.is_express(wish.path) { Lane::Express } else { Lane::Main };
        let (ticket, call) = self.lasting.queue.join(&ask, lane, wish.client, &bounds)?;
        let mut place = Place { lasting: &self.lasting, ticket, call, ending: Ending::Left };
        self.lasting.pump();
        let longest = Instant::now() + config.timeout;
        let until = wish.until.map_or(longest, |until| until.min(longest));
        match tokio::time::timeout_at(until, &mut place.call).await {
            Ok(Ok(claim)) => {
                place.ending = Ending::Served;
                Ok(self.leased(claim))
            }
            Ok(Err(_)) => {
                place.ending = Ending::NoneUp;
                Err(NoLease::NoneUp)
            }
            Err(_) => {
                place.ending = Ending::Late;
                Err(NoLease::QueueLate)
            }
        }
    }

    /// Leases an endpoint for an exchange if one that is not among `tried` is free and nobody waits; never waits itself.
    pub fn try_lease(&self, tried: &[EndpointId]) -> Option<Lease> {
        let ask = Ask { tried, expendable: false };
        match self.lasting.queue.is_empty().then(|| self.lasting.pick(&ask))? {
            Pick::Claimed(claim) => Some(self.leased(claim)),
            Pick::Full | Pick::NoneUp | Pick::NoneUntried => None,
        }
    }

    /// Serves who waits, after an endpoint came up or the roster changed.
    pub fn pump(&self) {
        self.lasting.pump();
    }

    fn leased(&self, claim: Claim) -> Lease {
        let endpoint = Arc::clone(claim.endpoint());
        Lease { claim: Some(claim), endpoint, lasting: Arc::clone(&self.lasting) }
    }
}

/// Endpoints that are written, then those found that are not written.
fn joined(written: &[Wanted], found: &[Wanted]) -> Vec<Wanted> {
    let mut all = written.to_vec();
    let is_new = |found: &&Wanted| !written.iter().any(|known| (&known.host, known.port) == (&found.host, found.port));
    all.extend(found.iter().filter(is_new).cloned());
    all
}

impl Lasting {
    fn pick(&self, ask: &Ask<'_>) -> Pick {
        self.roster.load().pick(&self.rule.load(), ask)
    }

    fn pump(&self) {
        self.queue.pump(|ask| self.pick(ask));
    }

    /// Serves who waits, if anybody does, after something was given back.
    fn freed(&self) {
        if self.queue.is_awaited() {
            self.pump();
        }
    }
}

/// A place in the line. Dropping it leaves the line and passes on a claim that came too late.
struct Place<'a> {
    lasting: &'a Lasting,
    ticket: Ticket,
    call: oneshot::Receiver<Claim>,
    ending: Ending,
}

impl From<NoPlace> for NoLease {
    fn from(none: NoPlace) -> Self {
        match none {
            NoPlace::Full => Self::QueueFull,
            NoPlace::ClientFull => Self::ClientFull,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lasting.queue.leave(&self.ticket, self.ending);
        self.call.close();
        if let Ok(claim) = self.call.try_recv() {
            drop(claim);
            self.lasting.pump();
        }
    }
}

impl Lease {
    /// The endpoint.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Why it is one on this endpoint.
    pub fn choice(&self) -> Choice {
        self.claim.as_ref().map_or(Choice::Same, Claim::choice)
    }

    /// The lease as one for a tunnel, which frees its exchange slot; `None` when the endpoint carries `most` tunnels.
    pub fn into_tunnel(mut self, most: u32) -> Option<Self> {
        let claim = self.claim.take()?;
        self.claim = Some(claim.into_tunnel(most).ok()?);
        self.lasting.freed();
        Some(self)
    }

    /// There is a connection: whoever waited for one fewer to be without is served.
    pub fn settle(&mut self) {
        let pending = self.claim.as_mut().map_or(0, Claim::settle);
        if pending >= self.lasting.rule.load().max_pending {
            self.lasting.freed();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.claim.take());
        self.lasting.freed();
    }
}

#[cfg(test)]
pub(crate) mod tests;
