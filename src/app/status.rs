//! The state of the process, for the admin listener and for gauges.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::admin::status::{
    Ban, Budget, Certificate, Discovery, Drain, Endpoint, Lane, Limit, LimitsReached, Listener, Load, Pool, Reloads,
    Retries, Rule, Share, Shield, Table,
};
use crate::admin::{Operations, Source, Status, Wrong};
use crate::balance::drain::Target;
use crate::balance::{Bench, Tier};
use crate::config::Mode;
use crate::config::pool::Strategy;
use crate::control::budgets::Budgets;
use crate::control::drains::Drains;
use crate::fleet::Fleet;
use crate::lexicon::{ListenerName, Protocol};
use crate::lifecycle::{Life, Phase};
use crate::limit::{self, Bans, Meter, Scope, Subject};
use crate::pipeline::receive::Vault;
use crate::pipeline::{Sentry, now_ms, now_ns};
use crate::serve::gate::Gate;
use crate::serve::quic::Steered;
use crate::serve::worker::Sibling;
use crate::snapshot::{Live, Pool as Served, Quotas, Snapshot};
use crate::telemetry::events;
use crate::telemetry::metrics::{Gauges, Metrics, Reload, State};
use crate::telemetry::recorder::Recorder;
use crate::telemetry::redact::Redactor;
use crate::upstream::line::Lane as Waiting;
use crate::upstream::queue::Ending;
use crate::waf::Proofs;

use super::discover::Finder;
use super::generations::Generations;

/// Everything that can be looked at.
#[derive(Debug)]
pub(super) struct World {
    pub(super) budgets: Arc<Budgets>,
    pub(super) drains: Arc<Drains>,
    pub(super) finder: Arc<Finder>,
    pub(super) file: PathBuf,
    pub(super) started: Instant,
    pub(super) live: Arc<Live>,
    pub(super) metrics: Metrics,
    pub(super) vault: Arc<Vault>,
    pub(super) bans: Bans,
    pub(super) sentry: Sentry,
    pub(super) proofs: Proofs,
    pub(super) fleet: Fleet,
    pub(super) listeners: Vec<Seen>,
    pub(super) siblings: Arc<[Sibling]>,
    pub(super) connections_max: usize,
    pub(super) life: Life,
    pub(super) generations: Arc<Generations>,
    pub(super) recorder: Arc<Recorder>,
}

/// A listener as it can be looked at.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: ListenerName,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) gate: Arc<Gate>,
    /// Meaningful where HTTP/3 is spoken.
    pub(super) steered: Steered,
}

impl World {
    fn shield(&self, snapshot: &Snapshot) -> Shield {
        let now = now_ns();
        let config = &snapshot.config.shield;
        let (known, proven) = self.proofs.counts(now);
        let rules = snapshot.shield.counts().map(|(rule, action, mode, enforced, observed)| Rule {
            rule: rule.clone(),
            action,
            mode: mode.map_or("off", Mode::as_str),
            enforced,
            observed,
        });
        let tables = self.sentry.meters().map(|(name, meter)| Table {
            name,
            keys: meter.table().occupied(now) as u64,
            pushed_out: meter.table().pushed_out(),
            bytes: meter.table().bytes() as u64,
        });
        Shield {
            profile: config.profile.as_str(),
            mode: config.mode.as_str(),
            rules: rules.collect(),
            tables: tables.to_vec(),
            tarpits: self.sentry.held() as u64,
            max_tarpits: config.max_tarpits as u64,
            bans: self.bans.len(now) as u64,
            max_bans: self.bans.most() as u64,
            crawlers_known: known as u64,
            crawlers_proven: proven as u64,
        }
    }

    /// Open client connections.
    pub(super) fn connections(&self) -> u64 {
        self.listeners.iter().map(|seen| seen.gate.open() as u64).sum()
    }

