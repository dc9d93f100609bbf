//! `[[listeners]]`: bound addresses and everything about the client's side of a connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::lexicon::ListenerName;

/// One listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique name. Default: the first address as text.
    pub name: ListenerName,
    /// Bound addresses; IPv6 ones never cover IPv4. Port 0 picks a free port. Needs restart.
    pub addresses: Vec<SocketAddr>,
    /// TLS; `None` serves plain HTTP.
    pub tls: Option<Tls>,
    /// Networks that must begin each connection with a PROXY protocol header (v1 or v2). Connections from elsewhere
    /// are plain. Empty: never read one.
    pub proxy_protocol: Vec<IpNet>,
    /// Open connections on this listener; beyond it new ones are refused at once and counted. Default 10,000.
    pub max_connections: usize,
    /// Open connections per client address (IPv6 by prefix). Default 1,000.
    pub max_connections_per_client: usize,
    /// Open tunnels per client address. Default 200.
    pub max_tunnels_per_client: usize,
    /// Open HTTP/2 and HTTP/3 streams per client address, over all its connections. Default 4,096.
    pub max_streams_per_client: usize,
    /// Streams that the clients at an address reset within a minute before they are answered, beyond those of the same
    /// connections that were answered. Default 1,000.
    pub max_resets_per_client: u32,
    /// Plain listeners: answer with a redirect to HTTPS.
    pub redirect_to_https: Option<RedirectToHttps>,
    /// `Strict-Transport-Security` on answers over TLS; `None` leaves Superset's own.
    pub hsts: Option<Hsts>,
    /// Limits on requests.
    pub limits: RequestLimits,
    /// Clocks on the client's side.
    pub clocks: ClientClocks,
    /// HTTP/2.
    pub http2: Http2,
    /// HTTP/3, on UDP at the same addresses; `None` on plain listeners and where it is switched off.
    pub http3: Option<Http3>,
    /// Age after which a connection is asked to end at its next answer, so that load spreads again. Default 1 h.
    pub max_connection_age: Duration,
}

impl Listener {
    /// A plain listener of the process's own, with the defaults of the configuration.
    pub fn internal(name: &str, address: SocketAddr) -> Self {
        Self {
            name: ListenerName::new(name),
            addresses: vec![address],
            tls: None,
            proxy_protocol: Vec::new(),
            max_connections: 64,
            max_connections_per_client: 64,
            max_tunnels_per_client: 0,
            max_streams_per_client: 64,
            max_resets_per_client: 64,
            redirect_to_https: None,
            hsts: None,
            limits: RequestLimits { head_bytes: 16 * 1024, uri_bytes: 4 * 1024, fields: 64, trailer_bytes: 1024 },
            clocks: ClientClocks {
                head: Duration::from_secs(10),
                body_idle: Duration::from_secs(10),
                write_idle: Duration::from_secs(10),
                keep_alive: Duration::from_secs(75),
                min_body_rate: 240,
                min_response_rate: 240,
            },
            http2: Http2 {
                enabled: false,
                cleartext: false,
                max_streams: 1,
                stream_window: 65_535,
                connection_window: 65_535,
                send_buffer: 16 * 1024,
                max_pending_resets: 1,
                max_error_resets: 1,
                max_frame: 16 * 1024,
            },
            http3: None,
            max_connection_age: Duration::from_secs(3600),
        }
    }
}

/// Bounds on a request's head and body framing.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Request head in bytes, all fields. Default 64 KiB (guest tokens). Beyond: 431 `head_too_large`.
    pub head_bytes: usize,
    /// Request target in bytes. Default 32 KiB. Beyond: 414 `uri_too_long`.
    pub uri_bytes: usize,
    /// Header fields; 10 to 256. Default 100 (Gunicorn's own limit). Beyond: 431 `head_too_large`.
    pub fields: usize,
    /// Trailer section in bytes. Default 8 KiB.
    pub trailer_bytes: usize,
}

/// Clocks on the client's side.
#[derive(Clone, Debug)]
pub struct ClientClocks {
    /// From the first byte of a request to the end of its head; also from accept to the first byte. Default 10 s. 408.
    pub head: Duration,
    /// Longest pause in a request body. Default 30 s. 408.
    pub body_idle: Duration,
    /// Longest wait for the client to take more of the response. Default 60 s. The connection is cut.
    pub write_idle: Duration,
    /// Longest pause between two requests. Default 75 s. The connection is closed politely.
    pub keep_alive: Duration,
    /// Least average rate of a request body in bytes per second after a grace of `body_idle`. Default 240. 408.
    pub min_body_rate: u64,
    /// Least that the client takes of a response, in bytes per second of the time that is waited for it, over each
    /// `write_idle` of it. Default 240. The stream is cut.
    pub min_response_rate: u64,
}

