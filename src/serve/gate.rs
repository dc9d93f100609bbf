//! A listener as all workers share it: its settings of the moment and its counts.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ServerConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Listener;
use crate::head::HeaderValue;
use crate::lexicon::Protocol;
use crate::limit::{Clients, Permit, Share};
use crate::telemetry::metrics::ListenerMetrics;
use crate::tls;

use super::quic;

/// A listener. A reload changes its settings for connections to come; open ones keep theirs.
#[derive(Debug)]
pub struct Gate {
    /// Settings.
    pub listener: ArcSwap<Listener>,
    /// TLS settings, certificates included; empty on a plain listener.
    pub tls: ArcSwapOption<ServerConfig>,
    /// Settings of QUIC; empty where no HTTP/3 is spoken.
    pub quic: ArcSwapOption<quic::Settings>,
    /// The certificates in use and when they expire, as of their loading.
    pub certificates: ArcSwap<Vec<(PathBuf, SystemTime)>>,
    /// What it counts.
    pub metrics: Arc<ListenerMetrics>,
    /// Handshakes that may be under way at once.
    pub handshakes: Semaphore,
    /// Set once a UDP socket is bound.
    quic_keys: OnceLock<quic::Keys>,
    open: Arc<AtomicUsize>,
    /// Of those, by protocol once it is agreed on.
    speaking: [Arc<AtomicUsize>; 3],
    clients: Clients,
    streams: Clients,
}

/// A connection's place in everything that is counted; dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    _process: OwnedSemaphorePermit,
    _listener: Counted,
    /// Taken once the client is known: behind a PROXY header it is another than the peer.
    pub client: Option<Permit>,
}

/// One more, until dropped.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts one more, unless `most` are counted already.
    pub fn below(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |now: usize| (now < most).then(|| now.saturating_add(1));
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(Arc::clone(count)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// A gate; what each client has of connections and of streams is counted in `clients`.
    pub fn new(
        listener: Arc<Listener>,
        tls: Option<Arc<ServerConfig>>,
        metrics: Arc<ListenerMetrics>,
        [clients, streams]: [Clients; 2],
    ) -> Self {
        let handshakes = listener.tls.as_ref().map_or(0, |tls| tls.max_handshakes);
        let certificates =
            ArcSwap::from_pointee(listener.tls.as_ref().map(tls::server::certificates).unwrap_or_default());
        Self {
            listener: ArcSwap::from(listener),
            quic: ArcSwapOption::empty(),
            quic_keys: OnceLock::new(),
            certificates,
            tls: ArcSwapOption::from(tls),
            metrics,
            handshakes: Semaphore::new(handshakes),
            open: Arc::default(),
            speaking: Default::default(),
            clients,
            streams,
        }
    }

    /// Takes new settings, for connections to come.
    pub fn renew(&self, listener: Arc<Listener>, tls: Option<Arc<ServerConfig>>) {
        self.certificates.store(Arc::new(listener.tls.as_ref().map(tls::server::certificates).unwrap_or_default()));
        self.listener.store(listener);
        self.tls.store(tls);
        self.renew_quic();
    }

    /// Speaks HTTP/3 from now on, where the listener wants it: its UDP sockets are bound.
    pub fn open_quic(&self, keys: quic::Keys) {
        self.quic_keys.get_or_init(|| keys);
        self.renew_quic();
    }

    fn renew_quic(&self) {
        let (Some(keys), Some(tls)) = (self.quic_keys.get(), self.tls.load_full()) else { return };
        self.quic.store(quic::Settings::new(&self.listener.load(), &tls, keys).map(Arc::new));
    }

    /// What tells clients on `port` over TCP that HTTP/3 is spoken as well (RFC 7838 §3).
    pub fn alternative(&self, port: u16) -> Option<HeaderValue> {
        let listener = self.listener.load();
        let http3 = listener.http3.as_ref().filter(|_| self.quic.load().is_some())?;
        let (port, age) = (http3.advertised_port.unwrap_or(port), http3.advertise_for.as_secs());
        HeaderValue::try_from(format!("h3=\":{port}\"; ma={age}")).ok()
    }

    /// Whether so many handshakes are under way that a client must prove its address first.
    pub fn wants_proof(&self) -> bool {
        let listener = self.listener.load();
        let most = listener.tls.as_ref().map_or(0, |tls| tls.max_handshakes);
        let under_way = most.saturating_sub(self.handshakes.available_permits());
        listener.http3.as_ref().is_some_and(|http3| under_way >= http3.retry_above)
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Open connections that speak `protocol`.
    pub fn speaking(&self, protocol: Protocol) -> usize {
        self.spoken(protocol).load(Ordering::Relaxed)
    }

    /// Counts a connection as one that speaks `protocol`, until dropped.
    pub fn speaks(&self, protocol: Protocol) -> Counted {
        let count = self.spoken(protocol);
        count.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(count))
    }

    const fn spoken(&self, protocol: Protocol) -> &Arc<AtomicUsize> {
        let [http1, http2, http3] = &self.speaking;
        match protocol {
            Protocol::Http1 => http1,
            Protocol::Http2 => http2,
            Protocol::Http3 => http3,
        }
    }

    /// A place for one more connection; `None` when the listener is full.
    pub fn enter(&self, process: OwnedSemaphorePermit) -> Option<Place> {
        let listener = Counted::below(&self.open, self.listener.load().max_connections)?;
        Some(Place { _process: process, _listener: listener, client: None })
    }

    /// A place for one more connection of the client at `address`; `None` when it has as many as it may.
    pub fn admit(&self, address: std::net::IpAddr) -> Option<Permit> {
        self.clients.admit(address, self.listener.load().max_connections_per_client)
    }

    /// What a connection of the client at `address` will have of the streams that the client may have.
    pub fn streams(&self, address: std::net::IpAddr) -> Share {
        self.streams.share(address)
    }
}
