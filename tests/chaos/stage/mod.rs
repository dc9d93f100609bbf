//! What a scenario is played on: replicas and proxies as processes, certificates, and wires that can be cut.

pub(crate) mod certificates;
pub(crate) mod fleet;
pub(crate) mod names;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod wires;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

pub(crate) use certificates::Certificates;
pub(crate) use fleet::Fleet;
pub(crate) use proxy::{Proxy, Setup};
pub(crate) use wires::Zone;

/// How thoroughly the suite is played.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// In `tests/run`: every scenario, for some seconds, several at a time.
    Short,
    /// Every scenario alone on the machine, for as long as it takes to be believed.
    Whole,
}

/// The place of one scenario.
pub(crate) struct Stage {
    /// The proxy's program.
    pub(crate) binary: PathBuf,
    /// How thoroughly.
    pub(crate) form: Form,
    /// A directory of its own.
    pub(crate) directory: TempDir,
    /// Its authority, and what it signed.
    pub(crate) certificates: Certificates,
    /// A number that no other scenario has.
    pub(crate) number: u8,
}

impl Stage {
    /// An empty stage.
    pub(crate) fn new(binary: &Path, form: Form, number: u8) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let certificates = Certificates::new();
        let _leaf = certificates.write(directory.path());
        Self { binary: binary.to_owned(), form, directory, certificates, number }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Lets the load run: `short` in the short form, `whole` in the whole one.
    pub(crate) async fn play(&self, short: u64, whole: u64) {
        sleep(self.seconds(short, whole)).await;
    }

    /// That many seconds.
    pub(crate) const fn seconds(&self, short: u64, whole: u64) -> Duration {
        match self.form {
            Form::Short => Duration::from_secs(short),
            Form::Whole => Duration::from_secs(whole),
        }
    }

    /// The bound on a time: as stated in the whole form, and four times that in the short one, which shares its machine.
    pub(crate) const fn at_most(&self, seconds: u64) -> Duration {
        self.seconds(4 * seconds, seconds)
    }

    /// `count` replicas on loopback.
    pub(crate) async fn fleet(&self, count: usize) -> Fleet {
        Fleet::start(self, count).await
    }
}

/// Asks `question` until it says yes; how long that took since `since`, or `None` after `patience`.
pub(crate) async fn until<F>(since: Instant, patience: Duration, mut question: impl FnMut() -> F) -> Option<Duration>
where
    F: Future<Output = bool>,
{
    let deadline = Instant::now() + patience;
    loop {
        if question().await {
            return Some(since.elapsed());
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
