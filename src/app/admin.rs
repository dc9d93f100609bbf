//! The operators' listener, on the control runtime: a TCP socket, and a Unix socket where one is wanted.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::admin::changes::SHORTEST_TOKEN;
use crate::admin::{Access, Admin, Caller};
use crate::config::{self, Listener};
use crate::control::supervisor::{Policy, Stop, Supervisor};
use crate::lexicon::{ConnectionId, Protocol};
use crate::lifecycle::Life;
use crate::message::{Connection, TlsFacts};
use crate::net::bind::{self, Local};
use crate::net::io::{ClientIo, Socket as ClientSocket};
use crate::serve::h1;
use crate::telemetry::events;
use crate::telemetry::metrics::{AdminMetrics, Place, Places};
use crate::tls::{self, Tickets};

use super::Error;

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// TLS at the address, as of the last reload; empty where it is plain.
pub(super) type Security = Arc<ArcSwapOption<ServerConfig>>;

/// A bound admin listener.
pub(super) struct Socket {
    pub(super) address: SocketAddr,
    socket: TcpListener,
    local: Option<Local>,
    max_connections: usize,
}

/// Binds address and path.
pub(super) fn bind(wanted: &config::Admin) -> Result<Socket, Error> {
    let failed = |source| Error::Bind { address: wanted.address, source };
    let socket = bind::bind(wanted.address, 1).map_err(failed)?.into_iter().next();
    let socket = socket.ok_or(Error::Task("admin listener"))?;
    let address = socket.local_addr().map_err(failed)?;
    let bind_local = |wanted: &config::process::AdminSocket| {
        bind::bind_local(&wanted.path, wanted.mode)
            .map_err(|source| Error::BindPath { path: wanted.path.clone(), source })
    };
    let local = wanted.socket.as_ref().map(bind_local).transpose()?;
    Ok(Socket { address, socket, local, max_connections: wanted.max_connections })
}

/// Who may change things, the token read.
pub(super) fn access(wanted: Option<&config::Admin>) -> Result<Access, Error> {
    let Some(wanted) = wanted else { return Ok(Access::default()) };
    let what = "admin token";
    let token = wanted.token.as_ref().map(config::SecretSource::read).transpose();
    let token = token.map_err(|source| Error::Secret { what, source })?;
    // RFC 6750 §2.1: what is no visible text cannot be sent.
    let fits = |token: &config::Secret| {
        token.expose().len() >= SHORTEST_TOKEN && token.expose().iter().all(u8::is_ascii_graphic)
    };
    match &token {
        Some(token) if !fits(token) => Err(Error::Token { least: SHORTEST_TOKEN }),
        _ => Ok(Access {
            hosts: wanted.hosts.clone(),
            token,
            guard_reads: wanted.guard_reads,
            max_streams: wanted.max_streams,
        }),
    }
}

/// TLS as wanted, its files read.
pub(super) fn security(wanted: Option<&config::Admin>, tickets: &Tickets) -> Result<Option<Arc<ServerConfig>>, Error> {
    let wanted = wanted.and_then(|admin| admin.tls.as_ref());
    wanted.map(|wanted| tls::server::load(wanted, false, tickets)).transpose().map_err(Error::Tls)
}

/// Serves it. It answers until the very end: a drain is what operators want to look at.
pub(super) fn start(
    supervisor: &mut Supervisor,
    bound: &Socket,
    security: &Security,
    admin: &Admin,
    metrics: &AdminMetrics,
    life: &Life,
) -> Result<(), Error> {
    let dashboard = admin.clone();
    supervisor.start("dashboard", Policy::Restart, move |stop| look(dashboard.clone(), stop));
    let failed = |source| Error::System { what: "admin listener", source };
    let door = Door {
        settings: Arc::new(Listener::internal("admin", bound.address)),
        security: Arc::clone(security),
        admin: admin.clone(),
        life: life.clone(),
        room: Room::new(&metrics.address, bound.max_connections),
    };
    let (socket, network) = (Arc::new(bound.socket.try_clone().map_err(failed)?), door.clone());
    supervisor.start("admin", Policy::Restart, move |stop| accept(Arc::clone(&socket), network.clone(), stop));
    if let Some(local) = &bound.local {
        let socket = Arc::new(local.socket.try_clone().map_err(failed)?);
        let door = Door { room: Room::new(&metrics.socket, bound.max_connections), ..door };
        supervisor
            .start("admin socket", Policy::Restart, move |stop| accept_local(Arc::clone(&socket), door.clone(), stop));
        events::admin_socket_bound(local.path());
    }
    Ok(())
}

