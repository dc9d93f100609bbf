//! The configuration is loaded again and again while everybody works.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Proxy, Stage};

/// Time between two reloads.
const EACH: Duration = Duration::from_millis(100);

/// Descriptors that a process may have more, as the scenario says.
const DESCRIPTORS: usize = 8;

/// How long the load may have so many more connections than it once had.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const SCENARIO: Scenario = Scenario {
    name: "reload every 100 ms",
    fault: "the configuration changes ten times a second for a minute under load",
    expected: "lost: nothing; memory grows by less than 8 MiB, descriptors by less than 8",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    // What a process needs once it has been reloaded is no leak.
    let config = proxy.config();
    let (warm, _) = reload_for(&proxy, &config, stage.seconds(3, 10)).await;
    let memory = proxy.memory();
    let (first, descriptors) = reload_for(&proxy, &config, stage.seconds(2, 10)).await;
    let (many, _) = reload_for(&proxy, &config, stage.seconds(6, 50)).await;
    let reloads = warm + first + many;
    // Connections come and go with the load; what leaks stays.
    let more = || proxy.descriptors().saturating_sub(descriptors);
    let (patience, mut at_last) = (Instant::now() + PATIENCE, more());
    while at_last >= DESCRIPTORS && Instant::now() < patience {
        sleep(EACH).await;
        at_last = more();
    }

    let grown = proxy.memory().saturating_sub(memory);
    let loaded = proxy.metric("sluicegate_config_reloads_total{result=\"ok\"}").await;
    let failed = proxy.metric("sluicegate_config_reloads_total{result=\"failed\"}").await;
    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.insist(failed == 0.0, format!("{failed} reloads failed"));
    // Signals that come while one is under way may be taken together; the file is watched as well.
    finding.insist(loaded >= f64::from(reloads) / 2.0, format!("{loaded} reloads of {reloads} took place"));
    finding.insist(grown < 8 * 1024, format!("memory grew by {grown} KiB"));
    finding.insist(at_last < DESCRIPTORS, format!("{at_last} descriptors more"));
    finding.remark(format!(
        "{reloads} changes, {loaded} generations; memory {memory} KiB and {grown} more, descriptors {descriptors} and {at_last} more"
    ));
    finding
}

/// Changes the configuration for `time`: how often, and the fewest descriptors meanwhile, since how many of them are
/// connections under load differs from one moment to the next.
async fn reload_for(proxy: &Proxy, config: &str, time: Duration) -> (u32, usize) {
    let end = Instant::now() + time;
    let (mut count, mut fewest) = (0, usize::MAX);
    while Instant::now() < end {
        count += 1;
        // Something that matters to every exchange: the queue's length and the order of the endpoints' turn.
        let length = 64 + count % 2;
        proxy.reload(&config.replace("[[routes]]", &format!("queue = {{ length = {length} }}\n[[routes]]")));
        sleep(EACH).await;
        fewest = fewest.min(proxy.descriptors());
    }
    (count, fewest)
}
