//! What a service manager is told: `sd_notify(3)`. Without one, nobody listens and nothing happens.

use sd_notify::NotifyState::{MonotonicUsec, Ready, Reloading, Status, Stopping, Watchdog};
use sd_notify::{NotifyState, notify};

use crate::lexicon::Generation;

/// Everything is bound and running.
pub(super) fn ready(generation: Generation) {
    tell(&[Ready, Status(&format!("generation {generation}"))]);
}

/// A reload begins.
pub(super) fn reloading() {
    // The time stamp is asked for by `Type=notify-reload`; without a clock the line alone serves `Type=notify`.
    match NotifyState::monotonic_usec_now() {
        Ok(MonotonicUsec(now)) => tell(&[Reloading, MonotonicUsec(now)]),
        Ok(_) | Err(_) => tell(&[Reloading]),
    }
}

/// The reload is over. `generation` is in use, be it the old one.
pub(super) fn reloaded(generation: Generation, refused: bool) {
    let note = if refused { ", a reload was refused: see the log" } else { "" };
    tell(&[Ready, Status(&format!("generation {generation}{note}"))]);
}

/// Whether the manager ends us when it does not hear that we live (`WatchdogSec=`, of at least some seconds).
pub(super) fn is_watching() -> bool {
    sd_notify::watchdog_enabled().is_some()
}

/// The process lives.
pub(super) fn alive() {
    tell(&[Watchdog]);
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[Stopping, Status("draining")]);
}

fn tell(what: &[NotifyState<'_>]) {
    // A manager that does not listen is no reason to serve any worse.
    drop(notify(what));
}
