//! Two proxies, and one of them dies. A client that retries its connection finds the other.

use std::time::Duration;

use super::{Needs, Playing, Scenario};
use crate::load::h3::SILENCE;
use crate::load::{Fate, Load, Protocol, Shape, Target};
use crate::report::{Broken, Finding, nothing};
use crate::stage::{Proxy, Setup, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "one of two proxies killed",
    fault: "SIGKILL of one of two proxies under load; clients that find no connection try the other; started again later",
    expected: "lost: only what was under way in the proxy that died; over HTTP/3, where nobody says that the other end is \
               gone, also what is asked in the 3 s until the client notices",
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

    let killed = Broken::by(first.kill()).await;
    stage.play(3, 15).await;
    let again = Setup { address: Some(first.address), ..Setup::default() };
    let third = Proxy::with(stage, &fleet, again).await;
    stage.play(2, 10).await;

    let of_the_dead = one.finish().await;
    let elsewhere = other.finish().await;
    // Over TCP the kernel says at once that its process has gone; over UDP nobody does.
    let met = move |fate: &Fate| {
        let unaware = if fate.protocol == Protocol::H3 { SILENCE } else { Duration::ZERO };
        Broken { to: killed.to + unaware, ..killed }.met(fate)
    };
    let open = of_the_dead.iter().filter(|fate| fate.was_under_way(killed.from)).count();
    let mut finding = Finding::of(&of_the_dead, &met, &fleet, &[&first, &second, &third]);
    let apart = Finding::of(&elsewhere, &nothing, &fleet, &[&second]);
    finding.insist(apart.failed == 0, format!("the other proxy's clients lost {}", apart.failed));
    finding.remark(format!(
        "{open} requests were under way in the proxy that died; the other proxy's clients asked {} and lost {}",
        apart.requests, apart.failed
    ));
    finding
}
