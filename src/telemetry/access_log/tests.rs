//! The access log on real files.

mod rotating;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::config;
use crate::config::sink::{Destination, LogFile, LogFormat};
use crate::telemetry::Metrics;
use crate::telemetry::redact::Redactor;
use crate::telemetry::samples;

const SOON: Duration = Duration::from_secs(20);

fn to_file(path: &Path) -> config::Sink {
    rotated(path, 0, 5)
}

fn rotated(path: &Path, rotate_size: u64, rotate_keep: u32) -> config::Sink {
    let file = LogFile { path: path.to_owned(), rotate_size, rotate_every: None, rotate_keep, gzip: false };
    samples::sink(Destination::File(file))
}

/// The access log with one local sink.
struct Logged {
    log: AccessLog,
    local: Local,
}

impl Logged {
    fn worker(&self) -> Emitter {
        self.log.worker()
    }

    fn flush(&self, deadline: Duration) -> bool {
        self.log.flush(deadline) && self.local.flush(deadline)
    }

    fn reconfigure(&self, config: config::Sink, redactor: Redactor) {
        self.log.flush(SOON);
        self.local.reconfigure(config, redactor);
    }

    fn reopen(&self) {
        self.log.flush(SOON);
        self.local.reopen();
    }
}

fn start(config: config::Sink) -> (Logged, Arc<LogMetrics>) {
    let metrics = Metrics::new(1).log();
    let queue = config.queue;
    let local = Local::start(config, Redactor::new(&["token".to_owned()]), Arc::clone(&metrics)).unwrap();
    let log = AccessLog::start(queue, vec![local.consumer()], Arc::clone(&metrics)).unwrap();
    (Logged { log, local }, metrics)
}

/// A record that is told apart by its `bytes_out`.
fn numbered(number: u64) -> Record {
    Record { bytes_out: number, ..samples::exchange() }
}

fn numbers(path: &Path) -> Vec<u64> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["bytes_out"].as_u64().unwrap())
        .collect()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    (folder, path)
}

