//! An HTTP/3 stream as a byte stream both ways (RFC 9220 §3).
//!
//! Floor 6. The end of a half is the end of the stream's half; H3_REQUEST_CANCELLED is `ConnectionReset`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reader::Reader;
use super::send::Sending;
use super::tally::Tunnel;
use crate::h3::Code;
use crate::h3::message::Event;
use crate::serve::quic::seam::{RecvHalf, SendHalf};

/// Bytes taken from a writer at once.
const PIECE: usize = 16 << 10;

/// Both halves of a stream.
pub(super) struct Duplex<S: SendHalf, R: RecvHalf> {
    incoming: Reader<R>,
    outgoing: Sending<S>,
    /// Received and not yet read.
    received: Bytes,
    read_ended: bool,
    write_ended: bool,
    _open: Tunnel,
}

impl<S: SendHalf, R: RecvHalf> Duplex<S, R> {
    pub(super) const fn new(incoming: Reader<R>, outgoing: Sending<S>, open: Tunnel) -> Self {
        Self { incoming, outgoing, received: Bytes::new(), read_ended: false, write_ended: false, _open: open }
    }

    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.outgoing.poll_taken(cx)).map_err(|code| {
            self.outgoing.reset(code);
            self.write_ended = true;
            io::Error::from(io::ErrorKind::ConnectionReset)
        })?;
        Poll::Ready(Ok(()))
    }
}

impl<S: SendHalf, R: RecvHalf> AsyncRead for Duplex<S, R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.received.is_empty() {
            if this.read_ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(this.incoming.poll_event(cx)) {
                Ok(Some(Event::Content(data))) => this.received = data,
                Ok(None) => this.read_ended = true,
                // RFC 9114 §4.4: a tunnel has nothing but DATA.
                Ok(Some(Event::Head(_) | Event::Trailers(_) | Event::TooLarge)) | Err(_) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
        }
        let part = this.received.split_to(this.received.len().min(buf.remaining()));
        buf.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl<S: SendHalf, R: RecvHalf> AsyncWrite for Duplex<S, R> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.write_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_taken(cx))?;
        let piece = buf.get(..buf.len().min(PIECE)).unwrap_or(buf);
        this.outgoing.put_data(Bytes::copy_from_slice(piece));
        // What is not taken at once is by the next write, flush or end.
        match this.poll_taken(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(piece.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_taken(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.write_ended {
            ready!(this.poll_taken(cx))?;
            this.write_ended = true;
            this.outgoing.finish();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: SendHalf, R: RecvHalf> Drop for Duplex<S, R> {
    fn drop(&mut self) {
        // RFC 9220 §3: what a TCP reset is, for a half that was not ended.
        if !self.write_ended {
            self.outgoing.reset(Code::RequestCancelled);
        }
        if !self.read_ended {
            self.incoming.stop(Code::RequestCancelled);
        }
    }
}
