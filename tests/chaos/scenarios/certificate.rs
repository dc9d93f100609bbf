//! The certificate is renewed while clients connect.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape, certificate_of};
use crate::report::{Finding, nothing};
use crate::stage::{Proxy, Stage, until};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "certificate swapped",
    fault: "certificate and key are replaced once a second, one file after the other, while each request connects anew",
    expected: "lost: nothing; what was replaced last is shown within 10 s",
    needs: Needs::Nothing,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let proxy = Proxy::start(stage, &fleet).await;
    let shape = Shape { afresh: true, pause: Duration::from_millis(100), ..Shape::default() };
    let load = Load::start(&proxy.target(), &shape);
    let before = certificate_of(&proxy.target()).await;
    let mut last = Vec::new();
    for _ in 0..stage.seconds(6, 30).as_secs() {
        last = stage.certificates.write(stage.path());
        sleep(Duration::from_secs(1)).await;
    }

    let target = proxy.target();
    let shown = until(Instant::now(), Duration::from_secs(10), async || certificate_of(&target).await == last).await;
    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.insist(before != last, "the certificate never changed");
    finding.insist(shown.is_some(), "the last certificate is not shown");
    finding.remark(format!(
        "{} certificates, {} reloads, {} of them met a pair that did not match and kept the old one",
        stage.seconds(6, 30).as_secs(),
        proxy.metric("sluicegate_config_reloads_total{result=\"ok\"}").await,
        proxy.metric("sluicegate_config_reloads_total{result=\"failed\"}").await
    ));
    finding
}
