//! What waits to be written to a connection: head bytes, one piece of content, a line end.
//!
//! Floor 3. A response head, the chunk line and the first piece of content leave in one system call. The content is
//! not copied, except where it is so small that a copy is cheaper than a second slice. At most one piece waits: the
//! next one is pulled when this one has gone, which is what holds back whoever produces it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::AsyncWrite;

use crate::h1::encode;

/// Content up to this size is copied behind the head, in bytes.
const COPY: usize = 1024;

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    head: BytesMut,
    content: Bytes,
    tail: &'static [u8],
}

impl Outbox {
    /// Where a head is to be encoded. Only while nothing waits.
    pub const fn head(&mut self) -> &mut BytesMut {
        &mut self.head
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.content.is_empty() && self.tail.is_empty()
    }

    /// Whether content may be added.
    pub fn takes_content(&self) -> bool {
        self.content.is_empty() && self.tail.is_empty() && self.head.len() < FULL
    }

    /// Adds `content` as it is, or as one chunk.
    pub fn push(&mut self, content: Bytes, chunked: bool) {
        if chunked {
            encode::chunk_size(&mut self.head, content.len());
        }
        if content.len() <= COPY {
            self.head.extend_from_slice(&content);
            if chunked {
                self.head.extend_from_slice(b"\r\n");
            }
        } else {
            self.content = content;
            self.tail = if chunked { b"\r\n" } else { b"" };
        }
    }

    /// Adds the end of a chunked body. Only while [`Self::takes_content`].
    pub fn push_last_chunk(&mut self, trailers: &HeaderMap) {
        encode::last_chunk(&mut self.head, trailers);
    }

    /// Writes what waits; ready when nothing does. `moved` grows by the bytes that have left.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
        moved: &mut usize,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = if self.content.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.head))?
            } else {
                let slices = [IoSlice::new(&self.head), IoSlice::new(&self.content), IoSlice::new(self.tail)];
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *moved = moved.saturating_add(written);
            self.advance(written);
        }
        if self.head.capacity() > KEEP {
            // An idle connection keeps no buffer of a large head.
            self.head = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.len());
        self.head.advance(of_head);
        let of_content = (written - of_head).min(self.content.len());
        self.content.advance(of_content);
        let of_tail = (written - of_head - of_content).min(self.tail.len());
        self.tail = self.tail.get(of_tail..).unwrap_or_default();
    }
}

/// Capacity of the head's buffer that is kept for the next one, in bytes.
const KEEP: usize = 4096;

/// Copied bytes at which a write is due, however much more content is at hand.
const FULL: usize = 16 * 1024;
