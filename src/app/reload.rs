//! A new generation in place of the old one, or no change at all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;
use tokio::sync::{Notify, watch};

use crate::admin::Admin;
use crate::config::process::AdminSocket;
use crate::config::{Config, Loaded};
use crate::control::drains::Drains;
use crate::control::watch::Prints;
use crate::limit::Bans;
use crate::serve::gate::Gate;
use crate::snapshot::{Live, Snapshot};
use crate::telemetry::events;
use crate::telemetry::metrics::Metrics;
use crate::tls::{self, Tickets};

use super::generations::Generations;
use super::sinks::{self, Sinks};
use super::{Error, admin, service};

/// Everything that a reload touches.
pub(super) struct Reloader {
    pub(super) file: PathBuf,
    pub(super) live: Arc<Live>,
    pub(super) metrics: Metrics,
    pub(super) tickets: Arc<Tickets>,
    pub(super) gates: Vec<Arc<Gate>>,
    pub(super) watched: watch::Sender<Arc<Prints>>,
    pub(super) wakes: Vec<Arc<Notify>>,
    pub(super) log: Sinks,
    pub(super) drains: Arc<Drains>,
    pub(super) admin: Admin,
    pub(super) admin_security: admin::Security,
    pub(super) bans: Bans,
    pub(super) generations: Arc<Generations>,
}

/// TLS settings for each listener, in order.
///
/// # Errors
/// Everything that is wrong with certificates and keys.
pub(super) fn securities(
    config: &Config,
    tickets: &Tickets,
) -> Result<Vec<Option<Arc<ServerConfig>>>, Vec<tls::LoadError>> {
    let mut errors = Vec::new();
    let mut loaded = Vec::new();
    for listener in &config.listeners {
        match listener.tls.as_ref().map(|wanted| tls::server::load(wanted, listener.http2.enabled, tickets)) {
            None => loaded.push(None),
            Some(Ok(security)) => loaded.push(Some(security)),
            Some(Err(wrong)) => errors.extend(wrong),
        }
    }
    if errors.is_empty() { Ok(loaded) } else { Err(errors) }
}

impl Reloader {
    /// Reads the configuration again. Whatever is wrong is told and changes nothing; connections, requests and tunnels
    /// live on in any case.
    pub(super) fn reload(&self) {
        let began = Instant::now();
        service::reloading();
        let outcome = self.try_reload();
        let generation = self.live.load().generation;
        match &outcome {
            Ok(()) => events::reloaded(&self.metrics, generation, &self.file, began.elapsed()),
            Err(error) => {
                self.generations.failed(generation.0, error);
                events::reload_failed(&self.metrics, generation, &self.file, error);
            }
        }
        service::reloaded(generation, outcome.is_err());
    }

    fn try_reload(&self) -> Result<(), Error> {
        let mut prints = Prints::take(std::slice::from_ref(&self.file));
        let Loaded { config, warnings, files, outline } = Config::load(&self.file).map_err(Error::Configuration)?;
        // Certificates, pages and lists are read later than this look at them.
        prints.add(&files);
        // What can fail comes first; from `build` on nothing does.
        let securities = securities(&config, &self.tickets).map_err(Error::Tls)?;
        let access = admin::access(config.admin.as_ref())?;
        let admin_security = admin::security(config.admin.as_ref(), &self.tickets)?;
        let prepared = sinks::prepare(&config, &self.metrics)?;
        let previous = self.live.load();
        for setting in fixed_at_start(&previous.config, &config) {
            events::needs_restart(&setting);
        }
        let snapshot = Snapshot::build(config, Some(&previous), &self.metrics).map_err(Error::Build)?;
        for warning in &warnings {
            events::configuration_warning(warning);
        }
        let config = Arc::clone(&snapshot.config);
        for (listener, security) in config.listeners.iter().zip(securities) {
            let gate = self.gates.iter().find(|gate| gate.listener.load().name == listener.name);
            // Plain stays plain and TLS stays TLS on a socket that clients know.
            if let Some(gate) = gate.filter(|gate| gate.listener.load().tls.is_some() == listener.tls.is_some()) {
                gate.renew(Arc::clone(listener), security);
            }
        }
        self.log.reconfigure(&config, prepared);
        self.admin.renew(access);
        // Plain stays plain and TLS stays TLS, here as well.
        if self.admin_security.load().is_some() == admin_security.is_some() {
            self.admin_security.store(admin_security);
        }
        self.bans.renew(config.bans.clone());
        let generation = snapshot.generation.0;
        self.live.publish(snapshot);
        self.generations.loaded(generation, outline);
        self.drains.obey();
        self.watched.send_replace(Arc::new(prints));
        for wake in &self.wakes {
            wake.notify_one();
        }
        Ok(())
    }
}

