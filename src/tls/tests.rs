//! Handshakes over in-memory streams, with certificates made on the spot.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::*;
use crate::config::listener::{Certificate, ClientCertificates, Tls, TlsVersion};
use crate::config::pool::UpstreamTls;
use crate::message::TlsFacts;
use crate::telemetry::metrics::HandshakeFailure;

/// A folder with an authority and what it has signed.
struct Issuer {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Issuer {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("authority.pem"), authority.pem()).unwrap();
        Self { folder, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `file.pem` and `file.key` for `names` and the subject `CN=file`.
    fn sign(&self, file: &str, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.authority).unwrap();
        let files =
            Certificate { certificate: self.path(&format!("{file}.pem")), key: self.path(&format!("{file}.key")) };
        std::fs::write(&files.certificate, signed.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// Settings of a client that trusts the authority.
    fn client(&self, certificate: Option<Certificate>) -> Arc<ClientConfig> {
        client::load(&self.wanted(certificate)).unwrap()
    }

    fn wanted(&self, certificate: Option<Certificate>) -> UpstreamTls {
        UpstreamTls { server_name: None, authorities: Some(self.path("authority.pem")), verify: true, certificate }
    }

    fn mutual(&self, required: bool) -> Option<ClientCertificates> {
        Some(ClientCertificates { authorities: self.path("authority.pem"), required })
    }
}

fn listener(certificates: Vec<Certificate>) -> Tls {
    Tls {
        certificates,
        min_version: TlsVersion::V1_2,
        client_certificates: None,
        handshake_timeout: std::time::Duration::from_secs(10),
        max_handshakes: 10,
    }
}

/// The client's and the server's end.
type Ends = (TlsStream<DuplexStream>, TlsStream<DuplexStream>);

/// A handshake with one byte each way, so that the client has its tickets; errors as the server sees them.
async fn shake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> io::Result<Ends> {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let accept = async {
        let mut stream = TlsAcceptor::from(Arc::clone(server)).accept(far).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok::<_, io::Error>(stream)
    };
    let connect = async {
        let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, near).await?;
        stream.write_u8(2).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok::<_, io::Error>(stream)
    };
    let (served, connected) = tokio::join!(accept, connect);
    let served = served?;
    Ok((connected?.into(), served.into()))
}

async fn facts(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> TlsFacts {
    told(&shake(server, client, name).await.unwrap())
}

fn told((_, served): &Ends) -> TlsFacts {
    let TlsStream::Server(stream) = served else { panic!("a server's end") };
    server::facts(stream.get_ref().1)
}

/// The first name in the certificate that the client was shown.
fn shown((connected, _): &Ends) -> String {
    let leaf = connected.get_ref().1.peer_certificates().unwrap()[0].clone();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    names.value.general_names[0].to_string()
}

fn load(tls: &Tls, tickets: &Tickets) -> Arc<ServerConfig> {
    server::load(tls, true, tickets).unwrap()
}

/// Like `client` with one protocol version only, and offering `alpn`.
fn only(
    client: &ClientConfig,
    version: &'static rustls::SupportedProtocolVersion,
    issuer: &Issuer,
) -> Arc<ClientConfig> {
    let roots = certificates::authorities(&issuer.path("authority.pem")).unwrap().0;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols.clone_from(&client.alpn_protocols);
    Arc::new(config)
}

#[tokio::test]
async fn handshake_prefers_our_ciphers_and_the_hybrid_group() {
    let issuer = Issuer::new();
    let server = load(&listener(vec![issuer.sign("a", &["a.test"])]), &Tickets::new(None));

    let ends = shake(&server, &issuer.client(None), "a.test").await.unwrap();

    let facts = told(&ends);
    assert_eq!((facts.version, facts.cipher), ("TLSv1.3", "TLS_AES_128_GCM_SHA256"));
    assert_eq!(facts.server_name.as_deref(), Some("a.test"));
    let group = ends.0.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn minimum_version_refuses_older_clients() {
    let issuer = Issuer::new();
    let mut tls = listener(vec![issuer.sign("a", &["a.test"])]);
    let old = only(&issuer.client(None), &rustls::version::TLS12, &issuer);
    assert_eq!(facts(&load(&tls, &Tickets::new(None)), &old, "a.test").await.version, "TLSv1.2");

    tls.min_version = TlsVersion::V1_3;

    let error = shake(&load(&tls, &Tickets::new(None)), &old, "a.test").await.unwrap_err();
    assert_eq!(server::cause(&error), HandshakeFailure::NothingInCommon);
}

#[tokio::test]
async fn http2_is_offered_only_where_it_is_enabled() {
    let issuer = Issuer::new();
    let tls = listener(vec![issuer.sign("a", &["a.test"])]);
    let mut client = (*issuer.client(None)).clone();
    client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let client = Arc::new(client);
    let mut chosen = Vec::new();
    for h2 in [true, false] {
        let config = server::load(&tls, h2, &Tickets::new(None)).unwrap();
        let ends = shake(&config, &client, "a.test").await.unwrap();
        chosen.push(ends.0.get_ref().1.alpn_protocol().unwrap().to_vec());
    }

    assert_eq!(chosen, [b"h2".to_vec(), b"http/1.1".to_vec()]);
}

#[tokio::test]
async fn exact_name_wins_over_wildcard_and_the_first_serves_the_rest() {
    let issuer = Issuer::new();
    let certificates =
        vec![issuer.sign("d", &["default.test"]), issuer.sign("w", &["*.b.test"]), issuer.sign("e", &["exact.b.test"])];
    let server = load(&listener(certificates), &Tickets::new(None));
    let mut any = issuer.wanted(None);
    any.verify = false;
    let client = client::load(&any).unwrap();
    let mut names = Vec::new();
    for name in
        ["exact.b.test", "EXACT.b.test", "other.b.test", "two.labels.b.test", "b.test", "unknown.test", "127.0.0.1"]
    {
        names.push(shown(&shake(&server, &client, name).await.unwrap()));
    }

    let [exact, wild, default] = ["exact.b.test", "*.b.test", "default.test"].map(|name| format!("DNSName({name})"));
    assert_eq!(names, [exact.clone(), exact, wild, default.clone(), default.clone(), default.clone(), default]);
}

#[tokio::test]
async fn replicas_of_a_fleet_resume_each_others_sessions() {
    let issuer = Issuer::new();
    let tls = listener(vec![issuer.sign("a", &["a.test"])]);
    let replica = || load(&tls, &Tickets::new(Some(b"fleet")));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = only(&issuer.client(None), version, &issuer);

        let first = facts(&replica(), &client, "a.test").await;
        let second = facts(&replica(), &client, "a.test").await;

        assert_eq!((first.resumed, second.resumed), (false, true), "{version:?}");
    }
}

#[tokio::test]
async fn strangers_do_not_resume_our_sessions() {
    let issuer = Issuer::new();
    let tls = listener(vec![issuer.sign("a", &["a.test"])]);
    let client = issuer.client(None);

    facts(&load(&tls, &Tickets::new(None)), &client, "a.test").await;

    assert!(!facts(&load(&tls, &Tickets::new(None)), &client, "a.test").await.resumed);
}

#[tokio::test]
async fn certificate_swap_leaves_open_connections_alone() {
    let issuer = Issuer::new();
    let tls = listener(vec![issuer.sign("a", &["old.test", "a.test"])]);
    let tickets = Tickets::new(None);
    let slot = arc_swap::ArcSwap::from(load(&tls, &tickets));
    let (mut connected, mut served) = shake(&slot.load_full(), &issuer.client(None), "a.test").await.unwrap();

    issuer.sign("a", &["new.test", "a.test"]);
    slot.store(load(&tls, &tickets));

    let fresh = shake(&slot.load_full(), &issuer.client(None), "a.test").await.unwrap();
    assert_eq!(shown(&fresh), "DNSName(new.test)");
    served.write_u8(7).await.unwrap();
    served.flush().await.unwrap();
    assert_eq!(connected.read_u8().await.unwrap(), 7);
}

#[tokio::test]
async fn client_certificate_tells_its_subject_also_when_resumed() {
    let issuer = Issuer::new();
    let mut tls = listener(vec![issuer.sign("a", &["a.test"])]);
    tls.client_certificates = issuer.mutual(true);
    let server = load(&tls, &Tickets::new(None));
    let client = issuer.client(Some(issuer.sign("ana", &[])));

    let first = facts(&server, &client, "a.test").await;
    let second = facts(&server, &client, "a.test").await;

    assert_eq!((first.resumed, first.client_subject.unwrap().to_str().unwrap()), (false, "CN=ana"));
    assert_eq!((second.resumed, second.client_subject.unwrap().to_str().unwrap()), (true, "CN=ana"));
}

#[tokio::test]
async fn missing_client_certificate_is_refused_only_where_required() {
    let issuer = Issuer::new();
    let mut tls = listener(vec![issuer.sign("a", &["a.test"])]);
    tls.client_certificates = issuer.mutual(false);
    assert_eq!(facts(&load(&tls, &Tickets::new(None)), &issuer.client(None), "a.test").await.client_subject, None);

    tls.client_certificates = issuer.mutual(true);

    let error = shake(&load(&tls, &Tickets::new(None)), &issuer.client(None), "a.test").await.unwrap_err();
    assert_eq!(server::cause(&error), HandshakeFailure::ClientCertificate);
}

#[tokio::test]
async fn client_certificate_of_another_authority_is_refused() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let mut tls = listener(vec![issuer.sign("a", &["a.test"])]);
    tls.client_certificates = issuer.mutual(false);

    let client = issuer.client(Some(other.sign("eve", &[])));

    let error = shake(&load(&tls, &Tickets::new(None)), &client, "a.test").await.unwrap_err();
    assert_eq!(server::cause(&error), HandshakeFailure::ClientCertificate);
}

#[tokio::test]
async fn anonymous_session_is_not_resumed_where_clients_must_prove_themselves() {
    let issuer = Issuer::new();
    let mut tls = listener(vec![issuer.sign("a", &["a.test"])]);
    let tickets = Tickets::new(Some(b"fleet"));
    let client = issuer.client(None);
    facts(&load(&tls, &tickets), &client, "a.test").await;

    tls.client_certificates = issuer.mutual(true);

    let error = shake(&load(&tls, &tickets), &client, "a.test").await.unwrap_err();
    assert_eq!(server::cause(&error), HandshakeFailure::ClientCertificate);
}

#[tokio::test]
async fn plain_text_is_told_as_no_tls() {
    let issuer = Issuer::new();
    let server = load(&listener(vec![issuer.sign("a", &["a.test"])]), &Tickets::new(None));
    let (mut near, far) = duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();

    let error = TlsAcceptor::from(server).accept(far).await.unwrap_err();

    assert_eq!(server::cause(&error), HandshakeFailure::NotTls);
}

#[tokio::test]
async fn client_that_leaves_in_the_handshake_is_told_as_gone() {
    let issuer = Issuer::new();
    let server = load(&listener(vec![issuer.sign("a", &["a.test"])]), &Tickets::new(None));
    let (near, far) = duplex(1024);
    drop(near);

    let error = TlsAcceptor::from(server).accept(far).await.unwrap_err();

    assert_eq!(server::cause(&error), HandshakeFailure::Gone);
}

#[tokio::test]
async fn endpoint_of_another_authority_is_refused_unless_verification_is_off() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let server = load(&listener(vec![other.sign("a", &["a.test"])]), &Tickets::new(None));
    let mut wanted = issuer.wanted(None);
    let verifying = shake(&server, &client::load(&wanted).unwrap(), "a.test").await;

