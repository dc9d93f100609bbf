//! TLS towards clients.
//!
//! Floor 3. One setting for each listener and generation, shared by all workers. Our order of ciphers counts; sessions
//! are resumed by tickets alone.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, HandshakeKind, ProtocolVersion,
    ServerConfig, ServerConnection, SignatureScheme, version,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::store::Store;
use super::subject::subject;
use super::{LoadError, Tickets, certificates, provider};
use crate::config::listener::{ClientCertificates, Tls, TlsVersion};
use crate::message::TlsFacts;
use crate::telemetry::metrics::HandshakeFailure;

/// The settings for a listener; `h2` offers HTTP/2. Reads the files it names.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(wanted: &Tls, h2: bool, tickets: &Tickets) -> Result<Arc<ServerConfig>, Vec<LoadError>> {
    let mut errors = Vec::new();
    let mut loaded = Vec::with_capacity(wanted.certificates.len());
    for files in &wanted.certificates {
        match certificates::load(files) {
            Ok(one) => loaded.push(one),
            Err(error) => errors.push(error),
        }
    }
    let clients = match wanted.client_certificates.as_ref().map(Clients::load).transpose() {
        Ok(clients) => clients.unwrap_or_else(Clients::anonymous),
        Err(error) => {
            errors.push(error);
            Clients::anonymous()
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    let store = Store::new(loaded.iter().map(|(key, facts)| (Arc::clone(key), facts.names.as_slice())));
    let config = store.and_then(|store| build(wanted, store, clients, h2, tickets)).map_err(|error| vec![error])?;
    Ok(Arc::new(config))
}

/// The settings of a listener for QUIC (RFC 9001, RFC 9114 §3.1): the same but for the protocol that they offer. TLS 1.3
/// comes by itself there.
pub fn over_quic(tcp: &ServerConfig) -> ServerConfig {
    let mut config = tcp.clone();
    config.alpn_protocols = vec![b"h3".to_vec()];
    config
}

/// Certificate files of a listener with their leaves' expiry. Reads the files; those that cannot be used are left out.
pub fn certificates(wanted: &Tls) -> Vec<(PathBuf, SystemTime)> {
    let facts = wanted.certificates.iter().filter_map(|files| certificates::load_facts(&files.certificate).ok());
    facts.map(|facts| (facts.file, facts.expires)).collect()
}

fn build(wanted: &Tls, store: Store, clients: Clients, h2: bool, tickets: &Tickets) -> Result<ServerConfig, LoadError> {
    let versions: &[&rustls::SupportedProtocolVersion] = match wanted.min_version {
        TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(LoadError::Settings)?
        .with_client_cert_verifier(clients.verifier)
        .with_cert_resolver(Arc::new(store));
    config.ignore_client_order = true;
    config.alpn_protocols = if h2 { vec![b"h2".to_vec()] } else { Vec::new() };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets.ticketer(&clients.context);
    Ok(config)
}

/// What is asked of clients.
struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Tells apart the sessions of those who were asked differently: a resumed session is not asked again.
    context: Vec<u8>,
}

impl Clients {
    fn anonymous() -> Self {
        Self { verifier: WebPkiClientVerifier::no_client_auth(), context: b"anonymous".to_vec() }
    }

    fn load(wanted: &ClientCertificates) -> Result<Self, LoadError> {
        let (roots, authorities) = certificates::authorities(&wanted.authorities)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&[u8::from(wanted.required)]);
        for authority in &authorities {
            // The certificates are self-delimiting.
            hash.update(authority);
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = if wanted.required { builder } else { builder.allow_unauthenticated() };
        let verifier = builder.build().map_err(|error| match error {
            VerifierBuilderError::NoRootAnchors => LoadError::NoCertificate { path: wanted.authorities.clone() },
            error => LoadError::Settings(rustls::Error::General(error.to_string())),
        })?;
        Ok(Self { verifier: Arc::new(Nameable(verifier)), context: hash.finish().as_ref().to_vec() })
    }
}

/// Refuses, beside whom the authorities do not vouch for, clients whose subject cannot be passed on.
#[derive(Debug)]
struct Nameable(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Nameable {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(leaf, chain, now)?;
        match subject(leaf) {
            Ok(_) => Ok(verified),
            Err(error) => {
                let error = rustls::OtherError(Arc::new(error));
                Err(rustls::Error::InvalidCertificate(CertificateError::Other(error)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What a completed handshake tells.
pub fn facts(connection: &ServerConnection) -> TlsFacts {
    facts_of(connection, connection.server_name())
}

/// What a completed handshake over QUIC tells.
pub fn facts_over_quic(connection: &rustls::quic::ServerConnection) -> TlsFacts {
    facts_of(connection, connection.server_name())
}

fn facts_of(connection: &rustls::CommonState, name: Option<&str>) -> TlsFacts {
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    TlsFacts {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: connection.negotiated_cipher_suite().map_or("", |suite| iana_name(suite.suite())),
        server_name: name.map(|name| Arc::from(name.to_ascii_lowercase())),
        fingerprint: None,
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        // The handshake has refused those without a usable subject.
        client_subject: leaf.and_then(|leaf| subject(leaf).ok()),
    }
}

fn iana_name(suite: CipherSuite) -> &'static str {
    match suite {
        // RFC 8446 appendix B.4; rustls names these its own way.
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or(""),
    }
}

/// Why a handshake failed.
pub fn cause(error: &io::Error) -> HandshakeFailure {
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe => HandshakeFailure::Gone,
            _ => HandshakeFailure::Other,
        };
    };
    match inner {
        rustls::Error::InvalidMessage(_) => HandshakeFailure::NotTls,
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => HandshakeFailure::NothingInCommon,
        rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_) => {
            HandshakeFailure::ClientCertificate
        }
        rustls::Error::AlertReceived(_) => HandshakeFailure::Alert,
        _ => HandshakeFailure::Other,
    }
}
