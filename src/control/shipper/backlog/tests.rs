//! What waits, in memory and on real disks.

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::config::sink::Destination;
use crate::telemetry::samples;

const SETTLE: Duration = Duration::from_secs(5);

/// A backlog of batches of ten with room for forty kilobytes, and its metrics; with a spool in `folder` that is open.
async fn backlog(folder: Option<&TempDir>) -> (Backlog, Arc<LogMetrics>) {
    let metrics = Arc::<LogMetrics>::default();
    let mut sink = samples::sink(Destination::Stdout);
    sink.batch = config::sink::Batch { records: 10, bytes: 10_000, ..sink.batch };
    sink.spool =
        folder.map(|folder| config::sink::Spool { dir: folder.path().into(), size: 1 << 20, segment: 128 << 10 });
    let mut backlog = Backlog::new(&sink, Arc::clone(&metrics));
    if let Some(opening) = backlog.opening() {
        let (spool, found) = opening.await.unwrap();
        backlog.opened(spool, &found).await.unwrap();
    }
    (backlog, metrics)
}

fn entries(numbers: std::ops::Range<u64>) -> Vec<Entry> {
    numbers.map(|at| Entry { at, payload: Bytes::from(format!("{at:01000}")) }).collect()
}

/// Sends everything; gives what that was.
async fn send_all(backlog: &mut Backlog) -> Vec<u64> {
    let mut sent = Vec::new();
    while let Some(batch) = backlog.next().await.unwrap() {
        sent.extend(batch.entries.iter().map(|entry| entry.at));
        backlog.sent(batch, SETTLE).await.unwrap();
    }
    sent
}

#[tokio::test]
async fn a_replay_that_settles_slowly_takes_no_memory_and_comes_again_after_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (mut backlog, metrics) = backlog(Some(&folder)).await;
    for part in 0..50 {
        backlog.add(entries(part * 10..part * 10 + 10)).await.unwrap();
        backlog.failed(None).await.unwrap();
    }

    assert_eq!(send_all(&mut backlog).await, (0..500).collect::<Vec<_>>());
    assert_eq!((backlog.unsettled.bytes(), backlog.queued()), (0, 0));

    backlog.failed(None).await.unwrap();
    assert_eq!(send_all(&mut backlog).await, (0..500).collect::<Vec<_>>());
    backlog.settle_all().await.unwrap();
    assert_eq!((metrics.written.get(), backlog.held().entries, backlog.is_on_disk()), (500, 0, false));
}

#[tokio::test]
async fn what_was_sent_and_not_settled_counts_as_memory_and_more_goes_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (mut backlog, _) = backlog(Some(&folder)).await;

    for part in 0..20 {
        backlog.add(entries(part * 10..part * 10 + 10)).await.unwrap();
        send_all(&mut backlog).await;
    }

    assert!(backlog.unsettled.bytes() <= backlog.memory, "{}", backlog.unsettled.bytes());
    assert!(backlog.is_on_disk() && backlog.has_room());
    backlog.failed(None).await.unwrap();
    let mut again = send_all(&mut backlog).await;
    again.sort_unstable();
    assert_eq!(again, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_a_disk_what_was_sent_is_kept_within_a_bound() {
    let (mut backlog, metrics) = backlog(None).await;

    for part in 0..50 {
        backlog.add(entries(part * 10..part * 10 + 10)).await.unwrap();
        send_all(&mut backlog).await;
        backlog.settle().await.unwrap();
    }

    assert!(backlog.unsettled.bytes() <= backlog.memory * 2, "{}", backlog.unsettled.bytes());
    assert!(backlog.has_room() && metrics.written.get() >= 400);
}

#[tokio::test]
async fn a_batch_that_failed_does_not_stay_in_memory_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut backlog, _) = backlog(Some(&folder)).await;
    backlog.add(entries(0..10)).await.unwrap();
    let under_way = backlog.next().await.unwrap();
    // More than memory takes: it goes to the disk before that one.
    backlog.add(entries(10..60)).await.unwrap();
    assert!(backlog.is_on_disk());

    backlog.failed(under_way).await.unwrap();

    assert_eq!((backlog.in_memory().0, backlog.held().entries), (0, 60));
    let mut again = send_all(&mut backlog).await;
    again.sort_unstable();
    assert_eq!(again, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_disk_does_not_give_back_is_counted_once_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut backlog, metrics) = backlog(Some(&folder)).await;
    for part in 0..30 {
        backlog.add(entries(part * 10..part * 10 + 10)).await.unwrap();
        backlog.failed(None).await.unwrap();
    }
    let sink = folder.path().join("sink");
    let files = std::fs::read_dir(&sink).unwrap().map(|file| file.unwrap().path());
    let first = files.filter(|file| file.extension().is_some_and(|ending| ending == "seg")).min().unwrap();
    std::fs::remove_file(first).unwrap();

    // A failure on the way must not count it twice.
    let batch = backlog.next().await.unwrap();
    backlog.failed(batch).await.unwrap();
    let sent = send_all(&mut backlog).await;
    backlog.settle_all().await.unwrap();

    assert_eq!(metrics.dropped(LogDrop::Damaged), sent[0]);
    assert_eq!(metrics.written.get() + sent[0], 300);
    assert_eq!((backlog.held().entries, backlog.is_on_disk()), (0, false));
    assert!(metrics.last_error().unwrap().contains("spool"));
}

#[tokio::test]
async fn what_settles_slowly_leaves_a_spool_within_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let (mut backlog, _) = backlog(Some(&folder)).await;
    for part in 0..80 {
        backlog.add(entries(part * 10..part * 10 + 10)).await.unwrap();
        backlog.failed(None).await.unwrap();
    }

    // A replay, while as much comes as goes.
    for part in 80..400 {
        backlog.settle().await.unwrap();
        let batch = backlog.next().await.unwrap().unwrap();
        backlog.sent(batch, SETTLE).await.unwrap();
        backlog.add(entries(part * 10..part * 10 + 10)).await.unwrap();

        assert!(backlog.held().bytes <= 1 << 20, "{}", backlog.held().bytes);
    }
}

#[tokio::test]
async fn halves_of_a_spooled_batch_are_counted_once_although_they_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut backlog, metrics) = backlog(Some(&folder)).await;
    backlog.add(entries(0..8)).await.unwrap();
    backlog.failed(None).await.unwrap();

    // Too large as a whole; the first entry is never taken, and of the second half nobody hears.
    for _ in 0..3 {
        while let Some(batch) = backlog.next().await.unwrap() {
            match batch.entries.first().map(|entry| entry.at) {
                Some(0) => backlog.refused(batch).await.unwrap(),
                Some(4) => {
                    backlog.failed(Some(batch)).await.unwrap();
                    break;
                }
                _ => backlog.sent(batch, Duration::ZERO).await.unwrap(),
            }
        }
    }
    assert_eq!((metrics.written.get(), metrics.dropped(LogDrop::Refused)), (0, 0));
    while let Some(batch) = backlog.next().await.unwrap() {
        match batch.entries.first().map(|entry| entry.at) {
            Some(0) => backlog.refused(batch).await.unwrap(),
            _ => backlog.sent(batch, Duration::ZERO).await.unwrap(),
        }
    }

    assert_eq!((metrics.written.get(), metrics.dropped(LogDrop::Refused)), (7, 1));
    assert_eq!((backlog.held().entries, backlog.is_on_disk()), (0, false));
}
