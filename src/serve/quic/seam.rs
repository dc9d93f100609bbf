//! What HTTP/3 wants of QUIC, and nothing else.
//!
//! Floor 6. `serve::h3` is written against these traits; [`super::quinn`](super) fills them. A driver of our own on
//! quinn-proto could fill them as well. All of it is polled in one task a connection; tunnels take their stream's
//! halves to a task of their own.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::h3::Code;

/// The stream was reset or stopped by the client, or its connection is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lost;

/// An established connection.
pub trait Transport: Send + Unpin + 'static {
    /// What we send on a stream.
    type Send: SendHalf;
    /// What we receive on a stream.
    type Recv: RecvHalf;

    /// The next stream that the client opened both ways; `None` once the connection is gone.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Self::Send, Self::Recv)>>;

    /// The next stream that the client opened one way; `None` once the connection is gone.
    fn poll_accept_uni(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Recv>>;

    /// A new stream of ours, one way; `None` once the connection is gone.
    fn poll_open_uni(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Send>>;

    /// Ends the connection; what is not sent yet is lost.
    fn close(&mut self, code: Code, reason: &'static str);

    /// The present estimate of the round trip.
    fn round_trip(&self) -> Duration;

    /// Bytes received so far, all of them. Not for each turn: it costs more than the others.
    fn received(&self) -> u64;
}

/// The receiving half of a stream. Dropped before its end, it is stopped with [`Code::NoError`].
pub trait RecvHalf: Send + Unpin + 'static {
    /// The stream's number (RFC 9000 §2.1).
    fn id(&self) -> u64;

    /// What comes next; `None` at the end. What is taken gives the client room for as much.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Lost>>;

    /// Asks the client to send no more.
    fn stop(&mut self, code: Code);
}

/// The sending half of a stream. Dropped before it was finished or reset, it is reset.
pub trait SendHalf: Send + Unpin + 'static {
    /// Takes at least a byte off the front of `pieces`, as the client's windows and the connection's buffer allow.
    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &mut [Bytes]) -> Poll<Result<(), Lost>>;

    /// Ends the stream well.
    fn finish(&mut self);

    /// Breaks the stream off.
    fn reset(&mut self, code: Code);

    /// Ready when the client wants no more of it, has acknowledged all of it, or is gone.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
