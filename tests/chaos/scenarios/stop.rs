//! A replica hangs: its kernel still takes connections, nobody answers.

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Broken, Finding, under_way_at};
use crate::stage::{Proxy, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "replica hangs",
    fault: "SIGSTOP of one of three replicas under load; SIGCONT later",
    expected: "lost: only what it had in hand and nobody may ask again; the rest waits for it; out within 30 s, back within 15 s",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    let victim = fleet.replica(0);
    stage.play(2, 5).await;

    let stopped = Broken::by(victim.signal("STOP")).await;
    let out = proxy.out(victim.address, stopped.from).await;
    stage.play(2, 5).await;
    let cured = Instant::now();
    victim.signal("CONT").await;
    let back = load.served_by(&victim.name, cured).await;
    stage.play(2, 5).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &under_way_at(&[stopped]), &fleet, &[&proxy]);
    finding.eject = finding.within("out", out, stage.at_most(30));
    finding.back = finding.within("back", back, stage.at_most(15));
    finding
}
