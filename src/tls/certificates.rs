//! Certificate and key files.
//!
//! Floor 3. Everything that can be wrong with them is found here, at load, and told with the file's name: a handshake
//! is too late. An expired certificate is loaded all the same, as a warning serves the operator better than a refusal
//! to start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{LoadError, provider, read};
use crate::config::listener::Certificate;

/// What is told about a loaded certificate.
#[derive(Clone, Debug)]
pub(super) struct CertificateFacts {
    /// Its file.
    pub(super) file: PathBuf,
    /// DNS names it is for, lower case; wildcards as written.
    pub(super) names: Vec<String>,
    /// When it expires.
    pub(super) expires: SystemTime,
}

/// A chain with its key, checked against each other.
pub(super) fn load(files: &Certificate) -> Result<(Arc<CertifiedKey>, CertificateFacts), LoadError> {
    let chain = chain(&files.certificate)?;
    let facts = facts(&files.certificate, &chain)?;
    let key = key(&files.key)?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|source| LoadError::Key { path: files.key.clone(), source })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // A key that cannot tell its public half signs handshakes none the less.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(LoadError::KeyMismatch { certificate: files.certificate.clone(), key: files.key.clone() });
        }
        Err(_) => return Err(LoadError::Certificate { path: files.certificate.clone(), number: 1 }),
    }
    Ok((Arc::new(certified), facts))
}

/// What is told about a certificate, without its key.
pub(super) fn load_facts(path: &Path) -> Result<CertificateFacts, LoadError> {
    facts(path, &chain(path)?)
}

/// A chain with its key for showing to an endpoint.
pub(super) fn load_der(
    files: &Certificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), LoadError> {
    // Loaded for its checks.
    load(files)?;
    Ok((chain(&files.certificate)?, key(&files.key)?))
}

/// The first certificate in a file.
pub(super) fn leaf(path: &Path) -> Result<CertificateDer<'static>, LoadError> {
    chain(path)?.into_iter().next().ok_or_else(|| LoadError::NoCertificate { path: path.to_owned() })
}

/// The authorities in a file.
pub(super) fn authorities(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), LoadError> {
    let chain = chain(path)?;
    let mut roots = RootCertStore::empty();
    for (certificate, number) in chain.iter().zip(1..) {
        roots.add(certificate.clone()).map_err(|source| LoadError::Authority {
            path: path.to_owned(),
            number,
            source,
        })?;
    }
    Ok((roots, chain))
}

/// The certificates in a file, at least one, each of them well-formed.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let text = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| LoadError::Pem { path: path.to_owned(), source })?;
    if chain.is_empty() {
        return Err(LoadError::NoCertificate { path: path.to_owned() });
    }
    for (certificate, number) in chain.iter().zip(1..) {
        let whole = matches!(X509Certificate::from_der(certificate), Ok((rest, _)) if rest.is_empty());
        if !whole || ParsedCertificate::try_from(certificate).is_err() {
            return Err(LoadError::Certificate { path: path.to_owned(), number });
        }
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, LoadError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| match source {
        pem::Error::NoItemsFound => LoadError::NoKey { path: path.to_owned() },
        source => LoadError::Pem { path: path.to_owned(), source },
    })
}

fn facts(path: &Path, chain: &[CertificateDer<'_>]) -> Result<CertificateFacts, LoadError> {
    let malformed = || LoadError::Certificate { path: path.to_owned(), number: 1 };
    let leaf = chain.first().ok_or_else(malformed)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| malformed())?;
    let names = leaf.subject_alternative_name().map_err(|_| malformed())?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let seconds = leaf.validity().not_after.timestamp();
    let expires = UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    Ok(CertificateFacts { file: path.to_owned(), names: names.collect(), expires: expires.ok_or_else(malformed)? })
}
