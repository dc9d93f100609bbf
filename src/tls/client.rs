//! TLS towards endpoints.
//!
//! Floor 3. One setting for each pool and generation, shared by all workers with its session cache. The endpoint's
//! certificate is verified unless the configuration says otherwise in so many words.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{LoadError, certificates, provider};
use crate::config::listener::Certificate;
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
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Holder { of: None, provider }))
    };
    finish(builder, wanted.certificate.as_ref())
}

/// The settings for one server alone: the holder of the first certificate in the file `known`, whatever its name and
/// whoever vouches for it. `certificate` is shown to it.
///
/// # Errors
/// The first that is found: a file, a certificate, a key.
pub fn load_for(known: &Path, certificate: Option<&Certificate>) -> Result<Arc<ClientConfig>, LoadError> {
    let provider = provider();
    let leaf = certificates::leaf(known)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(LoadError::Settings)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Holder { of: Some(leaf), provider }));
    finish(builder, certificate)
}

fn finish(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    certificate: Option<&Certificate>,
) -> Result<Arc<ClientConfig>, LoadError> {
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = certificates::load_der(files)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| LoadError::Key { path: files.key.clone(), source })?
        }
    };
    // Endpoints are spoken to in HTTP/1.1 only, and so is the admin listener.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes one certificate alone, or every one (`verify = false`): then the connection is encrypted, but to whomever.
/// Signatures are checked in either case, so that the peer holds the key to what it shows.
#[derive(Debug)]
struct Holder {
    of: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Holder {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.of {
            Some(known) if known != shown => Err(CertificateError::UnknownIssuer.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
