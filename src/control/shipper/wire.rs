//! Bytes to a receiver and back: TCP, with TLS where that is wanted.
//!
//! Floor 5. For receivers that are not spoken to in HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
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

/// A connection to the first address of `host` that takes one, within `patience`.
pub(super) async fn dial(
    host: &str,
    port: u16,
    security: Option<&Security>,
    patience: Duration,
) -> io::Result<Box<dyn Duplex>> {
    let until = Instant::now() + patience;
    let addresses = timeout(patience, lookup_host((host, port))).await.map_err(|_| late("no address", patience))??;
    try_each(&addresses.collect::<Vec<_>>(), host, security, until).await
}

/// Each address has its share of the time that is left: one that is dead leaves some for the others.
async fn try_each(
    addresses: &[SocketAddr],
    host: &str,
    security: Option<&Security>,
    until: Instant,
) -> io::Result<Box<dyn Duplex>> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let share = until.saturating_duration_since(Instant::now()) / left;
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            match security {
                None => Ok(Box::new(stream) as Box<dyn Duplex>),
                Some(security) => security.secure(host, stream).await,
            }
        };
        match timeout(share, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(failed)) => error = failed,
            Err(_) => error = late("no connection", share),
        }
    }
    Err(error)
}

fn late(what: &str, within: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {within:?}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_that_is_dead_leaves_time_for_the_next_one() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // One connection may wait to be accepted; the kernel lets the packets of others vanish.
        let dead = socket.listen(0).unwrap();
        let _waiting = TcpStream::connect(dead.local_addr().unwrap()).await.unwrap();
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [dead.local_addr().unwrap(), alive.local_addr().unwrap()];

        let until = Instant::now() + Duration::from_millis(600);
        let connected = timeout(Duration::from_millis(600), try_each(&addresses, "localhost", None, until)).await;

        assert!(connected.is_ok_and(|connected| connected.is_ok()));
        alive.accept().await.unwrap();
    }
}
