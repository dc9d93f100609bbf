//! A replica closes its connections at every moment at which a connection can be closed.

use super::{Needs, Playing, Scenario};
use crate::load::{Fate, Load, Loss, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Proxy, Stage};

pub(super) const IDLE: Scenario = Scenario {
    name: "keep-alive race",
    fault: "every replica closes one in five connections within 5 ms after an answer, when the next request may be on its way",
    expected: "lost: nothing: what changes something is not sent on a connection that was idle",
    needs: Needs::Nothing,
    play: |stage| Box::pin(idle(stage)) as Playing<'_>,
};

pub(super) const ANY: Scenario = Scenario {
    name: "closing at any moment",
    fault: "one of three replicas closes one in ten connections: idle, in the middle of the request's head, before the \
            answer, in the middle of its head, in the middle of its body",
    expected: "lost: what changes something and met a close; answers that were cut in their body, visibly. No safe request \
               whose answer had not begun",
    needs: Needs::Nothing,
    play: |stage| Box::pin(any(stage)) as Playing<'_>,
};

async fn idle(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    for replica in &fleet.replicas {
        replica.obey("cut idle 200").await;
    }
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    stage.play(8, 40).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    let count = async |outcome: &str| {
        proxy.metric(&format!("sluicegate_keepalive_races_total{{pool=\"app\",outcome=\"{outcome}\"}}")).await
    };
    let (avoided, lost) = (count("avoided").await, count("lost").await);
    finding.remark(format!("races avoided {avoided}, lost {lost}"));
    finding
}

async fn any(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    fleet.replica(0).obey("cut any 100").await;
    stage.play(10, 60).await;
    fleet.replica(0).obey("normal").await;
    stage.play(1, 5).await;

    let fates = load.finish().await;
    let cut = fates.iter().filter(|fate| matches!(fate.result, Err(Loss::BrokenOff(_)))).count();
    let mut finding = Finding::of(&fates, &|fate: &Fate| !fate.is_needless(), &fleet, &[&proxy]);
    finding.remark(format!("{cut} answers broke off in their body, all of them visibly"));
    finding
}
