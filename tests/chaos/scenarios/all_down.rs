//! Every replica is gone, and comes back while everybody is waiting for it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Fate, Load, Loss, Protocol, Shape};
use crate::report::{Finding, brief};
use crate::stage::{Proxy, Stage};

/// Exchanges that the proxy may have under way at an endpoint, by default.
const IN_FLIGHT: usize = 20;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "all replicas down and back",
    fault: "SIGKILL of all three replicas under load; all started again later; the proxy is not touched",
    expected: "lost: what was asked while there was nobody, each answered 502 or 503 at once; serves again within 10 s; no \
               replica ever has more than 20 requests at once or more than 60 connections in its first 3 s",
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
    let mut herd = (0, 0);
    for replica in &fleet.replicas {
        let counts = replica.counts().await;
        herd = (herd.0.max(counts.peak), herd.1.max(counts.connections));
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
    let mut finding = Finding::of(&fates, &nobody, &fleet, &[&proxy]);
    finding.back = finding.within("back", back, stage.at_most(10));
    finding.insist(herd.0 <= IN_FLIGHT, format!("a replica had {} requests at once", herd.0));
    finding.insist(herd.1 <= 60, format!("a replica got {} connections in its first 3 s", herd.1));
    finding.remark(format!(
        "most requests at once {}, most connections in the first 3 s {}, longest wait for a refusal {}",
        herd.0,
        herd.1,
        brief(waited)
    ));
    finding
}