fn local(config: &Config) -> Option<&AdminSocket> {
    config.admin.as_ref().and_then(|admin| admin.socket.as_ref())
}

fn has_tls(config: &Config) -> bool {
    config.admin.as_ref().is_some_and(|admin| admin.tls.is_some())
}

/// Settings that differ and are read at a start only, by key.
fn fixed_at_start(old: &Config, new: &Config) -> Vec<String> {
    let (was, is) = (&old.process, &new.process);
    let mut changed: Vec<String> = [
        ("process.workers", was.workers != is.workers),
        ("process.max_connections", was.max_connections != is.max_connections),
        ("process.fleet_secret", was.fleet_secret != is.fleet_secret),
        ("process.temp_dir", was.temp_dir != is.temp_dir),
        ("process.temp_bytes", was.temp_bytes != is.temp_bytes),
        ("process.buffer_memory", was.buffer_memory != is.buffer_memory),
        ("process.file_threads", was.file_threads != is.file_threads),
        ("process.log", was.log != is.log),
        ("process.log_json", was.log_json != is.log_json),
        ("process.log_queue", was.log_queue != is.log_queue),
        ("process.objectives_file", was.objectives_file != is.objectives_file),
        ("process.watch_files", was.watch_files != is.watch_files),
        ("clients.max_tracked", old.clients.max_tracked != new.clients.max_tracked),
        ("shield.max_tracked", old.shield.max_tracked != new.shield.max_tracked),
        ("shield.max_crawlers", old.shield.max_crawlers != new.shield.max_crawlers),
        ("shield.misses", old.shield.misses != new.shield.misses),
        ("shield.pages", old.shield.pages != new.shield.pages),
        ("clients.ipv6_prefix", old.clients.ipv6_prefix != new.clients.ipv6_prefix),
        ("redis", old.redis != new.redis),
        ("bans.max", old.bans.max != new.bans.max),
        ("access_log.queue", old.access_log.queue != new.access_log.queue),
        (
            "admin.address",
            old.admin.as_ref().map(|admin| admin.address) != new.admin.as_ref().map(|admin| admin.address),
        ),
        (
            "admin.max_connections",
            old.admin.as_ref().map(|admin| admin.max_connections)
                != new.admin.as_ref().map(|admin| admin.max_connections),
        ),
        ("admin.certificate", has_tls(old) != has_tls(new)),
        ("admin.socket", local(old) != local(new)),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(key, _)| key.to_owned())
    .collect();
    for listener in &new.listeners {
        match old.listeners.iter().find(|known| known.name == listener.name) {
            None => changed.push(format!("listeners.{} (new)", listener.name)),
            Some(known) if known.addresses != listener.addresses => {
                changed.push(format!("listeners.{}.address", listener.name));
            }
            Some(known) if known.tls.is_some() != listener.tls.is_some() => {
                changed.push(format!("listeners.{}.tls", listener.name));
            }
            Some(known) if known.http3.is_some() != listener.http3.is_some() => {
                changed.push(format!("listeners.{}.http3", listener.name));
            }
            Some(known) => {
                let buffer = |of: &crate::config::Listener| of.http3.as_ref().map(|http3| http3.socket_buffer);
                if buffer(known) != buffer(listener) {
                    changed.push(format!("listeners.{}.http3.socket_buffer", listener.name));
                }
                let steering = |of: &crate::config::Listener| of.http3.as_ref().map(|http3| http3.kernel_steering);
                if steering(known) != steering(listener) {
                    changed.push(format!("listeners.{}.http3.kernel_steering", listener.name));
                }
                let handshakes = |of: &crate::config::Listener| of.tls.as_ref().map(|tls| tls.max_handshakes);
                if handshakes(known) != handshakes(listener) {
                    changed.push(format!("listeners.{}.tls.max_handshakes", listener.name));
                }
            }
        }
    }
    for listener in &old.listeners {
        if !new.listeners.iter().any(|kept| kept.name == listener.name) {
            changed.push(format!("listeners.{} (removed)", listener.name));
        }
    }
    changed
}
