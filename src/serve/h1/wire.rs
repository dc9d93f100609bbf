//! The connection's reading side, shared between the server and the body of the request under way.
//!
//! Both live in one task, so that the lock is never contended; it is there because futures stay `Send`.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::body::{BodyError, Frame, Source};
use crate::config::Listener;
use crate::h1::{Decoded, Decoder, Framing};
use crate::head::Fields;
use crate::lexicon::Clock;
use crate::message::{Interim, Transport};
use crate::net::inbox::make_room;
use crate::net::timer::Timer;

/// Bytes asked of the socket at a time while a body is read.
const BODY_READ: usize = 16 * 1024;

/// Most of them, once content is there faster than it is read.
const MOST_BODY_READ: usize = 64 * 1024;

/// Bytes asked of the socket at a time while a head is read, or while nothing is expected.
const HEAD_READ: usize = 8 * 1024;

/// A handle on the wire.
pub(super) struct SharedWire<I>(Arc<Mutex<Wire<I>>>);

impl<I: Transport> SharedWire<I> {
    pub(super) fn new(io: I, listener: &Listener) -> Self {
        Self(Arc::new(Mutex::new(Wire {
            io: Some(io),
            received: BytesMut::new(),
            decoder: Decoder::Done,
            max_trailer: listener.limits.trailer_bytes,
            body_idle: listener.clocks.body_idle,
            min_rate: listener.clocks.min_body_rate,
            timer: Timer::new(),
            began: Instant::now(),
            taken: 0,
            read: BODY_READ,
            continues: None,
            broken: false,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire<I>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody holds the body of the request under way.
    pub(super) fn is_unread(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Takes the connection out, with what was read ahead of it.
    pub(super) fn take(&self) -> Option<Prefixed<I>> {
        let mut wire = self.lock();
        let prefix = std::mem::take(&mut wire.received).freeze();
        wire.io.take().map(|io| Prefixed { prefix, io })
    }
}

/// The reading side.
pub(super) struct Wire<I> {
    /// The connection; gone once it is a tunnel.
    pub(super) io: Option<I>,
    /// Read and not yet understood.
    pub(super) received: BytesMut,
    decoder: Decoder,
    max_trailer: usize,
    body_idle: std::time::Duration,
    min_rate: u64,
    timer: Timer,
    began: Instant,
    taken: u64,
    /// Bytes that the next read of content asks for.
    read: usize,
    continues: Option<Interim>,
    broken: bool,
}

impl<I: Transport> Wire<I> {
    /// Makes the end of the connection a break.
    pub(super) fn break_off(&mut self) {
        if let Some(io) = &mut self.io {
            io.break_off();
        }
    }

    /// Begins a body of that extent. `continues` takes the 100 (Continue) when somebody first asks for content.
    pub(super) fn expect(&mut self, framing: Framing, continues: Option<Interim>) {
        self.decoder = Decoder::new(framing, self.max_trailer);
        self.continues = continues;
        self.taken = 0;
        self.read = BODY_READ;
        self.timer.disarm();
    }

    /// Whether the whole request was received.
    pub(super) const fn is_received(&self) -> bool {
        self.decoder.is_done() && !self.broken
    }

    /// Drops what is left of the body as far as it is here already, so that an answer that did not care for a small
    /// body need not cost the connection.
    pub(super) fn skip_received(&mut self) {
        while !self.decoder.is_done() && !self.broken {
            match self.decoder.decode(&mut self.received) {
                Ok(Decoded::Data(_)) => {}
                Ok(Decoded::NeedMore | Decoded::Trailers(_) | Decoded::End) => break,
                Err(_) => self.broken = true,
            }
        }
        self.let_go();
    }

    /// Nothing that follows can be understood.
    pub(super) const fn give_up(&mut self) {
        self.broken = true;
    }

    /// Reads ahead, through the stack, so that an idle connection holds no buffer. `Ok(0)` is the end.
    pub(super) fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Ok(0));
        };
        let mut space = [std::mem::MaybeUninit::uninit(); HEAD_READ];
        let mut space = ReadBuf::uninit(&mut space);
        ready!(Pin::new(io).poll_read(cx, &mut space))?;
        self.received.extend_from_slice(space.filled());
        Poll::Ready(Ok(space.filled().len()))
    }

    /// Ready when the client has gone: it is watched while it has nothing more to say about its request.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A client that pipelines is there; reading on would let it fill our memory.
        while self.is_received() && self.received.is_empty() {
            if !matches!(ready!(self.poll_read_ahead(cx)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            let decoded = self.decoder.decode(&mut self.received);
            self.let_go();
            match decoded {
                Ok(Decoded::Data(content)) => {
                    self.taken = self.taken.saturating_add(content.len() as u64);
                    self.continues = None;
                    self.timer.disarm();
                    return Poll::Ready(Some(Ok(Frame::Data(content))));
                }
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::Trailers(trailers)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::NeedMore) => {}
                Err(what) => return self.fail(BodyError::Malformed(what)),
            }
            if let Some(interim) = self.continues.take() {
                interim.push(StatusCode::CONTINUE, Fields::new());
            }
            let Some(io) = &mut self.io else {
                return self.fail(BodyError::Gone(None));
            };
            make_room(&mut self.received, self.read);
            match pin!(io.read_buf(&mut self.received)).poll(cx) {
                Poll::Ready(Ok(0)) => return self.fail(BodyError::Gone(None)),
                // More is there than was asked for: with larger pieces both ends are woken less often.
                Poll::Ready(Ok(read)) if read >= self.read => self.read = (self.read * 2).min(MOST_BODY_READ),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return self.fail(BodyError::Gone(Some(error))),
                Poll::Pending => {
                    ready!(self.poll_late(cx));
                    return self.fail(BodyError::Late(Clock::BodyRead));
                }
            }
        }
    }

    /// Gives back the buffer of a body that has come to its end: neither the wait for an answer nor the next head needs
    /// as large a one.
    fn let_go(&mut self) {
        if self.decoder.is_done() && self.received.is_empty() {
            self.received = BytesMut::new();
        }
    }

    /// Ready when the client pauses for too long, or sends too slowly on the whole.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.taken == 0 && !self.timer.is_armed() {
            self.began = now;
        }
        let spent = now.duration_since(self.began);
        if spent > self.body_idle && self.taken < self.min_rate.saturating_mul(spent.as_secs()) {
            return Poll::Ready(());
        }
        if !self.timer.is_armed() {
            self.timer.arm(self.body_idle);
        }
        self.timer.poll(cx)
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame, BodyError>>> {
        self.broken = true;
        Poll::Ready(Some(Err(error)))
    }
}

/// The body of the request under way.
pub(super) struct Inbound<I>(SharedWire<I>);

impl<I: Transport> Inbound<I> {
    pub(super) fn new(wire: &SharedWire<I>) -> Self {
        Self(SharedWire(Arc::clone(&wire.0)))
    }
}

impl<I: Transport> Source for Inbound<I> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.0.lock().poll_body(cx)
    }

    fn remaining(&self) -> Option<u64> {
        self.0.lock().decoder.remaining()
    }
}

/// A connection with bytes that were read ahead.
pub(super) struct Prefixed<I> {
    prefix: Bytes,
    io: I,
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, space);
        }
        let take = self.prefix.len().min(space.remaining());
        space.put_slice(&self.prefix.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefixed<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
