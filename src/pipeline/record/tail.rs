//! How a story ends: with the last byte of a body.
//!
//! Part of `pipeline::record`.

use std::task::{Context, Poll};

use super::Story;
use crate::balance::Live as LiveResult;
use crate::body::{Body, BodyError, Frame, Source};
use crate::lexicon::Clock;
use crate::pipeline::now_ms;
use crate::telemetry::record::{End, Stage, Who};
use crate::upstream::Lease;

/// The last step of an exchange: its body on the way to the client, with the story and the lease riding in it.
pub(in crate::pipeline) struct Tail {
    body: Body,
    story: Option<Box<Story>>,
    lease: Option<Lease>,
}

impl Tail {
    /// `body` with `story` and `lease` in it; both end with it.
    pub(in crate::pipeline) fn ride(body: Body, mut story: Box<Story>, lease: Option<Lease>) -> Body {
        story.note_answer();
        if body.is_end() {
            drop(lease);
            story.close();
            return Body::empty();
        }
        if story.record.fault.is_none() {
            story.stage = Stage::Data;
        }
        Body::stream(Self { body, story: Some(story), lease })
    }

    fn end(&mut self) {
        self.lease = None;
        if let Some(story) = self.story.take() {
            story.close();
        }
    }

    fn broken(&mut self, error: &BodyError) {
        // Our own end of the exchange says nothing about the endpoint.
        let ours = matches!(error, BodyError::Late(Clock::Exchange));
        if let Some(lease) = self.lease.take()
            && !ours
            && let Some(pool) = self.story.as_ref().and_then(|story| story.route.as_ref()?.pool.as_ref())
        {
            pool.note_live(lease.endpoint(), LiveResult::Broken, now_ms());
        }
        if let Some(mut story) = self.story.take() {
            story.record.end = End { who: if ours { Who::Proxy } else { Who::Upstream }, stage: Stage::Data };
            if let BodyError::Late(clock) = error {
                story.record.clock = Some(*clock);
            }
            story.blame(match error {
                BodyError::Late(clock) => clock.as_str(),
                BodyError::Malformed(_) => "upstream_malformed",
                BodyError::Gone(_) | BodyError::TooLarge(_) | BodyError::Untyped | BodyError::Buffer(_) => {
                    "upstream_closed"
                }
            });
            story.close();
        }
    }
}

impl Source for Tail {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.body.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(Frame::Data(content)))) => {
                if let Some(story) = &mut self.story {
                    story.record.bytes_out = story.record.bytes_out.saturating_add(content.len() as u64);
                }
            }
            Poll::Ready(None | Some(Ok(Frame::Trailers(_)))) => self.end(),
            Poll::Ready(Some(Err(error))) => self.broken(error),
            Poll::Pending => {}
        }
        polled
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }

    fn late(&mut self, clock: Clock) {
        if let Some(mut story) = self.story.take() {
            story.record.end = End { who: Who::Client, stage: Stage::Data };
            story.record.clock = Some(clock);
            story.blame(clock.as_str());
            story.close();
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // Nobody asks again for the end of a body whose length is known.
        if self.body.is_end() {
            self.end();
        }
    }
}
