//! From an accepted socket to a request: PROXY header, TLS, protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::Listener;
use crate::lexicon::{ConnectionId, Fingerprint, Protocol};
use crate::lifecycle::Life;
use crate::message::{Connection, Handler, TlsFacts};
use crate::net::io::{ClientIo, Socket};
use crate::net::proxy_protocol;
use crate::telemetry::events;
use crate::telemetry::metrics::{ConnectionRefusal, HandshakeFailure};
use crate::tls;
use crate::turn::Turns;
use crate::waf::hello::{self, Look};

use super::gate::{Gate, Place};
use super::{h1, h2};

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection of which nothing was read.
pub struct Arrival {
    /// Its socket.
    pub tcp: TcpStream,
    /// Its other end.
    pub peer: SocketAddr,
    /// Where it came in.
    pub gate: Arc<Gate>,
    /// What it is counted in.
    pub place: Place,
}

/// Serves a connection to its end; drops `held` then.
pub fn serve<H: Handler>(
    arrival: Arrival,
    handler: H,
    life: Life,
    held: impl Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    // Taken apart out here, and one thing after the other in a box: a connection at rest takes the room of its present
    // part alone, and not of the largest.
    let Arrival { tcp, peer, gate, mut place } = arrival;
    async move {
        if let Some((io, connection)) = Box::pin(greet(tcp, peer, &gate, &mut place)).await {
            let speaks = gate.speaks(connection.protocol);
            match connection.protocol {
                Protocol::Http1 => Turns(Box::pin(h1::serve(io, connection, handler, life))).await,
                // ALPN over TCP never says `h3`.
                Protocol::Http2 | Protocol::Http3 => {
                    let streams = gate.streams(connection.client());
                    Turns(Box::pin(h2::serve(io, connection, handler, life, streams))).await;
                }
            }
            drop(speaks);
        }
        drop((place, held));
    }
}

/// Everything before the first request: who it is, TLS, and what is spoken. `None` when there will be none.
async fn greet(
    tcp: TcpStream,
    peer: SocketAddr,
    gate: &Gate,
    place: &mut Place,
) -> Option<(ClientIo, Arc<Connection>)> {
    let id = ConnectionId::next();
    let listener = gate.listener.load_full();
    let local = tcp.local_addr().ok()?;
    let mut socket = Socket::new(tcp);
    let Ok(proxied) = proxy_header(&mut socket, peer, &listener).await else {
        events::connection_refused(&gate.metrics, &listener.name, peer, ConnectionRefusal::ProxyHeader);
        return None;
    };
    place.client = gate.admit(proxied.unwrap_or(peer).ip());
    if place.client.is_none() {
        events::connection_refused(&gate.metrics, &listener.name, peer, ConnectionRefusal::ClientFull);
        return None;
    }
    let (io, facts) = match secure(socket, gate, &listener).await {
        Ok(secured) => secured,
        Err((cause, error)) => {
            let error = error.as_ref().map(|error| error as &(dyn std::error::Error + 'static));
            events::handshake_failed(&gate.metrics, &listener.name, id, cause, error);
            return None;
        }
    };
    let (io, protocol) = protocol(io, &listener).await.ok()?;
    let alternative = facts.as_ref().and_then(|_| gate.alternative(local.port()));
    Some((io, Arc::new(Connection { id, listener, peer, local, proxied, protocol, tls: facts, alternative })))
}

/// Reads the header that a trusted proxy begins with; whom it names.
async fn proxy_header(socket: &mut Socket, peer: SocketAddr, listener: &Listener) -> io::Result<Option<SocketAddr>> {
    let address = peer.ip().to_canonical();
    if !listener.proxy_protocol.iter().any(|network| network.contains(&address)) {
        return Ok(None);
    }
    match timeout(listener.clocks.head, proxy_protocol::read(socket)).await {
        Ok(read) => read,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn secure(
    mut socket: Socket,
    gate: &Gate,
    listener: &Listener,
) -> Result<(ClientIo, Option<TlsFacts>), (HandshakeFailure, Option<io::Error>)> {
    let (Some(config), Some(settings)) = (gate.tls.load_full(), &listener.tls) else {
        return Ok((ClientIo::Plain(socket), None));
    };
    let mut fingerprint = None;
    let shaken = timeout(settings.handshake_timeout, async {
        fingerprint = read_fingerprint(&mut socket).await?;
        // Never closed.
        let _turn = gate.handshakes.acquire().await;
        TlsAcceptor::from(config).accept(socket).await
    });
    match shaken.await {
        Err(_) => Err((HandshakeFailure::Timeout, None)),
        Ok(Err(error)) => Err((tls::server::cause(&error), Some(error))),
        Ok(Ok(stream)) => {
            let mut facts = tls::server::facts(stream.get_ref().1);
            facts.fingerprint = fingerprint;
            gate.metrics.handshake(facts.version, facts.resumed);
            Ok((ClientIo::Tls(Box::new(stream)), Some(facts)))
        }
    }
}

/// What the client's first message looks like. Its bytes are read once more by the TLS library: one copy of some two
/// kilobytes for a connection that costs two signatures.
async fn read_fingerprint(socket: &mut Socket) -> io::Result<Option<Fingerprint>> {
    let mut first = BytesMut::with_capacity(2 * 1024);
    let found = loop {
        if socket.read_buf(&mut first).await? == 0 {
            break None;
        }
        match hello::look(&first) {
            Look::More => first.reserve(1024),
            Look::Nothing => break None,
            Look::Found(fingerprint) => break Some(fingerprint),
        }
    };
    socket.unread(first.freeze());
    Ok(found)
}

/// ALPN decides under TLS (RFC 9113 §3.2); without it HTTP/2 is known by its preface, where that is allowed.
async fn protocol(io: ClientIo, listener: &Listener) -> io::Result<(ClientIo, Protocol)> {
    match io {
        ClientIo::Tls(stream) => {
            let protocol =
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
            Ok((ClientIo::Tls(stream), protocol))
        }
        ClientIo::Plain(socket) if !listener.http2.cleartext => Ok((ClientIo::Plain(socket), Protocol::Http1)),
        ClientIo::Plain(mut socket) => {
            let mut first = BytesMut::with_capacity(PREFACE.len());
            let sniffed = timeout(listener.clocks.head, async {
                while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
                    if socket.read_buf(&mut first).await? == 0 {
                        break;
                    }
                }
                Ok::<_, io::Error>(())
            });
            sniffed.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            let protocol = if first.starts_with(PREFACE) { Protocol::Http2 } else { Protocol::Http1 };
            socket.unread(first.freeze());
            Ok((ClientIo::Plain(socket), protocol))
        }
    }
}
