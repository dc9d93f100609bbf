//! A replica that looks well and is not: `/health` answers, everything else is an error.

use std::time::Duration;

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Loss, Shape};
use crate::report::{Finding, brief};
use crate::stage::{Proxy, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "errors behind a healthy check",
    fault: "one of three replicas answers 500 to everything but /health; well again later",
    expected: "lost: its own 500s to what nobody may ask again, until it is out, within 5 s, and in trials; back within 60 s",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    let victim = fleet.replica(0);
    stage.play(2, 5).await;

    let broken = Instant::now();
    victim.obey("errors 500").await;
    let out = proxy.out(victim.address, broken).await;
    stage.play(3, 20).await;
    let cured = Instant::now();
    victim.obey("normal").await;
    let back = load.served_by(&victim.name, cured).await;
    stage.play(2, 10).await;

    let fates = load.finish().await;
    let own = |fate: &crate::load::Fate| {
        matches!(&fate.result, Err(Loss::Status(500, text)) if text == "it is broken")
            && fate.began <= cured
            && !fate.is_needless()
    };
    let trials = out.map(|out| {
        fates.iter().filter(|fate| own(fate) && fate.began > broken + out + Duration::from_millis(250)).count()
    });
    let mut finding = Finding::of(&fates, &own, &fleet, &[&proxy]);
    finding.eject = finding.within("out", out, stage.at_most(5));
    finding.back = finding.within("back", back, stage.at_most(60));
    if let Some(trials) = trials {
        finding.insist(trials <= 10, format!("{trials} requests met it after it was out"));
        finding.remark(format!("{trials} requests met it after it was out ({})", brief(out.unwrap_or_default())));
    }
    finding
}
