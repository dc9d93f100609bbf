//! A replica that cannot be reached, in the three ways in which a network says so: at once, never, and in the middle.

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Fleet, Proxy, Stage, Zone};

pub(super) const REFUSED: Scenario = Scenario {
    name: "connections refused",
    fault: "one of three replicas is gone and its host refuses connections; back later",
    expected: "lost: nothing; out within 5 s, back within 15 s",
    needs: Needs::Nothing,
    play: |stage| Box::pin(refused(stage)) as Playing<'_>,
};

pub(super) const RESETTING: Scenario = Scenario {
    name: "connections reset",
    fault: "one of three replicas takes connections and resets each at once; well again later",
    expected: "lost: what changes something and had been sent; out within 20 s, back within 60 s",
    needs: Needs::Nothing,
    play: |stage| Box::pin(resetting(stage)) as Playing<'_>,
};

pub(super) const BLACKHOLE: Scenario = Scenario {
    name: "connections blackholed",
    fault: "packets that would open a connection to one of three replicas vanish; what is open goes on; restored later",
    expected: "lost: nothing; no answer later than 6 s; out within 20 s, back within 30 s",
    needs: Needs::Wires,
    play: |stage| Box::pin(blackhole(stage)) as Playing<'_>,
};

async fn refused(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let victim = fleet.replica(0);
    // Before anybody asks: nothing is in its hands.
    victim.kill().await;
    let gone = Instant::now();
    let load = Load::start(&proxy.target(), &Shape::default());
    let out = proxy.out(victim.address, gone).await;
    stage.play(3, 10).await;
    let cured = Instant::now();
    victim.start().await;
    let back = load.served_by(&victim.name, cured).await;
    stage.play(1, 5).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.eject = finding.within("out", out, stage.at_most(5));
    finding.back = finding.within("back", back, stage.at_most(15));
    finding
}

async fn resetting(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    let victim = fleet.replica(0);
    stage.play(2, 5).await;

    let broken = Instant::now();
    victim.obey("accept reset").await;
    let out = proxy.out(victim.address, broken).await;
    stage.play(3, 10).await;
    let cured = Instant::now();
    victim.obey("normal").await;
    let back = load.served_by(&victim.name, cured).await;
    stage.play(1, 5).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &|fate| !fate.is_needless() && fate.ended >= broken, &fleet, &[&proxy]);
    finding.eject = finding.within("out", out, stage.at_most(20));
    finding.back = finding.within("back", back, stage.at_most(60));
    finding
}

async fn blackhole(stage: &Stage) -> Finding {
    let zone = Zone::new(stage, 1);
    let mut fleet = Fleet::start(stage, 2).await;
    fleet.add(zone.host, Some(&zone.namespace)).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    let victim = fleet.replica(2);
    stage.play(2, 5).await;

    let broken = Instant::now();
    zone.drop_opening();
    let out = proxy.out(victim.address, broken).await;
    stage.play(3, 10).await;
    let cured = Instant::now();
    zone.join();
    let back = load.served_by(&victim.name, cured).await;
    stage.play(1, 5).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.no_slower(stage.at_most(6), &fates, &[&proxy]);
    finding.eject = finding.within("out", out, stage.at_most(20));
    finding.back = finding.within("back", back, stage.at_most(30));
    finding
}
