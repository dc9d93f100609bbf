//! `http3` of a listener as written.

use super::super::listener::{Congestion, Http3};
use super::key::{Entry, Key, May, Or, Section, Table, section};
use super::kinds::{Bytes, Choice, DAY, Flag, KIB, Lasting, MIB, SECOND, Whole, bytes, choice, lasting, whole};
use super::sheet::Words;

section! {
    /// HTTP/3 on a listener with TLS: QUIC on UDP at the same addresses. Certificates, session tickets, limits, timeouts
    /// and caps are those of TCP. The PROXY protocol has no form for QUIC: behind a load balancer that speaks it, switch
    /// HTTP/3 off or let UDP through with the client's address.
    pub(super) HTTP3: Http3Keys {
        /// Port that `Alt-Svc` names on answers over TCP, if it differs from the bound one (port mapping).
        advertised_port: Whole<u16> = whole(1, 65_535), May("the bound port");
        /// How long clients may remember that there is HTTP/3 (`ma` of `Alt-Svc`).
        advertise_for: Lasting = lasting(SECOND, 365 * DAY), Or("'1d'");
        /// Concurrent requests per connection; RFC 9114 §6.1 wants a hundred at least. An idle connection pays for them, too:
        /// some 80 bytes each.
        max_streams: Whole<u32> = whole(1, 10_000), Or("100");
        /// Receive window per stream.
        stream_window: Bytes<u32> = bytes(16 * KIB, 16 * MIB), Or("'256KiB'");
        /// Receive window per connection.
        connection_window: Bytes<u32> = bytes(64 * KIB, 64 * MIB), Or("'1MiB'");
        /// Response bytes per connection that wait to be sent, or to be acknowledged: what bounds a client's rate over a
        /// long path, at 2 MiB 160 Mbit/s over 100 ms.
        send_buffer: Bytes<u64> = bytes(64 * KIB, 256 * MIB), Or("'2MiB'");
        /// Malformed requests per connection; beyond it H3_EXCESSIVE_LOAD. Of requests that the client resets before
        /// they are answered so many are always allowed, and as many as were answered; beyond it GOAWAY, and beyond four
        /// times as many H3_EXCESSIVE_LOAD.
        max_error_resets: Whole<usize> = whole(1, 100_000), Or("256");
        /// Largest frame of unknown type, which is skipped; beyond it H3_EXCESSIVE_LOAD.
        max_unknown: Bytes<u64> = bytes(0, MIB), Or("'16KiB'");
        /// Connections that wait for their handshake, per worker and address; beyond it new ones are refused.
        max_incoming: Whole<usize> = whole(1, 65_536), Or("4_096");
        /// Handshakes under way (`tls.max_handshakes` bounds them) from which on a client must prove its address first, by
        /// Retry (RFC 9000 §8.1.2); 0 asks everybody.
        retry_above: Whole<usize> = whole(0, 1_000_000), Or("256");
        /// Congestion control. Cubic (RFC 9438) is what TCP beside it does; NewReno is its plainer forebear; BBR measures
        /// instead of waiting for loss and is experimental.
        congestion: Choice<Congestion> = choice(&[
            ("cubic", Congestion::Cubic),
            ("new_reno", Congestion::NewReno),
            ("bbr", Congestion::Bbr),
        ]), Or("'cubic'");
        /// Largest UDP payload that path discovery tries (RFC 8899): what fits Ethernet under IPv6. 1200, which every path
        /// carries, tries none.
        max_mtu: Whole<u16> = whole(1_200, 65_527), Or("1_452");
        /// Whether the kernel cuts what is sent into datagrams (GSO). Switch it off for network drivers that fail at it.
        /// What the kernel has joined on the way in (GRO) is taken so in any case.
        offload: Flag = Flag, Or("true");
        /// Whether a filter in the kernel brings the datagrams of a client whose address changed to the worker that has its
        /// connection. Without it, and where the kernel refuses it, workers hand such datagrams over among themselves.
        /// Needs a restart.
        kernel_steering: Flag = Flag, Or("true");
        /// Kernel buffers of each UDP socket, each way: at 2 MiB a worker may be late by 17 ms at 1 Gbit/s. As far as
        /// `net.core.rmem_max` and `wmem_max` allow. Needs a restart.
        socket_buffer: Bytes<usize> = bytes(64 * KIB, 256 * MIB), Or("'2MiB'");
    }
}

/// What `http3` means.
pub(super) fn http3(table: &Table<'_>) -> Option<Http3> {
    let advertised_port = table.get(&HTTP3.advertised_port);
    let advertise_for = table.get(&HTTP3.advertise_for);
    let max_streams = table.get(&HTTP3.max_streams);
    let stream_window = table.get(&HTTP3.stream_window);
    let connection_window = table.get(&HTTP3.connection_window);
    let send_buffer = table.get(&HTTP3.send_buffer);
    let max_error_resets = table.get(&HTTP3.max_error_resets);
    let max_unknown = table.get(&HTTP3.max_unknown);
    let max_incoming = table.get(&HTTP3.max_incoming);
    let retry_above = table.get(&HTTP3.retry_above);
    let congestion = table.get(&HTTP3.congestion);
    let max_mtu = table.get(&HTTP3.max_mtu);
    let offload = table.get(&HTTP3.offload);
    let kernel_steering = table.get(&HTTP3.kernel_steering);
    let socket_buffer = table.get(&HTTP3.socket_buffer);
    if stream_window.zip(connection_window).is_some_and(|(stream, connection)| stream > connection) {
        let words = Words::new("can never be used: the connection's window is smaller");
        table.warn(&HTTP3.stream_window, words.expected("at most `connection_window`"));
    }
    Some(Http3 {
        advertised_port: advertised_port?,
        advertise_for: advertise_for?,
        max_streams: max_streams?,
        stream_window: stream_window?,
        connection_window: connection_window?,
        send_buffer: send_buffer?,
        max_error_resets: max_error_resets?,
        max_unknown: max_unknown?,
        max_incoming: max_incoming?,
        retry_above: retry_above?,
        congestion: congestion?,
        max_mtu: max_mtu?,
        offload: offload?,
        kernel_steering: kernel_steering?,
        socket_buffer: socket_buffer?,
    })
}
