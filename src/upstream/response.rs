//! The content of an endpoint's response.

use std::io;
use std::task::{Context, Poll, ready};

use crate::body::{Body, BodyError, Frame, Source};
use crate::h1::{Decoded, Decoder, Framing};
use crate::lexicon::Clock;

use super::link::{Home, Limits, Link, MOST_READ, READ};
use super::sending::{SendError, Sending};

/// Bytes of trailers that an endpoint may send.
const MAX_TRAILER: usize = 8 * 1024;

/// A response body that is pulled from its connection; at its end the connection goes home.
pub(super) struct Response {
    link: Option<Link>,
    /// The rest of the request, when the endpoint answered before it had read all of it.
    sending: Option<Sending>,
    decoder: Decoder,
    persistent: bool,
    limits: Limits,
    home: Home,
    /// Bytes that the next read asks for.
    read: usize,
}

impl Response {
    /// The body of a response whose head has just come.
    pub(super) fn begin(
        link: Link,
        sending: Sending,
        framing: Framing,
        persistent: bool,
        limits: Limits,
        home: Home,
    ) -> Body {
        let decoder = Decoder::new(framing, MAX_TRAILER);
        let sending = (!link.has_sent(&sending)).then_some(sending);
        let persistent = persistent && framing != Framing::UntilClose;
        if decoder.is_done() && sending.is_none() {
            if persistent {
                link.rest(&home);
            }
            return Body::empty();
        }
        Body::stream(Self { link: Some(link), sending, decoder, persistent, limits, home, read: READ })
    }

    /// The body has ended: both sides have said all they had to say, or the connection is closed.
    fn end(&mut self) {
        if let Some(link) = self.link.take()
            && self.persistent
            && self.sending.is_none()
        {
            link.rest(&self.home);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame, BodyError>>> {
        self.link = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Source for Response {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            let Some(link) = &mut self.link else {
                return Poll::Ready(None);
            };
            // Asked here as well as below: content that is always at hand would never wait for the timer.
            if self.limits.is_over() {
                return self.fail(BodyError::Late(Clock::Exchange));
            }
            if let Some(sending) = &mut self.sending {
                match link.poll_send(cx, sending) {
                    Poll::Ready(Ok(())) => self.sending = None,
                    // The endpoint has answered and does not want the rest: the answer stands, the connection goes.
                    Poll::Ready(Err(SendError::Io(_) | SendError::Request(_))) => {
                        self.sending = None;
                        self.persistent = false;
                    }
                    Poll::Pending => {}
                }
            }
            match self.decoder.decode(&mut link.received) {
                Ok(Decoded::Data(content)) => {
                    link.timer.disarm();
                    if self.decoder.is_done() {
                        self.end();
                    }
                    return Poll::Ready(Some(Ok(Frame::Data(content))));
                }
                Ok(Decoded::Trailers(trailers)) => {
                    self.end();
                    return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
                }
                Ok(Decoded::End) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Ok(Decoded::NeedMore) => {}
                Err(what) => return self.fail(BodyError::Malformed(what)),
            }
            match link.poll_read(cx, self.read) {
                // More is there than was asked for: with larger pieces both ends are woken less often.
                Poll::Ready(Ok(read @ 1..)) if read >= self.read => self.read = (self.read * 2).min(MOST_READ),
                Poll::Ready(Ok(1..)) => {}
                // RFC 9112 §8: only a body that ends with its connection may end like this.
                Poll::Ready(Ok(0)) if matches!(self.decoder, Decoder::UntilClose) => {
                    self.link = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => {
                    return self.fail(BodyError::Gone(Some(io::ErrorKind::UnexpectedEof.into())));
                }
                Poll::Ready(Err(error)) => return self.fail(BodyError::Gone(Some(error))),
                Poll::Pending => {
                    if !link.timer.is_armed() {
                        link.arm_for(self.limits.between_bytes, self.limits.deadline);
                    }
                    ready!(link.timer.poll(cx));
                    let clock = if self.limits.is_over() { Clock::Exchange } else { Clock::BetweenBytes };
                    return self.fail(BodyError::Late(clock));
                }
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        if self.link.is_none() { Some(0) } else { self.decoder.remaining() }
    }
}
