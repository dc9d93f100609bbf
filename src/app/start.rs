//! From a configuration file to a running proxy.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Semaphore, watch};

use crate::admin::Admin;
use crate::config::{Config, Loaded};
use crate::control::budgets::Budgets;
use crate::control::drains::Drains;
use crate::control::push;
use crate::control::signals::Signals;
use crate::control::supervisor::{Policy, Supervisor};
use crate::control::watch as files;
use crate::fleet::{self, Fleet};
use crate::lifecycle::Lifecycle;
use crate::limit::{Bans, Clients, Keyring};
use crate::net::descriptors;
use crate::pipeline::receive::Vault;
use crate::pipeline::{self, Pipeline, Sentry, now_ms, now_ns};
use crate::serve::gate::Gate;
use crate::serve::quic;
use crate::serve::worker::{self, Door, Shared, Sibling};
use crate::snapshot::{Live, Snapshot};
use crate::telemetry::events;
use crate::telemetry::metrics::{Gauges, Metrics};
use crate::tls::Tickets;
use crate::upstream::Idle;
use crate::waf::Proofs;

use super::bound::Bound;
use super::discover::Finder;
use super::generations::Generations;
use super::observe::Observer;
use super::sinks::{self, Sinks};
use super::status::World;
use super::{Error, Options, Running, admin, background, end, reload, service};

/// How often idle connections to endpoints are looked through.
const SWEEP: Duration = Duration::from_millis(250);

