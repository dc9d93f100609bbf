//! The order of an exchange, and nothing else.
//!
//! Floor 5. [`Pipeline`] is what `serve` hands requests to. Each step is a small file; [`Pipeline::forward`] reads as
//! the list of them. Whatever goes wrong below is a [`Fault`], and becomes a response at one place. Deliberately
//! absent: sockets, protocols, and affinity of any kind.

mod admit;
mod dispatch;
mod doubt;
pub mod fault;
mod forward;
mod hedge;
mod identify;
mod links;
mod login;
mod quota;
pub mod receive;
mod record;
mod redirect;
mod respond;
mod retry;
mod rewrite;
mod shield;
mod steer;
mod tunnel;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use bytes::Bytes;
use http::Method;
use http::header::ACCEPT;
use tokio::time::Instant;

use crate::body::Body;
use crate::config::route::WebSocket;
use crate::fleet::Fleet;
use crate::head::{request, response};
use crate::lexicon::{Fingerprint, Protocol};
use crate::lifecycle::Life;
use crate::limit::{Bans, Clients, Keyring, Permit};
use crate::message::{Answer, Answering, Connection, Handler, Refused, Request, Sign, Tunnel, Upgrade};
use crate::net::io::UpstreamIo;
use crate::snapshot::{Live, Route, Snapshot};
use crate::telemetry::access_log::Emitter;
use crate::telemetry::events;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::Traced;
use crate::turn;
use crate::upstream::{Idle, Lease, Outcome, tunnel as pump};
use crate::waf::Proofs;

use dispatch::dispatch;
use fault::Fault;
use forward::Forward;
use identify::Identity;
use login::Login;
use quota::Counted;
use receive::Vault;
use record::{Story, Tail};
use tunnel::Handshake;

pub use shield::Sentry;

/// Answers the requests of one worker. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline(Arc<Parts>);

/// What a pipeline works with.
pub struct Parts {
    /// The snapshot in use.
    pub live: Arc<Live>,
    /// The worker's idle connections.
    pub idle: Idle,
    /// Room for request bodies, shared by all workers.
    pub vault: Arc<Vault>,
    /// Tunnels per client, over all workers.
    pub tunnels: Clients,
    /// What the shield remembers, over all workers.
    pub sentry: Sentry,
    /// Which addresses are a search engine's, over all workers.
    pub proofs: Proofs,
    /// Who is banned, over all workers.
    pub bans: Bans,
    /// What is counted together with other proxies.
    pub fleet: Fleet,
    /// Makes the keys that requests are counted by.
    pub keys: Keyring,
    /// The worker's way into the access log.
    pub emitter: Emitter,
    /// All metrics.
    pub metrics: Metrics,
    /// The phase of the process, for tunnels.
    pub life: Life,
}

impl Handler for Pipeline {
    fn handle(&self, request: Request) -> Answering {
        Box::pin(self.clone().answer(request))
    }

    fn refuse(&self, refused: Refused) -> Answer {
        let Refused { refusal, connection, head } = refused;
        let snapshot = self.0.live.load();
        let head = head.unwrap_or_default();
        let identity = Identity::find(&head.headers, &connection, &snapshot);
        let mut story = self.open(&head, &connection, &identity, &snapshot);
        let fault = Fault::from(refusal);
        story.fault(fault);
        let accept = head.headers.get(ACCEPT);
        let mut answer =
            respond::answer(fault, &identity.request_id, accept, &snapshot.pages, &snapshot.config.shield.methods);
        answer.close = true;
        rewrite::answer(&mut answer.head.headers, &identity, &connection, self.0.life.phase());
        answer.body = Tail::ride(std::mem::take(&mut answer.body), story, None);
        answer
    }

    fn abandoned(&self, connection: &Connection, answered: usize) -> bool {
        self.0.abandoned(connection, answered)
    }

    fn flooded(&self, connection: &Connection, sign: Sign) {
        self.0.flooded(connection, sign);
    }
}

/// What came of a request.
enum Done {
    /// An answer of a route's own.
    Fixed(Answer),
    /// An endpoint's response; the lease ends with its body.
    Response(Answer, Lease),
    /// A tunnel.
    Tunnel(Box<Opened>),
}

/// A tunnel whose handshakes are done.
struct Opened {
    head: response::Parts,
    endpoint: UpstreamIo,
    leftover: Bytes,
    lease: Lease,
    permit: Option<Permit>,
    settings: pump::Settings,
}

