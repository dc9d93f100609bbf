//! One HTTP/1.1 connection to an endpoint and one exchange on it (RFC 9112).
//!
//! Request and response flow at the same time: an endpoint may answer before it has read the request to its end. A
//! connection is used again only when both bodies have ended and nothing else was said.

use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TE};
use http::{Method, StatusCode, Version};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf};
use tokio::time::Instant;

use crate::body::{Body, Frame};
use crate::h1::encode::{self, Delimiting, Persistence};
use crate::h1::{HeadScan, MalformedResponse, ResponseHead, head};
use crate::head::{Fields, response};
use crate::headers;
use crate::lexicon::Clock;
use crate::net::io::UpstreamIo;
use crate::net::outbox::Outbox;
use crate::net::timer::Timer;
use crate::turn;

use super::Idle;
use super::error::{Failure, Sent};
use super::idle::Way;
use super::response::Response;
use super::sending::{SendError, Sending};

pub use asking::{Exchange, Leave, Limits};

mod asking;

/// Bytes asked of the socket at a time while content is read.
pub(super) const READ: usize = 16 * 1024;

/// Most of them, once content is there faster than it is read.
pub(super) const MOST_READ: usize = 128 * 1024;

/// Likewise while a head is read. What came with it is kept for as long as the client takes nothing, so that this is
/// most of what hundreds of HTTP/2 streams with closed windows cost.
const HEAD_READ: usize = 4 * 1024;

/// Request content that fits into any window (RFC 7323 §2.2: 64 KiB unscaled), so that none ever closes on it.
const SMALL: u64 = 48 * 1024;

/// Interim responses of one exchange; more are a fault of the endpoint.
const MAX_INTERIM: u32 = 16;

/// A connection to an endpoint.
pub struct Link {
    pub(super) io: UpstreamIo,
    pub(super) received: BytesMut,
    pub(super) timer: Timer,
    outbox: Outbox,
    /// How long it has rested, if it has carried an exchange before.
    rested: Option<Duration>,
    reused: bool,
    /// What the kernel is to take for death again once a large request is over.
    silence: Option<Option<Duration>>,
}

/// Where a connection goes when its exchange is over.
#[derive(Clone)]
pub struct Home {
    /// The worker's idle connections.
    pub idle: Idle,
    /// Where it leads.
    pub way: Way,
    /// Idle connections kept for the endpoint.
    pub most: usize,
    /// How long one is kept.
    pub limit: Duration,
}

/// What an endpoint answered.
pub enum Outcome {
    /// A response.
    Response {
        /// Its head, with the fields of the connection still in it.
        head: response::Parts,
        /// Its content.
        body: Body,
    },
    /// 101: the connection is a tunnel now.
    Switched {
        /// Its head.
        head: response::Parts,
        /// The connection.
        io: UpstreamIo,
        /// What the endpoint has sent behind the head.
        leftover: Bytes,
    },
}

impl Link {
    /// A fresh connection.
    pub fn new(io: UpstreamIo) -> Self {
        let (timer, outbox) = (Timer::new(), Outbox::default());
        Self { io, received: BytesMut::new(), timer, outbox, rested: None, reused: false, silence: None }
    }

    /// Whether the connection has carried an exchange before.
    pub const fn is_reused(&self) -> bool {
        self.reused
    }

    /// The connection, after it has rested for `time`.
    pub(super) const fn rested(mut self, time: Duration) -> Self {
        self.rested = Some(time);
        self
    }

    /// How long it has rested before this exchange, if it has carried one before.
    pub const fn rest_before(&self) -> Option<Duration> {
        self.rested
    }

