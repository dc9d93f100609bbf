//! Scripted endpoints.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::peer::{Peer, Request};
use super::soon;

/// An endpoint on a port of its own; ends with the test.
pub(crate) struct Upstream {
    /// Its address.
    pub(crate) address: SocketAddr,
    seen: Arc<watch::Sender<Vec<Request>>>,
    connections: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

/// Holds scripts until the test lets them pass, one at a time.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets `count` pass.
    pub(crate) fn let_pass(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// Waits to be let pass.
    pub(crate) async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

impl Upstream {
    /// An endpoint that plays `script` on each connection.
    pub(crate) async fn playing<F, P>(script: F) -> Self
    where
        F: Fn(Peer, Seen) -> P + Send + Sync + 'static,
        P: Future<Output = ()> + Send + 'static,
    {
        Self::playing_at("127.0.0.1:0", script).await.unwrap()
    }

    /// The same at an address of one's choice.
    pub(crate) async fn playing_at<F, P>(address: &str, script: F) -> std::io::Result<Self>
    where
        F: Fn(Peer, Seen) -> P + Send + Sync + 'static,
        P: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(watch::Sender::new(Vec::new()));
        let (count, connections) = watch::channel(0);
        let tell = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            let mut scripts = tokio::task::JoinSet::new();
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                count.send_replace(number + 1);
                drop(stream.set_nodelay(true));
                scripts.spawn(script(Peer::new(stream, number), Seen(Arc::clone(&tell))));
            }
        });
        Ok(Self { address, seen, connections, accepting })
    }

    /// An endpoint that answers each request with the bytes that `answer` makes of it.
    pub(crate) async fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::answering_at("127.0.0.1:0", answer).await.unwrap()
    }

    /// The same at an address of one's choice.
    pub(crate) async fn answering_at(
        address: &str,
        answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let answer = Arc::new(answer);
        Self::playing_at(address, move |peer, seen| answer_all(peer, seen, Arc::clone(&answer))).await
    }

    /// An endpoint that answers 200 with its name in `X-Name` and as its body.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::answering(move |_| named(name)).await
    }

    /// Likewise, at an address of one's choice.
    pub(crate) async fn named_at(address: &str, name: &'static str) -> std::io::Result<Self> {
        Self::answering_at(address, move |_| named(name)).await
    }

    /// An endpoint that answers as [`Upstream::named`] does, each time once `gate` lets it.
    pub(crate) async fn held(name: &'static str, gate: &Gate) -> Self {
        Self::held_at("127.0.0.1:0", name, gate).await.unwrap()
    }

    /// Likewise, at an address of one's choice.
    pub(crate) async fn held_at(address: &str, name: &'static str, gate: &Gate) -> std::io::Result<Self> {
        let gate = gate.clone();
        Self::playing_at(address, move |mut peer, seen| {
            let gate = gate.clone();
            async move {
                while let Some(request) = peer.request().await {
                    seen.note(request);
                    gate.pass().await;
                    if peer.try_send(named(name)).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// An address where nobody listens.
    pub(crate) async fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.borrow().clone()
    }

    /// Waits for `count` requests.
    pub(crate) async fn received(&self, count: usize) -> Vec<Request> {
        let mut seen = self.seen.subscribe();
        let waited = seen.wait_for(|seen| seen.len() >= count);
        soon(&format!("{count} requests at the endpoint"), waited).await.unwrap().clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // With it go the scripts of its connections.
        self.accepting.abort();
    }
}

/// Where scripts note what they received.
#[derive(Clone)]
pub(crate) struct Seen(Arc<watch::Sender<Vec<Request>>>);

impl Seen {
    /// Notes a request.
    pub(crate) fn note(&self, request: Request) {
        self.0.send_modify(|seen| seen.push(request));
    }
}

async fn answer_all(mut peer: Peer, seen: Seen, answer: Arc<impl Fn(&Request) -> Vec<u8>>) {
    while let Some(request) = peer.request().await {
        let bytes = answer(&request);
        seen.note(request);
        if peer.try_send(bytes).await.is_err() {
            return;
        }
    }
}

/// 200 with `name` in `X-Name` and as the body.
pub(crate) fn named(name: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nX-Name: {name}\r\nContent-Length: {}\r\n\r\n{name}", name.len()).into_bytes()
}
