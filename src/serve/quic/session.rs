//! The TLS of a QUIC connection (RFC 9001), on rustls.
//!
//! quinn has one of its own, which keeps to itself what a record wants to know: the cipher, whether the session was
//! resumed, who the client is. This one tells it as [`TlsFacts`], taken from the same connection as over TCP, and keeps
//! nothing else of the handshake: an idle connection needs no more than the secrets of the keys to come.

use std::any::Any;
use std::io;
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::crypto::{self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion};
use quinn::{ConnectionId, Side};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{TransportError, TransportErrorCode};
use rustls::AlertDescription;
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
        match self.shake(parameters) {
            Ok(session) => Box::new(session),
            // `new` has tried it with the same settings; quinn's own would fail just the same.
            Err(_) => Arc::clone(&self.initial).start_session(version, parameters),
        }
    }
}

impl Security {
    /// A handshake to be, in which we say `parameters`.
    fn shake(&self, parameters: &TransportParameters) -> Result<Session, rustls::Error> {
        let mut ours = Vec::new();
        parameters.write(&mut ours);
        Ok(Session {
            stage: Stage::Shaking(Box::new(ServerConnection::new(Arc::clone(&self.tls), Version::V1, ours)?)),
            initial: Arc::clone(&self.initial),
            next: None,
            greeted: false,
            hello: Vec::new(),
            fingerprint: None,
        })
    }
}

/// One handshake and what it leads to.
struct Session {
    stage: Stage,
    initial: Arc<QuicServerConfig>,
    next: Option<Secrets>,
    /// Whether quinn was told that the client has introduced itself.
    greeted: bool,
    /// What came of the client's first message while it is not whole.
    hello: Vec<u8>,
    fingerprint: Option<Fingerprint>,
}

/// How far a handshake is.
enum Stage {
    Shaking(Box<ServerConnection>),
    /// Done, its tickets are written, and what it took is given back.
    Done(TlsFacts),
}

impl Session {
    /// What a finished handshake has told.
    fn facts(&self) -> Option<TlsFacts> {
        match &self.stage {
            Stage::Shaking(tls) if tls.is_handshaking() => None,
            Stage::Shaking(tls) => {
                Some(TlsFacts { fingerprint: self.fingerprint, ..tls::server::facts_over_quic(tls) })
            }
            Stage::Done(facts) => Some(facts.clone()),
        }
    }

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
        Some(Box::new(self.facts()?))
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
        matches!(&self.stage, Stage::Shaking(tls) if tls.is_handshaking())
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        if self.is_handshaking() {
            self.look(bytes);
        }
        let Stage::Shaking(tls) = &mut self.stage else {
            // RFC 9001 §6: what TLS alone would do with keys is QUIC's; RFC 8446 §4.6: nothing else is left to say.
            let code = TransportErrorCode::crypto(AlertDescription::UnexpectedMessage.into());
            return Err(TransportError { code, frame: None, reason: "a message after the handshake".to_owned() });
        };
        if let Err(error) = tls.read_hs(bytes) {
            // RFC 9001 §4.8: an alert is an error of the connection.
            let code = tls
                .alert()
                .map_or(TransportErrorCode::PROTOCOL_VIOLATION, |alert| TransportErrorCode::crypto(alert.into()));
            return Err(TransportError { code, frame: None, reason: error.to_string() });
        }
        let greeted = tls.alpn_protocol().is_some() || !tls.is_handshaking();
        Ok(greeted && !std::mem::replace(&mut self.greeted, greeted))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Stage::Shaking(tls) = &self.stage else { return Ok(None) };
        let Some(mut theirs) = tls.quic_transport_parameters().map(io::Cursor::new) else { return Ok(None) };
        Ok(Some(TransportParameters::read(Side::Server, &mut theirs)?))
    }

    fn write_handshake(&mut self, bytes: &mut Vec<u8>) -> Option<Keys> {
        let Stage::Shaking(tls) = &mut self.stage else { return None };
        let before = bytes.len();
        let change = tls.write_hs(bytes);
        if change.is_none() && bytes.len() == before && self.next.is_some() {
            // Nothing is left to be said.
            if let Some(facts) = self.facts() {
                self.stage = Stage::Done(facts);
            }
        }
        let keys = match change? {
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

#[cfg(test)]
mod tests {
    use quinn::crypto::Session as _;
    use rustls::quic::ClientConnection;

    use super::*;

    /// What one end has to say until it wants to hear something, as much at once as goes under the same keys.
    fn said(mut write: impl FnMut(&mut Vec<u8>) -> bool) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        loop {
            let mut piece = Vec::new();
            let rekeyed = write(&mut piece);
            if piece.is_empty() && !rekeyed {
                return said;
            }
            said.push(piece);
        }
    }

    #[test]
    fn finished_handshake_keeps_its_facts_and_keys_to_come_and_nothing_else() {
        let (server, _, mut client) = crate::serve::tests::security(false);
        client.alpn_protocols = vec![b"h3".to_vec()];
        let security = Security::new(Arc::new(tls::server::over_quic(&server))).unwrap();
        let parameters = TransportParameters::read(Side::Server, &mut io::Cursor::new([])).unwrap();
        let mut theirs = Vec::new();
        parameters.write(&mut theirs);
        let name = "a.test".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(client), Version::V1, name, theirs).unwrap();
        let mut session = security.shake(&parameters).unwrap();

        assert!(session.handshake_data().is_none());
        loop {
            let asked = said(|bytes| client.write_hs(bytes).is_some());
            if asked.is_empty() {
                break;
            }
            for piece in asked {
                session.read_handshake(&piece).unwrap();
            }
            for piece in said(|bytes| session.write_handshake(bytes).is_some()) {
                client.read_hs(&piece).unwrap();
            }
        }

        assert!(!session.is_handshaking() && matches!(session.stage, Stage::Done(_)));
        let facts = *session.handshake_data().unwrap().downcast::<TlsFacts>().unwrap();
        assert_eq!((facts.version, facts.server_name.as_deref()), ("TLSv1.3", Some("a.test")));
        assert!(facts.fingerprint.is_some() && session.next_1rtt_keys().is_some());
        // RFC 9001 §6: a KeyUpdate of TLS.
        let update = session.read_handshake(&[24, 0, 0, 1, 0]).unwrap_err();
        assert_eq!(update.code, TransportErrorCode::crypto(10));
    }
}
