//! The process has no descriptor left: a flood of connections that say nothing takes them all.

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Proxy, Setup, Stage};

/// Descriptors that the proxy may have.
const MOST: u32 = 160;

/// Connections that say nothing.
const FLOOD: usize = 400;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "descriptors exhausted",
    fault: "the proxy may have 160 descriptors and 400 silent connections ask for them; gone later",
    expected: "lost: nothing on connections that are open; new ones wait; all well when the flood is over",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::with(stage, &fleet, Setup { descriptors: Some(MOST), ..Setup::default() }).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    stage.play(2, 5).await;

    let mut flood = Vec::new();
    for _ in 0..FLOOD {
        // Those that are not accepted wait in the kernel, which takes them all the same.
        flood.extend(TcpStream::connect(proxy.address).await.ok());
    }
    stage.play(5, 20).await;
    let over = Instant::now();
    drop(flood);
    stage.play(2, 5).await;
    // New clients, now that there is room.
    let fresh = Load::start(&proxy.target(), &Shape { afresh: true, ..Shape::default() });
    stage.play(2, 10).await;

    let mut fates = load.finish().await;
    let later = fresh.finish().await;
    let served = later.iter().filter(|fate| fate.result.is_ok() && fate.began > over).count();
    fates.extend(later);
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.insist(served > 0, "nobody new was served after the flood");
    finding.remark(format!(
        "accept paused {} times, {} connections opened to endpoints",
        proxy.metric("sluicegate_accept_backoffs_total{listener=\"secure\"}").await,
        proxy
            .metric(&format!(
                "sluicegate_upstream_connections_total{{pool=\"app\",endpoint=\"{}\",result=\"opened\"}}",
                fleet.replica(0).address
            ))
            .await
    ));
    finding
}
