//! Keeps the meters of pools' objectives: looks every few seconds, and puts what they know into a file.
//!
//! Floor 5. In: what pools and endpoints count, and who could serve. Out: reports for operators, and an event when a
//! budget begins to burn. The meters are `telemetry`'s, which are pure. The file is replaced in one step, once a minute and at
//! the end; one that cannot be read is told of and begun anew. Deliberately absent: the path of requests; it counts, and
//! knows nothing of budgets.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::supervisor::Stop;
use crate::balance::Bench;
use crate::lexicon::PoolName;
use crate::snapshot::{Live, Pool};
use crate::telemetry::events;
use crate::telemetry::metrics::{Metrics, Served};
use crate::telemetry::slo::{Alert, Broken, EndpointLook, Look, Meter, Report, Stored};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(10);

/// Time between two writes.
const SAVE: Duration = Duration::from_secs(60);

/// Longest file that is read.
const LONGEST: u64 = 64 << 20;

/// The meters of all pools of the present generation.
#[derive(Debug)]
pub struct Budgets {
    live: Arc<Live>,
    metrics: Metrics,
    file: Option<PathBuf>,
    meters: Mutex<BTreeMap<PoolName, Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    meter: Meter,
    /// What was last told of availability and latency.
    told: [Option<Alert>; 2],
}

impl Budgets {
    /// Meters that go on from what `file` says, if it says anything.
    pub fn open(live: Arc<Live>, metrics: Metrics, file: Option<PathBuf>) -> Self {
        let stored = file.as_deref().map_or_else(Stored::default, |file| {
            load(file).unwrap_or_else(|error| {
                events::objectives_unreadable(&metrics, file, &error);
                Stored::default()
            })
        });
        let kept = |(name, meter)| (name, Kept { meter, told: [None; 2] });
        Self { live, metrics, file, meters: Mutex::new(stored.0.into_iter().map(kept).collect()) }
    }

    /// Looks at every pool of the present generation, and forgets the others.
    pub fn look(&self) {
        let now = now();
        let snapshot = self.live.load();
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.retain(|name, _| snapshot.pool(name).is_some());
        for pool in &snapshot.pools {
            let kept = meters.entry(pool.upstream.config.name.clone()).or_default();
            look_at(&mut kept.meter, pool, now);
            kept.tell(pool, now);
        }
    }

    /// How a pool's objectives are kept.
    pub fn report(&self, pool: &Pool) -> Report {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let config = &pool.upstream.config;
        match meters.get(&config.name) {
            Some(kept) => kept.meter.report(now(), &config.objectives),
            // It has come with a reload this moment.
            None => Meter::default().report(now(), &config.objectives),
        }
    }

    /// Looks and writes until stopped.
    pub async fn run(self: Arc<Self>, mut stop: Stop) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut saved = Instant::now();
        loop {
            tokio::select! {
                () = stop.stopped() => break,
                _ = looks.tick() => self.look(),
            }
            if saved.elapsed() >= SAVE {
                self.save().await;
                saved = Instant::now();
            }
        }
        // What was cut at the end counts, too.
        self.look();
        self.save().await;
    }

    async fn save(&self) {
        let Some(file) = self.file.clone() else { return };
        let text = {
            let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
            Stored::encode(meters.iter().map(|(name, kept)| (name, &kept.meter)))
        };
        let to = file.clone();
        let written = tokio::task::spawn_blocking(move || store(&to, &text)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            events::objectives_unwritable(&self.metrics, &file, &error);
        }
    }
}

impl Kept {
    /// Tells what has begun or ended since the last look.
    fn tell(&mut self, pool: &Pool, now: u64) {
        let config = &pool.upstream.config;
        let report = self.meter.report(now, &config.objectives);
        let both = [("availability", &report.availability), ("latency", &report.latency)];
        for ((objective, kept), told) in both.into_iter().zip(&mut self.told) {
            match (*told, kept.alert) {
                (before, Some(alert)) if before != Some(alert) => {
                    events::budget_burning(&config.name, objective, alert.as_str(), kept.budget_left_percent);
                }
                (Some(_), None) => events::budget_calm(&config.name, objective, kept.budget_left_percent),
                _ => {}
            }
            *told = kept.alert;
        }
    }
}

fn look_at(meter: &mut Meter, pool: &Pool, now: u64) {
    let roster = pool.upstream.roster();
    let trust = pool.upstream.rule().trust;
    let endpoints: Vec<EndpointLook<'_>> = roster
        .endpoints()
        .iter()
        .map(|endpoint| EndpointLook {
            name: endpoint.name.as_str(),
            zone: endpoint.zone.as_ref().map(|zone| zone.as_str()),
            failed: pool.counts(endpoint).failures(),
            up: !endpoint.is_disabled() && endpoint.is_usable(trust) && endpoint.vitals.bench() != Bench::Out,
        })
        .collect();
    let so_far = |how| pool.metrics.served_so_far(how);
    let look = Look {
        good: so_far(Served::Good),
        slow: so_far(Served::Slow),
        client: so_far(Served::Client),
        proxy: so_far(Served::Proxy),
        endpoint: so_far(Served::Endpoint),
        able: endpoints.iter().any(|endpoint| endpoint.up),
        endpoints: &endpoints,
    };
    meter.look(now, &look);
}

/// Why a file gives no past to go on from.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("cannot be opened")]
    File(#[from] io::Error),
    #[error("{0}")]
    Content(#[from] Broken),
}

/// What `file` says; nothing when there is none yet.
fn load(file: &Path) -> Result<Stored, Unreadable> {
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::default()),
        Err(error) => return Err(error.into()),
    };
    let mut text = String::new();
    opened.take(LONGEST).read_to_string(&mut text)?;
    Ok(Stored::decode(&text)?)
}

/// Puts `text` in the place of `file` in one step.
fn store(file: &Path, text: &str) -> io::Result<()> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut next = tempfile::NamedTempFile::new_in(directory)?;
    next.write_all(text.as_bytes())?;
    next.as_file().sync_data()?;
    next.persist(file)?;
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
