//! A failure domain goes: the wire to two replicas is cut, and joined again.

use std::time::Duration;

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Fate, Kind, Load, Shape};
use crate::report::{Broken, Finding, under_way_at};
use crate::stage::{Fleet, Proxy, Setup, Stage, Zone};

pub(super) const CUT: Scenario = Scenario {
    name: "zone cut off",
    fault: "two of four replicas, in a zone of their own, lose their wire: packets vanish both ways; restored later",
    expected: "lost: what that zone had in hand and nobody may ask again; no answer later than 20 s, but for uploads on \
               the dead wire, and theirs within 20 s of its return; out within 30 s, back within 30 s",
    needs: Needs::Wires,
    play: |stage| Box::pin(cut(stage)) as Playing<'_>,
};

pub(super) const RESET: Scenario = Scenario {
    name: "zone reset",
    fault: "every packet to and from a zone of two replicas is answered with a reset; restored later",
    expected: "lost: what that zone had in hand and nobody may ask again; out within 5 s, back within 30 s",
    needs: Needs::Wires,
    play: |stage| Box::pin(reset(stage)) as Playing<'_>,
};

async fn cut(stage: &Stage) -> Finding {
    play(stage, Zone::cut, stage.at_most(30)).await
}

async fn reset(stage: &Stage) -> Finding {
    play(stage, Zone::reset, stage.at_most(5)).await
}

async fn play(stage: &Stage, harm: impl Fn(&Zone), most: Duration) -> Finding {
    let zone = Zone::new(stage, 1);
    let mut fleet = Fleet::start(stage, 2).await;
    for _ in 0..2 {
        fleet.add(zone.host, Some(&zone.namespace)).await;
    }
    let named =
        |number: usize, zone: &str| format!("{{ address = \"{}\", zone = \"{zone}\" }}", fleet.replica(number).address);
    let endpoints =
        format!("[{}, {}, {}, {}]", named(0, "here"), named(1, "here"), named(2, "there"), named(3, "there"));
    let proxy = Proxy::with(stage, &fleet, Setup { endpoints, ..Setup::default() }).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    stage.play(2, 5).await;

    let broken = Broken::by(async { harm(&zone) }).await;
    let (first, second) = (fleet.replica(2), fleet.replica(3));
    let (one, two) = tokio::join!(proxy.out(first.address, broken.from), proxy.out(second.address, broken.from));
    stage.play(3, 10).await;
    let cured = Instant::now();
    zone.join();
    let (back, again) = tokio::join!(load.served_by(&first.name, cured), load.served_by(&second.name, cured));
    stage.play(1, 5).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &under_way_at(&[broken]), &fleet, &[&proxy]);
    // What waits for a dead wire is given up after 12 s, tried there once more, and asked elsewhere. An upload that has begun
    // waits for the wire, which TCP tries less and less often.
    let stuck = |fate: &&Fate| fate.kind == Kind::Upload && fate.began < cured;
    finding.no_slower(stage.at_most(20), fates.iter().filter(|fate| !stuck(fate)), &[&proxy]);
    let late = fates.iter().filter(|fate| stuck(fate) && fate.result.is_ok());
    let late = late.map(|fate| fate.ended.saturating_duration_since(cured)).max().unwrap_or_default();
    finding.insist(late < stage.at_most(20), format!("an upload ended {late:?} after the wire was back"));
    finding.eject = finding.within("both out", one.zip(two).map(|(one, two)| one.max(two)), most);
    finding.back = finding.within("both back", back.zip(again).map(|(one, two)| one.max(two)), stage.at_most(30));
    finding
}
