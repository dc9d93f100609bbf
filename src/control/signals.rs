//! What the operator asks for by signal.
//!
//! Floor 5. SIGTERM and SIGINT drain, and end at once when they come again; SIGHUP reloads; SIGUSR1 reopens log files.
//! Deliberately absent: doing any of it; that is `app`'s.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// End politely: first SIGTERM or SIGINT.
    Drain,
    /// End now: any further one.
    EndNow,
    /// Read the configuration again: SIGHUP.
    Reload,
    /// Open log files anew, after they were moved away: SIGUSR1.
    ReopenLogs,
}

/// Receives the process's signals. From its making on, none of them ends the process by itself.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
    draining: bool,
}

impl Signals {
    /// Takes the signals over. Must be called in a runtime.
    ///
    /// # Errors
    /// When a handler cannot be registered.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            draining: false,
        })
    }

    /// The next thing asked for. Signals that come while nobody asks are merged by kind, never lost.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            // An end that is asked for goes before everything else.
            biased;
            _ = self.terminate.recv() => self.end(),
            _ = self.interrupt.recv() => self.end(),
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user_1.recv() => Asked::ReopenLogs,
        }
    }

    const fn end(&mut self) -> Asked {
        let again = self.draining;
        self.draining = true;
        if again { Asked::EndNow } else { Asked::Drain }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn send(signal: &str) {
        let status = Command::new("kill").arg(signal).arg(std::process::id().to_string()).status().unwrap();
        assert!(status.success());
    }

    // One test: signals belong to the process, and tests share it.
    #[tokio::test]
    async fn each_signal_asks_for_its_own_thing() {
        let mut signals = Signals::install().unwrap();

        send("-HUP");
        assert_eq!(signals.next().await, Asked::Reload);
        send("-USR1");
        assert_eq!(signals.next().await, Asked::ReopenLogs);
        send("-TERM");
        assert_eq!(signals.next().await, Asked::Drain);
        send("-INT");
        assert_eq!(signals.next().await, Asked::EndNow);
    }
}
