//! TLS towards endpoints.
//!
//! Floor 3. One setting for each pool and generation, shared by all workers with its session cache. The endpoint's
//! certificate is verified unless the configuration says otherwise in so many words.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{LoadError, certificates, provider};
use crate::config::pool::UpstreamTls;

/// The settings for a pool. Reads the files it names.
///
/// # Errors
/// The first that is found: a file, a certificate, a key.
pub fn load(wanted: &UpstreamTls) -> Result<Arc<ClientConfig>, LoadError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(LoadError::Settings)?;
    let builder = if wanted.verify {
        let roots = match &wanted.authorities {
            Some(path) => certificates::authorities(path)?.0,
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        };
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    };
    let mut config = match &wanted.certificate {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = certificates::load_der(files)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| LoadError::Key { path: files.key.clone(), source })?
        }
    };
    // Endpoints are spoken to in HTTP/1.1 only.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes every certificate (`verify = false`): the connection is encrypted, but to whomever. Signatures are checked
/// all the same, so that the peer at least holds the key it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
