//! The load: clients that ask, each in its own rhythm, check every byte of every answer, and write down what became of
//! each request.
//!
//! A client is one browser tab: one connection, one request at a time over HTTP/1, several over HTTP/2 and HTTP/3. A
//! connection that has ended is made anew for the next request; a request that was lost is never asked again, so that
//! every loss is seen. Each protocol is a [`Transport`].

pub(crate) mod ask;
pub(crate) mod fate;
mod h1;
mod h2;
pub(crate) mod h3;
mod line;
pub(crate) mod tunnels;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub(crate) use ask::{Ask, Kind};
pub(crate) use fate::{Fate, Loss};

/// A client's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What requests are made over.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Protocol {
    /// HTTP/1.1 over TLS.
    H1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/3.
    H3,
}

impl Protocol {
    /// All that the proxy speaks.
    pub(crate) const ALL: [Self; 3] = [Self::H1, Self::H2, Self::H3];

    /// As tables name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::H3 => "h3",
        }
    }

    /// Requests that a client has under way at once.
    const fn at_once(self) -> usize {
        match self {
            Self::H1 => 1,
            Self::H2 | Self::H3 => 4,
        }
    }
}

/// Where the proxies are, and how a client knows them.
#[derive(Clone)]
pub(crate) struct Target {
    /// Addresses; a client that cannot connect to one tries the next.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The authority that signed their certificates.
    pub(crate) roots: Arc<rustls::RootCertStore>,
}

/// How much is asked.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Clients for each protocol, and the protocols.
    pub(crate) clients: Vec<(Protocol, usize)>,
    /// Mean pause of a client between two requests of a stream.
    pub(crate) pause: Duration,
    /// What answers and uploads in pieces take.
    pub(crate) span: Duration,
    /// The only kind asked; the mix when `None`.
    pub(crate) only: Option<Kind>,
    /// Whether each request has a connection of its own.
    pub(crate) afresh: bool,
}

impl Default for Shape {
    /// Some hundred requests a second over every protocol.
    fn default() -> Self {
        Self {
            clients: vec![(Protocol::H1, 8), (Protocol::H2, 2), (Protocol::H3, 2)],
            pause: Duration::from_millis(40),
            span: Duration::from_millis(60),
            only: None,
            afresh: false,
        }
    }
}

/// An answer: status, who gave it, the proxy's reason code, the body.
pub(crate) struct Reply {
    status: StatusCode,
    replica: Option<String>,
    body: Bytes,
}

/// A connection to a proxy.
#[allow(async_fn_in_trait, reason = "nobody outside implements it")]
pub(crate) trait Transport: Sized + 'static {
    /// Connects to the first of the target's addresses that takes a connection.
    async fn connect(target: &Target) -> Result<Self, Loss>;

    /// Makes one request.
    async fn ask(&self, ask: &Ask) -> Result<Reply, Loss>;

    /// Whether another request can be made.
    fn is_open(&self) -> bool;
}

/// The connection of a client, shared by its streams.
struct Slot<T>(Rc<tokio::sync::Mutex<Option<Rc<T>>>>);

impl<T: Transport> Slot<T> {
    /// The connection; a new one if there is none that can be used.
    async fn connection(&self, target: &Target, afresh: bool) -> Result<Rc<T>, Loss> {
        let mut slot = self.0.lock().await;
        if let Some(open) = slot.as_ref().filter(|open| !afresh && open.is_open()) {
            return Ok(Rc::clone(open));
        }
        let fresh = Rc::new(T::connect(target).await?);
        *slot = Some(Rc::clone(&fresh));
        Ok(fresh)
    }
}

/// The certificate that a new connection is shown; empty when there is no connection.
pub(crate) async fn certificate_of(target: &Target) -> Vec<u8> {
    let Ok(line) = line::dial(target, b"http/1.1").await else { return Vec::new() };
    let chain = line.get_ref().1.peer_certificates().unwrap_or_default();
    chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default()
}

/// A running load.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
    ledger: Arc<Ledger>,
}

/// What became of all requests so far.
#[derive(Default)]
struct Ledger(Mutex<Vec<Fate>>);

impl Ledger {
    fn note(&self, fate: Fate) {
        self.0.lock().expect("no panic").push(fate);
    }

