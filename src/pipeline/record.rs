//! The story of one exchange: opened with its request, closed with its last byte, told exactly once.
//!
//! A story that is dropped before it is closed tells that its client left: cancellation needs no code of its own.

mod tail;
mod tunnel;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{HOST, REFERER, USER_AGENT};
use tokio::time::Instant;

use crate::balance::Endpoint;
use crate::config;
use crate::head::{HeaderValue, request};
use crate::lexicon::{Choice, Clock};
use crate::limit::Place;
use crate::message::Connection;
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::access_log::Emitter;
use crate::telemetry::metrics::{EndpointMetrics, Served};
use crate::telemetry::record::{Attempt, Attempts, End, Kind, Link, Record, RecordId, Stage, Stages, Who, Why};
use crate::turn;
use crate::upstream::Lease;

use super::fault::Fault;
use super::quota::Told;
use super::shield::Judged;
pub(super) use tail::Tail;

/// An exchange on its way to its record.
pub(super) struct Story {
    record: Record,
    started: Instant,
    /// When the head of the answer was ready.
    answered: Option<Duration>,
    stage: Stage,
    received: Option<Arc<AtomicU64>>,
    /// What the shield wants to know of its end.
    pub(super) judged: Option<Judged>,
    route: Option<Arc<Route>>,
    endpoint: Option<Arc<EndpointMetrics>>,
    snapshot: Arc<Snapshot>,
    emitter: Emitter,
    /// What the client has of limits on how much it may have at once; given back with the story's end.
    places: Vec<Place>,
    /// What the client is told of limits.
    limits: Vec<Told>,
    told: bool,
}

impl Story {
    /// Opens the story of `head`.
    pub(super) fn open(
        head: &request::Parts,
        connection: &Connection,
        request_id: HeaderValue,
        snapshot: Arc<Snapshot>,
        emitter: Emitter,
    ) -> Box<Self> {
        let fields = &head.headers;
        let record = Record {
            id: RecordId::default(),
            kind: Kind::Exchange,
            at: SystemTime::now(),
            request_id,
            traceparent: None,
            parent: None,
            traced: None,
            client: connection.proxied.unwrap_or(connection.peer),
            connection: connection.id,
            listener: connection.listener.name.clone(),
            protocol: connection.protocol,
            tls: connection.tls.as_ref().map(|tls| tls.version),
            ja4: connection.tls.as_ref().and_then(|tls| tls.fingerprint),
            method: head.method.clone(),
            host: fields.get(HOST).cloned(),
            target: head.uri.clone(),
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            stages: Stages::default(),
            route: None,
            pool: None,
            endpoint: None,
            attempts: Attempts::default(),
            gave_up: None,
            end: End::COMPLETE,
            fault: None,
            clock: None,
            generation: snapshot.generation,
            limits: Vec::new(),
            verdicts: Vec::new(),
            ban: None,
            user_agent: fields.get(USER_AGENT).cloned(),
            referer: fields.get(REFERER).cloned(),
            messages: None,
        };
        Box::new(Self {
            record,
            started: turn::now(),
            answered: None,
            stage: Stage::Request,
            received: None,
            judged: None,
            route: None,
            endpoint: None,
            snapshot,
            emitter,
            places: Vec::new(),
            limits: Vec::new(),
            told: false,
        })
    }

    /// The record so far.
    pub(super) const fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// When the request's head was complete.
    pub(super) const fn started(&self) -> Instant {
        self.started
    }

    /// How long the exchange has taken so far.
    fn age(&self) -> Duration {
        turn::now().saturating_duration_since(self.started)
    }

    /// When the whole exchange has to be over, where `route` wants that.
    pub(super) fn deadline(&self, route: &config::Route) -> Option<Instant> {
        route.clocks.exchange.map(|whole| self.started + whole)
    }

    /// The client has a place among those that it may have at once.
    pub(super) fn hold(&mut self, place: Place) {
        self.places.push(place);
    }

    /// The answer will tell the client of a limit.
    pub(super) fn note_limit(&mut self, told: Told) {
        self.limits.push(told);
    }

