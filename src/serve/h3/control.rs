//! The streams of an HTTP/3 connection that concern the connection itself (RFC 9114 §6.2).
//!
//! Floor 6. Ours is one, with settings and goodbyes; those of QPACK are not needed without a dynamic table (RFC 9204
//! §4.2). The client's are read to their bounds.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::tally::Tally;
use crate::config::Listener;
use crate::h3::unidirectional::{Purpose, Stream};
use crate::h3::{Code, Offence, frame};
use crate::serve::quic::seam::{Lost, RecvHalf, SendHalf, Transport};

/// The connection is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// Our control stream.
pub(super) struct Outgoing<S> {
    stream: Option<S>,
    waiting: Vec<Bytes>,
}

impl<S: SendHalf> Outgoing<S> {
    /// A stream that begins with the settings of `listener`.
    pub(super) fn new(listener: &Listener) -> Self {
        Self { stream: None, waiting: vec![settings(listener)] }
    }

    /// Puts a GOAWAY frame in line (RFC 9114 §7.2.6).
    pub(super) fn goaway(&mut self, stream: u64) {
        let mut id = BytesMut::new();
        frame::put_integer(&mut id, stream);
        let mut bytes = BytesMut::new();
        frame::put_head(&mut bytes, frame::GOAWAY, id.len());
        bytes.extend_from_slice(&id);
        self.waiting.push(bytes.freeze());
    }

    /// Sends what the client takes.
    pub(super) fn poll<T>(&mut self, transport: &mut T, cx: &mut Context<'_>) -> Result<(), Gone>
    where
        T: Transport<Send = S>,
    {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.stream.is_none() {
            match transport.poll_open_uni(cx) {
                Poll::Ready(Some(stream)) => self.stream = Some(stream),
                Poll::Ready(None) => return Err(Gone),
                // A client that allows us no stream gets no settings; RFC 9114 §6.2 obliges it to allow three.
                Poll::Pending => return Ok(()),
            }
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.waiting.is_empty() {
            match stream.poll_write(cx, &mut self.waiting) {
                Poll::Ready(Ok(())) => self.waiting.retain(|piece| !piece.is_empty()),
                // RFC 9114 §6.2.1 forbids it to stop this stream; what it does not hear is its loss.
                Poll::Ready(Err(Lost)) => self.waiting.clear(),
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

/// The type of our control stream, and the settings on it (RFC 9114 §7.2.4.1).
fn settings(listener: &Listener) -> Bytes {
    let mut settings = BytesMut::new();
    let list = [
        // SETTINGS_MAX_FIELD_SECTION_SIZE: as for HTTP/2, twice our bound.
        (0x06, listener.limits.head_bytes.saturating_mul(2) as u64),
        // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 9220 §3). A route without tunnels answers such a request like any other.
        (0x08, 1),
    ];
    for (id, value) in list {
        frame::put_integer(&mut settings, id);
        frame::put_integer(&mut settings, value);
    }
    let mut bytes = BytesMut::new();
    frame::put_integer(&mut bytes, 0x00);
    frame::put_head(&mut bytes, frame::SETTINGS, settings.len());
    bytes.extend_from_slice(&settings);
    bytes.freeze()
}

/// The client's streams of one way.
pub(super) struct Incoming<R> {
    streams: Vec<(R, Stream)>,
    control: bool,
    encoder: bool,
    decoder: bool,
}

impl<R> Default for Incoming<R> {
    fn default() -> Self {
        Self { streams: Vec::new(), control: false, encoder: false, decoder: false }
    }
}

/// What is to become of a stream.
enum Next {
    Keep,
    Drop,
}

impl<R: RecvHalf> Incoming<R> {
    /// Reads what has come.
    pub(super) fn poll<T>(
        &mut self,
        transport: &mut T,
        unknown: u64,
        tally: &Arc<Tally>,
        cx: &mut Context<'_>,
    ) -> Result<(), Offence>
    where
        T: Transport<Recv = R>,
    {
        // How many there are at once is bounded by QUIC; that they come and go is not free.
        while let Poll::Ready(Some(stream)) = transport.poll_accept_uni(cx) {
            tally.note_skipped(STREAM_COSTS);
            self.streams.push((stream, Stream::default()));
        }
        let mut at = 0;
        while at < self.streams.len() {
            match self.read(at, unknown, tally, cx)? {
                Next::Keep => at += 1,
                Next::Drop => drop(self.streams.swap_remove(at)),
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize, unknown: u64, tally: &Tally, cx: &mut Context<'_>) -> Result<Next, Offence> {
        let Some((half, stream)) = self.streams.get_mut(at) else { return Ok(Next::Keep) };
        loop {
            match half.poll_read(cx) {
                Poll::Pending => return Ok(Next::Keep),
                // A reset of a critical stream is its end as well (RFC 9114 §6.2.1).
                Poll::Ready(Ok(None) | Err(Lost)) => {
                    stream.finish()?;
                    return Ok(Next::Drop);
                }
                Poll::Ready(Ok(Some(bytes))) => {
                    let purpose = stream.feed(bytes, unknown)?;
                    tally.note_skipped(stream.take_skipped());
                    let known = match purpose {
                        None => continue,
                        Some(Purpose::Control) => &mut self.control,
                        Some(Purpose::Encoder) => &mut self.encoder,
                        Some(Purpose::Decoder) => &mut self.decoder,
                        Some(Purpose::Unknown) => {
                            // RFC 9114 §6.2.3, §9.
                            half.stop(Code::StreamCreationError);
                            return Ok(Next::Drop);
                        }
                    };
                    if std::mem::replace(known, true) {
                        // RFC 9114 §6.2.1, RFC 9204 §4.2.
                        return Err(Offence::new(Code::StreamCreationError, "second stream of a kind"));
                    }
                }
            }
        }
    }
}

/// What a new stream counts against the bytes that mean nothing.
const STREAM_COSTS: u64 = 256;