/// Runs until told to end.
pub(super) fn run(options: Options) -> Result<(), Error> {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::System { what: "control runtime", source })?;
    let _entered = runtime.enter();
    let mut prints = files::Prints::take(std::slice::from_ref(&options.file));
    let Loaded { config, warnings, files, outline } = Config::load(&options.file).map_err(Error::Configuration)?;
    // Certificates and pages are read later than this look at them.
    prints.add(&files);
    // First of all, since names may take seconds: as process 1 of a container it would not even hear SIGTERM otherwise.
    let signals = Signals::install().map_err(|source| Error::System { what: "signals", source })?;
    let settings = &config.process;
    let _events = events::install(&settings.log, settings.log_json, settings.log_queue).map_err(Error::Events)?;
    for warning in &warnings {
        events::configuration_warning(warning);
    }

    let workers = config.process.workers.get();
    let metrics = Metrics::new(workers);
    let secret = config.process.fleet_secret.as_ref().map(|secret| secret.read()).transpose();
    let secret = secret.map_err(|source| Error::Secret { what: "fleet secret", source })?;
    let access = admin::access(config.admin.as_ref())?;
    let tickets = Tickets::new(secret.as_ref().map(|secret| secret.expose()));
    let admin_security = Arc::new(ArcSwapOption::from(admin::security(config.admin.as_ref(), &tickets)?));
    let quic_keys = quic::Keys::new(secret.as_ref().map(|secret| secret.expose())).map_err(Error::Quic)?;
    let securities = reload::securities(&config, &tickets).map_err(Error::Tls)?;
    let clients = Clients::new(config.clients.max_tracked, config.clients.ipv6_prefix);
    let prepared = sinks::prepare(&config, &metrics)?;
    let streams = clients.separate();
    let snapshot = Snapshot::build(config, None, &metrics).map_err(Error::Build)?;
    let config = Arc::clone(&snapshot.config);

    // Every address is bound before anything runs: whatever is wrong is known now.
    let mut listening = Vec::new();
    for (listener, security) in config.listeners.iter().zip(securities) {
        let counts = [clients.clone(), streams.clone()];
        let gate = Gate::new(Arc::clone(listener), security, metrics.listener(&listener.name), counts);
        listening.push(Bound::new(Arc::new(gate), listener, workers, &quic_keys)?);
    }
    let admin_socket = config.admin.as_ref().map(admin::bind).transpose()?;

    let lifecycle = Lifecycle::new();
    let generations = Arc::new(Generations::first(snapshot.generation.0, outline));
    let live = Arc::new(Live::new(snapshot));
    let vault = Arc::new(Vault::new(&config.process));
    let bans = Bans::new(config.bans.clone(), config.clients.ipv6_prefix);
    let sentry = Sentry::new(&config.shield, config.clients.ipv6_prefix);
    let proofs = Proofs::new(config.shield.max_crawlers);
    let keys = Keyring::new(secret.as_ref().map(|secret| secret.expose()));
    let (fleet, sync) = fleet(&config, &bans, &metrics).unzip();
    let fleet = fleet.unwrap_or(Fleet::alone());
    let log = Sinks::start(&config, prepared, &metrics)?;
    let observer = Arc::new(Observer::new(Arc::clone(&live)));
    let drains = Arc::new(Drains::new(Arc::clone(&live) as _, Arc::clone(&observer) as _, now_ms));
    let budgets = Budgets::open(Arc::clone(&live), metrics.clone(), config.process.objectives_file.clone());
    let budgets = Arc::new(budgets);
    let (siblings, doors): (Vec<Sibling>, Vec<Door>) = (0..workers).map(|_| Sibling::new()).unzip();
    let siblings: Arc<[Sibling]> = siblings.into();
    let limit = descriptors::raise();
    let connections = descriptors::for_clients(config.process.max_connections, limit);
    if connections < config.process.max_connections {
        events::descriptors_short(config.process.max_connections, connections, limit);
    }
    let world = Arc::new(World {
        siblings: Arc::clone(&siblings),
        connections_max: connections,
        budgets: Arc::clone(&budgets),
        drains: Arc::clone(&drains),
        finder: Arc::new(Finder::new(Arc::clone(&live), Arc::clone(&drains))),
        file: options.file.clone(),
        started: began,
        live: Arc::clone(&live),
        metrics: metrics.clone(),
        vault: Arc::clone(&vault),
        bans: bans.clone(),
        sentry: sentry.clone(),
        proofs: proofs.clone(),
        fleet: fleet.clone(),
        listeners: listening.iter().map(Bound::seen).collect(),
        life: lifecycle.life(),
        generations: Arc::clone(&generations),
        recorder: Arc::clone(log.recorder()),
    });
    let gauges: Arc<dyn Gauges> = Arc::clone(&world) as _;
    metrics.read_gauges_from(&gauges);

    // Background tasks first: they find out who is up.
    let mut supervisor = Supervisor::new();
    let finder = Arc::clone(&world.finder);
    let wakes = background::tend(&mut supervisor, &live, &observer, &finder, &runtime);
    let (watched, seen) = watch::channel(Arc::new(prints));
    let (changed, changes) = files::channel();
    if config.process.watch_files {
        supervisor.start("files", Policy::Restart, move |stop| files::run(seen.clone(), changed.clone(), stop));
    }
    let (pushes, counted) = (log.pushes(), metrics.clone());
    supervisor.start("push", Policy::Restart, move |stop| push::run(pushes.clone(), counted.clone(), stop));
    background::ask_about_crawlers(&mut supervisor, &proofs, &live, &metrics);
    supervisor.start("budgets", Policy::Restart, move |stop| Arc::clone(&budgets).run(stop));
    let ending = Arc::clone(&drains);
    supervisor.start("drains", Policy::Restart, move |stop| Arc::clone(&ending).run(stop));
    let admin = Admin::new(Arc::clone(&world) as _, Arc::clone(&world) as _, access);
    if let Some(socket) = &admin_socket {
        admin::start(&mut supervisor, socket, &admin_security, &admin, metrics.admin(), &lifecycle.life())?;
    }

    if let Some(sync) = sync {
        supervisor.start("fleet", Policy::Restart, move |mut stop| {
            let sync = Arc::clone(&sync);
            async move { sync.run(stop.stopped()).await }
        });
    }

    let shared = Shared {
        connections: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
        siblings,
        life: lifecycle.life(),
        blocking_threads: config.process.file_threads.div_ceil(workers),
    };
    let crew = Crew {
        live: &live,
        vault: &vault,
        clients: &clients,
        sentry: &sentry,
        proofs: &proofs,
        bans: &bans,
        fleet: &fleet,
        keys: &keys,
        log: &log,
        metrics: &metrics,
        shared: &shared,
    };
    let threads = crew.start(&mut listening, doors)?;

    let running = Running {
        listeners: world
            .listeners
            .iter()
            .flat_map(|seen| seen.addresses.iter().map(|at| (seen.name.clone(), *at)))
            .collect(),
        admin: admin_socket.as_ref().map(|socket| socket.address),
        live: Arc::clone(&live),
        metrics: metrics.clone(),
    };
    listening.iter().for_each(Bound::tell);
    if let Some(address) = running.admin {
        events::admin_bound(address);
    }
    let reloader = reload::Reloader {
        file: options.file,
        live,
        metrics,
        tickets,
        gates: listening.into_iter().map(|bound| bound.gate).collect(),
        watched,
        wakes,
        log,
        drains,
        admin,
        admin_security,
        bans,
        generations,
    };
    events::serving(began.elapsed());
    service::ready(world.live.load().generation);
    if let Some(ready) = options.ready {
        ready(running);
    }
    runtime.block_on(end::live_and_end(end::Ending {
        lifecycle,
        signals,
        changes,
        supervisor,
        reloader,
        threads,
        world,
    }))
}