    fn pool_status(&self, pool: &Served) -> Pool {
        let config = &pool.upstream.config;
        let roster = pool.upstream.roster();
        let shares = roster.shares(pool.upstream.rule());
        let endpoints = roster.endpoints().iter().map(|endpoint| {
            let vitals = &endpoint.vitals;
            Endpoint {
                name: endpoint.name.clone(),
                addresses: vitals.addresses().to_vec(),
                standing: super::observe::standing(vitals.standing()),
                reason: vitals.reason().to_string(),
                since: vitals.since().map(|since| UNIX_EPOCH + Duration::from_millis(since)),
                disabled: endpoint.is_disabled(),
                bench: bench(vitals.bench()),
                bench_reason: vitals.bench_reason().to_string(),
                warmth: vitals.warmth(),
                drained: vitals.is_drained(),
                in_flight: u64::from(vitals.in_flight()),
                pending: u64::from(vitals.pending()),
                retries: u64::from(vitals.retries()),
                limits_reached: LimitsReached {
                    in_flight: vitals.reached().in_flight.into(),
                    pending: vitals.reached().pending.into(),
                    retries: vitals.reached().retries.into(),
                },
                idle_time_ms: vitals
                    .keep_alive()
                    .learned()
                    .map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
                idle_closes: vitals.keep_alive().closes(),
                tunnels: u64::from(vitals.tunnels()),
                weight: endpoint.weight,
                priority: endpoint.tier.priority,
                zone: endpoint.zone.as_ref().map(ToString::to_string),
                counts: pool.counts(endpoint).counts(),
            }
        });
        let (made, refused) = pool.metrics.retried();
        let fill = pool.upstream.budget.fill(now_ms());
        Pool {
            name: config.name.clone(),
            strategy: match config.strategy {
                Strategy::RoundRobin => "round_robin",
                Strategy::LeastConnection => "least_connection",
            },
            discovery: config.discover.as_ref().map(|discover| Discovery {
                name: discover.name.clone(),
                last_answer: self.finder.last(&config.name).map(|last| last.as_str()),
            }),
            queue_length: pool.upstream.waiting() as u64,
            queue: Waiting::ALL.iter().map(|lane| lane_status(pool, *lane)).collect(),
            panicking: roster.is_in_panic(pool.upstream.rule()),
            retries: Retries {
                made: made.into_iter().collect(),
                refused,
                budget: Budget { used: fill.used, allowed: fill.allowed },
            },
            shares: shares.iter().map(|(tier, percent)| share(*tier, *percent)).collect(),
            slo: self.budgets.report(pool),
            endpoints: endpoints.collect(),
        }
    }
}

impl Source for World {
    fn status(&self) -> Status {
        let snapshot = self.live.load();
        self.budgets.look();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            generation: snapshot.generation.0,
            loaded_at: Some(snapshot.built_at),
            config_file: self.file.display().to_string(),
            phase: self.life.phase(),
            uptime_seconds: self.started.elapsed().as_secs(),
            workers: snapshot.config.process.workers.get(),
            load: self.siblings.iter().map(load).collect(),
            connections_max: self.connections_max as u64,
            reloads: Reloads { ok: self.metrics.reloads(Reload::Ok), failed: self.metrics.reloads(Reload::Failed) },
            temp_bytes: self.vault.on_disk(),
            buffered_bytes: self.vault.in_memory(),
            listeners: self.listeners.iter().map(Seen::status).collect(),
            pools: snapshot.pools.iter().map(|pool| self.pool_status(pool)).collect(),
            limits: limits(&snapshot.quotas),
            drains: self.drains.standing().into_iter().map(drain_status).collect(),
            bans: self.bans.len(now_ns()) as u64,
            shield: self.shield(&snapshot),
            fleet: self.fleet.is_there(),
            generations: self.generations.list(),
            sinks: super::sinks::shown(&snapshot.config, &self.metrics),
            exports: super::sinks::exported(&snapshot.config, &self.metrics),
        }
    }

    fn bans(&self) -> Vec<Ban> {
        let now = now_ns();
        let shown = |ban: limit::Ban| Ban {
            who: ban.subject.to_string(),
            scope: ban.scope.as_str(),
            seconds_left: Duration::from_nanos(ban.until.saturating_sub(now)).as_secs(),
            before: ban.before,
            reason: ban.cause.into_owned(),
        };
        self.bans.list(now).into_iter().map(shown).collect()
    }

    fn phase(&self) -> Phase {
        self.life.phase()
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn redactor(&self) -> Arc<Redactor> {
        Arc::clone(&self.live.load().redactor)
    }
}