    /// What the client is to be told of limits.
    pub(super) fn take_limits(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.limits)
    }

    /// The exchange has come to `stage`.
    pub(super) const fn reach(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// The route is found.
    pub(super) fn take_route(&mut self, route: &Arc<Route>) {
        self.record.route = Some(route.config.name.clone());
        self.record.pool = route.pool.as_ref().map(|pool| pool.upstream.config.name.clone());
        self.route = Some(Arc::clone(route));
    }

    /// An endpoint is asked, one that was wanted from `since` on and waited for in line; `counts` is what it counts.
    pub(super) fn ask(
        &mut self,
        lease: &Lease,
        why: Why,
        (since, queued): (Instant, Duration),
        counts: Arc<EndpointMetrics>,
    ) {
        let choice = if why == Why::Afresh { Choice::Same } else { lease.choice() };
        let began = since.saturating_duration_since(self.started);
        let attempt = Attempt::on(lease.endpoint().name.clone(), why, choice);
        self.record.attempts.push(Attempt { began, queued, ..attempt });
        self.take_endpoint(lease, counts);
    }

    /// The answer is this endpoint's; `counts` is what it counts.
    pub(super) fn take_endpoint(&mut self, lease: &Lease, counts: Arc<EndpointMetrics>) {
        self.record.endpoint = Some(lease.endpoint().name.clone());
        self.endpoint = Some(counts);
    }

    /// The present attempt on `endpoint`.
    fn attempt(&mut self, endpoint: &Endpoint) -> Option<&mut Attempt> {
        self.record.attempts.on(&endpoint.name)
    }

    /// A counter for the bytes of the request body.
    pub(super) fn count_received(&mut self) -> Arc<AtomicU64> {
        Arc::clone(self.received.get_or_insert_default())
    }

    /// The attempt took so long, unless that is known already.
    pub(super) fn waited(&mut self, endpoint: &Endpoint, waited: Duration) {
        if let Some(attempt) = self.attempt(endpoint).filter(|attempt| attempt.waited.is_zero()) {
            attempt.waited = waited;
        }
    }

    /// There is a connection for the attempt, or none.
    pub(super) fn connected(&mut self, endpoint: &Endpoint, link: Link, took: Duration) {
        if link != Link::Reused {
            self.record.stages.connect = took;
        }
        if let Some(attempt) = self.attempt(endpoint) {
            (attempt.link, attempt.connect) = (link, took);
        }
    }

    /// The endpoint has answered.
    pub(super) fn answered(&mut self, endpoint: &Endpoint, status: StatusCode) {
        if let Some(attempt) = self.attempt(endpoint) {
            attempt.status = Some(status.as_u16());
        }
    }

    /// The attempt has failed, or its answer is not taken; `clock` is the one that ran out.
    pub(super) fn attempt_failed(&mut self, lease: &Lease, cause: &'static str, clock: Option<Clock>) {
        if let Some(attempt) = self.attempt(lease.endpoint()) {
            (attempt.cause, attempt.clock) = (Some(cause), clock);
        }
    }

    /// The proxy itself answers.
    pub(super) fn fault(&mut self, fault: Fault) {
        let profile = fault.profile();
        self.record.clock = fault.clock();
        self.record.end = profile.end;
        self.record.status = (!matches!(fault, Fault::ClientGone | Fault::Dropped)).then(|| profile.status.as_u16());
        self.blame(profile.code);
    }

    /// The proxy itself answers or breaks off, for this reason.
    fn blame(&mut self, code: &'static str) {
        self.record.fault = Some(code);
        if let Some(listener) = self.snapshot.listener(&self.record.listener) {
            listener.fault(code);
        }
    }

    /// The head of the answer is ready.
    fn note_answer(&mut self) {
        let stages = &self.record.stages;
        let streamed = self.received.as_ref().is_some_and(|received| received.load(Ordering::Relaxed) > 0);
        // While a body streams through, its sender's pace is in the time since the start.
        self.answered = Some(if streamed && stages.receive.is_zero() {
            stages.queue + stages.connect + stages.first_byte
        } else {
            self.age().saturating_sub(stages.receive)
        });
    }

    /// A tunnel begins: told now, and once more at its end.
    pub(super) fn begin_tunnel(&mut self) {
        self.stage = Stage::Tunnel;
        let mut start = self.record.clone();
        start.kind = Kind::TunnelStart;
        start.stages.total = self.age();
        if let Some(pool) = self.route.as_ref().and_then(|route| route.pool.as_ref()) {
            pool.metrics.tunnel_opened();
            let threshold = pool.upstream.config.objectives.latency_threshold;
            if let Some(served) = Served::of(&start, Some(start.stages.total), threshold) {
                pool.metrics.served(served);
            }
        }
        self.emitter.emit(start);
        self.record.kind = Kind::TunnelEnd;
    }

    /// Tells the story, with what the record says about its end.
    pub(super) fn close(mut self: Box<Self>) {
        self.tell();
    }

    fn tell(&mut self) {
        self.told = true;
        self.places.clear();
        let total = self.age();
        let record = &mut self.record;
        record.stages.total = total;
        if let Some(received) = &self.received {
            record.bytes_in = record.bytes_in.saturating_add(received.load(Ordering::Relaxed));
        }
        if let Some(listener) = self.snapshot.listener(&record.listener) {
            listener.exchange(record);
        }
        if let Some(route) = &self.route {
            route.metrics.exchange(record);
            if let Some(pool) = &route.pool {
                if let Some(counts) = &self.endpoint {
                    counts.exchange(record);
                }
                if record.kind == Kind::TunnelEnd {
                    pool.metrics.tunnel_ended(record);
                } else {
                    pool.metrics.exchange(record);
                    let threshold = pool.upstream.config.objectives.latency_threshold;
                    if let Some(served) = Served::of(record, self.answered, threshold) {
                        pool.metrics.served(served);
                        if served == Served::Endpoint
                            && let Some(counts) = &self.endpoint
                        {
                            counts.failed();
                        }
                    }
                }
            }
        }
        self.emitter.emit(record.take());
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if !self.told {
            self.record.end = End { who: Who::Client, stage: self.stage };
            self.tell();
        }
    }
}

#[cfg(test)]
pub(in crate::pipeline) mod tests;
