//! Notices that a configuration file, a certificate or a key has changed.
//!
//! Floor 5. Directories are watched rather than files, because that is where renames happen: editors replace a file,
//! Kubernetes swaps the `..data` symlink that a mounted file's path leads through. An event says only "look again"; what
//! counts is whether the [`Print`] of a file is another than before, so that a log file in the same directory reloads
//! nothing. In: the paths with their prints of before they were read, anew after each reload. Out: one signal per burst
//! of changes. Deliberately absent: reading the files.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::supervisor::Stop;

/// A burst of changes is over when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(250);

/// A burst that does not end is cut here.
const LONGEST_BURST: Duration = Duration::from_secs(2);

/// How often files are looked at without being told: network file systems tell nothing, and watches can run out.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);

/// Files to watch, each as it looked before it was last read; replaced by each reload.
pub type Files = watch::Receiver<Arc<Prints>>;

/// Some watched file has changed. At most one waits: a reload reads everything anyway.
pub type Changed = mpsc::Receiver<()>;

/// The end that [`run`] tells changes to, and the one that hears of them.
pub fn channel() -> (mpsc::Sender<()>, Changed) {
    mpsc::channel(1)
}

/// What files look like at a moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Prints(Vec<Print>);

impl Prints {
    /// Looks at `paths`; to be done before they are read, so that no change falls between the look and the reading.
    pub fn take(paths: &[PathBuf]) -> Self {
        Self(paths.iter().map(|path| Print::of(path)).collect())
    }

    /// Looks at more paths, but for those it knows.
    pub fn add(&mut self, paths: &[PathBuf]) {
        for path in paths {
            if self.0.iter().all(|print| print.path != *path) {
                self.0.push(Print::of(path));
            }
        }
    }

    /// Looks at the same paths again; a file system may keep whoever looks waiting.
    async fn again(&self) -> Self {
        let paths: Vec<PathBuf> = self.0.iter().map(|print| print.path.clone()).collect();
        // Only a runtime that ends cancels it.
        tokio::task::spawn_blocking(move || Self::take(&paths)).await.unwrap_or_else(|_| self.clone())
    }
}

/// Watches until stopped. What differs from what `files` say it looked like before it was read has changed; so has a
/// file that was missing and appears.
pub async fn run(mut files: Files, changed: mpsc::Sender<()>, mut stop: Stop) {
    let (told, mut events) = mpsc::channel(1);
    let mut directories = Directories::new(told);
    let mut prints = Arc::clone(&files.borrow_and_update());
    directories.follow(&prints);
    loop {
        // Directories are watched by now: whatever changes from here on is told.
        let now = prints.again().await;
        if now != *prints {
            for (now, before) in now.0.iter().zip(&prints.0).filter(|(now, before)| now != before) {
                let (missing, was_missing) = (now.state.is_none(), before.state.is_none());
                tracing::info!(path = %now.path.display(), missing, was_missing, "file changed");
            }
            prints = Arc::new(now);
            directories.follow(&prints);
            // Full: a reload is waiting already and will see this change.
            changed.try_send(()).ok();
        }
        tokio::select! {
            () = stop.stopped() => return,
            renewed = files.changed() => {
                if renewed.is_err() {
                    return;
                }
                prints = Arc::clone(&files.borrow_and_update());
                directories.follow(&prints);
            }
            // The sender lives in `directories`.
            _ = events.recv() => settle(&mut events).await,
            () = sleep(LOOK_ANYWAY) => {}
        }
    }
}

/// Waits until a burst is over.
async fn settle(events: &mut mpsc::Receiver<()>) {
    let cut = Instant::now() + LONGEST_BURST;
    while Instant::now() < cut {
        match timeout_at(cut.min(Instant::now() + QUIET), events.recv()).await {
            Ok(Some(())) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// What tells a file from its successor under the same path.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Print {
    path: PathBuf,
    /// Where the path leads, through all symlinks; `None` when it leads nowhere.
    state: Option<State>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct State {
    real: PathBuf,
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl Print {
    fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), state: State::of(path).ok() }
    }
}

impl State {
    fn of(path: &Path) -> std::io::Result<Self> {
        let real = std::fs::canonicalize(path)?;
        let facts = std::fs::metadata(&real)?;
        Ok(Self {
            real,
            inode: facts.ino(),
            length: facts.len(),
            modified: facts.modified().ok(),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }
}

/// The watched directories.
struct Directories {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Directories {
    fn new(told: mpsc::Sender<()>) -> Self {
        let tell = move |event: notify::Result<notify::Event>| {
            // Reading a file is no news, and our own reads would tell us for ever.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            // Full: somebody is about to look.
            told.try_send(()).ok();
        };
        let watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| tracing::warn!(%error, "no file notifications, looking every 30 s"))
            .ok();
        Self { watcher, watched: BTreeSet::new() }
    }

    /// Watches the directories of the paths as written and of the files they lead to, and no others.
    fn follow(&mut self, prints: &Prints) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut wanted = BTreeSet::new();
        for print in &prints.0 {
            let real = print.state.as_ref().map(|state| state.real.as_path());
            wanted.extend([Some(print.path.as_path()), real].into_iter().flatten().filter_map(directory));
        }
        for gone in self.watched.difference(&wanted) {
            // Fails when the directory itself is gone: the same result.
            drop(watcher.unwatch(gone));
        }
        for new in wanted.difference(&self.watched) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(path = %new.display(), %error, "directory not watched, looking every 30 s");
            }
        }
        self.watched = wanted;
    }
}