    wanted.verify = false;

    assert!(verifying.is_err());
    assert!(shake(&server, &client::load(&wanted).unwrap(), "a.test").await.is_ok());
}

#[test]
fn mozillas_authorities_are_used_when_none_are_named() {
    let wanted = UpstreamTls { server_name: None, authorities: None, verify: true, certificate: None };

    assert!(client::load(&wanted).is_ok());
}

#[test]
fn every_wrong_file_is_told_with_its_name() {
    let issuer = Issuer::new();
    let good = issuer.sign("good", &["a.test"]);
    let other = issuer.sign("other", &["b.test"]);
    let empty = issuer.path("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let broken = issuer.path("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let pair =
        |certificate: &PathBuf, key: &PathBuf| Certificate { certificate: certificate.clone(), key: key.clone() };
    let mut tls = listener(vec![
        pair(&issuer.path("absent.pem"), &good.key),
        pair(&empty, &good.key),
        pair(&broken, &good.key),
        pair(&good.certificate, &other.key),
        pair(&good.certificate, &good.certificate),
        good.clone(),
    ]);
    tls.client_certificates = Some(ClientCertificates { authorities: empty.clone(), required: true });

    let errors = server::load(&tls, true, &Tickets::new(None)).unwrap_err();

    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let folder = issuer.folder.path().display();
    assert_eq!(
        texts,
        [
            format!("cannot read {folder}/absent.pem"),
            format!("no certificate in {folder}/empty.pem"),
            format!("certificate 1 in {folder}/broken.pem is malformed"),
            format!("private key in {folder}/other.key does not belong to the first certificate in {folder}/good.pem"),
            format!("no private key in {folder}/good.pem (PKCS#8, PKCS#1 or SEC1, not encrypted)"),
            format!("no certificate in {folder}/empty.pem"),
        ]
    );
}

#[test]
fn expiry_is_told_for_each_certificate_that_can_be_read() {
    let issuer = Issuer::new();
    let good = issuer.sign("good", &["a.test"]);
    let absent = Certificate { certificate: issuer.path("absent.pem"), key: good.key.clone() };

    let told = server::certificates(&listener(vec![absent, good.clone()]));

    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, good.certificate);
    assert!(told[0].1 > std::time::SystemTime::now());
}