/// Waits for something that the log's thread does by itself.
fn eventually(what: &str, happened: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !happened() {
        assert!(Instant::now() < end, "{what} did not happen");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn records_of_all_workers_are_written_and_counted() {
    let (_folder, path) = folder();
    let (log, metrics) = start(to_file(&path));

    thread::scope(|scope| {
        for worker in 0..3_u64 {
            let emitter = log.worker();
            scope.spawn(move || {
                for number in 0..1_000 {
                    emitter.emit(numbered(worker * 1_000 + number));
                }
            });
        }
    });

    assert!(log.flush(SOON));
    let mut written = numbers(&path);
    written.sort_unstable();
    assert_eq!(written, (0..3_000).collect::<Vec<_>>());
    assert_eq!(metrics.written.get(), 3_000);
}

#[test]
fn idle_log_writes_without_being_asked() {
    let (_folder, path) = folder();
    let (log, _) = start(to_file(&path));
    let emitter = log.worker();

    emitter.emit(numbered(1));

    eventually("the line", || numbers(&path) == [1]);
}

#[test]
fn records_beyond_a_full_queue_are_dropped_and_counted() {
    let (folder, path) = folder();
    // A directory in its place: the sink cannot be opened, nothing drains once the buffer is full.
    fs::create_dir(&path).unwrap();
    let (log, metrics) = start(config::Sink { queue: 16, ..to_file(&path) });
    let emitter = log.worker();

    let emitted = 5_000;
    for number in 0..emitted {
        emitter.emit(numbered(number));
    }
    assert!(log.log.flush(SOON));
    let dropped = metrics.dropped(LogDrop::QueueFull) + metrics.dropped(LogDrop::SinkFull);
    assert!(dropped > 0);

    fs::remove_dir(&path).unwrap();
    assert!(log.flush(SOON));
    assert_eq!(numbers(&path).len() as u64, emitted - dropped);
    assert_eq!(metrics.written.get(), emitted - dropped);
    drop(folder);
}

#[test]
fn full_disk_is_counted_and_what_waited_goes_to_the_next_target() {
    let (_folder, path) = folder();
    let (log, metrics) = start(to_file(Path::new("/dev/full")));
    let emitter = log.worker();
    emitter.emit(numbered(1));
    eventually("the error", || metrics.errors.get() > 0);
    assert!(!log.flush(Duration::from_millis(50)));

    log.reconfigure(to_file(&path), Redactor::default());
    emitter.emit(numbered(2));

    assert!(log.flush(SOON));
    assert_eq!(numbers(&path), [1, 2]);
    assert_eq!(metrics.written.get(), 2);
}

#[test]
fn missing_directory_is_tried_again_until_it_is_there() {
    let (folder, _) = folder();
    let path = folder.path().join("later").join("access.log");
    let (log, metrics) = start(to_file(&path));
    let emitter = log.worker();
    emitter.emit(numbered(1));
    eventually("the error", || metrics.errors.get() > 0);

    fs::create_dir(path.parent().unwrap()).unwrap();

    assert!(log.flush(SOON));
    assert_eq!(numbers(&path), [1]);
}

#[test]
fn reload_changes_format_and_secret_keys() {
    let (_folder, path) = folder();
    let (log, _) = start(to_file(&path));
    let emitter = log.worker();
    emitter.emit(numbered(1));

    log.reconfigure(config::Sink { format: LogFormat::Combined, ..to_file(&path) }, Redactor::new(&["x".to_owned()]));
    assert!(log.flush(SOON));
    emitter.emit(numbered(2));
    assert!(log.flush(SOON));

    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("203.0.113.9 - - [") && lines[1].contains("x=***"), "{text}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn queue_of_a_worker_that_ended_is_written_all_the_same() {
    let (_folder, path) = folder();
    let (log, _) = start(to_file(&path));
    let emitter = log.worker();
    emitter.emit(numbered(1));
    drop(emitter);

    assert!(log.flush(SOON));
    assert_eq!(numbers(&path), [1]);
}

#[test]
fn dropping_the_log_writes_what_waits() {
    let (_folder, path) = folder();
    let (log, _) = start(to_file(&path));
    let emitter = log.worker();
    for number in 0..100 {
        emitter.emit(numbered(number));
    }

    drop(log);

    eventually("the last line", || numbers_lossy(&path) == 100);
}

#[test]
fn what_a_sink_never_took_is_counted_as_lost_at_its_end() {
    let (folder, path) = folder();
    fs::create_dir(&path).unwrap();
    let (log, metrics) = start(to_file(&path));
    let emitter = log.worker();
    for number in 0..3 {
        emitter.emit(numbered(number));
    }
    assert!(log.log.flush(SOON));

    drop(log);

    eventually("the count", || metrics.dropped(LogDrop::Ending) == 3);
    assert_eq!(metrics.written.get(), 0);
    drop(folder);
}

fn numbers_lossy(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn files_are_not_readable_by_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, path) = folder();
    let (log, _) = start(to_file(&path));

    assert!(log.flush(SOON));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
}

#[test]
fn closed_standard_output_is_an_error_and_not_the_end() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut sink = sink::Sink::Stdout(fs::File::from(std::os::fd::OwnedFd::from(writer)));

    let error = sink.write(b"line\n").unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// Keeps what it is shown.
#[derive(Default)]
struct Seen(std::sync::Mutex<Vec<Arc<Record>>>);

impl Consumer for Seen {
    fn take(&self, record: &Arc<Record>) {
        self.0.lock().unwrap().push(Arc::clone(record));
    }
}

#[test]
fn every_consumer_sees_every_record_once_and_by_the_same_id() {
    let (one, other) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let consumers: Consumers = vec![Arc::clone(&one) as _, Arc::clone(&other) as _];
    let log = AccessLog::start(64, consumers, Metrics::new(1).log()).unwrap();
    let emitters = [log.worker(), log.worker()];

    for number in 0..10 {
        emitters[0].emit(numbered(number));
        emitters[1].emit(numbered(number));
    }
    assert!(log.flush(SOON));

    let ids = |seen: &Seen| seen.0.lock().unwrap().iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids(&one), ids(&other));
    assert_eq!(ids(&one).into_iter().collect::<std::collections::HashSet<_>>().len(), 20);
}

#[test]
fn consumers_can_be_exchanged_without_a_record_lost() {
    let (before, after) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let log = AccessLog::start(64, vec![Arc::clone(&before) as _], Metrics::new(1).log()).unwrap();
    let emitter = log.worker();

    emitter.emit(numbered(1));
    log.feed(vec![Arc::clone(&after) as _]);
    assert!(log.flush(SOON));
    emitter.emit(numbered(2));
    assert!(log.flush(SOON));

    let count = |seen: &Seen| seen.0.lock().unwrap().len();
    assert_eq!((count(&before), count(&after)), (1, 1));
}

#[test]
fn sink_that_is_stuck_slows_no_other() {
    let (folder, path) = folder();
    fs::create_dir(&path).unwrap();
    let metrics = Metrics::new(1).log();
    let stuck = Local::start(config::Sink { queue: 16, ..to_file(&path) }, Redactor::default(), Arc::clone(&metrics));
    let other = folder.path().join("other.log");
    let well = Local::start(to_file(&other), Redactor::default(), Arc::clone(&metrics)).unwrap();
    let stuck = stuck.unwrap();
    let log = AccessLog::start(8_192, vec![stuck.consumer(), well.consumer()], metrics).unwrap();
    let emitter = log.worker();

    for number in 0..5_000 {
        emitter.emit(numbered(number));
    }
    assert!(log.flush(SOON) && well.flush(SOON));

    assert_eq!(numbers(&other), (0..5_000).collect::<Vec<_>>());
}
