//! One data-plane thread: its sockets, its connections, its runtime.
//!
//! A worker accepts on sockets of its own, TCP and UDP. Long-lived HTTP/2 connections and tunnels can land unevenly all the same: a
//! worker that carries clearly more than a sibling hands the next socket over. Accepting ends when the drain begins,
//! after everything that the kernel had already taken in; the thread ends when its last connection has, or when the
//! process ends.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::TcpStream;
use tokio::runtime::RuntimeMetrics;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::lifecycle::{Life, Phase};
use crate::message::Handler;
use crate::telemetry::events;
use crate::telemetry::metrics::{self, ConnectionRefusal};

use super::gate::{Gate, Place};
use super::{quic, tcp};

/// Sockets that may wait to be taken over by a worker.
const DOOR: usize = 64;

/// How long clients of QUIC are told of the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// First and longest pause after the system refused to accept.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    /// Connections that the process may have; beyond it new ones wait in the kernel.
    pub connections: Arc<Semaphore>,
    /// The workers, by index.
    pub siblings: Arc<[Sibling]>,
    /// The phase of the process.
    pub life: Life,
    /// Threads for blocking work, per worker.
    pub blocking_threads: usize,
}

/// What a worker receives on.
#[derive(Default)]
pub struct Sockets {
    /// Listening, with their listeners.
    pub tcp: Vec<(Arc<Gate>, TcpListener)>,
    /// For HTTP/3.
    pub quic: Vec<quic::Bound>,
}

/// A worker as the others see it.
#[derive(Debug)]
pub struct Sibling {
    open: AtomicUsize,
    door: mpsc::Sender<Accepted>,
    /// What its runtime counts, once it runs.
    runtime: OnceLock<RuntimeMetrics>,
}

/// The end of a worker's door that it keeps for itself.
pub struct Door(mpsc::Receiver<Accepted>);

/// A connection before anything was read of it.
#[derive(Debug)]
struct Accepted {
    tcp: std::net::TcpStream,
    peer: SocketAddr,
    gate: Arc<Gate>,
    place: Place,
}

impl Sibling {
    /// A worker as the others will see it, and its own end.
    pub fn new() -> (Self, Door) {
        let (door, opens) = mpsc::channel(DOOR);
        (Self { open: AtomicUsize::new(0), door, runtime: OnceLock::new() }, Door(opens))
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How long it was not idle since its start, and how many tasks it has. Costs the worker nothing: its runtime counts
    /// when it comes to rest, in any case.
    pub fn load(&self) -> (Duration, usize) {
        self.runtime
            .get()
            .map_or_else(Default::default, |runtime| (runtime.worker_total_busy_duration(0), runtime.num_alive_tasks()))
    }
}

/// Starts worker `index` on `sockets`. `make` makes its handler, in its thread.
///
/// # Errors
/// When the system gives no thread or no runtime.
pub fn start<H: Handler>(
    index: usize,
    sockets: Sockets,
    door: Door,
    shared: Shared,
    make: impl FnOnce() -> H + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(shared.blocking_threads.max(1))
        .build()?;
    if let Some(own) = shared.siblings.get(index) {
        // Only ever set here.
        drop(own.runtime.set(runtime.metrics()));
    }
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        metrics::set_worker(index);
        let worker = Worker { index, shared, emptied: Arc::new(Notify::new()) };
        runtime.block_on(async { worker.run(sockets, door, make()).await });
        // What is still open is cut with the runtime; its records are told while it is dropped.
        runtime.shutdown_background();
    })
}

#[derive(Clone)]
struct Worker {
    index: usize,
    shared: Shared,
    /// Told when the last connection has ended.
    emptied: Arc<Notify>,
}

impl Worker {
    async fn run<H: Handler>(self, sockets: Sockets, door: Door, handler: H) {
        let mut endpoints = Vec::new();
        for bound in sockets.quic {
            // The kernel has refused a socket option: it knows no UDP as we need it, and TCP serves on.
            let Ok(endpoint) = bound.open(self.index) else { continue };
            let (worker, ours, handler) = (self.clone(), endpoint.clone(), handler.clone());
            tokio::spawn(async move { worker.welcome(&ours, &handler).await });
            endpoints.push(endpoint);
        }
        self.serve(sockets.tcp, door, handler).await;
        futures_util::future::join_all(endpoints.into_iter().map(|endpoint| endpoint.end(FAREWELL))).await;
    }

    async fn serve<H: Handler>(&self, sockets: Vec<(Arc<Gate>, TcpListener)>, mut door: Door, handler: H) {
        let mut accepting = Vec::new();
        for (gate, socket) in sockets {
            let (worker, handler) = (self.clone(), handler.clone());
            accepting.push(tokio::spawn(async move { worker.accept(&gate, socket, &handler).await }));
        }
        let mut life = self.shared.life.clone();
        let mut draining = self.shared.life.clone();
        let mut accepted = false;
        loop {
            tokio::select! {
                () = life.reached(Phase::Ending) => return,
                Some(handed) = door.0.recv() => self.take(handed, &handler),
                () = draining.reached(Phase::Draining), if !accepted => {
                    for socket in accepting.drain(..) {
                        // Accept loops end by themselves now.
                        drop(socket.await);
                    }
                    // A sibling that still hands over gets its socket back; what waits already is taken over below.
                    door.0.close();
                    accepted = true;
                }
                () = self.emptied.notified() => {}
            }
            if accepted && self.open() == 0 && door.0.is_empty() {
                return;
            }
        }
    }