impl Pipeline {
    /// A pipeline for one worker.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Answers one request: exactly one response, exactly one record.
    async fn answer(self, request: Request) -> Answer {
        turn::begin();
        let mut began = true;
        // The one look at the snapshot; the exchange keeps it to its end.
        let snapshot = self.0.live.load();
        let connection = Arc::clone(&request.connection);
        let identity = Identity::find(&request.head.headers, &connection, &snapshot);
        let mut story = self.open(&request.head, &connection, &identity, &snapshot);
        let accept = request.head.headers.get(ACCEPT).cloned();
        let is_head = request.head.method == Method::HEAD;

        let done = {
            // Pinned where it is: it is large, and each step that took it by value would copy it.
            let mut forwarding = pin!(self.forward(request, &identity, &snapshot, &mut story));
            // A panic is one exchange's misfortune, not the connection's.
            poll_fn(|cx| {
                if !std::mem::take(&mut began) {
                    turn::begin();
                }
                catch_unwind(AssertUnwindSafe(|| forwarding.as_mut().poll(cx))).unwrap_or_else(|_| {
                    events::panic_caught(&self.0.metrics);
                    Poll::Ready(Err(Fault::Internal))
                })
            })
            .await
        };

        let (mut answer, lease) = match done {
            Ok(Done::Tunnel(opened)) => return self.tunnel(*opened, story, &identity, &connection),
            Ok(Done::Response(answer, lease)) => (answer, Some(lease)),
            Ok(Done::Fixed(answer)) => (answer, None),
            Err(fault) => {
                story.fault(fault);
                let mut answer = respond::answer(
                    fault,
                    &identity.request_id,
                    accept.as_ref(),
                    &snapshot.pages,
                    &snapshot.config.shield.methods,
                );
                // Over HTTP/2 only the stream is in doubt (RFC 9113 §8.1.1).
                answer.cut = fault == Fault::Dropped;
                answer.close = connection.protocol == Protocol::Http1 && fault.ends_connection();
                (answer, None)
            }
        };
        rewrite::answer(&mut answer.head.headers, &identity, &connection, self.0.life.phase());
        story.take_limits().into_iter().for_each(|told| told.announce(&mut answer.head.headers));
        if story.record().fault.is_none() {
            let status = answer.head.status.as_u16();
            story.record().status = Some(status);
            self.0.learn(status, &snapshot, &mut story);
        }
        let body = if is_head { Body::empty() } else { std::mem::take(&mut answer.body) };
        answer.body = Tail::ride(body, story, lease);
        answer
    }

    /// The order in which a request meets the steps, each with the reason why it stands there.
    async fn forward(
        &self,
        request: Request,
        identity: &Identity,
        snapshot: &Arc<Snapshot>,
        story: &mut Story,
    ) -> Result<Done, Fault> {
        let Request { mut head, body, connection, interim, upgrade } = request;
        let host = admit::admit(&head, upgrade, &snapshot.config.shield.methods)?; // cheap refusals first
        let fingerprint = connection.tls.as_ref().and_then(|tls| tls.fingerprint.as_ref());
        self.shut_out(&head, fingerprint.map(Fingerprint::as_str), snapshot, story)?; // nothing is spent on who is banned
        let route = steer::steer(snapshot, host.name(), &head.uri); // other software than Superset is judged otherwise
        let known = route.as_ref().ok().copied();
        let passed = // a refused client must not spend what others share
            self.0.shield(&mut head, &host, &connection, known, snapshot, story).await?;
        if let Some(answer) = redirect::redirect(&head, &connection.listener) {
            return Ok(Done::Fixed(answer)); // whatever the route, it is for HTTPS to take
        }
        let route = route?; // limits below are the route's
        story.take_route(route);
        let body = admit::typed(&head, body, &route.config)?;
        let counted = Counted::of(&head.headers, identity, snapshot, route, &passed);
        self.count(true, counted, story).await?; // before its body
        let login = Login::find(&head, &route.config, snapshot); // by its path as the client wrote it
        let body = admit::meter(body, &route.config, story)?; // before anything is read of it
        if let Some(answer) = steer::fixed(route, &head.uri) {
            return Ok(Done::Fixed(answer));
        }
        let Some(pool) = &route.pool else { return Err(Fault::NoRoute) };
        let read_only = admit::is_read_only(&head, &route.config);
        rewrite::request(&mut head, identity, &host, &route.config, &snapshot.config.clients, &connection)?;
        if let Some(traced) = &mut story.record().traced {
            traced.asked = Some((pool.upstream.config.tls.is_some(), head.uri.clone()));
        }
        let handshake = match upgrade {
            None => None,
            Some(upgrade) => Some(self.begin_tunnel(&mut head, upgrade, route, identity, &connection, &host)?),
        };
        let body = self.receive(body, &route.config, login.is_some(), story).await?; // no endpoint waits for the slow
        let attempt = match login {
            None => None,
            Some(login) => {
                let user = login.user_of(&body);
                let counted = Counted::of(&head.headers, identity, snapshot, route, &passed);
                Some(Box::pin(self.guard_login(login, user, counted, story)).await?) // no password is tried for who guesses
            }
        };
        let client = self.0.tunnels.key(identity.client.ip());
        let (traced, upgrade) = (rewrite::is_traced(&head, identity), upgrade.is_some());
        let forward = Forward { head: &head, body, interim: &interim, upgrade, read_only, client, traced };
        let (outcome, lease) = match dispatch(forward, route, pool, &self.0.idle, story).await {
            Ok(answered) => answered,
            Err(fault) => {
                if let Some(attempt) = attempt {
                    attempt.void(&self.0); // nobody has judged it
                }
                return Err(fault);
            }
        };
        match (outcome, handshake) {
            (Outcome::Response { head, .. }, Some((handshake, ..))) if handshake.would_open(head.status) => {
                Err(Fault::UpstreamMalformed)
            }
            (Outcome::Response { head, body }, _) => {
                let mut answer = Answer { head, body, tunnel: None, close: false, cut: false };
                if let Some(attempt) = attempt {
                    attempt.end(&answer.head, &route.config, &self.0);
                }
                rewrite::response(&mut answer.head.headers, &route.config);
                Ok(Done::Response(answer, lease))
            }
            (Outcome::Switched { mut head, io, leftover }, Some((handshake, permit, websocket))) => {
                handshake.finish(&mut head)?;
                rewrite::switched(&mut head.headers, &route.config);
                let settings = pump::Settings {
                    idle: websocket.idle,
                    max_frame: websocket.max_frame,
                    drain_spread: snapshot.config.process.drain_timeout / 2,
                };
                Ok(Done::Tunnel(Box::new(Opened { head, endpoint: io, leftover, lease, permit, settings })))
            }
            // `Link::exchange` lets a 101 pass only where a tunnel was asked for.
            (Outcome::Switched { .. }, None) => Err(Fault::UpstreamMalformed),
        }
    }

