//! Two proxies, and one of them dies. A client that retries its connection finds the other.

use std::time::Duration;

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Fate, Load, Shape, Target};
use crate::report::Finding;
use crate::stage::{Proxy, Setup, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "one of two proxies killed",
    fault: "SIGKILL of one of two proxies under load; clients that find no connection try the other; started again later",
    expected: "lost: only what was under way in the proxy that died",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let mut first = Proxy::start(stage, &fleet).await;
    let second = Proxy::start(stage, &fleet).await;
    let both = |addresses| Target { addresses, ..first.target() };
    let one = Load::start(&both(vec![first.address, second.address]), &Shape::default());
    let other = Load::start(&both(vec![second.address, first.address]), &Shape::default());
    stage.play(3, 10).await;

    let killed = Instant::now();
    first.kill().await;
    stage.play(3, 15).await;
    let again = Setup { address: Some(first.address), ..Setup::default() };
    let third = Proxy::with(stage, &fleet, again).await;
    stage.play(2, 10).await;

    let of_the_dead = one.finish().await;
    let elsewhere = other.finish().await;
    // A client notices within a moment that its connection has gone.
    let moment = Duration::from_millis(250);
    let met = move |fate: &Fate| {
        fate.began <= killed + Duration::from_millis(50) && fate.ended >= killed && fate.ended <= killed + moment
    };
    let open = of_the_dead.iter().filter(|fate| fate.began <= killed && fate.ended >= killed).count();
    let mut finding = Finding::of(&of_the_dead, &met, &fleet, &[&first, &second, &third]);
    let apart = Finding::of(&elsewhere, &crate::report::nothing, &fleet, &[&second]);
    finding.insist(apart.failed == 0, format!("the other proxy's clients lost {}", apart.failed));
    finding.remark(format!(
        "{open} requests were under way in the proxy that died; the other proxy's clients asked {} and lost {}",
        apart.requests, apart.failed
    ));
    finding
}
