//! Bytes to a receiver and back: TCP, with TLS where that is wanted.
//!
//! Floor 5. For receivers that are not spoken to in HTTP.

use std::io;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::config::pool::UpstreamTls;
use crate::control::transport::TransportError;
use crate::tls;

/// Bytes both ways.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// How connections are secured.
pub(super) struct Security {
    connector: TlsConnector,
    /// The name to verify, if not that of the host.
    name: Option<ServerName<'static>>,
}

impl Security {
    /// Reads the files that `wanted` names. Each of `hosts` will be connected to, and must be a name that can be verified.
    pub(super) fn new(wanted: &UpstreamTls, hosts: &[&str]) -> Result<Self, TransportError> {
        let mut config = tls::client::load(wanted)?.as_ref().clone();
        // What is spoken here has no name there: RFC 5425 for one names none.
        config.alpn_protocols.clear();
        let name = wanted.server_name.as_deref().map(named).transpose()?;
        if name.is_none() {
            hosts.iter().try_for_each(|host| named(host).map(drop))?;
        }
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    async fn secure(&self, host: &str, stream: TcpStream) -> io::Result<Box<dyn Duplex>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => named(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        Ok(Box::new(self.connector.connect(name, stream).await?))
    }
}

/// `host` as a name to verify.
fn named(host: &str) -> Result<ServerName<'static>, TransportError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TransportError::Name(host.to_owned()))
}

/// A connection to the first address of `host` that takes one.
pub(super) async fn dial(host: &str, port: u16, security: Option<&Security>) -> io::Result<Box<dyn Duplex>> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            match security {
                None => Ok(Box::new(stream) as Box<dyn Duplex>),
                Some(security) => security.secure(host, stream).await,
            }
        };
        match connecting.await {
            Ok(connection) => return Ok(connection),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}