impl Operations for World {
    fn drain(&self, target: Target, lasting: Option<Duration>, even_the_last: bool) -> Result<(), Wrong> {
        Ok(self.drains.drain(target, lasting, even_the_last)?)
    }

    fn undrain(&self, target: Target) -> Result<(), Wrong> {
        Ok(self.drains.undrain(target)?)
    }

    fn ban(&self, subject: Subject, scope: Scope, lasting: Duration, reason: Cow<'static, str>) -> Result<(), Wrong> {
        let now = now_ns();
        let ban = self.bans.ban(&subject, scope, lasting, reason, now);
        let ban = ban.ok_or_else(|| Wrong::Conflict(format!("{subject} is in `bans.never`")))?;
        events::client_banned(&self.metrics, &subject, scope.as_str(), "operator", lasting, ban.before);
        self.fleet.tell_ban(&ban, now);
        Ok(())
    }

    fn unban(&self, subject: &Subject, scope: Scope) -> Result<(), Wrong> {
        if !self.bans.lift(subject, scope, now_ns()) {
            return Err(Wrong::Unknown(format!("{subject} is not banned from {}", scope.as_str())));
        }
        self.fleet.tell_lifted(&self.bans.same(subject), scope);
        Ok(())
    }
}

impl Gauges for World {
    fn state(&self) -> State {
        self.status().gauges()
    }
}

impl Seen {
    fn status(&self) -> Listener {
        let listener = self.gate.listener.load();
        let now = SystemTime::now();
        let certificates = self.gate.certificates.load();
        Listener {
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            tls: listener.tls.is_some(),
            connections: self.gate.open() as u64,
            speaking: Protocol::ALL.map(|protocol| (protocol, self.gate.speaking(protocol) as u64)),
            quic_steering: self.gate.quic.load().is_some().then_some(self.steered.as_str()),
            certificates: certificates
                .iter()
                .map(|(file, expires)| Certificate::new(file.display().to_string(), *expires, now))
                .collect(),
        }
    }
}

fn load(worker: &Sibling) -> Load {
    let (busy, tasks) = worker.load();
    Load { busy_seconds: busy.as_secs_f64(), connections: worker.open() as u64, tasks: tasks as u64 }
}

fn limits(quotas: &Quotas) -> Vec<Limit> {
    let guard = quotas.login.iter().flat_map(|guard| [&guard.per_address, &guard.per_user]);
    let meters = quotas.iter().filter_map(|quota| quota.meter.as_ref()).chain(guard);
    let limit = |meter: &Arc<Meter>| {
        let table = meter.rate.table();
        Limit {
            name: meter.name.clone(),
            keys: table.occupied(now_ns()) as u64,
            pushed_out: table.pushed_out(),
            bytes: table.bytes() as u64,
        }
    };
    let mut limits: Vec<Limit> = meters.map(limit).collect();
    limits.sort_by(|one, other| one.name.cmp(&other.name));
    limits
}

fn drain_status((target, left): (Target, Option<Duration>)) -> Drain {
    Drain { target: target.to_string(), seconds_left: left.map(|left| left.as_secs()) }
}

fn lane_status(pool: &Served, lane: Waiting) -> Lane {
    let queue = pool.upstream.queue();
    Lane {
        lane: lane.as_str(),
        waiting: queue.waiting(lane) as u64,
        ended: Ending::ALL.iter().map(|ending| (ending.as_str(), queue.ended(lane, *ending))).collect(),
    }
}

const fn share(tier: Tier, percent: u32) -> Share {
    Share { priority: tier.priority, zone: if tier.far { "far" } else { "near" }, percent }
}

const fn bench(bench: Bench) -> &'static str {
    match bench {
        Bench::In => "in",
        Bench::Out => "ejected",
        Bench::Trial | Bench::OpenTrial | Bench::OnTrial => "trial",
    }
}
