//! The operators' listener, on the control runtime.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::admin::Admin;
use crate::config::{self, Listener};
use crate::control::supervisor::{Policy, Stop, Supervisor};
use crate::lexicon::{ConnectionId, Protocol};
use crate::lifecycle::Life;
use crate::message::Connection;
use crate::net::bind;
use crate::net::io::ClientIo;
use crate::serve::h1;

use super::Error;

/// Connections of operators and scrapers at once; more wait.
const CONNECTIONS: usize = 64;

/// A bound admin listener.
pub(super) struct Socket {
    pub(super) address: SocketAddr,
    socket: TcpListener,
}

/// Binds the address.
pub(super) fn bind(wanted: &config::Admin) -> Result<Socket, Error> {
    let failed = |source| Error::Bind { address: wanted.address, source };
    let socket = bind::bind(wanted.address, 1).map_err(failed)?.into_iter().next();
    let socket = socket.ok_or(Error::Task("admin listener"))?;
    let address = socket.local_addr().map_err(failed)?;
    Ok(Socket { address, socket })
}

/// Serves it. It answers until the very end: a drain is what operators want to look at.
pub(super) fn start(supervisor: &mut Supervisor, bound: &Socket, admin: Admin, life: Life) -> Result<(), Error> {
    let failed = |source| Error::System { what: "admin listener", source };
    let socket = Arc::new(bound.socket.try_clone().map_err(failed)?);
    let settings = Arc::new(Listener::internal("admin", bound.address));
    supervisor.start("admin", Policy::Restart, move |stop| {
        accept(Arc::clone(&socket), Arc::clone(&settings), admin.clone(), life.clone(), stop)
    });
    Ok(())
}

async fn accept(socket: Arc<TcpListener>, settings: Arc<Listener>, admin: Admin, life: Life, mut stop: Stop) {
    let Ok(socket) = socket.try_clone().and_then(tokio::net::TcpListener::from_std) else { return };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.stopped() => return,
            accepted = socket.accept() => accepted,
        };
        let Ok((tcp, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(local) = tcp.local_addr() else { continue };
        let connection = Arc::new(Connection {
            id: ConnectionId::next(),
            listener: Arc::clone(&settings),
            peer,
            local,
            proxied: None,
            protocol: Protocol::Http1,
            tls: None,
            alternative: None,
        });
        let (admin, life) = (admin.clone(), life.clone());
        tokio::spawn(async move {
            h1::serve(ClientIo::plain(tcp), connection, admin, life).await;
            drop(permit);
        });
    }
}
