//! Starts what looks after endpoints and clients beside the traffic.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::control::crawlers;
use crate::control::discovery::Discovery;
use crate::control::names::{self, Names};
use crate::control::prober::Prober;
use crate::control::supervisor::{Policy, Supervisor};
use crate::control::umpire::Umpire;
use crate::pipeline::{now_ms, now_ns};
use crate::snapshot::Live;
use crate::telemetry::metrics::Metrics;
use crate::waf::Proofs;

use super::discover::Finder;
use super::observe::Observer;

/// Longest wait for the first answers about endpoints' names; without them the proxy starts all the same.
const FIRST_NAMES: Duration = Duration::from_secs(3);

/// Starts the checks, the resolution of names, and whatever else looks after endpoints.
pub(super) fn tend(
    supervisor: &mut Supervisor,
    live: &Arc<Live>,
    observer: &Arc<Observer>,
    finder: &Arc<Finder>,
    runtime: &tokio::runtime::Runtime,
) -> Vec<Arc<Notify>> {
    let mut discovery = Discovery::new(Arc::clone(finder) as _);
    let lookup = |live: &Arc<Live>| {
        let live = Arc::clone(live);
        names::lookup(move || live.load().config.process.nameservers.clone())
    };
    let mut names = Names::new(Arc::clone(live) as _, Arc::clone(observer) as _, lookup(live));
    // The first requests should find addresses.
    let first = async {
        discovery.round().await;
        names.round().await;
    };
    drop(runtime.block_on(async { tokio::time::timeout(FIRST_NAMES, first).await }));
    let prober = Prober::new(Arc::clone(live) as _, Arc::clone(observer) as _, now_ms);
    finder.wake_also(vec![names.wake(), prober.wake()]);
    let wakes = vec![discovery.wake(), names.wake(), prober.wake()];
    let (mut discovery, mut names, mut prober) = (Some(discovery), Some(names), Some(prober));
    let finders = Arc::clone(finder);
    supervisor.start("discovery", Policy::Restart, move |stop| {
        discovery.take().unwrap_or_else(|| Discovery::new(Arc::clone(&finders) as _)).run(stop)
    });
    let (lives, observers) = (Arc::clone(live), Arc::clone(observer));
    supervisor.start("names", Policy::Restart, move |stop| {
        let fresh = || Names::new(Arc::clone(&lives) as _, Arc::clone(&observers) as _, lookup(&lives));
        names.take().unwrap_or_else(fresh).run(stop)
    });
    let (lives, observers) = (Arc::clone(live), Arc::clone(observer));
    supervisor.start("checks", Policy::Restart, move |stop| {
        let fresh = || Prober::new(Arc::clone(&lives) as _, Arc::clone(&observers) as _, now_ms);
        prober.take().unwrap_or_else(fresh).run(stop)
    });
    let lives = Arc::clone(live);
    supervisor.start("umpire", Policy::Restart, move |stop| Umpire::new(Arc::clone(&lives), now_ms).run(stop));
    wakes
}

/// Asks the name servers of the moment about clients that call themselves a search engine.
pub(super) fn ask_about_crawlers(supervisor: &mut Supervisor, proofs: &Proofs, live: &Arc<Live>, metrics: &Metrics) {
    let (proofs, live, metrics) = (proofs.clone(), Arc::clone(live), metrics.clone());
    supervisor.start("crawlers", Policy::Restart, move |stop| {
        let live = Arc::clone(&live);
        let settings = move || {
            let config = Arc::clone(&live.load().config);
            let nameservers = config.process.nameservers.clone();
            crawlers::Settings { nameservers, domains: config.shield.crawler_domains.clone() }
        };
        crawlers::run(proofs.clone(), settings, metrics.clone(), now_ns, stop)
    });
}