    /// Whether the connection is open and has said nothing since.
    pub fn is_silent(&self) -> bool {
        self.received.is_empty() && self.io.is_silent()
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// The failure, and how much of the request had left. The connection is closed then.
    pub async fn exchange(mut self, exchange: Exchange<'_>, home: Home) -> Result<Outcome, (Failure, Sent)> {
        let Exchange { head, body, interim, upgrade, limits, leave } = exchange;
        let delimiting = Delimiting::of_request(&head.method, body.remaining());
        let persistence = match (upgrade, head.headers.contains_key(TE)) {
            (true, _) => Persistence::Upgrade,
            (false, true) => Persistence::Trailers,
            (false, false) => Persistence::Default,
        };
        encode::request_head(self.outbox.head(), head, delimiting, persistence);
        if body.remaining().is_none_or(|length| length > SMALL) {
            // The endpoint may take its time over it: `write_idle` says how long.
            self.silence = Some(self.io.allow_closed_window(Some(limits.write_idle)));
        }
        let mut sending = Sending::new(body, delimiting);
        let mut scan = HeadScan::default();
        let mut interims = 0_u32;
        let mut clock = Clock::UpstreamWrite;
        let mut hasty = leave.and_then(|leave| leave.after).filter(|after| *after < limits.first_byte);
        self.timer.disarm();
        let answered = poll_fn(|cx| {
            let mut deaf = None;
            match self.poll_send(cx, &mut sending) {
                Poll::Ready(Err(SendError::Request(error))) => return Poll::Ready(Err(Failure::Request(error))),
                // The endpoint may have answered before it stopped to listen: what it said counts.
                Poll::Ready(Err(SendError::Io(error))) => deaf = Some(error),
                Poll::Ready(Ok(())) => {
                    self.arm(&mut clock, Clock::FirstByte, hasty.unwrap_or(limits.first_byte), &limits);
                }
                // Who is waited for: the endpoint that takes no more, or the client that sends no more.
                Poll::Pending if !self.outbox.is_empty() => {
                    self.arm(&mut clock, Clock::UpstreamWrite, limits.write_idle, &limits);
                }
                // The client has a clock of its own; the end of the exchange holds for it as well.
                Poll::Pending => match limits.deadline {
                    // Whose clock it is must show, or that of the endpoint would not begin anew.
                    Some(deadline) => {
                        clock = Clock::Exchange;
                        self.timer.arm_at(deadline);
                    }
                    None => self.timer.disarm(),
                },
            }
            loop {
                match self.poll_head(cx, &head.method, &limits, &mut scan) {
                    Poll::Ready(Ok(answer)) if is_interim(answer.parts.status) => {
                        interims += 1;
                        if interims > MAX_INTERIM {
                            return Poll::Ready(Err(MalformedResponse("too many interim responses").into()));
                        }
                        // RFC 9110 §10.1.1: the 100 was given by whoever read the client's body.
                        if answer.parts.status != StatusCode::CONTINUE {
                            interim.push(answer.parts.status, of_interim(answer.parts.headers));
                        }
                        scan = HeadScan::default();
                    }
                    Poll::Ready(Err(_)) if deaf.is_some() => break,
                    Poll::Ready(done) => return Poll::Ready(done),
                    Poll::Pending => break,
                }
            }
            if let Some(error) = deaf {
                return Poll::Ready(Err(Failure::Closed(Some(error))));
            }
            let waits = clock == Clock::FirstByte;
            let leaves = |slow: bool| waits && leave.is_some_and(|leave| (leave.asks)(slow));
            while self.timer.poll(cx).is_ready() {
                if limits.is_over() {
                    return Poll::Ready(Err(Failure::Late(Clock::Exchange)));
                }
                let Some(after) = hasty.take().filter(|_| waits) else {
                    return Poll::Ready(Err(Failure::Late(clock)));
                };
                if leaves(true) {
                    return Poll::Ready(Err(Failure::Slow));
                }
                // Nobody else to ask: who is only slow has all of its time.
                self.arm_for(limits.first_byte.saturating_sub(after), limits.deadline);
            }
            if leaves(false) { Poll::Ready(Err(Failure::Hangs)) } else { Poll::Pending }
        })
        .await;
        self.timer.disarm();
        match answered {
            Ok(answer) => {
                self.finish(answer, sending, upgrade, limits, home).map_err(|failure| (failure, Sent::OnFresh))
            }
            Err(failure) => Err((failure, self.sent(&sending))),
        }
    }

    /// What becomes of the connection now that the head is there.
    fn finish(
        self,
        answer: ResponseHead,
        sending: Sending,
        upgrade: bool,
        limits: Limits,
        home: Home,
    ) -> Result<Outcome, Failure> {
        let ResponseHead { parts: head, framing } = answer;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9110 §15.2.2: only in answer to an Upgrade.
            if !upgrade {
                return Err(MalformedResponse("101 without Upgrade").into());
            }
            return Ok(Outcome::Switched { head, io: self.io, leftover: self.received.freeze() });
        }
        let persistent = head.version == Version::HTTP_11 && !says_close(&head);
        let body = Response::begin(self, sending, framing, persistent, limits, home);
        Ok(Outcome::Response { head, body })
    }

    fn arm(&mut self, clock: &mut Clock, wanted: Clock, after: Duration, limits: &Limits) {
        if *clock != wanted || !self.timer.is_armed() {
            *clock = wanted;
            self.arm_for(after, limits.deadline);
        }
    }