fn directory(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::super::supervisor::{Policy, Supervisor};
    use super::*;

    struct Watched {
        changed: Changed,
        files: watch::Sender<Arc<Prints>>,
        _supervisor: Supervisor,
    }

    /// Starts a watch, and returns when it has proven that it is awake.
    async fn watched(dir: &TempDir, path: &str) -> Watched {
        let proof = dir.path().join("proof");
        fs::write(&proof, "0").unwrap();
        let (sender, files) = watch::channel(Arc::new(Prints::take(&[dir.path().join(path), proof.clone()])));
        let (tell, mut changed) = channel();
        let mut supervisor = Supervisor::new();
        supervisor.start("watch", Policy::Restart, move |stop| run(files.clone(), tell.clone(), stop));
        let mut round = 0;
        loop {
            round += 1;
            fs::write(&proof, "x".repeat(round)).unwrap();
            if timeout(Duration::from_millis(600), changed.recv()).await.is_ok() {
                break;
            }
        }
        // What the last round may have left behind.
        while timeout(Duration::from_millis(600), changed.recv()).await.is_ok() {}
        Watched { changed, files: sender, _supervisor: supervisor }
    }

    async fn told(watched: &mut Watched) -> bool {
        timeout(Duration::from_secs(5), watched.changed.recv()).await.is_ok()
    }

    #[tokio::test]
    async fn file_replaced_by_rename_is_told_once() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("a.toml"), "one").unwrap();
        let mut watched = watched(&dir, "a.toml").await;

        fs::write(dir.path().join("a.toml.new"), "two").unwrap();
        fs::rename(dir.path().join("a.toml.new"), dir.path().join("a.toml")).unwrap();

        assert!(told(&mut watched).await);
        assert!(timeout(Duration::from_millis(700), watched.changed.recv()).await.is_err());
    }

    // The way of Kubernetes: a.toml -> ..data/a.toml, ..data -> ..one; a swap renames a new ..data over the old one.
    #[tokio::test]
    async fn symlink_swap_is_told() {
        let dir = TempDir::new().unwrap();
        for (version, text) in [("..one", "same"), ("..two", "same")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("a.toml"), text).unwrap();
        }
        symlink("..one", dir.path().join("..data")).unwrap();
        symlink("..data/a.toml", dir.path().join("a.toml")).unwrap();
        let mut watched = watched(&dir, "a.toml").await;

        symlink("..two", dir.path().join("..new")).unwrap();
        fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        fs::remove_dir_all(dir.path().join("..one")).unwrap();

        assert!(told(&mut watched).await);
    }

    #[tokio::test]
    async fn other_files_in_the_directory_are_nobodys_business() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("a.toml"), "one").unwrap();
        let mut watched = watched(&dir, "a.toml").await;

        fs::write(dir.path().join("access.log"), "line").unwrap();

        assert!(timeout(Duration::from_millis(700), watched.changed.recv()).await.is_err());
    }

    #[tokio::test]
    async fn file_that_changed_while_a_reload_read_it_is_told_once_the_reload_is_done() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, "one").unwrap();
        let mut watched = watched(&dir, "proof").await;

        // A reload that names a file nobody watched looks at it, reads it, and is done after the file has changed.
        let before = Prints::take(std::slice::from_ref(&file));
        fs::write(&file, "two!").unwrap();
        watched.files.send_replace(Arc::new(before));

        assert!(told(&mut watched).await);
        assert!(timeout(Duration::from_millis(700), watched.changed.recv()).await.is_err(), "once");
    }

    #[tokio::test]
    async fn reload_that_read_what_is_there_is_no_change() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, "one").unwrap();
        let mut watched = watched(&dir, "proof").await;

        watched.files.send_replace(Arc::new(Prints::take(&[file])));

        assert!(timeout(Duration::from_millis(700), watched.changed.recv()).await.is_err());
    }
}
