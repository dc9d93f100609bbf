//! Every replica is gone, and comes back while everybody is waiting for it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Fate, Load, Loss, Protocol, Shape};
use crate::report::{Finding, brief};
use crate::stage::fleet::Counts;
use crate::stage::{Proxy, Stage};

/// Exchanges that the proxy may have under way at an endpoint, by default.
const IN_FLIGHT: usize = 20;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "all replicas down and back",
    fault: "SIGKILL of all three replicas under load; all started again later; the proxy is not touched",
    expected: "lost: what was asked while there was nobody, each answered 502 or 503 at once; serves again within 10 s; no \
               replica ever has more than 20 requests at once or, in its first 3 s, more than 60 connections beside one for \
               each request that changes something",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let clients = vec![(Protocol::H1, 40), (Protocol::H2, 8), (Protocol::H3, 8)];
    let shape = Shape { clients, pause: Duration::from_millis(250), ..Shape::default() };
    let load = Load::start(&proxy.target(), &shape);
    stage.play(2, 5).await;

    let killed = Instant::now();
    for replica in &fleet.replicas {
        replica.kill().await;
    }
    stage.play(4, 30).await;
    let cured = Instant::now();
    for replica in &fleet.replicas {
        replica.start().await;
    }
    let mut back = Some(Duration::ZERO);
    for replica in &fleet.replicas {
        back = back.zip(load.served_by(&replica.name, cured).await).map(|(most, one)| most.max(one));
    }
    tokio::time::sleep((cured + Duration::from_secs(3)).saturating_duration_since(Instant::now())).await;
    let mut counted = Vec::new();
    for replica in &fleet.replicas {
        counted.push((&replica.name, replica.counts().await, Instant::now()));
    }
    stage.play(1, 10).await;

    let fates = load.finish().await;
    // Somebody served again from here on.
    let served = fates.iter().filter(|fate| fate.result.is_ok() && fate.began > cured).map(|fate| fate.ended).min();
    let nobody = |fate: &Fate| fate.ended >= killed && served.is_some_and(|served| fate.began <= served);
    let waited = fates
        .iter()
        .filter(|fate| matches!(fate.result, Err(Loss::Status(..))) && nobody(fate))
        .map(Fate::took)
        .max()
        .unwrap_or_default();
    let peak = counted.iter().map(|(_, counts, _)| counts.peak).max().unwrap_or_default();
    // What changes something is sent on a fresh connection each time.
    let kept = |(name, counts, at): &(&String, Counts, Instant)| {
        let fresh = |fate: &&Fate| {
            !fate.kind.is_safe() && fate.result.as_ref() == Ok(*name) && fate.began >= cured && fate.began <= *at
        };
        counts.connections.saturating_sub(fates.iter().filter(fresh).count())
    };
    let connections = counted.iter().map(kept).max().unwrap_or_default();
    let mut finding = Finding::of(&fates, &nobody, &fleet, &[&proxy]);
    finding.back = finding.within("back", back, stage.at_most(10));
    finding.insist(peak <= IN_FLIGHT, format!("a replica had {peak} requests at once"));
    finding.insist(connections <= 60, format!("a replica got {connections} connections to keep in its first 3 s"));
    finding.remark(format!(
        "most requests at once {peak}, most connections to keep in the first 3 s {connections}, longest wait for a refusal {}",
        brief(waited)
    ));
    finding
}
