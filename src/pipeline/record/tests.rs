//! Every ending is told, and told once.

use std::collections::VecDeque;
use std::path::Path;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::*;
use crate::balance::Vitals;
use crate::body::{Body, BodyError, Frame, Source};
use crate::config::sink::{Destination, LogFile};
use crate::config::{self, Config};
use crate::head::Fields;
use crate::lexicon::{ConnectionId, Protocol};
use crate::pipeline::steer::steer;
use crate::telemetry::access_log::{AccessLog, Local};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;
use crate::telemetry::samples;
use crate::upstream::observer::Side;
use crate::upstream::pool::tests::wish;
use crate::upstream::tunnel::{Ending, Tally};

/// A place where stories are told.
pub(in crate::pipeline) struct Told {
    folder: tempfile::TempDir,
    log: AccessLog,
    local: Local,
    emitter: Emitter,
    snapshot: Arc<Snapshot>,
    metrics: Metrics,
}

impl Told {
    fn new() -> Self {
        let text = "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.p]\nendpoints = [\"127.0.0.1:1\"]\nhealth = false\n\
             [[routes]]\npool = \"p\"\n";
        let config = Config::parse(text, Path::new("a.toml")).unwrap().config;
        let metrics = Metrics::new(1);
        let snapshot = Snapshot::build(config, None, &metrics).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = LogFile {
            path: folder.path().join("log"),
            rotate_size: 0,
            rotate_every: None,
            rotate_keep: 1,
            gzip: false,
        };
        let to = config::Sink { queue: 64, ..samples::sink(Destination::File(file)) };
        let local = Local::start(to, Redactor::new(&[]), metrics.log()).unwrap();
        let log = AccessLog::start(64, vec![local.consumer()], metrics.log()).unwrap();
        let emitter = log.worker();
        Self { folder, log, local, emitter, snapshot: Arc::new(snapshot), metrics }
    }

    fn open(&self) -> Box<Story> {
        let nobody = ([127, 0, 0, 1], 1).into();
        let connection = Connection {
            id: ConnectionId::next(),
            listener: Arc::clone(&self.snapshot.config.listeners[0]),
            peer: nobody,
            local: nobody,
            proxied: None,
            protocol: Protocol::Http1,
            tls: None,
            alternative: None,
        };
        let head = request::Parts::from(http::Request::builder().method(Method::POST).uri("/x").body(()).unwrap());
        let id = HeaderValue::from_static("id-1");
        Story::open(&head, &connection, id, Arc::clone(&self.snapshot), self.emitter.clone())
    }

