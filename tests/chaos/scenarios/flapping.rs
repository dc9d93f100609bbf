//! A replica that dies again as soon as it is back.

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Broken, Finding, under_way_at};
use crate::stage::{Proxy, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "flapping replica",
    fault: "one of three replicas is killed and started again, over and over, alive for some seconds each time",
    expected: "lost: at each death only what it had in hand and nobody may ask again",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    let victim = fleet.replica(0);
    let mut deaths = Vec::new();
    for _ in 0..stage.seconds(4, 12).as_secs() {
        stage.play(2, 4).await;
        deaths.push(Broken::by(victim.kill()).await);
        stage.play(1, 2).await;
        victim.start().await;
    }
    stage.play(1, 5).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &under_way_at(&deaths), &fleet, &[&proxy]);
    finding.remark(format!("{} deaths", deaths.len()));
    finding
}