/// Takes a sample for the dashboard each second, and shows it to those who look.
async fn look(admin: Admin, mut stop: Stop) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    // What a busy machine missed is missed: two samples in one moment would show a rate that never was.
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            _ = seconds.tick() => admin.look(SystemTime::now()),
        }
    }
}

/// What a connection of an operator is given.
#[derive(Clone)]
struct Door {
    settings: Arc<Listener>,
    security: Security,
    admin: Admin,
    life: Life,
    room: Arc<Room>,
}

/// Room for connections.
struct Room {
    places: Arc<Places>,
    freed: Notify,
}

impl Room {
    fn new(places: &Arc<Places>, most: usize) -> Arc<Self> {
        places.bound(most);
        Arc::new(Self { places: Arc::clone(places), freed: Notify::new() })
    }

    /// A seat, as soon as there is one. Waits for one connection at a time.
    async fn seat(self: &Arc<Self>) -> Seat {
        let seat = |place| Seat { place: Some(place), room: Arc::clone(self) };
        if let Some(place) = self.places.take() {
            return seat(place);
        }
        self.places.note_full();
        loop {
            self.freed.notified().await;
            if let Some(place) = self.places.take() {
                return seat(place);
            }
        }
    }
}

/// A connection's place; whoever waits is told when it is given back.
struct Seat {
    place: Option<Place>,
    room: Arc<Room>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.place.take());
        self.room.freed.notify_one();
    }
}

impl Door {
    /// Serves a connection from the network.
    async fn serve(self, tcp: TcpStream, peer: SocketAddr) {
        let Ok(local) = tcp.local_addr() else { return };
        let Some(config) = self.security.load_full() else {
            return h1::serve(ClientIo::plain(tcp), self.connection(peer, local, None), self.admin, self.life).await;
        };
        let shaken = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(ClientSocket::new(tcp))).await;
        // Whoever cannot say hello hears nothing; the alert has told why.
        let Ok(Ok(stream)) = shaken else { return };
        let facts = tls::server::facts(stream.get_ref().1);
        let admin = match &facts.client_subject {
            Some(subject) => self.admin.for_caller(Caller::Certificate { subject: subject.clone() }),
            None => self.admin.clone(),
        };
        let connection = self.connection(peer, local, Some(facts));
        h1::serve(ClientIo::Tls(Box::new(stream)), connection, admin, self.life).await;
    }

    fn connection(&self, peer: SocketAddr, local: SocketAddr, tls: Option<TlsFacts>) -> Arc<Connection> {
        Arc::new(Connection {
            id: ConnectionId::next(),
            listener: Arc::clone(&self.settings),
            peer,
            local,
            proxied: None,
            protocol: Protocol::Http1,
            tls,
            alternative: None,
        })
    }
}

async fn accept(socket: Arc<TcpListener>, door: Door, mut stop: Stop) {
    let Ok(socket) = socket.try_clone().and_then(tokio::net::TcpListener::from_std) else { return };
    loop {
        let accepted = tokio::select! {
            () = stop.stopped() => return,
            accepted = socket.accept() => accepted,
        };
        let Ok((tcp, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let seat = tokio::select! {
            () = stop.stopped() => return,
            seat = door.room.seat() => seat,
        };
        let door = door.clone();
        tokio::spawn(async move {
            door.serve(tcp, peer).await;
            drop(seat);
        });
    }
}

async fn accept_local(socket: Arc<std::os::unix::net::UnixListener>, door: Door, mut stop: Stop) {
    let Ok(socket) = socket.try_clone().and_then(tokio::net::UnixListener::from_std) else { return };
    loop {
        let accepted = tokio::select! {
            () = stop.stopped() => return,
            accepted = socket.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Somebody whom the system does not name is nobody to take orders from.
        let Some(caller) = caller(&stream) else { continue };
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let (connection, life) = (door.connection(nowhere, nowhere, None), door.life.clone());
        let seat = tokio::select! {
            () = stop.stopped() => return,
            seat = door.room.seat() => seat,
        };
        let admin = door.admin.for_caller(caller);
        tokio::spawn(async move {
            h1::serve(stream, connection, admin, life).await;
            drop(seat);
        });
    }
}

fn caller(stream: &UnixStream) -> Option<Caller> {
    let peer = stream.peer_cred().ok()?;
    Some(Caller::Socket { uid: peer.uid(), pid: peer.pid() })
}
