//! An authority and certificates for `localhost`, made for one scenario.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;

/// An authority.
pub(crate) struct Certificates {
    authority: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// A new authority.
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "Authority of a scenario");
        let authority = params.self_signed(&key).expect("a certificate");
        Self { authority, issuer: Issuer::new(params, key) }
    }

    /// Writes a new leaf to `leaf.pem` and `leaf.key`, each in one step, as renewing programs do; the leaf.
    pub(crate) fn write(&self, directory: &Path) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".into()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "leaf");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        for (name, text) in [("leaf.pem", leaf.pem()), ("leaf.key", key.serialize_pem())] {
            let next = directory.join("next");
            std::fs::write(&next, text).expect("a file");
            std::fs::rename(next, directory.join(name)).expect("a file");
        }
        leaf.der().to_vec()
    }

    /// What clients trust.
    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("an authority");
        Arc::new(roots)
    }
}
