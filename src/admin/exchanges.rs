//! `/exchanges`, `/exchanges/{request-id}` and `/records`: what became of requests.
//!
//! Part of `admin`. Records reach this place with all that a request said, and leave it only as the line of the access
//! log, which is redacted; what a story has beyond that are words and numbers of our own.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::Value;

use super::answers::{json, text};
use super::feed::{self, Event, Pusher, Pushing};
use super::wanted::Wanted;
use super::{Admin, Source};
use crate::config::sink::LogFormat;
use crate::head::request;
use crate::message::Answer;
use crate::telemetry::format::Encoder;
use crate::telemetry::metrics::RecorderMetrics;
use crate::telemetry::record::{Attempt, Record};
use crate::telemetry::recorder::{Follower, Kind};
use crate::telemetry::redact::Redactor;

/// Records in a list that does not say, and at most.
const LISTED: (usize, usize) = (100, 1_000);

/// What is known of one exchange, or of a tunnel's beginning or end.
#[derive(Debug, Serialize)]
struct Told {
    /// Why it was kept.
    kept: &'static str,
    /// As in the access log.
    record: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    story: Option<Story>,
}

/// What the access log does not say.
#[derive(Debug, Serialize)]
struct Story {
    generation: u64,
    asked: Vec<Asked>,
    /// Attempts in the middle of many that were not kept.
    asked_left_out: u32,
    gave_up: Option<&'static str>,
    /// What the ban is for that shut the client out.
    ban: Option<String>,
}

/// One attempt.
#[derive(Debug, Serialize)]
struct Asked {
    endpoint: String,
    why: &'static str,
    choice: &'static str,
    began_ms: f64,
    queued_ms: f64,
    connection: &'static str,
    connect_ms: f64,
    waited_ms: f64,
    status: Option<u16>,
    cause: Option<&'static str>,
    clock: Option<&'static str>,
}

impl From<&Attempt> for Asked {
    fn from(attempt: &Attempt) -> Self {
        Self {
            endpoint: attempt.endpoint.to_string(),
            why: attempt.why.as_str(),
            choice: attempt.choice.as_str(),
            began_ms: millis(attempt.began),
            queued_ms: millis(attempt.queued),
            connection: attempt.link.as_str(),
            connect_ms: millis(attempt.connect),
            waited_ms: millis(attempt.waited),
            status: attempt.status,
            cause: attempt.cause,
            clock: attempt.clock.map(|clock| clock.as_str()),
        }
    }
}

impl From<&Record> for Story {
    fn from(record: &Record) -> Self {
        Self {
            generation: record.generation.0,
            asked: record.attempts.iter().map(Asked::from).collect(),
            asked_left_out: record.attempts.left_out(),
            gave_up: record.gave_up.map(|why| why.as_str()),
            ban: record.ban.as_deref().map(str::to_owned),
        }
    }
}

/// Milliseconds, to the microsecond.
fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// Makes redacted lines, also after a reload that has changed what is secret.
struct Lines {
    source: Arc<dyn Source>,
    redactor: Arc<Redactor>,
    encoder: Encoder,
    line: Vec<u8>,
}

impl Lines {
    fn new(source: &Arc<dyn Source>) -> Self {
        let redactor = source.redactor();
        let encoder = Encoder::new(LogFormat::Json, Redactor::clone(&redactor));
        Self { source: Arc::clone(source), redactor, encoder, line: Vec::new() }
    }

    fn line(&mut self, record: &Record) -> &[u8] {
        let now = self.source.redactor();
        if !Arc::ptr_eq(&now, &self.redactor) {
            *self = Self::new(&self.source);
        }
        self.line.clear();
        self.encoder.encode(record, &mut self.line);
        self.line.trim_ascii_end()
    }

    fn tell(&mut self, kind: Kind, record: &Record, story: bool) -> Told {
        let line = self.line(record);
        // Our own lines are JSON.
        let line = serde_json::from_slice(line).unwrap_or_default();
        Told { kept: kind.as_str(), record: line, story: story.then(|| Story::from(record)) }
    }
}

