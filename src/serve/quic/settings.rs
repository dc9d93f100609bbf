//! quinn's settings from those of a listener.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt};

use super::ids::Ids;
use super::keys::Keys;
use super::session::{Security, VERSION};
use super::steering::Steering;
use crate::config::Listener;
use crate::config::listener::{Congestion, Http3};
use crate::tls;

/// Streams that a client may have open one way. RFC 9114 §6.2 wants three at least, and greases with more.
const ONE_WAY: u32 = 8;

/// Bytes of a connection to be that wait for its turn: a hello with a key of the next age fits, and another.
const EARLY_BYTES: u64 = 16 << 10;

/// UDP payload beyond which a datagram fits no Ethernet frame.
const LARGEST_PAYLOAD: u16 = 1472;

/// Settings for connections to come.
#[derive(Clone, Debug)]
pub struct Settings(pub(super) Arc<ServerConfig>);

impl Settings {
    /// The settings of `listener`, whose settings for TLS over TCP are `tls`; `None` when it speaks no HTTP/3.
    pub(in crate::serve) fn new(listener: &Listener, tls: &rustls::ServerConfig, keys: &Keys) -> Option<Self> {
        let http3 = listener.http3.as_ref()?;
        let security = Security::new(Arc::new(tls::server::over_quic(tls)))?;
        let mut config = ServerConfig::new(Arc::new(security), Arc::clone(&keys.token) as _);
        config
            .transport_config(Arc::new(transport(listener, http3)))
            .max_incoming(http3.max_incoming)
            .incoming_buffer_size(EARLY_BYTES)
            .incoming_buffer_size_total(EARLY_BYTES.saturating_mul(http3.max_incoming as u64 / 4 + 1));
        Some(Self(Arc::new(config)))
    }
}

fn transport(listener: &Listener, http3: &Http3) -> TransportConfig {
    let keep_alive = listener.clocks.keep_alive;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(http3.max_streams.into())
        .max_concurrent_uni_streams(ONE_WAY.into())
        .stream_receive_window(http3.stream_window.into())
        .receive_window(http3.connection_window.into())
        .send_window(http3.send_buffer)
        // Our own clock ends idle connections politely at `keep_alive`; this one finds those whose client is gone. One
        // PING in between keeps a client alive that waits for a long answer.
        .max_idle_timeout(Some(idle_timeout(keep_alive + Duration::from_secs(5))))
        .keep_alive_interval(Some(keep_alive / 3))
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(http3.offload)
        .mtu_discovery_config((http3.max_mtu > MIN_MTU).then(|| {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(http3.max_mtu);
            discovery
        }));
    transport.congestion_controller_factory(controller(http3.congestion));
    transport
}

fn controller(congestion: Congestion) -> Arc<dyn ControllerFactory + Send + Sync> {
    match congestion {
        Congestion::Cubic => Arc::new(CubicConfig::default()),
        Congestion::NewReno => Arc::new(NewRenoConfig::default()),
        Congestion::Bbr => Arc::new(BbrConfig::default()),
    }
}

/// RFC 9000 §14.1: every path carries this.
const MIN_MTU: u16 = 1200;

fn idle_timeout(after: Duration) -> IdleTimeout {
    // Never longer than an hour and some seconds.
    IdleTimeout::try_from(after).unwrap_or_else(|_| VarInt::from_u32(u32::MAX).into())
}

/// The settings of a worker's socket.
pub(super) fn endpoint(keys: &Keys, steering: Steering, worker: u8) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::clone(&keys.reset) as _);
    let ids = Arc::clone(&keys.ids);
    config
        .cid_generator(move || Box::new(Ids::new(Arc::clone(&ids), steering, worker)))
        .supported_versions(vec![VERSION]);
    let _in_range = config.max_udp_payload_size(LARGEST_PAYLOAD).is_ok();
    config
}

#[cfg(test)]
mod tests {
    use quinn::congestion::{Bbr, Cubic, NewReno};

    use super::*;

    #[test]
    fn each_name_makes_its_controller() {
        let made = |congestion| controller(congestion).build(std::time::Instant::now(), 1200).into_any();

        assert!(made(Congestion::Cubic).is::<Cubic>());
        assert!(made(Congestion::NewReno).is::<NewReno>());
        assert!(made(Congestion::Bbr).is::<Bbr>());
    }
}
