//! The end of a story that goes on in a tunnel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lexicon::Clock;
use crate::telemetry::record::{End, Stage, Who};
use crate::upstream::Lease;
use crate::upstream::observer::Side;
use crate::upstream::tunnel::{Ending, Tally};

use super::Story;

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
        story.record.clock = (ending == Ending::Idle).then_some(Clock::TunnelIdle);
        if let Some(code) = fault {
            story.blame(code);
        }
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
