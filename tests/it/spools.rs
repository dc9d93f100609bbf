//! Spools whose disk is slow, full, damaged, or nobody's any more.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::rig::{Gate, Rig, Upstream, field, soon};
use crate::sinks::{arrived, ask, lines_to, sent, setup, sink, told};

/// Keys of a sink to `address` with a spool in the proxy's own folder.
fn spooled(address: std::net::SocketAddr) -> String {
    format!("{}spool = {{ dir = \"DIR/spool\", size = \"1MiB\" }}\n", lines_to(address))
}

/// The segments that are in `folder`.
fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|ending| ending == "seg")).collect()
}

#[tokio::test]
async fn records_are_taken_in_while_a_spool_is_opened() {
    let upstream = Upstream::named("a").await;
    let address = Upstream::nobody().await;
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("central").join("0000000000000000.seg");
    std::fs::create_dir(folder.path().join("central")).unwrap();
    // Opening it takes until somebody writes to it: a disk that is slow.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let spool = format!("spool = {{ dir = \"{}\" }}\n", folder.path().display());
    let rig = setup(&upstream, &format!("{}queue = 16\n{spool}", lines_to(address))).start().await;

    for asked in 1..=10 {
        ask(&rig, "/x", 10).await;
        let status = rig.status_where("all of them in memory", |status| sink(status)["queue"] == asked * 10).await;
        assert_eq!(sink(&status)["dropped"], json!({}), "{status}");
    }
    let receiver = Upstream::named_at(&address.to_string(), "r").await.unwrap();
    std::fs::write(&pipe, "").unwrap();
    arrived(&receiver, &told(&rig, 100).await).await;
}

#[tokio::test]
async fn a_full_disk_costs_no_record_while_memory_lasts_and_is_over_when_there_is_room() {
    let upstream = Upstream::named("a").await;
    let address = Upstream::nobody().await;
    // Twice as large as the disk, which is full first; its segments are small enough for several there.
    let keys = spooled(address).replace("1MiB", "128KiB");
    let rig = setup(&upstream, &keys).small_disk("spool").start().await;

    let mut asked = 0;
    let filling = async {
        while rig.events.all().iter().all(|event| !event.to_string().contains("spool cannot be used")) {
            ask(&rig, "/x", 20).await;
            asked += 20;
        }
    };
    soon("a full disk", filling).await;
    ask(&rig, "/x", 20).await;
    asked += 20;
    let status = rig.status_where("a failure", |status| sink(status)["state"] == "failing").await;
    assert_eq!(sink(&status)["dropped"], json!({}), "{status}");
    // Tried each second, and no file is left of each time.
    let folder = format!("/proc/{}/root{}/spool/central", rig.pid(), rig.directory.path().display());
    let many = segments(Path::new(&folder)).len();
    let tried = rig.metric("sluicegate_access_log_write_errors_total{sink=\"central\"}").await;
    soon("five more failures", async {
        while rig.metric("sluicegate_access_log_write_errors_total{sink=\"central\"}").await < tried + 5.0 {}
    })
    .await;
    assert!(segments(Path::new(&folder)).len() <= many + 1, "{many}");

    let receiver = Upstream::named_at(&address.to_string(), "r").await.unwrap();
    arrived(&receiver, &told(&rig, asked).await).await;
    rig.event("spool recovered").await;
    let after = sent(&rig).await;
    assert_eq!(after["dropped"], json!({}), "{after}");
}

#[tokio::test]
async fn a_spool_with_a_lost_segment_goes_on_behind_it_and_counts() {
    let upstream = Upstream::named("a").await;
    let address = Upstream::nobody().await;
    let keys = spooled(address).replace("1MiB", "64KiB");
    let rig = setup(&upstream, &keys).start().await;
    for asked in 1..=3 {
        ask(&rig, "/x", 20).await;
        rig.status_where("all of them on disk", |status| sink(status)["spool_records"] == asked * 20).await;
    }
    let all = told(&rig, 60).await;
    let folder = rig.directory.path().join("spool").join("central");
    let mut files = segments(&folder);
    files.sort();
    assert!(files.len() > 1, "{files:?}");
    std::fs::remove_file(&files[0]).unwrap();

    let _receiver = Upstream::named_at(&address.to_string(), "r").await.unwrap();

    let after = sent(&rig).await;
    let lost = after["dropped"]["damaged"].as_u64().unwrap();
    assert!(lost > 0 && after["sent"].as_u64().unwrap() + lost == all.len() as u64, "{after}");
    rig.event("spool segment cannot be read, it is passed over").await;
    let sample = "sluicegate_access_log_records_dropped_total{sink=\"central\",cause=\"damaged\"}";
    assert_eq!(rig.metric(sample).await, lost as f64);
}

/// The event of a spool that fails.
const UNUSABLE: &str = "spool cannot be used, records wait in memory";

