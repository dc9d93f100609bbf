//! The scenarios, a file for each: a fault, what is expected of the proxy, and how it is seen.

mod all_down;
mod certificate;
mod closing;
mod descriptors;
mod errors;
mod flapping;
mod kill;
mod log_receiver;
mod log_sink;
mod names;
mod pair;
mod redis;
mod reload;
mod rolling;
mod slow;
mod stop;
mod terminate;
mod unreachable;
mod wire;
mod zone;

use std::pin::Pin;

use crate::report::Finding;
use crate::stage::Stage;

/// A fault and what it may cost.
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    /// What is broken.
    pub(crate) fault: &'static str,
    /// What is stated beforehand: losses and times.
    pub(crate) expected: &'static str,
    /// What it needs of the system.
    pub(crate) needs: Needs,
    /// Plays it.
    pub(crate) play: for<'a> fn(&'a Stage) -> Playing<'a>,
}

/// A scenario under way.
pub(crate) type Playing<'a> = Pin<Box<dyn Future<Output = Finding> + 'a>>;

/// What a scenario needs of the system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Needs {
    /// Processes and loopback.
    Nothing,
    /// Network namespaces, and wires between them.
    Wires,
    /// A `redis-server`.
    Redis,
}

/// All of them, in the order of the table.
pub(crate) const ALL: &[Scenario] = &[
    kill::SCENARIO,
    stop::SCENARIO,
    errors::SCENARIO,
    slow::SCENARIO,
    closing::IDLE,
    closing::ANY,
    unreachable::REFUSED,
    unreachable::BLACKHOLE,
    unreachable::RESETTING,
    zone::CUT,
    zone::RESET,
    wire::LATE,
    wire::LOSSY,
    all_down::SCENARIO,
    flapping::SCENARIO,
    rolling::SCENARIO,
    reload::SCENARIO,
    certificate::SCENARIO,
    terminate::SCENARIO,
    pair::SCENARIO,
    descriptors::SCENARIO,
    log_sink::DISK,
    log_sink::PIPE,
    log_receiver::AWAY,
    names::SCENARIO,
    redis::SCENARIO,
];
