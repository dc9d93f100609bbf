//! A listener's sockets, all of them, before anything runs: whatever is wrong with an address is known then.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use crate::config::Listener;
use crate::lexicon::ListenerName;
use crate::net::bind::{bind, bind_udp};
use crate::serve::gate::Gate;
use crate::serve::quic::{self, Steered};
use crate::telemetry::events;

use super::Error;
use super::status::Seen;

/// A listener with its bound sockets.
pub(super) struct Bound {
    pub(super) gate: Arc<Gate>,
    name: ListenerName,
    tls: bool,
    addresses: Vec<SocketAddr>,
    /// For each worker one socket per address; taken when the workers start.
    pub(super) sockets: Vec<Vec<TcpListener>>,
    /// The same for UDP.
    pub(super) quic: Vec<Vec<quic::Bound>>,
    steered: Steered,
}

/// Attempts to find a port that is free for TCP and UDP, when the system is to choose it.
const BOTH_FREE: usize = 16;

impl Bound {
    pub(super) fn new(gate: Arc<Gate>, listener: &Listener, workers: usize, keys: &quic::Keys) -> Result<Self, Error> {
        let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        let mut quic: Vec<Vec<quic::Bound>> = (0..workers).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        let mut steered = Steered::ByKernel;
        for address in &listener.addresses {
            let (bound, udp) = Self::bind(*address, listener, workers)?;
            addresses.push(bound.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(*address));
            for (of_worker, socket) in sockets.iter_mut().zip(bound) {
                of_worker.push(socket);
            }
            let udp = quic::Bound::all(&gate, udp, keys);
            if !Self::steer(&udp, listener, *address) {
                steered = Steered::InProcess;
            }
            for (of_worker, socket) in quic.iter_mut().zip(udp) {
                of_worker.push(socket);
            }
        }
        if listener.http3.is_some() {
            gate.open_quic(keys.clone());
        }
        Ok(Self { gate, name: listener.name.clone(), tls: listener.tls.is_some(), addresses, sockets, quic, steered })
    }

    /// Whether the kernel steers between `sockets`, as far as there is anything to steer.
    fn steer(sockets: &[quic::Bound], listener: &Listener, address: SocketAddr) -> bool {
        if listener.http3.as_ref().is_some_and(|http3| !http3.kernel_steering) {
            return false;
        }
        let steers = quic::Bound::steer(sockets);
        if let Err(error) = &steers {
            events::steering_refused(&listener.name, address, error);
        }
        steers.is_ok()
    }

    /// Says what is bound.
    pub(super) fn tell(&self) {
        for address in &self.addresses {
            events::listener_bound(&self.name, *address, self.tls);
            if self.gate.quic.load().is_some() {
                events::quic_bound(&self.name, *address, self.steered.as_str());
            }
        }
    }

    /// Sockets for each worker on one address, TCP and, for HTTP/3, UDP on the same port.
    fn bind(
        address: SocketAddr,
        listener: &Listener,
        workers: usize,
    ) -> Result<(Vec<TcpListener>, Vec<UdpSocket>), Error> {
        let mut left = if address.port() == 0 { BOTH_FREE } else { 1 };
        loop {
            let tcp = bind(address, workers).map_err(|source| Error::Bind { address, source })?;
            let Some(http3) = &listener.http3 else { return Ok((tcp, Vec::new())) };
            let at = tcp.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(address);
            left -= 1;
            match bind_udp(at, workers, http3.socket_buffer) {
                Ok((udp, granted)) => {
                    if granted < http3.socket_buffer {
                        events::socket_buffer_capped(&listener.name, http3.socket_buffer, granted);
                    }
                    return Ok((tcp, udp));
                }
                Err(_) if left > 0 => {}
                Err(source) => return Err(Error::BindUdp { address: at, source }),
            }
        }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            gate: Arc::clone(&self.gate),
            steered: self.steered,
        }
    }
}
