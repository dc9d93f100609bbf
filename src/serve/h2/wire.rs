//! A client's connection, between the engine and TLS.
//!
//! Floor 6. The h2 crate flushes after each frame that is not small. What it writes in one turn leaves in one system call all
//! the same: while the wire gathers, the engine's flushes do nothing, TLS keeps its records as far as it has room, and
//! whoever drives the engine sends them once it has nothing more to say. Both ends are in one task, so that the lock is
//! never contended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ledger::Ledger;
use crate::message::Transport;

/// A handle on the connection, whose traffic is counted.
#[derive(Debug)]
pub(super) struct Wire<I> {
    inner: Arc<Mutex<Inner<I>>>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Inner<I> {
    io: I,
    /// Whether what is written waits for [`Wire::poll_send`].
    gathers: bool,
    /// Whether anything waits.
    unsent: bool,
}

impl<I> Clone for Wire<I> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), ledger: Arc::clone(&self.ledger) }
    }
}

impl<I> Wire<I> {
    /// One that sends at each flush.
    pub(super) fn new(io: I, ledger: Arc<Ledger>) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { io, gathers: false, unsent: false })), ledger }
    }

    /// Whether what is written waits from now on.
    pub(super) fn gather(&self, gathers: bool) {
        self.lock().gathers = gathers;
    }

    fn lock(&self) -> MutexGuard<'_, Inner<I>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Transport> Wire<I> {
    /// Sends what waits.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        if !inner.unsent {
            return Poll::Ready(Ok(()));
        }
        let sent = Pin::new(&mut inner.io).poll_flush(cx);
        inner.unsent = sent.is_pending();
        sent
    }
}

impl<I: Transport> AsyncRead for Wire<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.lock().io).poll_read(cx, buf);
        let count = buf.filled().len().saturating_sub(before);
        if count > 0 {
            self.ledger.note_read(count);
        }
        polled
    }
}

impl<I: Transport> AsyncWrite for Wire<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.lock();
        let polled = if inner.gathers {
            inner.unsent = true;
            inner.io.poll_gather(cx, bufs)
        } else {
            Pin::new(&mut inner.io).poll_write_vectored(cx, bufs)
        };
        self.ledger.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        if inner.gathers { Poll::Ready(Ok(())) } else { Pin::new(&mut inner.io).poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().io).poll_shutdown(cx)
    }
}
