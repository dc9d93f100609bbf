//! A client's connection, between the engine and TLS.
//!
//! Floor 6. The h2 crate flushes after each frame that is not small. Under TLS, what it writes in one turn leaves in one system
//! call all the same: while the wire gathers, the engine's flushes do nothing, TLS keeps its records as far as it has
//! room (64 KiB), and whoever drives the engine sends them once it has nothing more to say. Both ends are in one task, so
//! that the lock is never contended.

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
    /// Whether anything that was written has not left.
    pub(super) fn is_unsent(&self) -> bool {
        self.lock().unsent
    }

    /// Bytes that have left.
    pub(super) fn sent(&self) -> u64 {
        self.lock().io.sent().unwrap_or_else(|| self.ledger.written())
    }

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

#[cfg(test)]
mod tests {
    use std::task::{Waker, ready};

    use super::*;

    /// Keeps what it is given until it is flushed, as TLS does; its socket may be full.
    #[derive(Default)]
    struct Records {
        kept: usize,
        sent: Vec<usize>,
        full: bool,
    }

    impl AsyncRead for Records {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Records {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.kept += bytes.len();
            ready!(self.poll_flush(cx))?;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.full {
                return Poll::Pending;
            }
            let kept = std::mem::take(&mut self.kept);
            self.sent.push(kept);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    impl Transport for Records {
        fn break_off(&mut self) {}

        fn poll_gather(&mut self, _: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let length = slices.iter().map(|slice| slice.len()).sum();
            self.kept += length;
            Poll::Ready(Ok(length))
        }
    }

    fn say(wire: &mut Wire<Records>, text: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut *wire).poll_write(&mut cx, text).is_ready());
        assert!(Pin::new(wire).poll_flush(&mut cx).is_ready());
    }

    #[test]
    fn what_is_said_in_one_turn_is_sent_at_once_when_it_is_over() {
        let mut wire = Wire::new(Records::default(), Arc::default());
        let mut cx = Context::from_waker(Waker::noop());
        wire.gather(true);
        say(&mut wire, b"one");
        say(&mut wire, b"three");
        assert_eq!(wire.lock().io.sent, [0; 0]);

        assert!(wire.poll_send(&mut cx).is_ready());
        assert!(wire.poll_send(&mut cx).is_ready());

        assert_eq!((&wire.lock().io.sent[..], wire.ledger.written()), (&[8][..], 8));
    }

    #[test]
    fn what_a_full_socket_leaves_waits_for_the_next_turn() {
        let mut wire = Wire::new(Records { full: true, ..Records::default() }, Arc::default());
        let mut cx = Context::from_waker(Waker::noop());
        wire.gather(true);
        say(&mut wire, b"one");
        assert!(wire.poll_send(&mut cx).is_pending());

        wire.lock().io.full = false;
        assert!(wire.poll_send(&mut cx).is_ready());

        assert_eq!(wire.lock().io.sent, [3]);
    }

    #[test]
    fn before_the_first_turn_and_after_the_last_each_flush_sends() {
        let mut wire = Wire::new(Records::default(), Arc::default());
        say(&mut wire, b"one");
        let at_once = wire.lock().io.sent.len();
        wire.gather(true);
        say(&mut wire, b"three");
        assert_eq!(wire.lock().io.sent.len(), at_once);

        wire.gather(false);
        say(&mut wire, b"end");

        assert_eq!(wire.lock().io.sent.iter().sum::<usize>(), 11);
    }
}
