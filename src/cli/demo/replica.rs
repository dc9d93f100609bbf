//! The life of one embedded endpoint: a thread with a runtime, a listener on loopback, and deaths on request.
//!
//! A killed replica closes its listener and cuts every connection, as a crashed process does, and comes back on the same
//! port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::pages::Pages;
use super::session::Keys;
use super::superset::Replica;
use crate::config::Listener;
use crate::lexicon::{ConnectionId, Protocol};
use crate::lifecycle::{Life, Phase};
use crate::message::Connection;
use crate::net::io::ClientIo;
use crate::serve::h1;

/// What the answer to the kill itself needs to get out.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Pause after a failed accept.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Connections that a listener may hold in the kernel, not yet accepted.
const BACKLOG: u32 = 256;

/// A running replica.
#[derive(Debug)]
pub(super) struct Running {
    pub address: SocketAddr,
    name: &'static str,
    served: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// What the board shows of a replica.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub name: &'static str,
    pub address: SocketAddr,
    /// Requests taken, checks included.
    pub served: Arc<AtomicU64>,
}

/// Starts a replica on a free loopback port. It ends when `life` is [`Phase::Ending`].
///
/// # Errors
/// When there is no port, no thread or no runtime.
pub(super) fn start(
    name: &'static str,
    settings: Arc<Listener>,
    keys: Arc<Keys>,
    pages: Arc<Pages>,
    life: Life,
) -> io::Result<Running> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _within = runtime.enter();
        bind(SocketAddr::from(([127, 0, 0, 1], 0)))?
    };
    let address = listener.local_addr()?;
    let (kill, killed) = watch::channel((0, Duration::ZERO));
    let replica = Replica::new(name, keys, pages, kill);
    let served = replica.served();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut end = life.clone();
        let stage = Stage { replica, address, settings, life };
        runtime.block_on(async {
            tokio::select! {
                () = end.reached(Phase::Ending) => {}
                () = stage.live(listener, killed) => {}
            }
        });
    })?;
    Ok(Running { address, name, served, thread })
}

impl Running {
    /// What the board shows of it.
    pub(super) fn part(&self) -> Part {
        Part { name: self.name, address: self.address, served: Arc::clone(&self.served) }
    }

    /// Waits for the thread to end.
    pub(super) fn join(self) {
        // A replica that panicked has ended, which is all that is asked here.
        drop(self.thread.join());
    }
}

/// What a replica needs for each of its lives.
struct Stage {
    replica: Replica,
    address: SocketAddr,
    settings: Arc<Listener>,
    life: Life,
}

impl Stage {
    /// Serves, dies, comes back.
    async fn live(&self, listener: TcpListener, mut killed: watch::Receiver<(u64, Duration)>) {
        let mut listener = listener;
        loop {
            tokio::select! {
                () = self.serve(listener) => {}
                () = told_to_die(&mut killed) => {}
            }
            let absence = killed.borrow_and_update().1;
            tracing::info!(endpoint = %self.address, seconds = absence.as_secs(), "demo endpoint is gone");
            sleep(absence).await;
            listener = loop {
                match bind(self.address) {
                    Ok(listener) => break listener,
                    // Somebody took the port meanwhile; it may be given back.
                    Err(_) => sleep(BACK_OFF).await,
                }
            };
            tracing::info!(endpoint = %self.address, "demo endpoint is back");
        }
    }

    /// Serves connections; those that are open are cut when this is dropped.
    async fn serve(&self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let connection = self.connection(peer);
                        let io = ClientIo::plain(stream);
                        connections.spawn(h1::serve(io, connection, self.replica.clone(), self.life.clone()));
                    }
                    Err(_) => sleep(BACK_OFF).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn connection(&self, peer: SocketAddr) -> Arc<Connection> {
        Arc::new(Connection {
            id: ConnectionId::next(),
            listener: Arc::clone(&self.settings),
            peer,
            local: self.address,
            proxied: None,
            protocol: Protocol::Http1,
            tls: None,
            alternative: None,
        })
    }
}

/// Resolves a moment after the kill was asked for.
async fn told_to_die(killed: &mut watch::Receiver<(u64, Duration)>) {
    // The handler that holds the other end lives as long as this replica.
    drop(killed.changed().await);
    sleep(LAST_WORDS).await;
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // The port is ours again although connections of the last life linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::lifecycle::Lifecycle;

    async fn ask(address: SocketAddr, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("{request} HTTP/1.1\r\nHost: demo\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn killed_replica_refuses_connections_and_comes_back_on_its_port() {
        let lifecycle = Lifecycle::new();
        let keys = Arc::new(Keys::generate().unwrap());
        let settings = super::super::replica_settings().unwrap();
        let running = start("replica-1", settings, keys, Arc::new(Pages::new()), lifecycle.life()).unwrap();
        assert!(ask(running.address, "GET /health").await.unwrap().ends_with("\r\n\r\nOK"));
        let mut idle = TcpStream::connect(running.address).await.unwrap();

        let killed = ask(running.address, "POST /demo/kill?seconds=1").await.unwrap();

        assert!(killed.contains("\"killed\":\"replica-1\""), "{killed}");
        // The open connection is cut with it.
        assert!(matches!(idle.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        assert_eq!(TcpStream::connect(running.address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let back = async { while ask(running.address, "GET /health").await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(10), back).await.unwrap();

        lifecycle.advance(Phase::Ending);
        running.join();
    }
}
