//! TCP and TLS to a proxy.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Loss, Target};

/// A client's connection.
pub(crate) type Line = TlsStream<TcpStream>;

/// Longest wait for a connection to one address.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// Connects to the first address of `target` that takes a connection, and offers `alpn`.
pub(crate) async fn dial(target: &Target, alpn: &[u8]) -> Result<Line, Loss> {
    let mut why = String::from("no address");
    for address in &target.addresses {
        let established = timeout(CONNECT, async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").expect("a name");
            TlsConnector::from(Arc::new(trusting(target, alpn))).connect(name, tcp).await
        });
        match established.await {
            Ok(Ok(line)) => return Ok(line),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => "no connection in time".clone_into(&mut why),
        }
    }
    Err(Loss::NoConnection(why))
}

/// TLS settings of a client. No resumption: each connection checks the certificate that is in use.
pub(crate) fn trusting(target: &Target, alpn: &[u8]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(Arc::clone(&target.roots)).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config
}
