//! Connecting to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::lexicon::Clock;
use crate::net::io::{Socket, UpstreamIo, expect_life};

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

/// Duration of an opening from which a packet of it was lost: TCP sends it again after a second (RFC 6298 §2).
const LOSSY: Duration = Duration::from_millis(900);

/// How often another connection is wished for then, and how soon it must be there.
const TRIES: u32 = 2;
const PROMPT: Duration = Duration::from_millis(300);

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// Any exchange.
    Any,
    /// One that nobody may ask for again.
    Unrepeatable,
}

/// Until when something must be there, and whose clock says so.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// The moment.
    pub at: Instant,
    /// Its clock.
    pub clock: Clock,
}

/// Opens a connection to the first of `addresses` that accepts one, TLS included.
///
/// # Errors
/// [`Failure::Unresolved`], [`Failure::Connect`], [`Failure::Tls`], [`Failure::Late`]: nothing was sent in any case.
pub async fn connect(
    addresses: &[SocketAddr],
    host: &str,
    security: Option<&Security>,
    unacknowledged: Duration,
    until: Until,
    opening: Opening,
) -> Result<Link, Failure> {
    let prompt_by = (opening == Opening::Unrepeatable).then_some(until.at);
    match timeout_at(until.at, establish(addresses, host, security, unacknowledged, prompt_by)).await {
        Ok(done) => done,
        Err(_) => Err(Failure::Late(until.clock)),
    }
}

async fn establish(
    addresses: &[SocketAddr],
    host: &str,
    security: Option<&Security>,
    unacknowledged: Duration,
    prompt_by: Option<Instant>,
) -> Result<Link, Failure> {
    let mut failure = Failure::Unresolved;
    for address in addresses {
        let since = Instant::now();
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                // The handshake of TLS goes over it first, and mends what is said below.
                let tcp = match prompt_by.filter(|_| security.is_none() && since.elapsed() >= LOSSY) {
                    Some(until) => without_loss(tcp, *address, until).await,
                    None => tcp,
                };
                expect_life(&tcp, unacknowledged);
                return secure(tcp, host, security).await.map(Link::new);
            }
            Err(error) => failure = Failure::Connect(error),
        }
    }
    Err(failure)
}

/// Another connection in place of `slow`, which lost a packet when it was opened, if there is one at once.
///
/// Such a connection waits 3 s before it sends again what nobody has acknowledged (RFC 6298 §5.7). An endpoint that gives
/// a connection 2 s for its first request, as Gunicorn does, has closed it by then, and whoever lost a second packet has lost
/// a request that may not be asked again.
async fn without_loss(slow: TcpStream, address: SocketAddr, until: Instant) -> TcpStream {
    for _ in 0..TRIES {
        if Instant::now() + PROMPT >= until {
            break;
        }
        if let Ok(Ok(prompt)) = timeout(PROMPT, TcpStream::connect(address)).await {
            return prompt;
        }
    }
    slow
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
    let stream = connector.connect(name, Socket::of(tcp)).await.map_err(Failure::Tls)?;
    Ok(UpstreamIo::Tls(Box::new(stream)))
}