    fn open(
        &self,
        head: &request::Parts,
        connection: &Connection,
        identity: &Identity,
        snapshot: &Arc<Snapshot>,
    ) -> Box<Story> {
        let mut story =
            Story::open(head, connection, identity.request_id.clone(), Arc::clone(snapshot), self.0.emitter.clone());
        story.record().client = identity.client;
        story.record().traceparent = Some(identity.traceparent.clone());
        story.record().parent = identity.parent;
        if identity.traced {
            let state = if identity.continues { identify::tracestate(&head.headers) } else { None };
            story.record().traced = Some(Box::new(Traced { state, asked: None }));
        }
        story
    }

    /// Checks whether a tunnel may be and puts our handshake into `head`.
    fn begin_tunnel<'r>(
        &self,
        head: &mut request::Parts,
        upgrade: Upgrade,
        route: &'r Route,
        identity: &Identity,
        connection: &Connection,
        host: &admit::Host,
    ) -> Result<(Handshake, Option<Permit>, &'r WebSocket), Fault> {
        let websocket = route.config.websocket.as_ref().ok_or(Fault::UpgradeRefused)?;
        // The scheme as the client's browser has it: TLS may end in front of us.
        let handshake = Handshake::begin(head, upgrade, websocket, identity.scheme, host.as_str())?;
        let most = connection.listener.max_tunnels_per_client;
        let permit = self.0.tunnels.admit(identity.client.ip(), most).ok_or(Fault::TooManyTunnels)?;
        Ok((handshake, Some(permit), websocket))
    }

    /// The answer that opens a tunnel, with everything that the tunnel holds on to.
    fn tunnel(&self, opened: Opened, mut story: Box<Story>, identity: &Identity, connection: &Connection) -> Answer {
        let Opened { mut head, endpoint, leftover, lease, permit, settings } = opened;
        rewrite::answer(&mut head.headers, identity, connection, self.0.life.phase());
        story.record().status = Some(head.status.as_u16());
        story.begin_tunnel();
        let life = self.0.life.clone();
        let tunnel: Tunnel = Box::new(move |client| {
            Box::pin(async move {
                let _permit = permit;
                let tally = Arc::new(pump::Tally::default());
                let guard = story.ride_tunnel(Arc::clone(&tally), lease);
                let ending = pump::run(client, Box::new(endpoint), leftover, settings, life, tally).await;
                guard.end(ending);
            })
        });
        Answer { head, body: Body::empty(), tunnel: Some(tunnel), close: false, cut: false }
    }
}

/// Milliseconds on a clock of the process, for the pure cores.
pub(crate) fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

/// Nanoseconds on the same clock.
pub(crate) fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = turn::now().saturating_duration_since(*START.get_or_init(Instant::now));
    // Half a thousand years fit.
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
