//! What waits to be written to a connection: head bytes, one piece of content, a line end.
//!
//! Floor 3. A response head, the chunk line and the first piece of content leave in one system call. The content is
//! not copied, except where it is so small that a copy is cheaper than a second slice. At most one piece waits: the
//! next one is pulled when this one has gone, which is what holds back whoever produces it.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::h1::encode;
use crate::head::Fields;

/// Content up to this size is copied behind the head, in bytes.
const COPY: usize = 1024;

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    head: BytesMut,
    /// Bytes of the head that have been written.
    gone: usize,
    content: Bytes,
    tail: &'static [u8],
    /// Whether TLS may still hold records of what was written.
    unflushed: bool,
}

impl Outbox {
    /// Where a head is to be encoded, behind what waits.
    pub fn head(&mut self) -> &mut BytesMut {
        if self.head.capacity() == 0 {
            self.head = SPARE.take();
        }
        &mut self.head
    }

    fn rest_of_head(&self) -> &[u8] {
        self.head.get(self.gone..).unwrap_or_default()
    }

    /// Whether TLS may still hold something of what was written.
    pub const fn is_held(&self) -> bool {
        self.unflushed
    }

    /// Whether nothing waits: all of it is with the kernel.
    pub fn is_empty(&self) -> bool {
        !self.unflushed && self.is_written()
    }

    fn is_written(&self) -> bool {
        self.rest_of_head().is_empty() && self.content.is_empty() && self.tail.is_empty()
    }

    /// Whether content may be added.
    pub fn takes_content(&self) -> bool {
        !self.unflushed && self.content.is_empty() && self.tail.is_empty() && self.head.len() < FULL
    }

    /// Adds `content` as it is, or as one chunk.
    pub fn push(&mut self, content: Bytes, chunked: bool) {
        if content.is_empty() {
            // As a chunk it would be the last.
            return;
        }
        if chunked {
            encode::chunk_size(self.head(), content.len());
        }
        if content.len() <= COPY {
            self.head().extend_from_slice(&content);
            if chunked {
                self.head.extend_from_slice(b"\r\n");
            }
        } else {
            self.content = content;
            self.tail = if chunked { b"\r\n" } else { b"" };
        }
    }

    /// Adds the end of a chunked body. Only while [`Self::takes_content`].
    pub fn push_last_chunk(&mut self, trailers: &Fields) {
        encode::last_chunk(self.head(), trailers);
    }

    /// Writes what waits, to the kernel; ready when nothing does. TLS takes whole records and keeps what the socket does
    /// not take: until that has gone as well, the message has not. `moved` grows by the bytes that have left: by what
    /// `sent` grows, which tells how many ever have, or else by what was written.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        sent: impl Fn(&W) -> Option<u64>,
        cx: &mut Context<'_>,
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        let before = sent(io);
        let mut written = 0;
        let all = self.poll_all(io, cx, &mut written);
        let left = sent(io).zip(before).map_or(written, |(now, before)| now.wrapping_sub(before));
        *moved = moved.saturating_add(left);
        all
    }

    fn poll_all<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let written = if self.content.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, self.rest_of_head()))?
            } else {
                let slices = [IoSlice::new(self.rest_of_head()), IoSlice::new(&self.content), IoSlice::new(self.tail)];
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *moved = moved.saturating_add(written as u64);
            self.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        // A connection at rest holds no buffer: its thread has one for whoever writes next.
        let mut head = std::mem::take(&mut self.head);
        self.gone = 0;
        if (1..=KEEP).contains(&head.capacity()) {
            head.clear();
            SPARE.set(head);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.rest_of_head().len());
        self.gone = self.gone.saturating_add(of_head);
        let of_content = (written - of_head).min(self.content.len());
        self.content.advance(of_content);
        if self.content.is_empty() {
            // An empty slice still holds its buffer, and whoever reads next would have to find another, cold one.
            self.content = Bytes::new();
        }
        let of_tail = (written - of_head - of_content).min(self.tail.len());
        self.tail = self.tail.get(of_tail..).unwrap_or_default();
    }
}

/// Most capacity of a buffer that is kept for the next head, in bytes.
const KEEP: usize = 4096;

thread_local! {
    /// A buffer that the last head has left.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// Copied bytes at which a write is due, however much more content is at hand.
const FULL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything at once and passes some of it on at each flush: TLS before a socket that is full.
    #[derive(Default)]
    struct Tls {
        held: u64,
        sent: u64,
    }

    impl AsyncWrite for Tls {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.held += bytes.len() as u64;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let some = self.held.min(2_000);
            (self.held, self.sent) = (self.held - some, self.sent + some);
            if self.held == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_tls_holds_back_waits_and_counts_when_the_socket_takes_it() {
        let (mut outbox, mut tls) = (Outbox::default(), Tls::default());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        outbox.push(Bytes::from_static(&[b'x'; 5_000]), false);

        let steps = [0; 3].map(|_| {
            let mut moved = 0;
            let done = outbox.poll_write(&mut tls, |tls| Some(tls.sent), &mut cx, &mut moved).is_ready();
            (done, moved, outbox.is_empty(), outbox.takes_content())
        });

        let waits = (false, 2_000, false, false);
        assert_eq!(steps, [waits, waits, (true, 1_000, true, true)]);
    }

    #[test]
    fn buffer_of_a_head_that_has_left_is_the_next_ones_and_empty() {
        let (mut first, mut tls) = (Outbox::default(), Tls::default());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        first.head().extend_from_slice(b"secret");
        let mut moved = 0;
        assert!(first.poll_write(&mut tls, |_| None, &mut cx, &mut moved).is_ready());

        let mut next = Outbox::default();
        let (kept, given) = (first.head.capacity(), next.head());

        assert_eq!((kept, given.len()), (0, 0));
        assert!(given.capacity() >= 6);
    }

    #[test]
    fn buffer_of_content_that_has_left_is_the_readers_again() {
        let (mut outbox, mut tls) = (Outbox::default(), Tls::default());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut received = BytesMut::zeroed(2 * COPY);
        outbox.push(received.split().freeze(), false);
        assert!(!received.try_reclaim(2 * COPY));

        let mut moved = 0;
        while outbox.poll_write(&mut tls, |_| None, &mut cx, &mut moved).is_pending() {}

        assert!(received.try_reclaim(2 * COPY));
    }

    #[test]
    fn empty_piece_is_no_last_chunk() {
        let mut outbox = Outbox::default();

        outbox.push(Bytes::new(), true);

        assert!(outbox.is_empty());
    }
}