    /// Arms the clock for `after`, or for the end of the exchange if that comes first.
    pub(super) fn arm_for(&mut self, after: Duration, deadline: Option<Instant>) {
        let at = turn::now() + after;
        self.timer.arm_at(deadline.map_or(at, |deadline| deadline.min(at)));
    }

    /// Whether all of the request has left.
    pub(super) fn has_sent(&self, sending: &Sending) -> bool {
        sending.ended && self.outbox.is_empty()
    }

    const fn sent(&self, sending: &Sending) -> Sent {
        match (sending.moved, self.reused) {
            (false, _) => Sent::Nothing,
            (true, true) => Sent::OnReused,
            (true, false) => Sent::OnFresh,
        }
    }

    /// Writes the request; ready once all of it has left.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, sending: &mut Sending) -> Poll<Result<(), SendError>> {
        loop {
            let mut starved = false;
            if !sending.ended && self.outbox.takes_content() {
                match sending.body.poll_frame(cx) {
                    Poll::Ready(Some(Ok(Frame::Data(content)))) => {
                        sending.count(content.len())?;
                        self.outbox.push(content, sending.chunked);
                    }
                    Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                        sending.end()?;
                        if sending.chunked {
                            self.outbox.push_last_chunk(&trailers);
                        }
                    }
                    Poll::Ready(None) => {
                        sending.end()?;
                        if sending.chunked {
                            self.outbox.push_last_chunk(&Fields::new());
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(SendError::Request(error))),
                    Poll::Pending => starved = true,
                }
                if !sending.ended && !starved && self.outbox.takes_content() {
                    continue;
                }
            }
            if !self.outbox.is_empty() {
                let mut moved = 0;
                let written = self.outbox.poll_write(&mut self.io, UpstreamIo::sent, cx, &mut moved);
                if moved > 0 {
                    self.timer.disarm();
                }
                // What TLS holds may leave whenever it likes.
                sending.moved |= moved > 0 || self.outbox.is_held();
                ready!(written).map_err(SendError::Io)?;
            }
            if sending.ended {
                return Poll::Ready(Ok(()));
            }
            if starved {
                return Poll::Pending;
            }
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        limits: &Limits,
        scan: &mut HeadScan,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            match scan.find_end(&self.received) {
                Ok(Some(end)) if end <= limits.head_bytes => {
                    let bytes = self.received.split_to(end).freeze();
                    return Poll::Ready(head::parse_response(&bytes, method).map_err(Failure::from));
                }
                Ok(None) if self.received.len() <= limits.head_bytes => {}
                Ok(_) => return Poll::Ready(Err(Failure::HeadTooLarge)),
                Err(_) => return Poll::Ready(Err(MalformedResponse("bare line feed").into())),
            }
            match ready!(self.poll_read_head(cx)) {
                Ok(1..) => {}
                // Also in its middle: a head that is not whole is no answer yet, and nobody has seen any of it.
                Ok(0) => return Poll::Ready(Err(Failure::Closed(None))),
                Err(error) => return Poll::Ready(Err(Failure::Closed(Some(error)))),
            }
        }
    }

    /// Reads through the stack: fields of the head outlive it, in the table of an HTTP/2 client's connection for as long
    /// as that, and each holds on to all that was allocated with it.
    fn poll_read_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); HEAD_READ];
        let mut space = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut space))?;
        self.received.extend_from_slice(space.filled());
        Poll::Ready(Ok(space.filled().len()))
    }

    /// Reads what is there, about `most` bytes; `Ok(0)` is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        crate::net::inbox::make_room(&mut self.received, most);
        pin!(self.io.read_buf(&mut self.received)).poll(cx)
    }

    /// Puts the connection to rest, if nothing speaks against using it again.
    pub(super) fn rest(mut self, home: &Home) {
        if self.received.is_empty() && self.outbox.is_empty() {
            self.reused = true;
            if let Some(limit) = self.silence.take() {
                let _large = self.io.allow_closed_window(limit);
            }
            self.received = BytesMut::new();
            self.timer.disarm();
            home.idle.put(home.way, self, home.most, home.limit);
        }
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// The fields of an interim response as the client may see them.
fn of_interim(mut fields: Fields) -> Fields {
    // A `Connection` that is no list of tokens goes by itself.
    if headers::strip_hop_by_hop(&mut fields).is_err() {
        fields.remove(CONNECTION);
        drop(headers::strip_hop_by_hop(&mut fields));
    }
    // RFC 9110 §8.6.
    fields.remove(CONTENT_LENGTH);
    fields
}

/// RFC 9112 §9.6.
fn says_close(head: &response::Parts) -> bool {
    head.headers.get_all(CONNECTION).any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}

#[cfg(test)]
mod tests;
