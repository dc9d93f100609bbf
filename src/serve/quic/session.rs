//! The TLS of a QUIC connection (RFC 9001), on rustls.
//!
//! quinn has one of its own, which keeps to itself what a record wants to know: the cipher, whether the session was
//! resumed, who the client is. This one tells it as [`TlsFacts`], taken from the same connection as over TCP.

use std::any::Any;
use std::io;
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::crypto::{self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion};
use quinn::{ConnectionId, Side};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{TransportError, TransportErrorCode};
use rustls::quic::{KeyChange, Secrets, ServerConnection, Version};

use crate::lexicon::Fingerprint;
use crate::message::TlsFacts;
use crate::tls;
use crate::waf::hello::{self, Carrier};

/// QUIC version 1 (RFC 9000 §15), the only one that we speak.
pub(super) const VERSION: u32 = 1;

/// TLS settings for QUIC.
pub(super) struct Security {
    tls: Arc<rustls::ServerConfig>,
    /// Keys of Initial packets and of Retry, which depend on no settings.
    initial: Arc<QuicServerConfig>,
}

impl Security {
    /// `tls` with `h3` as its only protocol.
    ///
    /// # Errors
    /// When the settings lack what QUIC needs; those that [`tls::server`] builds do not.
    pub(super) fn new(tls: Arc<rustls::ServerConfig>) -> Option<Self> {
        let initial = Arc::new(QuicServerConfig::try_from(Arc::clone(&tls)).ok()?);
        // Made once in vain, so that it cannot fail for a client.
        ServerConnection::new(Arc::clone(&tls), Version::V1, Vec::new()).ok()?;
        Some(Self { tls, initial })
    }
}

impl crypto::ServerConfig for Security {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.initial.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.initial.retry_tag(version, id, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, parameters: &TransportParameters) -> Box<dyn crypto::Session> {
        let mut ours = Vec::new();
        parameters.write(&mut ours);
        match ServerConnection::new(Arc::clone(&self.tls), Version::V1, ours) {
            Ok(tls) => Box::new(Session {
                tls,
                initial: Arc::clone(&self.initial),
                next: None,
                greeted: false,
                hello: Vec::new(),
                fingerprint: None,
            }),
            // `new` has tried it with the same settings; quinn's own would fail just the same.
            Err(_) => Arc::clone(&self.initial).start_session(version, parameters),
        }
    }
}

/// One handshake and what it leads to.
struct Session {
    tls: ServerConnection,
    initial: Arc<QuicServerConfig>,
    next: Option<Secrets>,
    /// Whether quinn was told that the client has introduced itself.
    greeted: bool,
    /// What came of the client's first message while it is not whole.
    hello: Vec<u8>,
    fingerprint: Option<Fingerprint>,
}

impl Session {
    /// Looks at the client's first message; nearly always it comes in one piece, and nothing is copied.
    fn look(&mut self, bytes: &[u8]) {
        if self.fingerprint.is_some() || self.hello.len().saturating_add(bytes.len()) > hello::LONGEST {
            return;
        }
        if self.hello.is_empty() {
            self.fingerprint = hello::of_message(bytes, Carrier::Quic);
            if self.fingerprint.is_some() {
                return;
            }
        }
        self.hello.extend_from_slice(bytes);
        self.fingerprint = hello::of_message(&self.hello, Carrier::Quic);
        if self.fingerprint.is_some() {
            self.hello = Vec::new();
        }
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        use crypto::ServerConfig as _;
        // Asked anew only by clients, after a Retry; the version was accepted before.
        match (self.initial.initial_keys(VERSION, id), side) {
            (Ok(keys), Side::Server | Side::Client) => keys,
            (Err(UnsupportedVersion), _) => unreachable!("version 1 is supported"),
        }
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        (!self.tls.is_handshaking()).then(|| -> Box<dyn Any> {
            Box::new(TlsFacts { fingerprint: self.fingerprint, ..tls::server::facts_over_quic(&self.tls) })
        })
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        // Part of the facts.
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        // 0-RTT is off: its requests can be replayed.
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        if self.tls.is_handshaking() {
            self.look(bytes);
        }
        if let Err(error) = self.tls.read_hs(bytes) {
            // RFC 9001 §4.8: an alert is an error of the connection.
            let code = self
                .tls
                .alert()
                .map_or(TransportErrorCode::PROTOCOL_VIOLATION, |alert| TransportErrorCode::crypto(alert.into()));
            return Err(TransportError { code, frame: None, reason: error.to_string() });
        }
        let greeted = self.tls.alpn_protocol().is_some() || !self.tls.is_handshaking();
        Ok(greeted && !std::mem::replace(&mut self.greeted, greeted))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Some(mut theirs) = self.tls.quic_transport_parameters().map(io::Cursor::new) else { return Ok(None) };
        Ok(Some(TransportParameters::read(Side::Server, &mut theirs)?))
    }

    fn write_handshake(&mut self, bytes: &mut Vec<u8>) -> Option<Keys> {
        let keys = match self.tls.write_hs(bytes)? {
            KeyChange::Handshake { keys } => keys,
            KeyChange::OneRtt { keys, next } => {
                self.next = Some(next);
                keys
            }
        };
        Some(Keys {
            header: KeyPair { local: Box::new(keys.local.header), remote: Box::new(keys.remote.header) },
            packet: KeyPair { local: Box::new(keys.local.packet), remote: Box::new(keys.remote.packet) },
        })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair { local: Box::new(keys.local), remote: Box::new(keys.remote) })
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        // Only clients are sent one.
        false
    }

    fn export_keying_material(&self, _: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        // Nothing here binds anything to a session.
        Err(ExportKeyingMaterialError)
    }
}

/// The facts of a finished handshake.
pub(super) fn facts(connection: &quinn::Connection) -> Option<TlsFacts> {
    connection.handshake_data()?.downcast::<TlsFacts>().ok().map(|facts| *facts)
}