/// Both ends of what is shared with other proxies, if anything is.
fn fleet(config: &Config, bans: &Bans, metrics: &Metrics) -> Option<(Fleet, Arc<fleet::Sync>)> {
    let settings = config.redis.clone()?;
    let (fleet, inbox) = Fleet::new(settings.queue, metrics.fleet());
    Some((fleet, Arc::new(fleet::Sync::new(settings, inbox, bans.clone(), metrics.clone(), now_ns))))
}

/// What every worker is given.
struct Crew<'a> {
    live: &'a Arc<Live>,
    vault: &'a Arc<Vault>,
    clients: &'a Clients,
    sentry: &'a Sentry,
    proofs: &'a Proofs,
    bans: &'a Bans,
    fleet: &'a Fleet,
    keys: &'a Keyring,
    log: &'a Sinks,
    metrics: &'a Metrics,
    shared: &'a Shared,
}

impl Crew<'_> {
    fn start(&self, listening: &mut [Bound], doors: Vec<Door>) -> Result<Vec<JoinHandle<()>>, Error> {
        let tunnels = self.clients.separate();
        let start = |(index, door): (usize, Door)| {
            let sockets = listening
                .iter_mut()
                .flat_map(|bound| {
                    let gate = Arc::clone(&bound.gate);
                    let own = bound.sockets.get_mut(index).map(std::mem::take).unwrap_or_default();
                    own.into_iter().map(move |socket| (Arc::clone(&gate), socket))
                })
                .collect();
            let quic = listening
                .iter_mut()
                .flat_map(|bound| bound.quic.get_mut(index).map(std::mem::take).unwrap_or_default())
                .collect();
            let parts = pipeline::Parts {
                live: Arc::clone(self.live),
                idle: Idle::default(),
                vault: Arc::clone(self.vault),
                tunnels: tunnels.clone(),
                sentry: self.sentry.clone(),
                proofs: self.proofs.clone(),
                bans: self.bans.clone(),
                fleet: self.fleet.clone(),
                keys: self.keys.clone(),
                emitter: self.log.worker(),
                metrics: self.metrics.clone(),
                life: self.shared.life.clone(),
            };
            let sockets = worker::Sockets { tcp: sockets, quic };
            worker::start(index, sockets, door, self.shared.clone(), move || {
                tokio::spawn(sweep(parts.idle.clone()));
                Pipeline::new(parts)
            })
        };
        let started: io::Result<Vec<_>> = doors.into_iter().enumerate().map(start).collect();
        started.map_err(|source| Error::System { what: "worker thread", source })
    }
}

/// Closes connections to endpoints that have rested for too long.
async fn sweep(idle: Idle) {
    loop {
        tokio::time::sleep(SWEEP).await;
        idle.sweep();
    }
}
