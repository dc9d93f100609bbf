//! A request stream, read event by event.
//!
//! Floor 6. What has been taken off the stream is with [`Message`], which bounds it; an offence goes to the driver.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::tally::Tally;
use crate::config::Listener;
use crate::h3::Code;
use crate::h3::message::{Bounds, Event, Message};
use crate::serve::quic::seam::{Lost, RecvHalf};

/// The receiving half of a request stream.
pub(super) struct Reader<R: RecvHalf> {
    stream: R,
    message: Message,
    input: Bytes,
    ended: bool,
    tally: Arc<Tally>,
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// The client reset the stream, or is gone.
    Gone,
    /// The stream ended before its head did.
    Incomplete,
    /// The client broke the protocol; its connection ends.
    Offended,
}

impl<R: RecvHalf> Reader<R> {
    pub(super) fn new(stream: R, listener: &Listener, tally: Arc<Tally>) -> Self {
        // Twice what a head may have over HTTP/1.1 leaves the ordinary case, a cookie too many, to the check that
        // answers with a record and names what it was.
        let bounds = Bounds {
            head: listener.limits.head_bytes.saturating_mul(2),
            trailers: listener.limits.trailer_bytes.saturating_mul(2),
            unknown: listener.http3.as_ref().map_or(0, |http3| http3.max_unknown),
        };
        Self { stream, message: Message::new(bounds), input: Bytes::new(), ended: false, tally }
    }

    /// The next event; `None` at the end.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, Trouble>> {
        loop {
            let next = self.message.next(&mut self.input);
            self.tally.note_skipped(self.message.take_skipped());
            match next {
                Ok(Some(event)) => return Poll::Ready(Ok(Some(event))),
                Ok(None) => {}
                Err(offence) => {
                    self.tally.offend(offence);
                    return Poll::Ready(Err(Trouble::Offended));
                }
            }
            if self.ended {
                return Poll::Ready(match self.message.finish() {
                    Ok(true) => Ok(None),
                    Ok(false) => Err(Trouble::Incomplete),
                    Err(offence) => {
                        self.tally.offend(offence);
                        Err(Trouble::Offended)
                    }
                });
            }
            ready!(self.poll_input(cx))?;
        }
    }

    /// Whether the stream is known to end here, after everything that has been received by now was looked at.
    pub(super) fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        // Whatever keeps it from ending is told by the next event.
        while self.input.is_empty() && !self.ended {
            if !matches!(self.poll_input(cx), Poll::Ready(Ok(()))) {
                return false;
            }
        }
        self.is_ended()
    }

    /// Whether the stream has ended and nothing of it is left, as far as is known without looking.
    pub(super) fn is_ended(&self) -> bool {
        self.ended && self.input.is_empty() && self.message.finish().is_ok()
    }

    /// Asks the client to send no more.
    pub(super) fn stop(&mut self, code: Code) {
        if !self.ended {
            self.ended = true;
            self.stream.stop(code);
        }
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Trouble>> {
        match ready!(self.stream.poll_read(cx)) {
            Ok(Some(bytes)) => self.input = bytes,
            Ok(None) => self.ended = true,
            Err(Lost) => return Poll::Ready(Err(Trouble::Gone)),
        }
        Poll::Ready(Ok(()))
    }
}
