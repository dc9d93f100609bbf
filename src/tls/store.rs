//! Chooses the certificate for a server name.
//!
//! Floor 3. An exact name wins over a wildcard, which stands for one label (RFC 6125 §6.4.3); whatever is unknown, or
//! comes without a name, gets the default, the first that is configured. Of several certificates for a name the first
//! whose key the client can verify is taken, so that ECDSA and RSA can stand side by side.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::LoadError;

/// Certificates by name.
#[derive(Debug)]
pub(super) struct Store {
    default: Same,
    exact: HashMap<String, Same>,
    /// By what follows the first label.
    wildcard: HashMap<String, Same>,
}

/// Certificates for the same name, in order of preference; never empty.
type Same = Vec<Arc<CertifiedKey>>;

impl Store {
    /// Certificates with the names they are for; the first is the default.
    pub(super) fn new<'a>(
        certificates: impl IntoIterator<Item = (Arc<CertifiedKey>, &'a [String])>,
    ) -> Result<Self, LoadError> {
        let mut first: Option<(Arc<CertifiedKey>, Vec<String>)> = None;
        let mut default = Same::new();
        let (mut exact, mut wildcard) = (HashMap::<_, Same>::new(), HashMap::<_, Same>::new());
        for (certificate, names) in certificates {
            let (_, default_names) = first.get_or_insert_with(|| (Arc::clone(&certificate), names.to_vec()));
            // The default's twin of another kind of key serves those who cannot verify the default.
            if default_names == names {
                default.push(Arc::clone(&certificate));
            }
            for name in names {
                let same = match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()),
                    None => exact.entry(name.clone()),
                };
                same.or_default().push(Arc::clone(&certificate));
            }
        }
        if default.is_empty() { Err(LoadError::Empty) } else { Ok(Self { default, exact, wildcard }) }
    }

    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let same = name.and_then(|name| self.named(name)).unwrap_or(&self.default);
        let fits = |certificate: &&Arc<CertifiedKey>| certificate.key.choose_scheme(schemes).is_some();
        // With none that fits, rustls says so to the client.
        same.iter().find(fits).or_else(|| same.first()).cloned()
    }

    fn named(&self, name: &str) -> Option<&Same> {
        // rustls hands names over as sent; certificates are in lower case (RFC 4343 §3).
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            lower.as_str()
        } else {
            name
        };
        self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name(), hello.signature_schemes())
    }
}
