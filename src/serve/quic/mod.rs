//! QUIC for clients (RFC 9000, RFC 9001), on quinn: sockets, handshakes, connections.
//!
//! Floor 6. In: a worker's UDP sockets. Out: established connections for [`super::h3`], which sees them through
//! [`seam`] alone. Every worker has sockets of its own on the listener's address; connection ids carry the worker, the
//! kernel steers by them, and what it brings to the wrong worker all the same is handed over in process. Nothing outside this module names quinn.
//!
//! Bounds. quinn never sends more than three times what an unproven address has sent (RFC 9000 §8.1); from
//! `http3.retry_above` handshakes on, a client must prove its address first (Retry); connections to be wait in a queue
//! of `http3.max_incoming` for one of `tls.max_handshakes` turns. The caps on connections are those of TCP, and a client
//! counts once its address is proven: nobody can use up another's share.
//!
//! Deliberately absent: 0-RTT, whose requests can be replayed; datagrams; the PROXY protocol, which has no form for
//! QUIC; versions other than 1.

mod gather;
mod ids;
mod keys;
mod runtime;
pub mod seam;
mod session;
mod settings;
mod socket;
mod steering;
mod streams;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::ConnectionError;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::socket::{Letter, Post, Socket};
use self::steering::Steering;
use self::streams::Quinn;
use super::gate::{Gate, Place};
use super::h3;
use crate::h3::Code;
use crate::lexicon::{ConnectionId, Protocol};
use crate::lifecycle::Life;
use crate::message::{Connection, Handler};
use crate::telemetry::events;
use crate::telemetry::metrics::{ConnectionRefusal, HandshakeFailure};
use crate::turn::Turns;

pub use self::keys::{Keys, NoKeys};
pub use self::settings::Settings;

/// A worker's bound socket on one address of a listener.
pub struct Bound {
    gate: Arc<Gate>,
    socket: UdpSocket,
    post: (Post, mpsc::Receiver<Letter>),
    keys: Keys,
    steering: Steering,
}

/// Who brings the datagrams of a client that moved to the worker that has its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Steered {
    /// The kernel, or there is one worker and nothing to choose.
    ByKernel,
    /// The worker that they came to.
    InProcess,
}

impl Steered {
    /// As in events and on the status page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ByKernel => "kernel",
            Self::InProcess => "process",
        }
    }
}

impl Bound {
    /// The sockets of all workers on one address, in the order of the workers, which is that of their binding.
    pub fn all(gate: &Arc<Gate>, sockets: Vec<UdpSocket>, keys: &Keys) -> Vec<Self> {
        let steering = keys.mixer.over(sockets.len().try_into().unwrap_or(u32::MAX));
        let (post, letters) = Post::new(sockets.len());
        let one = |(socket, letters)| Self {
            gate: Arc::clone(gate),
            socket,
            post: (post.clone(), letters),
            keys: keys.clone(),
            steering,
        };
        sockets.into_iter().zip(letters).map(one).collect()
    }

    /// Has the kernel steer between all that [`Self::all`] made of one address.
    ///
    /// # Errors
    /// When the kernel does not take the filter. Everything works without.
    pub fn steer(bound: &[Self]) -> io::Result<()> {
        match bound {
            [first, _, ..] => Ok(first.steering.attach(&first.socket)?),
            [_] | [] => Ok(()),
        }
    }

    /// Begins to receive, as worker number `worker`. Within the worker's runtime.
    ///
    /// # Errors
    /// When the system refuses a socket option, or the listener speaks no HTTP/3.
    pub(super) fn open(self, worker: usize) -> io::Result<Endpoint> {
        let Self { gate, socket, post, keys, steering } = self;
        let settings = gate.quic.load_full().ok_or(io::ErrorKind::Unsupported)?;
        let number = u8::try_from(worker).map_err(|_| io::ErrorKind::InvalidInput)?;
        let socket = Socket::new(socket, worker, (Arc::clone(&keys.ids), steering), post, Arc::clone(&gate.metrics))?;
        let socket = Arc::new(socket);
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            settings::endpoint(&keys, steering, number),
            // Of these only the token key and the bounds on queues are used; each connection gets the settings of its day.
            Some((*settings.0).clone()),
            Arc::clone(&socket) as _,
            Arc::new(runtime::Runtime::new(socket)),
        )?;
        Ok(Endpoint { address: endpoint.local_addr()?, endpoint, gate })
    }
}

/// A socket that receives.
#[derive(Clone)]
pub(super) struct Endpoint {
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    pub(super) gate: Arc<Gate>,
}

/// A client that says hello.
pub(super) struct Arrival {
    incoming: quinn::Incoming,
    local: SocketAddr,
}

