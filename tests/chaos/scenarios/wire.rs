//! Bad wires: packets come late, or some of them never. TCP's business, as long as nobody loses patience too soon.

use std::time::Duration;

use super::{Needs, Playing, Scenario};
use crate::load::{Fate, Load, Loss, Shape};
use crate::report::{Allowed, Finding, nothing};
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
    expected: "lost: fewer than one in a thousand, and only what changes something and came to a fresh connection when its \
               replica had closed that again: TCP may wait 3 s before it sends again what nobody has acknowledged (RFC \
               6298 section 5.7), and a replica waits 2 s for a request",
    needs: Needs::Wires,
    play: |stage| Box::pin(lossy(stage)) as Playing<'_>,
};

async fn late(stage: &Stage) -> Finding {
    play(stage, &nothing, |zone| zone.delay(100)).await
}

async fn lossy(stage: &Stage) -> Finding {
    let closed_again = |fate: &Fate| {
        !fate.is_needless() && matches!(&fate.result, Err(Loss::Status(502, code)) if code.contains("upstream_closed"))
    };
    let mut finding = play(stage, &closed_again, |zone| {
        zone.lose(5);
        String::new()
    })
    .await;
    let lost = format!("{} of {} were lost", finding.failed, finding.requests);
    finding.insist(finding.failed * 1_000 < finding.requests, lost);
    finding
}

async fn play(stage: &Stage, allowed: Allowed<'_>, harm: impl Fn(&Zone) -> String) -> Finding {
    let zone = Zone::new(stage, 1);
    let mut fleet = Fleet::start(stage, 2).await;
    fleet.add(zone.host, Some(&zone.namespace)).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape { pause: Duration::from_millis(100), ..Shape::default() });
    stage.play(1, 5).await;

    let how = harm(&zone);
    stage.play(8, 40).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, allowed, &fleet, &[&proxy]);
    if !how.is_empty() {
        finding.remark(how);
    }
    finding
}
