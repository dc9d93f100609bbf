//! Spools that no sink asks for any more.
//!
//! Floor 5. A sink that was renamed or removed leaves its files; somebody has to be told, because nothing else ever
//! looks at them again.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

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
    drop(tokio::spawn(async move {
        let until = Instant::now() + 2 * ENDING;
        let subdirectories =
            move || dirs.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten()).collect();
        let found: Vec<DirEntry> = spawn_blocking(subdirectories).await.unwrap_or_default();
        for dir in found.iter().map(DirEntry::path).filter(|dir| !used.contains(dir)) {
            look(dir, until).await;
        }
    }));
}

async fn look(dir: PathBuf, until: Instant) {
    loop {
        let asked = dir.clone();
        match spawn_blocking(move || left_in(&asked)).await {
            Ok(Ok(Some(left))) if left.entries > 0 => return events::spool_left(&dir, left.entries, left.bytes),
            // Used by another process for good, or by a sink that ends.
            Ok(Ok(None)) if Instant::now() < until => sleep(AGAIN).await,
            // What cannot be read is none of ours, or told to whoever wants to use it.
            Ok(Ok(_) | Err(_)) | Err(_) => return,
        }
    }
}
