//! Nobody takes the records: the disk is full, or the pipe has no reader any more.

use std::process::Command;

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Proxy, Setup, Stage};

pub(super) const DISK: Scenario = Scenario {
    name: "log on a full disk",
    fault: "the access log's file system is full under load; room is made later",
    expected: "lost: nothing but records, and those are counted; records are written again when there is room",
    needs: Needs::Wires,
    play: |stage| Box::pin(disk(stage)) as Playing<'_>,
};

pub(super) const PIPE: Scenario = Scenario {
    name: "log to a closed pipe",
    fault: "records go to standard output, and who read them is gone",
    expected: "lost: nothing but records, and those are counted",
    needs: Needs::Nothing,
    play: |stage| Box::pin(pipe(stage)) as Playing<'_>,
};

async fn disk(stage: &Stage) -> Finding {
    let place = stage.path().join("disk");
    std::fs::create_dir(&place).expect("a directory");
    // In the suite's own mount namespace: gone with it.
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(&place).status();
    assert!(mounted.is_ok_and(|status| status.success()), "no small disk");
    let fleet = stage.fleet(3).await;
    let log = format!("path = \"{}/records\"\nqueue = 64", place.display());
    let proxy = Proxy::with(stage, &fleet, Setup { log, ..Setup::default() }).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    stage.play(2, 5).await;
    std::fs::write(place.join("ballast"), vec![0; 256 * 1024]).unwrap_or_default();
    stage.play(4, 20).await;
    let full = proxy.sum("sluicegate_access_log_write_errors_total").await;
    let before = proxy.sum("sluicegate_access_log_records_total").await;
    std::fs::remove_file(place.join("ballast")).unwrap_or_default();
    std::fs::rename(place.join("records"), place.join("old")).unwrap_or_default();
    std::fs::remove_file(place.join("old")).unwrap_or_default();
    stage.play(4, 10).await;
    let after = proxy.sum("sluicegate_access_log_records_total").await;

    let fates = load.finish().await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.insist(full > 0.0, "the disk was never full");
    finding.insist(after > before, "nothing was written once there was room");
    finding.remark(format!(
        "{full} failed writes, {} records lost and counted, {} written after",
        lost(&proxy).await,
        after - before
    ));
    drop(Command::new("umount").args(["-l"]).arg(&place).status());
    finding
}

async fn pipe(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let setup = Setup { log: "target = \"stdout\"\nqueue = 64".to_owned(), ..Setup::default() };
    let mut proxy = Proxy::with(stage, &fleet, setup).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    stage.play(1, 5).await;
    // Nobody has read so far: the pipe is full, too.
    drop(proxy.stdout.take());
    stage.play(4, 20).await;

    let fates = load.finish().await;
    let lost = lost(&proxy).await;
    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.insist(proxy.runs(), "the proxy has ended");
    finding.insist(lost > 0.0, "no record was counted as lost");
    finding.remark(format!("{lost} records lost and counted"));
    finding
}

/// Records that were lost, whatever the cause.
async fn lost(proxy: &Proxy) -> f64 {
    proxy.sum("sluicegate_access_log_records_dropped_total").await
}
