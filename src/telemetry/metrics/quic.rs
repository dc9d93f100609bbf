//! What is counted of QUIC and HTTP/3 alone.
//!
//! Floor 2. All of it is rare, so that one shared counter does.

use super::cells::Count;
use super::handles::Codes;

/// QUIC on a listener.
#[derive(Debug, Default)]
pub struct QuicMetrics {
    pub(super) retries: Count,
    pub(super) forwarded: Count,
    pub(super) lost: Count,
    /// By the protocol's error codes.
    pub(super) offences: Codes,
}

impl QuicMetrics {
    /// A client of QUIC was asked to prove its address.
    pub fn address_doubted(&self) {
        self.retries.inc();
    }

    /// A datagram was handed to the worker that has its connection.
    pub fn datagram_forwarded(&self) {
        self.forwarded.inc();
    }

    /// A datagram could not be handed over.
    pub fn datagram_lost(&self) {
        self.lost.inc();
    }

    /// A connection was ended for an offence against HTTP/3.
    pub fn offended(&self, code: &'static str) {
        self.offences.inc(code);
    }
}
