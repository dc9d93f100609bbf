//! The name server changes its mind, fails, says that there is nobody, and says nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::names::{Names, Says};
use crate::stage::{Fleet, Proxy, Setup, Stage, until};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "names change, fail, go empty",
    fault: "replicas are discovered by DNS: one leaves and another comes; then the name server fails, answers without an \
            address, and is silent; then all four are there",
    expected: "lost: nothing; who comes serves within 15 s, who leaves finishes what it has; nobody leaves while the name \
               server has no answer",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let mut fleet = Fleet::empty(stage);
    let host = |number: u8| Ipv4Addr::new(127, 0, 1, number);
    fleet.add(IpAddr::V4(host(1)), None).await;
    // A service has one port, whoever serves it.
    let port = fleet.replica(0).address.port();
    for number in 2..=4 {
        fleet.add_at((host(number), port).into(), None).await;
    }
    let names = Names::start(Says::Addresses(vec![host(1), host(2), host(3)])).await;
    let setup = Setup {
        process: format!("nameservers = [\"{}\"]", names.address),
        pool: format!("discover = {{ name = \"superset.test.\", port = {port}, min_ttl = \"1s\", max_ttl = \"2s\" }}"),
        ..Setup::default()
    };
    let proxy = Proxy::with(stage, &fleet, setup).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    stage.play(2, 5).await;

    let (leaves, comes) = (fleet.replica(0), fleet.replica(3));
    let changed = Instant::now();
    names.say(Says::Addresses(vec![host(2), host(3), host(4)]));
    let joined = load.served_by(&comes.name, changed).await;
    let left = until(changed, Duration::from_secs(20), async || !proxy.is_in(&leaves.address.to_string()).await).await;
    stage.play(1, 5).await;
    let mut stayed = true;
    for says in [Says::Failure, Says::Empty, Says::Silence] {
        names.say(says);
        stage.play(4, 15).await;
        for replica in &fleet.replicas[1..] {
            stayed &= proxy.is_in(&replica.address.to_string()).await;
        }
    }
    let again = Instant::now();
    names.say(Says::Addresses((1..=4).map(host).collect()));
    let back = load.served_by(&leaves.name, again).await;
    stage.play(1, 5).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.within("the new one serves", joined, stage.at_most(15));
    finding.eject = finding.within("the one that left is out", left, stage.at_most(15));
    finding.back = finding.within("back", back, stage.at_most(15));
    finding.insist(stayed, "somebody left while the name server had no answer");
    finding
}