    /// Takes clients of QUIC, to the end: while the process drains they are turned away.
    async fn welcome<H: Handler>(&self, endpoint: &quic::Endpoint, handler: &H) {
        let gate = &endpoint.gate;
        while let Some(arrival) = endpoint.next().await {
            gate.metrics.accepted();
            let place = match Arc::clone(&self.shared.connections).try_acquire_owned() {
                _ if self.shared.life.phase() >= Phase::Draining => Err(ConnectionRefusal::Draining),
                // UDP has no queue in the kernel that they could wait in.
                Err(_) => Err(ConnectionRefusal::ListenerFull),
                Ok(process) => gate.enter(process).ok_or(ConnectionRefusal::ListenerFull),
            };
            match place {
                Ok(place) => {
                    let open = Open::new(self.clone());
                    let (gate, handler, life) = (Arc::clone(gate), handler.clone(), self.shared.life.clone());
                    tokio::spawn(async move {
                        quic::serve(arrival, gate, place, handler, life).await;
                        drop(open);
                    });
                }
                Err(cause) => {
                    events::connection_refused(&gate.metrics, &gate.listener.load().name, arrival.peer(), cause);
                    arrival.refuse();
                }
            }
        }
    }

    async fn accept<H: Handler>(&self, gate: &Arc<Gate>, socket: TcpListener, handler: &H) {
        let Ok(socket) = tokio::net::TcpListener::from_std(socket) else { return };
        let mut life = self.shared.life.clone();
        let mut pause = PAUSES.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = life.reached(Phase::Draining) => break,
                accepted = self.next(&socket) => accepted,
            };
            match accepted {
                Ok((tcp, peer, process)) => {
                    pause = PAUSES.0;
                    self.admit(tcp, peer, process, gate, handler);
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    events::accept_backed_off(&gate.metrics, &gate.listener.load().name, pause, &error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
        // What the kernel has completed would be reset with the socket.
        while let Some(Ok((tcp, peer, process))) = self.next(&socket).now_or_never() {
            self.admit(tcp, peer, process, gate, handler);
        }
    }

    async fn next(
        &self,
        socket: &tokio::net::TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let (tcp, peer) = socket.accept().await?;
        // In this order: a loop that waits for clients must not sit on a place that another one needs. At the cap each
        // loop has one connection waiting here, the others wait in the kernel.
        let connections = Arc::clone(&self.shared.connections);
        let process = connections.acquire_owned().await.map_err(|_| io::ErrorKind::Interrupted)?;
        Ok((tcp, peer, process))
    }

    fn admit<H: Handler>(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        process: tokio::sync::OwnedSemaphorePermit,
        gate: &Arc<Gate>,
        handler: &H,
    ) {
        gate.metrics.accepted();
        let Some(place) = gate.enter(process) else {
            let name = &gate.listener.load().name;
            events::connection_refused(&gate.metrics, name, peer, ConnectionRefusal::ListenerFull);
            return;
        };
        match self.less_loaded() {
            None => self.spawn(tcp, peer, Arc::clone(gate), place, handler),
            Some(sibling) => {
                let Ok(tcp) = tcp.into_std() else { return };
                let handed = Accepted { tcp, peer, gate: Arc::clone(gate), place };
                match sibling.door.try_send(handed) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => {
                        self.take(back, handler);
                    }
                }
            }
        }
    }

    /// The sibling that carries least, if we carry clearly more.
    fn less_loaded(&self) -> Option<&Sibling> {
        let own = self.open();
        let least = self.shared.siblings.iter().min_by_key(|sibling| sibling.open())?;
        let other = least.open();
        (own > other.saturating_add(8).saturating_add(other / 4)).then_some(least)
    }

    fn take<H: Handler>(&self, accepted: Accepted, handler: &H) {
        let Accepted { tcp, peer, gate, place } = accepted;
        if let Ok(tcp) = TcpStream::from_std(tcp) {
            self.spawn(tcp, peer, gate, place, handler);
        }
    }

    fn spawn<H: Handler>(&self, tcp: TcpStream, peer: SocketAddr, gate: Arc<Gate>, place: Place, handler: &H) {
        let open = Open::new(self.clone());
        let (handler, life) = (handler.clone(), self.shared.life.clone());
        tokio::spawn(tcp::serve(tcp::Arrival { tcp, peer, gate, place }, handler, life, open));
    }

    fn own(&self) -> Option<&Sibling> {
        self.shared.siblings.get(self.index)
    }

    fn open(&self) -> usize {
        self.own().map_or(0, Sibling::open)
    }
}

/// Counts a connection of a worker until dropped.
struct Open(Worker);

impl Open {
    fn new(worker: Worker) -> Self {
        if let Some(own) = worker.own() {
            own.open.fetch_add(1, Ordering::Relaxed);
        }
        Self(worker)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(own) = self.0.own()
            && own.open.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.0.emptied.notify_one();
        }
    }
}

/// Errors of the connection that was to be accepted; the next one may be fine at once.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
