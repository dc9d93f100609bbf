//! What the flight recorder keeps, and who follows it.

use http::Uri;
use tokio::sync::mpsc;

use super::*;
use crate::head::HeaderValue;
use crate::telemetry::record::{End, Stage};
use crate::telemetry::samples;

const SETTINGS: config::Recorder = config::Recorder {
    records: 4,
    memory: 1 << 20,
    slow: Duration::from_secs(2),
    sample: 1,
    queue: 16,
    anonymise: None,
};

fn recorder(settings: config::Recorder) -> Recorder {
    Recorder::new(settings, Arc::default())
}

fn well(id: &str) -> Record {
    Record { request_id: HeaderValue::from_str(id).unwrap(), ..samples::exchange() }
}

fn failed(id: &str, status: u16) -> Record {
    Record { status: Some(status), fault: Some("connect"), ..well(id) }
}

fn ids(recorder: &Recorder) -> Vec<String> {
    let text = |(_, record): (Kind, Arc<Record>)| record.request_id.to_str().unwrap().to_owned();
    recorder.recent(100, |_, _| true).into_iter().map(text).collect()
}

#[test]
fn flood_of_one_kind_pushes_out_nothing_of_another() {
    let recorder = recorder(SETTINGS);

    recorder.take(&Arc::new(failed("broken", 502)));
    for number in 0..100 {
        recorder.take(&Arc::new(failed(&format!("refused-{number}"), 403)));
        recorder.take(&Arc::new(well(&format!("well-{number}"))));
    }

    assert_eq!(recorder.find(b"broken").len(), 1);
    assert_eq!(recorder.find(b"refused-99").len(), 1);
    assert!(recorder.find(b"refused-95").is_empty());
    assert_eq!(ids(&recorder).len(), 9);
}

#[test]
fn record_is_of_the_kind_that_tells_most() {
    let slow = Duration::from_secs(2);
    let with = |status: Option<u16>, fault, who, seconds| {
        let stages = crate::telemetry::Stages { total: Duration::from_secs(seconds), ..Default::default() };
        let end = End { who, stage: Stage::Data };
        Kind::of(&Record { status, fault, end, stages, ..samples::exchange() }, slow)
    };

    assert_eq!(with(Some(502), Some("connect"), Who::Upstream, 9), Kind::Error);
    assert_eq!(with(Some(500), None, Who::Nobody, 0), Kind::Error);
    assert_eq!(with(Some(200), Some("upstream_closed"), Who::Upstream, 0), Kind::Error);
    assert_eq!(with(Some(429), Some("rate_limited"), Who::Proxy, 0), Kind::Refused);
    assert_eq!(with(None, Some("dropped"), Who::Proxy, 0), Kind::Refused);
    assert_eq!(with(Some(404), None, Who::Nobody, 0), Kind::Sample);
    assert_eq!(with(Some(200), None, Who::Nobody, 2), Kind::Slow);
    assert_eq!(with(None, None, Who::Client, 3), Kind::Slow);
}

#[test]
fn ring_stays_within_its_bytes() {
    let recorder = recorder(config::Recorder { records: 1_000, memory: 64 << 10, ..SETTINGS });
    let target = Uri::try_from(format!("/{}", "x".repeat(5_000))).unwrap();

    for number in 0..100 {
        recorder.take(&Arc::new(Record { target: target.clone(), ..well(&number.to_string()) }));
    }

    assert_eq!(ids(&recorder), ["99", "98"]);
}

#[test]
fn one_in_so_many_is_kept_of_what_is_well() {
    let recorder = recorder(config::Recorder { sample: 10, records: 1_000, ..SETTINGS });

    (0..95).for_each(|number| recorder.take(&Arc::new(well(&number.to_string()))));

    assert_eq!(ids(&recorder).len(), 10);
}

#[test]
fn settings_change_while_it_runs_and_zero_lets_all_go() {
    let recorder = recorder(SETTINGS);
    (0..9).for_each(|number| recorder.take(&Arc::new(well(&number.to_string()))));

    recorder.reconfigure(config::Recorder { records: 2, ..SETTINGS });
    assert_eq!(ids(&recorder).len(), 2);

    recorder.reconfigure(config::Recorder { records: 0, ..SETTINGS });
    recorder.take(&Arc::new(failed("broken", 502)));
    assert!(ids(&recorder).is_empty() && !recorder.is_on());
}

#[test]
fn kept_record_holds_nothing_of_the_buffer_that_it_was_read_into() {
    let buffer = bytes::Bytes::from(vec![b'a'; 60_000]);
    let agent = HeaderValue::from_maybe_shared(buffer.slice(7..20)).unwrap();
    let recorder = recorder(SETTINGS);

    recorder.take(&Arc::new(Record { user_agent: Some(agent), ..well("1") }));

    assert!(buffer.is_unique());
    assert_eq!(recorder.find(b"1")[0].1.user_agent.as_ref().unwrap().len(), 13);
}

#[derive(Debug)]
struct Reader(mpsc::Sender<Arc<Record>>);

impl Follower for Reader {
    fn follow(&self, record: &Arc<Record>) -> bool {
        self.0.try_send(Arc::clone(record)).is_ok()
    }

    fn has_left(&self) -> bool {
        self.0.is_closed()
    }
}

#[test]
fn follower_sees_every_record_until_it_leaves() {
    let recorder = recorder(config::Recorder { sample: 0, ..SETTINGS });
    let (sender, mut seen) = mpsc::channel(8);
    recorder.admit(Arc::new(Reader(sender)));

    recorder.take(&Arc::new(well("1")));
    assert_eq!(seen.try_recv().unwrap().request_id, "1");

    drop(seen);
    recorder.take(&Arc::new(well("2")));
    assert_eq!(recorder.following.load(Ordering::Relaxed), 0);
}

#[test]
fn followers_that_left_while_no_record_came_are_forgotten() {
    let recorder = recorder(SETTINGS);

    for _ in 0..100 {
        let (sender, seen) = mpsc::channel(8);
        recorder.admit(Arc::new(Reader(sender)));
        drop(seen);
    }

    assert_eq!(recorder.following.load(Ordering::Relaxed), 1);
}

#[test]
fn nothing_is_kept_or_followed_of_an_address_that_must_not_be_told() {
    let anonymise = Some(config::sink::Anonymise { ipv4_prefix: 16, ipv6_prefix: 48 });
    let recorder = recorder(config::Recorder { anonymise, ..SETTINGS });
    let (sender, mut seen) = mpsc::channel(8);
    recorder.admit(Arc::new(Reader(sender)));

    recorder.take(&Arc::new(well("1")));

    assert_eq!(recorder.find(b"1")[0].1.client.ip().to_string(), "203.0.0.0");
    assert_eq!(seen.try_recv().unwrap().client.ip().to_string(), "203.0.0.0");
}
