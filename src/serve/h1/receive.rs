//! Reading a request head.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::h1::{HeadScan, RequestHead, head};
use crate::head::request;
use crate::lexicon::Clock;
use crate::message::{Refusal, Transport};

use super::Server;

/// Bytes of a request line beside its target that are allowed while it is not complete.
const LINE_SLACK: usize = 64;

/// What came.
pub(super) enum Incoming {
    /// A request.
    Request(RequestHead),
    /// Something else, to be answered and recorded.
    Refused(Refusal, Option<Box<request::Parts>>),
    /// Nothing more will come.
    Closed,
}

impl<I: Transport + 'static> Server<I> {
    /// Waits for a request head.
    pub(super) async fn read_head(&mut self) -> Incoming {
        let clocks = &self.connection.listener.clocks;
        let idle = self.served > 0 && self.wire.lock().received.is_empty();
        self.timer.arm(if idle { clocks.keep_alive } else { clocks.head });
        let mut scan = HeadScan::default();
        let incoming = poll_fn(|cx| self.poll_head(cx, &mut scan)).await;
        self.timer.disarm();
        incoming
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, scan: &mut HeadScan) -> Poll<Incoming> {
        let draining = self.drain.poll(cx);
        let mut wire = self.wire.lock();
        loop {
            match scan.find_end(&wire.received) {
                Err(_) => return Poll::Ready(Incoming::Refused(Refusal::MalformedHead("bare line feed"), None)),
                Ok(Some(end)) if end <= self.limits.bytes => {
                    // All of it, mostly: then nothing is left that holds on to its buffer.
                    let whole = wire.received.len() == end;
                    let bytes = if whole { std::mem::take(&mut wire.received) } else { wire.received.split_to(end) };
                    let bytes = bytes.freeze();
                    return Poll::Ready(match head::parse_request(&bytes, &self.limits) {
                        Ok(head) => Incoming::Request(head),
                        Err((refusal, head)) => Incoming::Refused(refusal, head),
                    });
                }
                Ok(None) if wire.received.len() <= self.limits.bytes => {
                    let line = scan.open_first_line(&wire.received).unwrap_or(0);
                    if line > self.limits.target.saturating_add(LINE_SLACK) {
                        return Poll::Ready(Incoming::Refused(Refusal::UriTooLong, None));
                    }
                }
                Ok(_) => return Poll::Ready(Incoming::Refused(Refusal::HeadTooLarge("bytes"), None)),
            }
            let begun = !wire.received.is_empty();
            // RFC 9112 §9.6: between two requests either side may close.
            if draining && !begun && self.served > 0 {
                return Poll::Ready(Incoming::Closed);
            }
            match wire.poll_read_ahead(cx) {
                Poll::Ready(Ok(1..)) if begun => {}
                Poll::Ready(Ok(1..)) => self.timer.arm(self.connection.listener.clocks.head),
                // Nobody is there to read an answer, whether a head has begun or not.
                Poll::Ready(_) => return Poll::Ready(Incoming::Closed),
                Poll::Pending if self.timer.poll(cx).is_ready() => {
                    return Poll::Ready(if begun {
                        Incoming::Refused(Refusal::Late(Clock::HeadRead), None)
                    } else {
                        Incoming::Closed
                    });
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