impl Endpoint {
    /// The next client; `None` when the socket is dead. Those that must prove their address come back once they have.
    pub(super) async fn next(&self) -> Option<Arrival> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let local = SocketAddr::new(incoming.local_ip().unwrap_or_else(|| self.address.ip()), self.address.port());
            if incoming.remote_address_validated() || !self.gate.wants_proof() {
                return Some(Arrival { incoming, local });
            }
            self.gate.metrics.quic.address_doubted();
            if let Err(error) = incoming.retry() {
                return Some(Arrival { incoming: error.into_incoming(), local });
            }
        }
    }

    /// Cuts what is open and tells the clients, as far as `patience` goes.
    pub(super) async fn end(self, patience: Duration) {
        self.endpoint.close(streams::wire(Code::NoError), b"the process ends");
        drop(timeout(patience, self.endpoint.wait_idle()).await);
    }
}

impl Arrival {
    /// The client's address, proven or not.
    pub(super) fn peer(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Turns the client away (CONNECTION_REFUSED).
    pub(super) fn refuse(self) {
        self.incoming.refuse();
    }
}

/// Serves a connection from its hello to its end.
pub(super) async fn serve<H: Handler>(arrival: Arrival, gate: Arc<Gate>, mut place: Place, handler: H, life: Life) {
    let id = ConnectionId::next();
    let listener = gate.listener.load_full();
    let (peer, local) = (arrival.peer(), arrival.local);
    let full = || events::connection_refused(&gate.metrics, &listener.name, peer, ConnectionRefusal::ClientFull);
    if arrival.incoming.remote_address_validated() {
        place.client = gate.admit(peer.ip());
        if place.client.is_none() {
            full();
            return arrival.refuse();
        }
    }
    let (Some(settings), Some(tls)) = (gate.quic.load_full(), &listener.tls) else { return arrival.refuse() };
    let shaken = timeout(tls.handshake_timeout, async {
        // Never closed.
        let _turn = gate.handshakes.acquire().await;
        arrival.incoming.accept_with(Arc::clone(&settings.0))?.await
    });
    let failed = |cause, error| events::handshake_failed(&gate.metrics, &listener.name, id, cause, error);
    let established = match shaken.await {
        Err(_) => return failed(HandshakeFailure::Timeout, None),
        Ok(Err(error)) => return failed(cause(&error), Some(&error)),
        Ok(Ok(connection)) => connection,
    };
    let Some(facts) = session::facts(&established) else { return failed(HandshakeFailure::Other, None) };
    gate.metrics.handshake(facts.version, facts.resumed);
    if place.client.is_none() {
        place.client = gate.admit(peer.ip());
    }
    if place.client.is_none() {
        full();
        return established.close(streams::wire(Code::ExcessiveLoad), b"too many connections");
    }
    let _speaks = gate.speaks(Protocol::Http3);
    let connection = Arc::new(Connection {
        id,
        listener: Arc::clone(&listener),
        // The address that the client began with: what identifies it does not change when it moves.
        peer,
        local,
        proxied: None,
        protocol: Protocol::Http3,
        tls: Some(facts),
        alternative: None,
    });
    let streams = gate.streams(peer.ip());
    let serving = Turns(Box::pin(h3::serve(Quinn::new(established), connection, handler, life, streams)));
    if let Some(offence) = serving.await {
        events::http3_offence(&gate.metrics, &listener.name, id, offence.code.as_str(), offence.what);
    }
}

/// Why a handshake failed.
fn cause(error: &ConnectionError) -> HandshakeFailure {
    /// Alerts of RFC 8446 §6.2 as errors of a connection (RFC 9001 §4.8).
    const fn alert(code: u64) -> Option<u64> {
        if code >> 8 == 1 { Some(code & 0xff) } else { None }
    }
    match error {
        ConnectionError::TimedOut => HandshakeFailure::Timeout,
        ConnectionError::TransportError(error) => match alert(error.code.into()) {
            // handshake_failure, protocol_version, insufficient_security, missing_extension, no_application_protocol
            Some(40 | 70 | 71 | 109 | 120) => HandshakeFailure::NothingInCommon,
            // bad_certificate to unknown_ca, certificate_required
            Some(42..=46 | 48 | 116) => HandshakeFailure::ClientCertificate,
            Some(_) => HandshakeFailure::NotTls,
            None => HandshakeFailure::Other,
        },
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code.into()) {
            Some(_) => HandshakeFailure::Alert,
            None => HandshakeFailure::Gone,
        },
        ConnectionError::ApplicationClosed(_) | ConnectionError::Reset => HandshakeFailure::Gone,
        ConnectionError::VersionMismatch | ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            HandshakeFailure::Other
        }
    }
}
