//! TLS towards clients and endpoints, on rustls and aws-lc.
//!
//! Floor 3. In: the files that the configuration names. Out: settings shared by all workers, immutable, so that a
//! reload replaces them for connections to come and touches no open one. Deliberately absent: 0-RTT, whose requests
//! can be replayed; session storage in memory, as tickets hold everything; the handshake's clock and cap, which stand
//! in `serve`.

mod certificates;
pub mod client;
pub mod server;
mod store;
mod subject;
mod tickets;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs as aws};
use rustls_pki_types::pem;

pub use tickets::Tickets;

/// Why TLS settings cannot be built. Each names its file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no PEM.
    #[error("{path} is not a PEM file")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// There is no `CERTIFICATE` in the file.
    #[error("no certificate in {path}")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no key in the file.
    #[error("no private key in {path} (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate cannot be understood.
    #[error("certificate {number} in {path} is malformed")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
    },
    /// A certificate cannot be a trust anchor.
    #[error("certificate {number} in {path} cannot be an authority")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The key is of no kind that we know.
    #[error("private key in {path} cannot be used")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error("private key in {key} does not belong to the first certificate in {certificate}")]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// No certificate is configured.
    #[error("no certificate configured")]
    Empty,
    /// rustls refuses the settings.
    #[error("TLS settings")]
    Settings(#[source] rustls::Error),
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

/// The algorithms: forward secrecy and AEAD only, in our order of preference.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        Arc::new(CryptoProvider {
            // 128 bits first: quicker, and no weaker in practice (BSI TR-02102-2 and Mozilla agree).
            cipher_suites: vec![
                aws::cipher_suite::TLS13_AES_128_GCM_SHA256,
                aws::cipher_suite::TLS13_AES_256_GCM_SHA384,
                aws::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                aws::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                aws::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                aws::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                aws::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                aws::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                aws::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![
                aws::kx_group::X25519MLKEM768,
                aws::kx_group::X25519,
                aws::kx_group::SECP256R1,
                aws::kx_group::SECP384R1,
            ],
            ..aws::default_provider()
        })
    }))
}

#[cfg(test)]
mod tests;
