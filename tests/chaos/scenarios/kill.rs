//! A replica dies as processes die: at once, with requests in hand.

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Broken, Finding, under_way_at};
use crate::stage::{Proxy, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "replica killed",
    fault: "SIGKILL of one of three replicas under load; started again later",
    expected: "lost: only what that replica had in hand and nobody may ask again; out within 5 s, back within 15 s",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    let victim = fleet.replica(0);
    stage.play(2, 5).await;

    let killed = Broken::by(victim.kill()).await;
    let out = proxy.out(victim.address, killed.from).await;
    stage.play(2, 10).await;
    let cured = Instant::now();
    victim.start().await;
    let back = load.served_by(&victim.name, cured).await;
    stage.play(2, 5).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &under_way_at(&[killed]), &fleet, &[&proxy]);
    finding.eject = finding.within("out", out, stage.at_most(5));
    finding.back = finding.within("back", back, stage.at_most(15));
    finding
}
