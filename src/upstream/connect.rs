//! Connecting to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::config::pool::UpstreamClocks;
use crate::lexicon::Clock;
use crate::net::io::{UpstreamIo, expect_life};

use super::error::Failure;
use super::link::Link;

/// TLS towards the endpoints of a pool.
#[derive(Clone, Debug)]
pub struct Security {
    /// Trust anchors and our certificate.
    pub config: Arc<rustls::ClientConfig>,
    /// Name to verify and to send; the endpoint's host when `None`.
    pub server_name: Option<ServerName<'static>>,
    number: u64,
}

impl Security {
    /// Settings, told apart from all others of this process.
    pub fn new(config: Arc<rustls::ClientConfig>, server_name: Option<ServerName<'static>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { config, server_name, number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// The number of these settings; never 0.
    pub const fn number(&self) -> u64 {
        self.number
    }
}

/// Opens a connection to the first of `addresses` that accepts one, TLS included, within `clocks.connect` and before the
/// end of the exchange.
///
/// # Errors
/// [`Failure::Unresolved`], [`Failure::Connect`], [`Failure::Tls`], [`Failure::Late`]: nothing was sent in any case.
pub async fn connect(
    addresses: &[SocketAddr],
    host: &str,
    security: Option<&Security>,
    clocks: &UpstreamClocks,
    end: Option<Instant>,
) -> Result<Link, Failure> {
    let late = Instant::now() + clocks.connect;
    let until = end.map_or(late, |end| end.min(late));
    match tokio::time::timeout_at(until, establish(addresses, host, security, clocks)).await {
        Ok(done) => done,
        Err(_) => Err(Failure::Late(if until < late { Clock::Exchange } else { Clock::Connect })),
    }
}

async fn establish(
    addresses: &[SocketAddr],
    host: &str,
    security: Option<&Security>,
    clocks: &UpstreamClocks,
) -> Result<Link, Failure> {
    let mut failure = Failure::Unresolved;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                expect_life(&tcp, clocks.unacknowledged);
                return secure(tcp, host, security).await.map(Link::new);
            }
            Err(error) => failure = Failure::Connect(error),
        }
    }
    Err(failure)
}

async fn secure(tcp: TcpStream, host: &str, security: Option<&Security>) -> Result<UpstreamIo, Failure> {
    // A socket that is already dead says so again at the first write.
    drop(tcp.set_nodelay(true));
    let Some(security) = security else {
        return Ok(UpstreamIo::Plain(tcp));
    };
    let name = match &security.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(host.to_owned())
            .map_err(|error| Failure::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?,
    };
    let connector = TlsConnector::from(Arc::clone(&security.config));
    let stream = connector.connect(name, tcp).await.map_err(Failure::Tls)?;
    Ok(UpstreamIo::Tls(Box::new(stream)))
}
