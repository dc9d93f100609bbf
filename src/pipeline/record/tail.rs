//! How a story ends: with the last byte of a body, or with its tunnel.
//!
//! Part of `pipeline::record`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::Story;
use crate::balance::Live as LiveResult;
use crate::body::{Body, BodyError, Frame, Source};
use crate::lexicon::Clock;
use crate::pipeline::now_ms;
use crate::telemetry::record::{End, Stage, Who};
use crate::upstream::Lease;
use crate::upstream::observer::Side;
use crate::upstream::tunnel::{Ending, Tally};

/// A tunnel's story; one that is dropped tells that the tunnel was cut.
pub(in crate::pipeline) struct TunnelStory {
    story: Option<Box<Story>>,
    tally: Arc<Tally>,
    _lease: Lease,
}

impl Story {
    /// The story goes on in a tunnel that counts by `tally`.
    pub(in crate::pipeline) fn ride_tunnel(self: Box<Self>, tally: Arc<Tally>, lease: Lease) -> TunnelStory {
        TunnelStory { story: Some(self), tally, _lease: lease }
    }
}

impl TunnelStory {
    /// The tunnel has ended.
    pub(in crate::pipeline) fn end(mut self, ending: Ending) {
        self.tell(ending);
    }

    fn tell(&mut self, ending: Ending) {
        let Some(mut story) = self.story.take() else { return };
        let by = |side| match side {
            Side::Client => Who::Client,
            Side::Upstream => Who::Upstream,
        };
        let (who, fault) = match ending {
            Ending::Closed(_) => (Who::Nobody, None),
            Ending::Gone(side) => (by(side), None),
            Ending::Idle => (Who::Proxy, Some(Clock::TunnelIdle.as_str())),
            Ending::TooLarge(side) => (by(side), Some("frame_too_large")),
            Ending::Malformed(side, _) => (by(side), Some("frame_malformed")),
            Ending::Drained => (Who::Proxy, Some("drained")),
            Ending::Cut => (Who::Proxy, Some("cut")),
        };
        let stage = if who == Who::Nobody { Stage::Complete } else { Stage::Tunnel };
        story.record.end = End { who, stage };
        story.record.fault = fault;
        story.record.clock = (ending == Ending::Idle).then_some(Clock::TunnelIdle);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Tally { from_client, from_upstream } = &*self.tally;
        story.record.bytes_in = read(&from_client.bytes);
        story.record.bytes_out = read(&from_upstream.bytes);
        story.record.messages = Some((read(&from_client.messages), read(&from_upstream.messages)));
        story.close();
    }
}

impl Drop for TunnelStory {
    fn drop(&mut self) {
        self.tell(Ending::Cut);
    }
}

/// The last step of an exchange: its body on the way to the client, with the story and the lease riding in it.
pub(in crate::pipeline) struct Tail {
    body: Body,
    story: Option<Box<Story>>,
    lease: Option<Lease>,
}

impl Tail {
    /// `body` with `story` and `lease` in it; both end with it.
    pub(in crate::pipeline) fn ride(body: Body, mut story: Box<Story>, lease: Option<Lease>) -> Body {
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
        if let Some(lease) = self.lease.take()
            && let Some(pool) = self.story.as_ref().and_then(|story| story.route.as_ref()?.pool.as_ref())
        {
            pool.note_live(lease.endpoint(), LiveResult::Broken, now_ms());
        }
        if let Some(mut story) = self.story.take() {
            story.record.end = End { who: Who::Upstream, stage: Stage::Data };
            if let BodyError::Late(clock) = error {
                story.record.clock = Some(*clock);
            }
            story.record.fault = Some(match error {
                BodyError::Late(clock @ Clock::Exchange) => {
                    story.record.end.who = Who::Proxy;
                    clock.as_str()
                }
                BodyError::Late(clock) => clock.as_str(),
                BodyError::Malformed(_) => "upstream_malformed",
                BodyError::Gone(_) | BodyError::TooLarge(_) | BodyError::Buffer(_) => "upstream_closed",
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
}

impl Drop for Tail {
    fn drop(&mut self) {
        // Nobody asks again for the end of a body whose length is known.
        if self.body.is_end() {
            self.end();
        }
    }
}