#[tokio::test]
async fn a_sink_whose_failing_spool_is_configured_away_works_again() {
    let (upstream, receiver) = (Upstream::named("a").await, Upstream::named("r").await);
    let keys = spooled(receiver.address);
    let rig = setup(&upstream, &keys).file("spool", "no folder").start().await;
    rig.event(UNUSABLE).await;
    rig.status_where("a failure", |status| sink(status)["state"] == "failing").await;

    let spool = keys.lines().last().unwrap().replace("DIR", &rig.directory.path().to_string_lossy());
    rig.write_config(&rig.config().replace(&spool, ""));
    rig.signal("HUP").await;

    rig.status_where("no failure", |status| status["generation"] == 2 && sink(status)["state"] == "working").await;
    assert_eq!(rig.metric("sluicegate_access_log_sink_failing{sink=\"central\"}").await, 0.0);
}

#[tokio::test]
async fn a_sink_that_becomes_a_file_shows_nothing_of_what_it_was() {
    let upstream = Upstream::named("a").await;
    let keys = spooled(Upstream::nobody().await);
    let rig = setup(&upstream, &keys).start().await;
    ask(&rig, "/x", 10).await;
    rig.status_where("the spool", |status| sink(status)["spool_records"] == 10).await;
    rig.status_where("a failure", |status| sink(status)["state"] == "failing").await;
    let place = rig.directory.path().to_string_lossy().into_owned();

    let file = format!("file = {{ path = \"{place}/records\" }}\n");
    rig.write_config(&rig.config().replace(&keys.replace("DIR", &place), &file));
    rig.signal("HUP").await;
    rig.status_where("the file", |status| sink(status)["kind"] == "file").await;
    ask(&rig, "/y", 1).await;

    let status = rig.status_where("no failure", |status| sink(status)["state"] == "working").await;
    let shown = ["queue", "spool_bytes", "spool_records", "oldest_age_seconds"].map(|key| &sink(&status)[key]);
    assert_eq!(shown, [&json!(0); 4], "{status}");
    let text = rig.admin("/metrics").await.text();
    for gauge in ["sink_queue", "spool_bytes", "spool_max_bytes", "spool_records", "sink_lag_seconds"] {
        assert!(text.contains(&format!("sluicegate_access_log_{gauge}{{sink=\"central\"}} 0\n")), "{gauge}: {text}");
    }
}

#[tokio::test]
async fn a_reload_that_changes_a_sink_waits_quietly_for_the_spool_of_the_one_before() {
    let (upstream, gate) = (Upstream::named("a").await, Gate::closed());
    let receiver = Upstream::held("r", &gate).await;
    let rig = setup(&upstream, &spooled(receiver.address)).start().await;
    ask(&rig, "/x", 5).await;
    // It keeps the spool for as long as it may, with a batch that nobody answers.
    receiver.received(1).await;

    rig.write_config(&rig.config().replace("20ms", "30ms"));
    rig.signal("HUP").await;
    rig.status_where("the reload", |status| status["generation"] == 2).await;
    ask(&rig, "/y", 5).await;
    rig.status_where("the spool", |status| sink(status)["spool_records"].as_u64() > Some(0)).await;
    gate.let_pass(1_000);

    arrived(&receiver, &told(&rig, 10).await).await;
    assert!(rig.events.all().iter().all(|event| !event.to_string().contains(UNUSABLE)), "{:?}", rig.events.all());
    assert_eq!(rig.metric("sluicegate_access_log_write_errors_total{sink=\"central\"}").await, 0.0);
}

#[tokio::test]
async fn a_spool_that_another_process_uses_is_told_of() {
    let (upstream, folder) = (Upstream::named("a").await, tempfile::tempdir().unwrap());
    let keys = spooled(Upstream::nobody().await).replace("DIR/spool", &folder.path().display().to_string());
    let _first = setup(&upstream, &keys).start().await;
    let lock = folder.path().join("central").join("lock");
    soon("the first one's spool", async {
        while !lock.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let second = setup(&upstream, &keys).start().await;

    let event = second.event(UNUSABLE).await;
    assert_eq!(field(&event, "error"), "another process uses it", "{event}");
}

/// Waits until `rig` tells of a spool that is nobody's with so many records.
async fn told_of(rig: &Rig, records: u64) {
    let event = rig.event("spool belongs to no sink, its records wait for one of that name").await;
    assert_eq!(field(&event, "records"), records, "{event}");
    assert!(field(&event, "spool.dir").as_str().unwrap().ends_with("/central"), "{event}");
    assert!(field(&event, "bytes").as_u64().unwrap() > 1_000, "{event}");
}

#[tokio::test]
async fn a_spool_whose_sink_is_renamed_is_told_at_the_reload_and_at_the_next_start() {
    let upstream = Upstream::named("a").await;
    let address = Upstream::nobody().await;
    let folder = tempfile::tempdir().unwrap();
    let keys = spooled(address).replace("DIR/spool", &folder.path().display().to_string());
    let mut rig = setup(&upstream, &keys).start().await;
    ask(&rig, "/x", 30).await;
    rig.status_where("the spool", |status| sink(status)["spool_records"] == 30).await;

    rig.write_config(&rig.config().replace("\"central\"", "\"renamed\""));
    rig.signal("HUP").await;

    told_of(&rig, 30).await;
    rig.signal("TERM").await;
    rig.ended().await;
    let other = "[access_log]\ntarget = \"stdout\"\n[[access_log.sinks]]\nname = \"other\"\n";
    let next = Rig::setup().endpoint(&upstream).rest(&format!("{other}{keys}")).start().await;
    told_of(&next, 30).await;
}