    fn read<T>(&self, read: impl FnOnce(&[Fate]) -> T) -> T {
        read(&self.0.lock().expect("no panic"))
    }
}

impl Load {
    /// Starts to ask.
    pub(crate) fn start(target: &Target, shape: &Shape) -> Self {
        let (stop, stopped) = watch::channel(false);
        let ledger = Arc::new(Ledger::default());
        let mut clients = JoinSet::new();
        for (protocol, count) in &shape.clients {
            for _ in 0..*count {
                let client = Client {
                    protocol: *protocol,
                    target: target.clone(),
                    shape: shape.clone(),
                    ledger: Arc::clone(&ledger),
                    stopped: stopped.clone(),
                };
                match protocol {
                    Protocol::H1 => client.spawn::<h1::H1>(&mut clients),
                    Protocol::H2 => client.spawn::<h2::H2>(&mut clients),
                    Protocol::H3 => client.spawn::<h3::H3>(&mut clients),
                }
            }
        }
        Self { stop, clients, ledger }
    }

    /// Requests so far, and how many of them were lost.
    pub(crate) fn so_far(&self) -> (usize, usize) {
        self.ledger.read(|fates| (fates.len(), fates.iter().filter(|fate| fate.result.is_err()).count()))
    }

    /// Waits until `replica` has answered a request that began after `since`; how long that took.
    pub(crate) async fn served_by(&self, replica: &str, since: Instant) -> Option<Duration> {
        let answered = |fates: &[Fate]| {
            let by = |fate: &&Fate| fate.began >= since && fate.result.as_deref() == Ok(replica);
            fates.iter().rev().filter(by).map(|fate| fate.ended).min()
        };
        let deadline = Instant::now() + Duration::from_secs(90);
        while Instant::now() < deadline {
            if let Some(at) = self.ledger.read(answered) {
                return Some(at - since);
            }
            sleep(Duration::from_millis(10)).await;
        }
        None
    }

    /// Lets every client finish what it has begun; returns everything.
    pub(crate) async fn finish(mut self) -> Vec<Fate> {
        self.stop.send_replace(true);
        while self.clients.join_next().await.is_some() {}
        self.ledger.read(<[Fate]>::to_vec)
    }
}

/// A client to be.
#[derive(Clone)]
struct Client {
    protocol: Protocol,
    target: Target,
    shape: Shape,
    ledger: Arc<Ledger>,
    stopped: watch::Receiver<bool>,
}

impl Client {
    fn spawn<T: Transport>(&self, clients: &mut JoinSet<()>) {
        let slot = Rc::new(tokio::sync::Mutex::new(None));
        for _ in 0..self.protocol.at_once() {
            clients.spawn_local(self.clone().browse::<T>(Slot(Rc::clone(&slot))));
        }
    }

    /// Asks until told to stop.
    async fn browse<T: Transport>(mut self, slot: Slot<T>) {
        loop {
            let pause = self.shape.pause.mul_f64(0.5 + fastrand::f64());
            tokio::select! {
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
                () = sleep(pause) => {}
            }
            let ask = Ask::new(self.shape.only.unwrap_or_else(Kind::any), self.shape.span);
            let began = Instant::now();
            let result = match timeout(PATIENCE, attempt(&ask, &slot, &self.target, self.shape.afresh)).await {
                Ok(result) => result,
                Err(_) => Err(Loss::Late),
            };
            let (id, kind, protocol) = (ask.id, ask.kind, self.protocol);
            self.ledger.note(Fate { id, kind, protocol, began, ended: Instant::now(), result });
        }
    }
}

/// Asks once and checks the answer.
async fn attempt<T: Transport>(ask: &Ask, slot: &Slot<T>, target: &Target, afresh: bool) -> Result<String, Loss> {
    let reply = slot.connection(target, afresh).await?.ask(ask).await?;
    if reply.status != StatusCode::OK {
        let text = String::from_utf8_lossy(&reply.body).chars().take(120).collect();
        return Err(Loss::Status(reply.status.as_u16(), text));
    }
    if !ask.is_answered_by(&reply.body) {
        return Err(Loss::Wrong);
    }
    Ok(reply.replica.unwrap_or_default())
}
