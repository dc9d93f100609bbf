//! The body of an HTTP/3 request.
//!
//! Floor 6. Pulled by whoever answers; what is pulled gives the client room for as much, so that it sends no more than
//! one window ahead of a slow endpoint. Clocks run only while somebody waits for the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::reader::{Reader, Trouble};
use super::tally::Tally;
use crate::body::{Body, BodyError, Frame, Source};
use crate::config::Listener;
use crate::h3::head::Bad;
use crate::h3::message::Event;
use crate::h3::{Code, Offence, head as codec};
use crate::head::{Fields, request};
use crate::message::{Interim, Refusal};
use crate::serve::pace::Wait;
use crate::serve::quic::seam::RecvHalf;
use crate::serve::streams::head;

/// A request body on its way in.
struct Incoming<R: RecvHalf> {
    reader: Reader<R>,
    remaining: Option<u64>,
    trailer_bytes: usize,
    /// Given out once nothing follows them.
    trailers: Option<Fields>,
    wait: Wait,
    tally: Arc<Tally>,
    malformed: Malformed,
}

/// Whether content turned out to be malformed (RFC 9114 §4.1.2): its stream is then reset, whatever was to be answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Malformed(Arc<AtomicBool>);

impl Malformed {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The body of the request with `head`, whose Content-Length is `length`, and what becomes known of it.
pub(super) fn incoming<R: RecvHalf>(
    reader: Reader<R>,
    head: &request::Parts,
    length: Option<u64>,
    interim: &Interim,
    listener: &Listener,
    tally: &Arc<Tally>,
) -> (Body, Malformed) {
    let malformed = Malformed::default();
    let body = Body::stream(Incoming {
        reader,
        remaining: length,
        trailer_bytes: listener.limits.trailer_bytes,
        trailers: None,
        wait: Wait::new(head, interim, &listener.clocks),
        tally: Arc::clone(tally),
        malformed: malformed.clone(),
    });
    (body, malformed)
}

impl<R: RecvHalf> Source for Incoming<R> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let pulled = self.poll_stream(cx);
        if pulled.is_ready() {
            self.tally.note_useful();
        }
        self.wait.judge(pulled, cx)
    }

    fn remaining(&self) -> Option<u64> {
        if self.reader.is_ended() { Some(0) } else { self.remaining }
    }

    fn is_end(&self) -> bool {
        // Not from the length: trailers may still follow the last byte, or more than was announced.
        self.trailers.is_none() && self.reader.is_ended() && self.remaining.is_none_or(|left| left == 0)
    }
}

impl<R: RecvHalf> Incoming<R> {
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            match ready!(self.reader.poll_event(cx)) {
                Ok(Some(Event::Content(data))) => {
                    if let Some(left) = self.remaining {
                        let Some(left) = left.checked_sub(data.len() as u64) else {
                            return self.malformed("content exceeds its Content-Length");
                        };
                        self.remaining = Some(left);
                    }
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Ok(Some(Event::Trailers(_)) | None) if self.remaining.is_some_and(|left| left > 0) => {
                    return self.malformed("content is shorter than its Content-Length");
                }
                Ok(Some(Event::Trailers(section))) => match self.read_trailers(section) {
                    // What follows them, if anything, is an offence (RFC 9114 §4.1).
                    Ok(trailers) => self.trailers = Some(trailers),
                    Err(Bad::Refused(_)) => return self.malformed("malformed trailer section"),
                    Err(Bad::Unreadable(what)) => {
                        self.tally.offend(Offence::new(Code::DecompressionFailed, what));
                        return Poll::Ready(Some(Err(BodyError::Malformed(what))));
                    }
                },
                Ok(Some(Event::TooLarge)) => return self.malformed("trailer section exceeds its bound"),
                // The head came first.
                Ok(Some(Event::Head(_)) | None) => {
                    return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::Trailers(trailers))));
                }
                Err(Trouble::Offended | Trouble::Incomplete) => {
                    return Poll::Ready(Some(Err(BodyError::Malformed("broken frames"))));
                }
                Err(Trouble::Gone) => return Poll::Ready(Some(Err(BodyError::Gone(None)))),
            }
        }
    }

    fn read_trailers(&self, section: Bytes) -> Result<Fields, Bad> {
        let trailers = codec::trailers(section, self.trailer_bytes.saturating_mul(2))?;
        if head::size(&trailers) > self.trailer_bytes {
            return Err(Bad::Refused(Refusal::HeadTooLarge("trailer section exceeds its bound")));
        }
        head::values(&trailers).map_err(Bad::Refused)?;
        Ok(trailers)
    }

    fn malformed(&mut self, what: &'static str) -> Poll<Option<Result<Frame, BodyError>>> {
        self.malformed.0.store(true, Relaxed);
        self.reader.stop(Code::MessageError);
        Poll::Ready(Some(Err(BodyError::Malformed(what))))
    }
}
