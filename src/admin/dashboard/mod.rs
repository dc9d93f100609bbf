//! The page to look at: what is happening now, live, in a browser.
//!
//! Part of `admin`. Once a second [`Dashboard::look`] takes a sample on the control runtime, which costs a sum over the
//! counters; nothing of it is on the path of a request. Only while somebody watches is anything drawn, once for all of
//! them: a [`Frame`] of HTML fragments, of which each viewer is sent those that are different from what it has. The page
//! is rendered here (`askama`), its charts too (`plotters`); the script swaps fragments in and asks for changes, with
//! the token, at the same places that `sluicegate drain` and `ban` use. Deliberately absent: anything from elsewhere,
//! inline styles and scripts (the policy of the page forbids both), and a state of its own.

mod alerts;
mod budget;
mod charts;
mod chronicle;
mod history;
mod live;
mod losses;
mod overview;
mod pages;
mod pools;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use tokio::sync::watch;

use super::answers::{json, text};
use super::status::Status;
use super::{Admin, Source, words};
use crate::body::Body;
use crate::head::{HeaderValue, request};
use crate::message::Answer;
use chronicle::Chronicle;
use history::History;
use live::{Frame, Live};
use losses::Losses;
use overview::Overview;

/// Nothing but what this listener serves, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The dashboard. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Dashboard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Locked on the control runtime only.
    past: Mutex<Past>,
    frames: watch::Sender<Arc<Frame>>,
}

#[derive(Debug, Default)]
struct Past {
    history: History,
    chronicle: Chronicle,
    losses: Losses,
    before: Option<Status>,
}

impl Dashboard {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { past: Mutex::default(), frames: watch::Sender::new(Arc::default()) }))
    }

    /// Takes a sample and, if somebody watches, shows it.
    pub(super) fn look(&self, source: &dyn Source, now: SystemTime) {
        self.sample(source, now);
        if self.0.frames.receiver_count() > 0 {
            self.draw(source);
        }
    }

    fn sample(&self, source: &dyn Source, now: SystemTime) {
        let (status, glance) = (source.status(), source.metrics().glance());
        let now = words::unix_ms(now);
        let mut past = self.0.past.lock().unwrap_or_else(PoisonError::into_inner);
        let past = &mut *past;
        if let Some(before) = past.before.take() {
            past.chronicle.compare(now, &before, &status);
        }
        past.losses.note(now, &status);
        past.history.take(now, &status, glance);
        past.before = Some(status);
    }

    /// A fresh frame.
    fn draw(&self, source: &dyn Source) -> Arc<Frame> {
        let (status, bans) = (source.status(), source.bans());
        let past = self.0.past.lock().unwrap_or_else(PoisonError::into_inner);
        let overview = Overview::new(&past.history, &past.chronicle, &status);
        let scene = pages::Scene {
            status: &status,
            overview: &overview,
            bans: &bans,
            history: &past.history,
            losses: &past.losses,
        };
        let frame = Arc::new(self.0.frames.borrow().next(&scene));
        self.0.frames.send_replace(Arc::clone(&frame));
        frame
    }

    fn overview(&self, source: &dyn Source) -> Overview {
        let past = self.0.past.lock().unwrap_or_else(PoisonError::into_inner);
        Overview::new(&past.history, &past.chronicle, &source.status())
    }
}

impl Admin {
    /// Takes a sample of now for the dashboard; called once a second.
    pub fn look(&self, now: SystemTime) {
        self.dashboard.look(&*self.source, now);
    }

    /// `/`: the page as of now, empty for who may not look.
    pub(super) fn page(&self, head: &request::Parts) -> Answer {
        let may_look = self.deny_look("/dashboard/live", head).is_none();
        let frame = if may_look { self.dashboard.draw(&*self.source) } else { Arc::default() };
        match pages::page(&frame) {
            Ok(page) => asset("text/html; charset=utf-8", Body::full(page)),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be written\n"),
        }
    }

    /// `/overview`: what the dashboard computes, for `top` and other programs.
    pub(super) fn overview(&self) -> Answer {
        json(&self.dashboard.overview(&*self.source))
    }

    /// `/dashboard/live`: fragments of the page as they change.
    pub(super) fn watch(&self) -> Answer {
        let place = match self.feeds.admit() {
            Ok(place) => place,
            Err(full) => return *full,
        };
        let frames = self.dashboard.0.frames.subscribe();
        self.dashboard.draw(&*self.source);
        asset("text/event-stream", Body::stream(Live::new(frames, place)))
    }
}

/// `/dashboard.css`.
pub(super) fn stylesheet() -> Answer {
    asset("text/css; charset=utf-8", Body::full(include_str!("dashboard.css")))
}

/// `/dashboard.js`.
pub(super) fn script() -> Answer {
    asset("text/javascript; charset=utf-8", Body::full(include_str!("dashboard.js")))
}

/// `/dashboard.svg`, the page's icon.
pub(super) fn icon() -> Answer {
    asset("image/svg+xml", Body::full(include_str!("dashboard.svg")))
}

fn asset(kind: &'static str, body: Body) -> Answer {
    let mut answer = Answer::new(StatusCode::OK, body);
    for (name, value) in [
        (CONTENT_TYPE, kind),
        // State of this moment; the rest is small, and must fit the page it came with.
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        answer.head.headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests;
