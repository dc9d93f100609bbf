//! An HTTP/2 stream as a byte stream both ways (RFC 8441 §5).
//!
//! Floor 6. Reading gives flow-control capacity back as bytes are taken; writing waits for the client's window and the
//! connection's ledger. END_STREAM is the end of either half; RST_STREAM is `ConnectionReset`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ledger::{Charged, Ledger};
use super::send::poll_window;
use crate::serve::pace::Patience;

/// Bytes taken from a writer at once.
const PIECE: usize = 16 << 10;

/// Both halves of a stream.
pub(super) struct Duplex {
    incoming: RecvStream,
    outgoing: SendStream<Charged>,
    /// Received and not yet read.
    received: Bytes,
    ledger: Arc<Ledger>,
    patience: Patience,
    read_ended: bool,
    write_ended: bool,
}

impl Duplex {
    pub(super) const fn new(
        incoming: RecvStream,
        outgoing: SendStream<Charged>,
        ledger: Arc<Ledger>,
        write_idle: Duration,
    ) -> Self {
        Self {
            incoming,
            outgoing,
            received: Bytes::new(),
            ledger,
            // A tunnel may rest as it likes.
            patience: Patience::new(write_idle, 0),
            read_ended: false,
            write_ended: false,
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.received.is_empty() {
            if this.read_ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(this.incoming.poll_data(cx)) {
                Some(Ok(data)) => {
                    this.ledger.note_useful();
                    this.received = data;
                }
                Some(Err(error)) => return Poll::Ready(Err(gone(error))),
                None => this.read_ended = true,
            }
        }
        let part = this.received.split_to(this.received.len().min(buf.remaining()));
        buf.put_slice(&part);
        // An error says that the stream is gone, which the next poll tells better.
        drop(this.incoming.flow_control().release_capacity(part.len()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.write_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.ledger.poll_room(cx));
        this.outgoing.reserve_capacity(buf.len().min(PIECE));
        let window = ready!(poll_window(&mut this.outgoing, &mut this.patience, &this.ledger, cx));
        let Ok(window) = window else {
            this.outgoing.send_reset(Reason::CANCEL);
            this.write_ended = true;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let piece = buf.get(..buf.len().min(window).min(PIECE)).unwrap_or(buf);
        let piece = Charged::new(Bytes::copy_from_slice(piece), &this.ledger);
        let length = piece.remaining();
        this.outgoing.send_data(piece, false).map_err(gone)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.write_ended {
            this.write_ended = true;
            this.outgoing.send_data(Charged::empty(), true).map_err(gone)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        // RFC 8441 §5: CANCEL is what a TCP reset is, for a half that was not ended. What was ended well is left to
        // the h2 crate, which still sends what is queued.
        if !self.write_ended {
            self.outgoing.send_reset(Reason::CANCEL);
        }
    }
}

/// A stream's error as a socket's.
fn gone(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
