//! The body of a request or response, whatever carries it.
//!
//! Floor 0. One `Body` serves HTTP/1, HTTP/2, endpoints, files and fixed answers, so that no step between client and
//! endpoint copies or converts. Data moves as reference-counted slices, pulled by the receiver: nothing is read that
//! nobody has asked for, which is all there is to back-pressure. Deliberately absent: protocols; they implement
//! [`Source`].

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::head::Fields;
use crate::lexicon::Clock;

/// One step of a body.
#[derive(Debug)]
pub enum Frame {
    /// Content. Never empty.
    Data(Bytes),
    /// Trailer fields; nothing follows them.
    Trailers(Fields),
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The sender vanished: connection closed or reset, stream reset.
    #[error("sender went away in the middle of the body")]
    Gone(#[source] Option<io::Error>),
    /// The sender broke the framing (RFC 9112 §7, RFC 9113 §8.1.1).
    #[error("malformed body: {0}")]
    Malformed(&'static str),
    /// The sender was too slow.
    #[error("{0} clock ran out in the middle of the body")]
    Late(Clock),
    /// The body exceeds the route's limit, in bytes.
    #[error("body exceeds {0} bytes")]
    TooLarge(u64),
    /// Content came that nobody announced, of no type.
    #[error("content without a type")]
    Untyped,
    /// A temporary file could not be written or read.
    #[error("request buffer")]
    Buffer(#[source] io::Error),
}

/// Produces a body. Dropping it before its end abandons the rest: the transport underneath is reset or closed, never
/// left in an unknown state.
pub trait Source: Send {
    /// The next frame; `None` once at the end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;

    /// Bytes still to come, when known. Framing derives from it: `Some` becomes a Content-Length.
    fn remaining(&self) -> Option<u64>;

    /// Whether the end is known to be reached, without polling.
    fn is_end(&self) -> bool {
        self.remaining() == Some(0)
    }

    /// Hears that it is dropped before its end because its receiver was too slow.
    fn late(&mut self, _clock: Clock) {}
}

/// The body of a request or response.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Box<dyn Source>),
}

impl Body {
    /// No content.
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Content that is all there.
    pub fn full(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        if content.is_empty() { Self::empty() } else { Self(Kind::Full(content)) }
    }

    /// Content that is pulled as it comes.
    pub fn stream(source: impl Source + 'static) -> Self {
        Self(Kind::Stream(Box::new(source)))
    }

    /// The next frame; `None` at the end, again and again.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(_) => match std::mem::take(&mut self.0) {
                Kind::Full(content) => Poll::Ready(Some(Ok(Frame::Data(content)))),
                Kind::Empty | Kind::Stream(_) => Poll::Ready(None),
            },
            Kind::Stream(source) => {
                let polled = source.poll_frame(cx);
                if matches!(polled, Poll::Ready(None | Some(Err(_)) | Some(Ok(Frame::Trailers(_))))) {
                    // Whatever rides in the source (a lease, a record) is let go at the end, not when the head is.
                    self.0 = Kind::Empty;
                }
                polled
            }
        }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// As the source says; the body is over then.
    pub async fn frame(&mut self) -> Option<Result<Frame, BodyError>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Bytes still to come, when known.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Full(content) => Some(content.len() as u64),
            Kind::Stream(source) => source.remaining(),
        }
    }

    /// Whether the end is known to be reached, without polling.
    pub fn is_end(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(source) => source.is_end(),
        }
    }

    /// Abandons the rest, because the receiver was too slow.
    pub fn late(mut self, clock: Clock) {
        if let Kind::Stream(source) = &mut self.0 {
            source.late(clock);
        }
    }

    /// Takes the content when all of it is at hand, else gives the body back.
    ///
    /// # Errors
    /// The body itself when it must be pulled.
    pub fn try_into_full(self) -> Result<Bytes, Self> {
        match self.0 {
            Kind::Empty => Ok(Bytes::new()),
            Kind::Full(content) => Ok(content),
            Kind::Stream(_) => Err(self),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("remaining", &self.remaining()).finish()
    }
}
