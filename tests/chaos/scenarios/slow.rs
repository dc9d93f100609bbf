//! A replica is ten times as slow as the others: busy, not dead.

use std::time::Duration;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Proxy, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow replica",
    fault: "one of three replicas takes ten times as long for everything, then is well again",
    expected: "lost: nothing; it stays in, since busy is not dead; no answer takes longer than 2 s",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    let victim = fleet.replica(0);
    let name = victim.address.to_string();
    stage.play(2, 5).await;

    victim.obey("work 100").await;
    let mut out = 0;
    for _ in 0..stage.seconds(10, 60).as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        out += u32::from(!proxy.is_in(&name).await);
    }
    victim.obey("normal").await;
    stage.play(2, 5).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.insist(out == 0, format!("it was out at {out} looks"));
    finding.no_slower(stage.at_most(2), &fates, &[&proxy]);
    finding
}
