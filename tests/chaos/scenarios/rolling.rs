//! A new release of Superset goes round: one replica after the other ends politely and comes back.

use std::time::Duration;

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Proxy, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rolling restart",
    fault: "each of three replicas, some of them after a 503 on /health, stops to listen, finishes what it has, ends, and \
            is started again, under load",
    expected: "lost: nothing at all; each back within 15 s",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    stage.play(1, 5).await;

    let mut slowest = Some(Duration::ZERO);
    for (number, replica) in fleet.replicas.iter().enumerate() {
        // Some say it beforehand, some do not.
        if number % 2 == 0 {
            replica.obey("health 503").await;
            stage.play(1, 10).await;
        }
        replica.finish().await;
        stage.play(1, 3).await;
        let cured = Instant::now();
        replica.start().await;
        let back = load.served_by(&replica.name, cured).await;
        slowest = slowest.zip(back).map(|(slowest, back)| slowest.max(back));
        stage.play(1, 3).await;
    }

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.back = finding.within("back", slowest, stage.at_most(15));
    finding
}
