//! Redis, which limits count in together, hangs, dies and comes back.

use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Proxy, Setup, Stage, process, until};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "Redis down",
    fault: "limits are shared through Redis, which is stopped, goes on, is killed, and is started again, under load",
    expected: "lost: nothing; no answer takes longer than 2 s",
    needs: Needs::Redis,
    play: |stage| Box::pin(play(stage)) as Playing<'_>,
};

async fn play(stage: &Stage) -> Finding {
    let port = 20_000 + u16::from(stage.number);
    let mut redis = start(stage, port).await;
    let fleet = stage.fleet(3).await;
    let rest = format!(
        "[redis]\naddresses = \"127.0.0.1:{port}\"\n\
         [limits.shared]\nstore = \"redis\"\nrate = \"100000/s\"\nburst = 100000\ndefault = true\n"
    );
    // Proxies know each other's counters by it.
    let secret = stage.path().join("secret");
    std::fs::write(&secret, "a secret of thirty-two bytes or so, for all").expect("a file");
    let process = format!("fleet_secret = {{ file = \"{}\" }}", secret.display());
    let proxy = Proxy::with(stage, &fleet, Setup { process, rest, ..Setup::default() }).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    stage.play(2, 5).await;
    let at_first = is_up(&proxy).await;

    process::signal(redis.id().expect("it runs"), "STOP");
    stage.play(3, 15).await;
    process::signal(redis.id().expect("it runs"), "CONT");
    stage.play(1, 5).await;
    redis.kill().await.expect("it ran");
    stage.play(3, 15).await;
    let meanwhile = is_up(&proxy).await;
    let cured = Instant::now();
    let _redis = start(stage, port).await;
    let back = until(cured, Duration::from_secs(60), async || is_up(&proxy).await).await;
    stage.play(1, 10).await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.insist(at_first && !meanwhile, "the proxy did not use Redis, or did not notice that it had gone");
    finding.back = finding.within("Redis is used again", back, stage.at_most(15));
    let without = proxy.metric("sluicegate_fleet_without_total").await;
    finding.remark(format!("{without} requests were judged without Redis"));
    finding.no_slower(stage.at_most(2), &fates, &[&proxy]);
    finding
}

/// Whether the proxy says that Redis answers.
async fn is_up(proxy: &Proxy) -> bool {
    proxy.metric("sluicegate_fleet_up").await > 0.0
}

/// A server of its own, once it takes connections.
async fn start(stage: &Stage, port: u16) -> Child {
    let child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
        .current_dir(stage.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server");
    let up =
        until(Instant::now(), Duration::from_secs(10), async || TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    assert!(up.await.is_some(), "Redis does not start");
    sleep(Duration::from_millis(50)).await;
    child
}