/// Those of late that fit.
pub(super) fn list(admin: &Admin, head: &request::Parts) -> Answer {
    let read = Wanted::read(head.uri.query().unwrap_or_default(), &["limit", "kept"]);
    let (wanted, rest) = match read {
        Ok(read) => read,
        Err(why) => return malformed(&why),
    };
    let (mut most, mut kept) = (LISTED.0, None);
    for (key, value) in rest {
        if key == "limit" {
            match value.parse() {
                Ok(limit) if (1..=LISTED.1).contains(&limit) => most = limit,
                _ => return malformed(&format!("`limit` must be a number from 1 to {}", LISTED.1)),
            }
        } else {
            match Kind::ALL.into_iter().find(|kind| kind.as_str() == value) {
                Some(kind) => kept = Some(kind),
                None => return malformed("`kept` must be error, refused, slow or sample"),
            }
        }
    }
    if !admin.source.recorder().is_on() {
        return off();
    }
    let fits = |kind, record: &Record| kept.is_none_or(|kept| kept == kind) && wanted.fits(record);
    let mut lines = Lines::new(&admin.source);
    let found = admin.source.recorder().recent(most, fits);
    json(&found.iter().map(|(kind, record)| lines.tell(*kind, record, false)).collect::<Vec<_>>())
}

/// The whole story of one.
pub(super) fn find(admin: &Admin, head: &request::Parts) -> Answer {
    let id = head.uri.path().rsplit('/').next().unwrap_or_default();
    let id: Vec<u8> = percent_decode_str(id).collect();
    if !admin.source.recorder().is_on() {
        return off();
    }
    let mut lines = Lines::new(&admin.source);
    let found = admin.source.recorder().find(&id);
    if found.is_empty() {
        let why = "nothing is known of it: it is still under way, was well and not sampled, or has been pushed out\n";
        return text(StatusCode::NOT_FOUND, why);
    }
    json(&found.iter().map(|(kind, record)| lines.tell(*kind, record, true)).collect::<Vec<_>>())
}

/// Records as they come.
pub(super) fn follow(admin: &Admin, head: &request::Parts) -> Answer {
    let wanted = match Wanted::read(head.uri.query().unwrap_or_default(), &[]) {
        Ok((wanted, _)) => wanted,
        Err(why) => return malformed(&why),
    };
    if !admin.source.recorder().is_on() {
        return off();
    }
    let place = match admin.feeds.admit() {
        Ok(place) => place,
        Err(full) => return *full,
    };
    let mut lines = Lines::new(&admin.source);
    let tell = move |record: Arc<Record>| Event {
        name: "record",
        data: String::from_utf8_lossy(lines.line(&record)).into_owned(),
    };
    let (pusher, answer) = feed::pushed(place, admin.source.recorder().queue(), tell);
    let metrics = admin.source.metrics().recorder();
    admin.source.recorder().admit(Arc::new(Reader { wanted, pusher, metrics }));
    answer
}

/// Somebody who follows.
#[derive(Debug)]
struct Reader {
    wanted: Wanted,
    pusher: Pusher<Arc<Record>>,
    metrics: Arc<RecorderMetrics>,
}

impl Follower for Reader {
    fn follow(&self, record: &Arc<Record>) -> bool {
        if !self.wanted.fits(record) {
            return !self.pusher.is_gone();
        }
        match self.pusher.push(Arc::clone(record)) {
            Pushing::Taken => true,
            Pushing::Dropped => {
                self.metrics.missed.inc();
                true
            }
            Pushing::Gone => false,
        }
    }

    fn has_left(&self) -> bool {
        self.pusher.is_gone()
    }
}

fn malformed(why: &str) -> Answer {
    text(StatusCode::BAD_REQUEST, &format!("{why}\n"))
}

fn off() -> Answer {
    text(StatusCode::NOT_FOUND, "the flight recorder is off: `recorder.records` is 0\n")
}