/// HTTP/2 on a listener.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Offer `h2` by ALPN. Default true.
    pub enabled: bool,
    /// Accept HTTP/2 by prior knowledge on a plain listener. Default false.
    pub cleartext: bool,
    /// Concurrent streams per connection. Default 128.
    pub max_streams: u32,
    /// Receive window per stream, bytes. Default 256 KiB.
    pub stream_window: u32,
    /// Receive window per connection, bytes. Default 1 MiB.
    pub connection_window: u32,
    /// Bytes per stream waiting to be sent. Default 64 KiB; all streams of a connection together hold 8 MiB at most.
    pub send_buffer: usize,
    /// Streams reset by the client before they were accepted. Default 20; beyond: GOAWAY ENHANCE_YOUR_CALM.
    pub max_pending_resets: usize,
    /// Streams that we reset for the client's errors. Default 256; beyond: GOAWAY.
    pub max_error_resets: usize,
    /// Largest frame we accept, bytes. Default 16 KiB.
    pub max_frame: u32,
}

/// HTTP/3 on a listener.
#[derive(Clone, Debug)]
pub struct Http3 {
    /// Port in `Alt-Svc`; `None` is the bound one.
    pub advertised_port: Option<u16>,
    /// How long a client may remember that there is HTTP/3. Default 1 day.
    pub advertise_for: Duration,
    /// Concurrent requests per connection. Default 100.
    pub max_streams: u32,
    /// Receive window per stream, bytes. Default 256 KiB.
    pub stream_window: u32,
    /// Receive window per connection, bytes. Default 1 MiB.
    pub connection_window: u32,
    /// Response bytes per connection that wait to be sent or acknowledged. Default 2 MiB.
    pub send_buffer: u64,
    /// Malformed requests, and requests that the client resets before they are answered. Default 256.
    pub max_error_resets: usize,
    /// Largest frame of unknown type, bytes. Default 16 KiB.
    pub max_unknown: u64,
    /// Connections that wait for their handshake, per worker and address. Default 4,096.
    pub max_incoming: usize,
    /// Handshakes under way from which on clients must prove their address. Default 256.
    pub retry_above: usize,
    /// Congestion control. Default Cubic.
    pub congestion: Congestion,
    /// Largest UDP payload that is tried, bytes. Default 1,452; 1,200 tries none.
    pub max_mtu: u16,
    /// Whether the kernel cuts what we send into datagrams (GSO). Default true.
    pub offload: bool,
    /// Whether the kernel steers datagrams to the workers that have their connections. Default true. Needs restart.
    pub kernel_steering: bool,
    /// Kernel buffers of each UDP socket, each way, bytes. Default 2 MiB. Needs restart.
    pub socket_buffer: usize,
}

/// How much of a path a connection takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Congestion {
    /// RFC 9438.
    Cubic,
    /// RFC 9002 §7.
    NewReno,
    /// Bottleneck bandwidth and round trip; experimental in quinn.
    Bbr,
}

/// TLS on a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// At least one; the first is the default for unknown or missing SNI.
    pub certificates: Vec<Certificate>,
    /// Oldest version. Default 1.2.
    pub min_version: TlsVersion,
    /// Client certificates (mTLS).
    pub client_certificates: Option<ClientCertificates>,
    /// Longest handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// Handshakes under way at once, over all workers. Default 1,000; further ones wait their turn, within the time-out.
    pub max_handshakes: usize,
}

/// TLS protocol version.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// A certificate chain with its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// PEM file, leaf first.
    pub certificate: PathBuf,
    /// PEM file: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Client certificates.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// PEM file of the authorities that sign them.
    pub authorities: PathBuf,
    /// Whether a client without one is refused in the handshake. Default true.
    pub required: bool,
}

/// Redirect of a plain listener.
#[derive(Clone, Debug)]
pub struct RedirectToHttps {
    /// Port in the redirect. Default 443, which is left out of the URL.
    pub port: u16,
    /// Path prefixes that are answered here all the same, e.g. `/health` or ACME's. Default `["/health"]`.
    pub except: Vec<String>,
}

/// `Strict-Transport-Security` (RFC 6797).
#[derive(Clone, Debug)]
pub struct Hsts {
    /// Default one year.
    pub max_age: Duration,
    /// Default false.
    pub include_subdomains: bool,
}
