//! An authority with the certificates that it signed, made for one test.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::peer::Peer;
use super::soon;

/// An authority, a leaf for `localhost` and `127.0.0.1`, and a client's certificate.
pub(crate) struct Pki {
    authority: rcgen::Certificate,
    leaf: (rcgen::Certificate, KeyPair),
    client: (rcgen::Certificate, KeyPair),
}

impl Pki {
    /// A new authority.
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "Authority of a test");
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let leaf = signed(&issuer, "leaf", vec!["localhost".into(), "127.0.0.1".into()]);
        let client = signed(&issuer, "client of a test", Vec::new());
        Self { authority, leaf, client }
    }

    /// The authority's certificate in PEM.
    pub(crate) fn authority(&self) -> String {
        self.authority.pem()
    }

    /// Writes `ca.pem`, `leaf.pem` and `leaf.key`.
    pub(crate) fn write(&self, directory: &Path) {
        std::fs::write(directory.join("ca.pem"), self.authority.pem()).unwrap();
        std::fs::write(directory.join("leaf.pem"), self.leaf.0.pem()).unwrap();
        std::fs::write(directory.join("leaf.key"), self.leaf.1.serialize_pem()).unwrap();
    }

    /// A TLS connection that offers `alpn`, with the client's certificate if so wished.
    pub(crate) async fn connect(&self, address: SocketAddr, alpn: &str, with_certificate: bool) -> io::Result<Peer> {
        let stream = soon("a connection", TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        self.over(stream, alpn, with_certificate).await
    }

    /// Settings of a client that offers `alpn`, with its certificate if so wished.
    pub(crate) fn client(&self, alpn: &str, with_certificate: bool) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let mut config = if with_certificate {
            let key = PrivateKeyDer::try_from(self.client.1.serialize_der()).unwrap();
            config.with_client_auth_cert(vec![self.client.0.der().clone()], key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config
    }

    /// Settings of a server with the leaf, which asks clients for a certificate of the authority.
    pub(crate) fn server_that_asks(&self) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(self.leaf.1.serialize_der()).unwrap();
        let config = config.with_client_cert_verifier(verifier.build().unwrap());
        config.with_single_cert(vec![self.leaf.0.der().clone()], key).unwrap()
    }

    /// TLS over a connection that is there.
    pub(crate) async fn over(&self, stream: TcpStream, alpn: &str, with_certificate: bool) -> io::Result<Peer> {
        let config = self.client(alpn, with_certificate);
        let name = ServerName::try_from("localhost").unwrap();
        let tls = soon("a TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await?;
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        Ok(Peer::new(tls, 0))
    }
}

fn signed(issuer: &Issuer<'_, KeyPair>, name: &str, hosts: Vec<String>) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.signed_by(&key, issuer).unwrap(), key)
}