    /// All that was told: kind, end, status, fault, bytes out.
    fn all(&self) -> Vec<Value> {
        assert!(self.log.flush(Duration::from_secs(20)) && self.local.flush(Duration::from_secs(20)));
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn one(&self) -> Value {
        let all = self.all();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    async fn lease(&self) -> Lease {
        self.snapshot.pools[0].upstream.lease(wish(&[])).await.unwrap()
    }

    fn in_flight(&self) -> u32 {
        self.vitals().in_flight()
    }

    fn vitals(&self) -> Vitals {
        self.snapshot.pools[0].upstream.roster().endpoints()[0].vitals.clone()
    }
}

pub(in crate::pipeline) fn story() -> (Box<Story>, Told) {
    let told = Told::new();
    (told.open(), told)
}

struct Frames(VecDeque<Result<Frame, BodyError>>, Option<u64>);

impl Source for Frames {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = self.0.pop_front();
        if let (Some(Ok(Frame::Data(data))), Some(left)) = (&frame, &mut self.1) {
            *left -= data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        self.1
    }
}

fn data(text: &'static str) -> Result<Frame, BodyError> {
    Ok(Frame::Data(Bytes::from_static(text.as_bytes())))
}

fn frames(frames: impl Into<VecDeque<Result<Frame, BodyError>>>, length: Option<u64>) -> Body {
    Body::stream(Frames(frames.into(), length))
}

#[tokio::test]
async fn whole_body_is_told_as_complete_and_frees_its_endpoint() {
    for trailers in [false, true] {
        let (mut story, told) = story();
        story.record().status = Some(200);
        let mut pieces = vec![data("abc"), data("de")];
        pieces.extend(trailers.then(|| Ok(Frame::Trailers(Fields::new()))));
        let mut body = Tail::ride(frames(pieces, None), story, Some(told.lease().await));
        assert_eq!((told.in_flight(), told.all().len()), (1, 0));

        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }

        assert_eq!(told.in_flight(), 0, "the lease outlived the last byte");
        drop(body);
        let one = told.one();
        assert_eq!((&one["end"], &one["bytes_out"], &one["status"]), (&"--".into(), &5.into(), &200.into()));
    }
}

#[tokio::test]
async fn last_byte_of_a_known_length_ends_it_though_nobody_asks_again() {
    let (story, told) = story();
    let mut body = Tail::ride(frames(vec![data("abc")], Some(3)), story, Some(told.lease().await));
    body.frame().await.unwrap().unwrap();

    drop(body);

    assert_eq!((told.one()["end"].clone(), told.in_flight()), ("--".into(), 0));
}

#[tokio::test]
async fn empty_body_is_told_at_once_as_for_head() {
    let (story, told) = story();

    let body = Tail::ride(Body::empty(), story, Some(told.lease().await));

    assert_eq!((told.one()["end"].clone(), told.in_flight()), ("--".into(), 0));
    drop(body);
    assert_eq!(told.all().len(), 1);
}

#[tokio::test]
async fn client_that_leaves_in_the_middle_is_told_as_such() {
    let (story, told) = story();
    let mut body = Tail::ride(frames(vec![data("abc"), data("d")], None), story, Some(told.lease().await));
    body.frame().await.unwrap().unwrap();

    drop(body);

    let one = told.one();
    assert_eq!((&one["end"], &one["bytes_out"], told.in_flight()), (&"CD".into(), &3.into(), 0));
}

#[tokio::test]
async fn endpoint_that_breaks_off_is_told_and_noted() {
    for (error, end, fault, counts) in [
        (BodyError::Gone(None), "UD", "upstream_closed", true),
        (BodyError::Malformed("x"), "UD", "upstream_malformed", true),
        (BodyError::Late(Clock::BetweenBytes), "UD", "between_bytes", true),
        // Our own clock: the endpoint did what it was asked.
        (BodyError::Late(Clock::Exchange), "PD", "exchange", false),
    ] {
        let (mut story, told) = story();
        story.take_route(steer(&told.snapshot, "h", &"/x".parse().unwrap()).unwrap());
        let mut body = Tail::ride(frames(vec![data("abc"), Err(error)], Some(9)), story, Some(told.lease().await));
        while let Some(Ok(_)) = body.frame().await {}

        drop(body);

        let one = told.one();
        assert_eq!((&one["end"], &one["fault"]), (&end.into(), &fault.into()));
        assert_eq!(told.in_flight(), 0);
        assert_eq!(told.vitals().tally().errors, u32::from(counts), "{fault}");
        assert_eq!(told.metrics.glance().faults.get(fault), Some(&1), "{fault}");
    }
}

#[test]
fn story_without_an_answer_tells_where_the_client_left() {
    let (mut story, told) = story();
    story.reach(Stage::Queue);

    drop(story);

    assert_eq!(told.one()["end"], "CQ");
}

#[test]
fn fault_keeps_its_end_when_its_page_was_read() {
    let (mut story, told) = story();
    story.fault(Fault::QueueFull);

    drop(Tail::ride(Body::empty(), story, None));

    let one = told.one();
    assert_eq!((&one["end"], &one["fault"], &one["status"]), (&"PQ".into(), &"queue_full".into(), &503.into()));
}

#[test]
fn client_that_is_gone_was_sent_no_status() {
    let (mut story, told) = story();
    story.fault(Fault::ClientGone);

    story.close();

    assert_eq!(told.one()["status"], Value::Null);
}

#[tokio::test]
async fn tunnel_is_told_at_its_start_and_once_at_its_end() {
    for (ending, end) in [
        (Some(Ending::Closed(Side::Client)), "--"),
        (Some(Ending::Gone(Side::Upstream)), "UT"),
        (Some(Ending::TooLarge(Side::Client)), "CT"),
        (Some(Ending::Drained), "PT"),
        (Some(Ending::Idle), "PT"),
        // Cut: the task that carried it was dropped.
        (None, "PT"),
    ] {
        let (mut story, told) = story();
        story.begin_tunnel();
        let tally = Arc::new(Tally::default());
        tally.from_client.bytes.fetch_add(7, Ordering::Relaxed);
        let guard = story.ride_tunnel(tally, told.lease().await);
        assert_eq!(told.in_flight(), 1);

        match ending {
            Some(ending) => guard.end(ending),
            None => drop(guard),
        }

        let all = told.all();
        assert_eq!(all.len(), 2, "{ending:?}: {all:?}");
        assert_eq!((&all[0]["kind"], &all[1]["kind"]), (&"tunnel_start".into(), &"tunnel_end".into()));
        assert_eq!((&all[1]["end"], &all[1]["bytes_in"]), (&end.into(), &7.into()), "{ending:?}");
        let counted: u64 = told.metrics.glance().faults.values().sum();
        assert_eq!(counted, u64::from(all[1]["fault"].is_string()), "{ending:?}");
        assert_eq!(told.in_flight(), 0);
    }
}

#[test]
fn tunnel_that_never_came_to_be_is_told_as_the_clients_leaving() {
    let (mut story, told) = story();
    story.begin_tunnel();

    drop(story);

    let all = told.all();
    assert_eq!((all.len(), &all[1]["end"]), (2, &"CT".into()));
}
