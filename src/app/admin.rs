//! The operators' listener, on the control runtime: a TCP socket, and a Unix socket where one is wanted.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::admin::changes::SHORTEST_TOKEN;
use crate::admin::{Access, Admin, Caller};
use crate::config::{self, Listener};
use crate::control::supervisor::{Policy, Stop, Supervisor};
use crate::lexicon::{ConnectionId, Protocol};
use crate::lifecycle::Life;
use crate::message::Connection;
use crate::net::bind::{self, Local};
use crate::net::io::ClientIo;
use crate::serve::h1;
use crate::telemetry::events;

use super::Error;

/// Connections of operators and scrapers at once, on each of the two sockets; more wait.
const CONNECTIONS: usize = 64;

/// A bound admin listener.
pub(super) struct Socket {
    pub(super) address: SocketAddr,
    socket: TcpListener,
    local: Option<Local>,
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
    Ok(Socket { address, socket, local })
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
        _ => Ok(Access { hosts: wanted.hosts.clone(), token }),
    }
}

/// Serves it. It answers until the very end: a drain is what operators want to look at.
pub(super) fn start(supervisor: &mut Supervisor, bound: &Socket, admin: &Admin, life: &Life) -> Result<(), Error> {
    let failed = |source| Error::System { what: "admin listener", source };
    let door = Door {
        settings: Arc::new(Listener::internal("admin", bound.address)),
        admin: admin.clone(),
        life: life.clone(),
        room: Arc::new(Semaphore::new(CONNECTIONS)),
    };
    let (socket, network) = (Arc::new(bound.socket.try_clone().map_err(failed)?), door.clone());
    supervisor.start("admin", Policy::Restart, move |stop| accept(Arc::clone(&socket), network.clone(), stop));
    if let Some(local) = &bound.local {
        let socket = Arc::new(local.socket.try_clone().map_err(failed)?);
        let door = Door { room: Arc::new(Semaphore::new(CONNECTIONS)), ..door };
        supervisor
            .start("admin socket", Policy::Restart, move |stop| accept_local(Arc::clone(&socket), door.clone(), stop));
        events::admin_socket_bound(local.path());
    }
    Ok(())
}

/// Takes a sample for the dashboard each second, and shows it to those who look.
pub(super) async fn look(admin: Admin, mut stop: Stop) {
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
    admin: Admin,
    life: Life,
    room: Arc<Semaphore>,
}

impl Door {
    fn connection(&self, peer: SocketAddr, local: SocketAddr) -> Arc<Connection> {
        Arc::new(Connection {
            id: ConnectionId::next(),
            listener: Arc::clone(&self.settings),
            peer,
            local,
            proxied: None,
            protocol: Protocol::Http1,
            tls: None,
            alternative: None,
        })
    }
}

async fn accept(socket: Arc<TcpListener>, door: Door, mut stop: Stop) {
    let Ok(socket) = socket.try_clone().and_then(tokio::net::TcpListener::from_std) else { return };
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&door.room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.stopped() => return,
            accepted = socket.accept() => accepted,
        };
        let Ok((tcp, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(local) = tcp.local_addr() else { continue };
        let (connection, admin, life) = (door.connection(peer, local), door.admin.clone(), door.life.clone());
        tokio::spawn(async move {
            h1::serve(ClientIo::plain(tcp), connection, admin, life).await;
            drop(permit);
        });
    }
}

async fn accept_local(socket: Arc<std::os::unix::net::UnixListener>, door: Door, mut stop: Stop) {
    let Ok(socket) = socket.try_clone().and_then(tokio::net::UnixListener::from_std) else { return };
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&door.room).acquire_owned().await else { return };
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
        let (connection, life) = (door.connection(nowhere, nowhere), door.life.clone());
        let admin = door.admin.for_caller(caller);
        tokio::spawn(async move {
            h1::serve(stream, connection, admin, life).await;
            drop(permit);
        });
    }
}

fn caller(stream: &UnixStream) -> Option<Caller> {
    let peer = stream.peer_cred().ok()?;
    Some(Caller::Socket { uid: peer.uid(), pid: peer.pid() })
}
