//! The proxy itself is told to end, with streams, uploads and tunnels open.

use std::time::Duration;

use tokio::time::Instant;

use super::{Needs, Playing, Scenario};
use crate::load::tunnels::{End, Tunnels};
use crate::load::{Fate, Kind, Load, Loss, Shape};
use crate::report::{Finding, brief};
use crate::stage::{Proxy, Setup, Stage, process};

/// What a stream or an upload takes.
const SPAN: Duration = Duration::from_secs(4);

pub(super) const SCENARIO: Scenario = Scenario {
    name: "proxy told to end",
    fault: "SIGTERM of the proxy with exports, uploads and tunnels open",
    expected: "lost: nothing that was asked before; later connections are refused; tunnels get a Close 1012; exit code 0 \
               within the drain time-out",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let drain = stage.seconds(10, 30);
    let setup = Setup { process: format!("drain_timeout = \"{}s\"", drain.as_secs()), ..Setup::default() };
    let mut proxy = Proxy::with(stage, &fleet, setup).await;
    let shape = Shape { span: SPAN, ..Shape::default() };
    let loads = [
        Load::start(&proxy.target(), &shape),
        Load::start(&proxy.target(), &Shape { only: Some(Kind::Export), ..shape.clone() }),
        Load::start(&proxy.target(), &Shape { only: Some(Kind::Upload), ..shape }),
    ];
    let tunnels = Tunnels::open(&proxy.target(), 10, Duration::from_millis(200), false);
    stage.play(3, 8).await;

    let told = Instant::now();
    process::signal(proxy.pid, "TERM");
    let status = proxy.ended().await;
    let took = told.elapsed();

    let mut fates = Vec::new();
    for load in loads {
        fates.extend(load.finish().await);
    }
    let seen = tunnels.finish().await;
    let open = |kind: Kind| fates.iter().filter(|fate| fate.kind == kind && fate.was_under_way(told)).count();
    let (exports, uploads) = (open(Kind::Export), open(Kind::Upload));
    let late =
        |fate: &Fate| fate.began >= told && matches!(fate.result, Err(Loss::NoConnection(_) | Loss::Unanswered(_)));
    let polite = seen.iter().filter(|tunnel| tunnel.end == End::Close(1012)).count();
    let mut finding = Finding::of(&fates, &late, &fleet, &[&proxy]);
    // What nobody was there to take says nothing about what was taken.
    let asked: Vec<Fate> = fates.iter().filter(|fate| !late(fate)).cloned().collect();
    let judged = Finding::of(&asked, &late, &fleet, &[]);
    (finding.requests, finding.failed, finding.unrepeatable) = (judged.requests, judged.failed, judged.unrepeatable);
    finding.gap = judged.gap;
    finding.protocols = judged.protocols;
    finding.insist(status.code() == Some(0), format!("it ended with {status}"));
    finding.insist(took < drain + Duration::from_secs(6), format!("it took {took:?}"));
    finding.insist(exports > 0 && uploads > 0, "no stream or no upload was open");
    finding.insist(polite == seen.len(), format!("tunnels ended otherwise: {seen:?}"));
    finding.remark(format!(
        "open when told: {exports} exports, {uploads} uploads, {} tunnels, of which {polite} got a Close 1012; ended after {}; \
         {} later requests found nobody",
        seen.len(),
        brief(took),
        fates.len() - asked.len()
    ));
    finding
}
