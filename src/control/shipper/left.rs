//! Spools that no sink asks for any more.
//!
//! Floor 5, blocking. A sink that was renamed or removed leaves its files; somebody has to be told, because nothing else ever
//! looks at them again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::ENDING;
use super::spool::left_in;
use crate::config::Sink;
use crate::telemetry::events;

/// Time between two looks at a spool that somebody uses: a sink that is about to end.
const AGAIN: Duration = Duration::from_millis(250);

/// Tells of spools beside those of `sinks`, also in the directories `former`, where sinks had theirs before.
pub fn tell_of_left(sinks: &[Sink], former: impl IntoIterator<Item = PathBuf>) {
    let place = |sink: &Sink| sink.spool.as_ref().map(|spool| spool.dir.join(sink.name.as_str()));
    let used: BTreeSet<PathBuf> = sinks.iter().filter_map(place).collect();
    let now = sinks.iter().filter_map(|sink| sink.spool.as_ref()).map(|spool| spool.dir.clone());
    let dirs: BTreeSet<PathBuf> = now.chain(former).collect();
    if dirs.is_empty() {
        return;
    }
    // Nobody waits for it, and it ends by itself.
    drop(tokio::task::spawn_blocking(move || {
        let until = Instant::now() + 2 * ENDING;
        for dir in dirs.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten()) {
            let dir = dir.path();
            if !used.contains(&dir) {
                look(&dir, until);
            }
        }
    }));
}

#[expect(clippy::disallowed_methods, reason = "on a thread that is there for blocking")]
fn look(dir: &Path, until: Instant) {
    loop {
        match left_in(dir) {
            Ok(Some(left)) if left.entries > 0 => return events::spool_left(dir, left.entries, left.bytes),
            // Used by another process for good, or by a sink that ends.
            Ok(None) if Instant::now() < until => thread::sleep(AGAIN),
            // What cannot be read is none of ours, or told to whoever wants to use it.
            Ok(_) | Err(_) => return,
        }
    }
}
