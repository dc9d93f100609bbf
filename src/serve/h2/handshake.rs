//! How a connection begins.
//!
//! Floor 6.

use h2::server::{Builder, Connection as Engine};

use super::ledger::Charged;
use super::wire::Wire;
use crate::config::Listener;
use crate::lifecycle::{Life, Phase};
use crate::message::Transport;
use crate::net::timer::Timer;

/// Prefaces and settings (RFC 9113 §3.4); `None` when there will be no connection.
pub(super) async fn shake<I>(
    io: Wire<I>,
    listener: &Listener,
    clock: &mut Timer,
    life: &Life,
) -> Option<Engine<Wire<I>, Charged>>
where
    I: Transport,
{
    let mut ending = life.clone();
    tokio::select! {
        engine = builder(listener).handshake(io) => engine.ok(),
        () = clock.expired() => None,
        () = ending.reached(Phase::Ending) => None,
    }
}

/// The crate's settings for a listener.
fn builder(listener: &Listener) -> Builder {
    let http2 = &listener.http2;
    let header_list = u32::try_from(listener.limits.head_bytes.saturating_mul(2)).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(http2.max_streams)
        .initial_window_size(http2.stream_window.min(MAX_WINDOW))
        .initial_connection_window_size(http2.connection_window.min(MAX_WINDOW))
        .max_frame_size(http2.max_frame.clamp(MIN_FRAME, MAX_FRAME))
        .max_send_buffer_size(http2.send_buffer.min(MAX_WINDOW as usize))
        .max_pending_accept_reset_streams(http2.max_pending_resets)
        .max_local_error_reset_streams(Some(http2.max_error_resets))
        // The crate adds 32 bytes to each field and answers 431 by itself, without a record. Twice our bound leaves
        // the ordinary case, a cookie too many, to `head`, which answers with one.
        .max_header_list_size(header_list)
        // RFC 8441 §3. A route without tunnels answers such a request like any other.
        .enable_connect_protocol();
    builder
}

/// Bounds of RFC 9113 §6.5.2; the crate panics outside them.
const MAX_WINDOW: u32 = (1 << 31) - 1;
const MIN_FRAME: u32 = 1 << 14;
const MAX_FRAME: u32 = (1 << 24) - 1;
