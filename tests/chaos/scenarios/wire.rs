//! Bad wires: packets come late, or some of them never. TCP's business, as long as nobody loses patience too soon.

use std::time::Duration;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Fleet, Proxy, Stage, Zone};

pub(super) const LATE: Scenario = Scenario {
    name: "packets delayed",
    fault: "the wire to one of three replicas becomes slow",
    expected: "lost: nothing; it stays in",
    needs: Needs::Wires,
    play: |stage| Box::pin(late(stage)) as Playing<'_>,
};

pub(super) const LOSSY: Scenario = Scenario {
    name: "packets lost",
    fault: "one packet in twenty vanishes on the wire to one of three replicas",
    expected: "lost: nothing",
    needs: Needs::Wires,
    play: |stage| Box::pin(lossy(stage)) as Playing<'_>,
};

async fn late(stage: &Stage) -> Finding {
    play(stage, |zone| zone.delay(100)).await
}

async fn lossy(stage: &Stage) -> Finding {
    play(stage, |zone| {
        zone.lose(5);
        String::new()
    })
    .await
}

async fn play(stage: &Stage, harm: impl Fn(&Zone) -> String) -> Finding {
    let zone = Zone::new(stage, 1);
    let mut fleet = Fleet::start(stage, 2).await;
    fleet.add(zone.host, Some(&zone.namespace)).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape { pause: Duration::from_millis(100), ..Shape::default() });
    stage.play(1, 5).await;

    let how = harm(&zone);
    stage.play(8, 40).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    if !how.is_empty() {
        finding.remark(how);
    }
    finding
}
