//! Workers over real sockets: caps, PROXY headers, TLS, protocols, hand-over, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsConnector;

use super::gate::Gate;
use super::worker::{self, Shared, Sibling};
use crate::body::Body;
use crate::config::Listener;
use crate::config::listener::{Certificate, Tls, TlsVersion};
use crate::config::pool::UpstreamTls;
use crate::lifecycle::{Lifecycle, Phase};
use crate::limit::Clients;
use crate::message::{Answer, Answering, Handler, Refused, Request};
use crate::net::bind::bind;
use crate::telemetry::Metrics;
use crate::tls::{self, Tickets};

/// Tells who asked and how; `/slow` waits to be released.
#[derive(Clone)]
struct Mirror {
    asked: Arc<Notify>,
    release: Arc<Notify>,
}

impl Handler for Mirror {
    fn handle(&self, request: Request) -> Answering {
        let handler = self.clone();
        Box::pin(async move {
            if request.head.uri.path() == "/slow" {
                handler.asked.notify_one();
                handler.release.notified().await;
            }
            let connection = &request.connection;
            let words = [
                connection.client().to_string(),
                connection.protocol.as_str().to_owned(),
                connection.scheme().to_owned(),
                std::thread::current().name().unwrap_or("").to_owned(),
            ];
            Answer::new(http::StatusCode::OK, Body::full(words.join(" ")))
        })
    }

    fn refuse(&self, _: Refused) -> Answer {
        Answer::new(http::StatusCode::BAD_REQUEST, Body::empty())
    }
}

/// Running workers.
struct Rig {
    address: SocketAddr,
    gate: Arc<Gate>,
    lifecycle: Lifecycle,
    siblings: Arc<[Sibling]>,
    mirror: Mirror,
    threads: Vec<JoinHandle<()>>,
}

impl Rig {
    fn new(workers: usize, tls: Option<Arc<ServerConfig>>, adjust: impl FnOnce(&mut Listener)) -> Self {
        Self::with_places(100, workers, tls, adjust)
    }

    fn with_places(
        places: usize,
        workers: usize,
        tls: Option<Arc<ServerConfig>>,
        adjust: impl FnOnce(&mut Listener),
    ) -> Self {
        let mut listener = Listener::internal("test", SocketAddr::from(([127, 0, 0, 1], 0)));
        adjust(&mut listener);
        let listener = Arc::new(listener);
        let metrics = Metrics::new(workers).listener(&listener.name);
        let mut sockets = bind(listener.addresses[0], workers).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let gate = Arc::new(Gate::new(listener, tls, metrics, [Clients::new(1000, 64), Clients::new(1000, 64)]));
        let lifecycle = Lifecycle::new();
        let (siblings, doors): (Vec<_>, Vec<_>) = (0..workers).map(|_| Sibling::new()).unzip();
        let siblings: Arc<[Sibling]> = siblings.into();
        let shared = Shared {
            connections: Arc::new(Semaphore::new(places)),
            siblings: Arc::clone(&siblings),
            life: lifecycle.life(),
            blocking_threads: 1,
        };
        let mirror = Mirror { asked: Arc::default(), release: Arc::default() };
        let start = |(index, door)| {
            let handler = mirror.clone();
            let own = worker::Sockets { tcp: vec![(Arc::clone(&gate), sockets.remove(0))], quic: Vec::new() };
            worker::start(index, own, door, shared.clone(), move || handler).unwrap()
        };
        let threads = doors.into_iter().enumerate().map(start).collect();
        Self { address, gate, lifecycle, siblings, mirror, threads }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until every worker has ended by itself.
    async fn ended(self) {
        tokio::task::spawn_blocking(|| self.threads.into_iter().for_each(|thread| thread.join().unwrap()))
            .await
            .unwrap();
    }
}

/// One request on a kept connection; the answer's body.
async fn ask(io: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    io.write_all(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes()).await.unwrap();
    answer(io).await.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// An answer of which the length is announced, whole.
async fn answer(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    loop {
        let mut some = [0; 4096];
        let length = io.read(&mut some).await.unwrap();
        assert!(length > 0, "ended within {text:?}");
        text.push_str(std::str::from_utf8(&some[..length]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            if body.len() >= length.parse().unwrap() {
                return text;
            }
        }
    }
}

/// Whether the connection is ended from the other side without a byte.
async fn ends(mut io: TcpStream) -> bool {
    !matches!(io.read(&mut [0; 64]).await, Ok(1..))
}

/// Settings of a server, and of a client that takes it.
pub(super) fn security(h2: bool) -> (Arc<ServerConfig>, Tls, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = Certificate { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let wanted = Tls {
        certificates: vec![files],
        min_version: TlsVersion::V1_2,
        client_certificates: None,
        handshake_timeout: Duration::from_secs(10),
        max_handshakes: 10,
    };
    let server = tls::server::load(&wanted, h2, &Tickets::new(None)).unwrap();
    let any = UpstreamTls { server_name: None, authorities: None, verify: false, certificate: None };
    let client = Arc::unwrap_or_clone(tls::client::load(&any).unwrap());
    (server, wanted, client)
}

async fn secured(rig: &Rig, client: ClientConfig) -> tokio_rustls::client::TlsStream<TcpStream> {
    let name = ServerName::try_from("a.test").unwrap();
    TlsConnector::from(Arc::new(client)).connect(name, rig.connect().await).await.unwrap()
}

#[tokio::test]
async fn listener_beyond_its_cap_refuses_and_takes_again_once_one_has_left() {
    let rig = Rig::new(1, None, |listener| listener.max_connections = 1);
    let mut first = rig.connect().await;
    ask(&mut first, "/").await;

    assert!(ends(rig.connect().await).await);

    drop(first);
    while rig.gate.open() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(ask(&mut rig.connect().await, "/").await.starts_with("127.0.0.1 h1 http"));
}

#[tokio::test]
async fn client_beyond_its_cap_is_refused() {
    let rig = Rig::new(1, None, |listener| listener.max_connections_per_client = 1);
    let mut first = rig.connect().await;
    ask(&mut first, "/").await;

    assert!(ends(rig.connect().await).await);
    ask(&mut first, "/").await;
}

#[tokio::test]
async fn connection_beyond_the_processes_cap_waits_for_a_place() {
    let rig = Rig::with_places(1, 2, None, |_| ());
    let mut first = rig.connect().await;
    ask(&mut first, "/").await;
    let mut second = rig.connect().await;
    second.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    ask(&mut first, "/").await;

    drop(first);

    assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn header_of_a_trusted_proxy_names_the_client() {
    let rig = Rig::new(1, None, |listener| listener.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()]);
    let mut io = rig.connect().await;
    io.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443\r\n").await.unwrap();

    assert!(ask(&mut io, "/").await.starts_with("192.0.2.7 h1"));
}

#[tokio::test]
async fn per_client_cap_counts_whom_the_header_names() {
    let rig = Rig::new(1, None, |listener| {
        listener.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()];
        listener.max_connections_per_client = 1;
    });
    let mut taken = Vec::new();
    for line in ["PROXY TCP4 192.0.2.7 198.51.100.1 1 443\r\n", "PROXY TCP4 192.0.2.8 198.51.100.1 1 443\r\n"] {
        let mut io = rig.connect().await;
        io.write_all(line.as_bytes()).await.unwrap();
        ask(&mut io, "/").await;
        taken.push(io);
    }
    let mut again = rig.connect().await;
    again.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 2 443\r\n").await.unwrap();

    assert!(ends(again).await);
}

#[tokio::test]
async fn trusted_proxy_without_header_is_refused() {
    let rig = Rig::new(1, None, |listener| listener.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()]);
    let mut io = rig.connect().await;
    io.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();

    assert!(ends(io).await);
}

#[tokio::test]
async fn header_of_a_stranger_is_a_malformed_request() {
    let rig = Rig::new(1, None, |listener| listener.proxy_protocol = vec!["192.0.2.0/24".parse().unwrap()]);
    let mut io = rig.connect().await;
    io.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443\r\n\r\n").await.unwrap();

    assert!(answer(&mut io).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn silent_trusted_proxy_is_cut_by_the_head_clock() {
    let rig = Rig::new(1, None, |listener| {
        listener.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()];
        listener.clocks.head = Duration::from_millis(20);
    });

    assert!(ends(rig.connect().await).await);
}

#[tokio::test]
async fn proxy_header_comes_before_tls() {
    let (server, wanted, client) = security(true);
    let rig = Rig::new(1, Some(server), |listener| {
        listener.tls = Some(wanted);
        listener.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let mut tcp = rig.connect().await;
    tcp.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443\r\n").await.unwrap();
    let name = ServerName::try_from("a.test").unwrap();
    let mut io = TlsConnector::from(Arc::new(client)).connect(name, tcp).await.unwrap();

    assert!(ask(&mut io, "/").await.starts_with("192.0.2.7 h1 https"));
}

#[tokio::test]
async fn silent_handshake_is_cut_by_its_clock() {
    let (server, mut wanted, _) = security(true);
    wanted.handshake_timeout = Duration::from_millis(20);
    let rig = Rig::new(1, Some(server), |listener| listener.tls = Some(wanted));

    assert!(ends(rig.connect().await).await);
}

#[tokio::test]
async fn handshakes_beyond_their_cap_wait_for_a_turn() {
    let (server, mut wanted, client) = security(true);
    wanted.max_handshakes = 1;
    let rig = Rig::new(1, Some(server), |listener| listener.tls = Some(wanted));
    // One that says hello and no more; who says nothing at all takes no turn.
    let mut silent = rig.connect().await;
    let mut hello = Vec::new();
    let name = "localhost".try_into().unwrap();
    rustls::ClientConnection::new(Arc::new(client.clone()), name).unwrap().write_tls(&mut hello).unwrap();
    silent.write_all(&hello).await.unwrap();
    while rig.gate.handshakes.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let mut late = std::pin::pin!(secured(&rig, client));
    assert!(futures_util::poll!(late.as_mut()).is_pending());

    drop(silent);

    assert!(ask(&mut late.await, "/").await.contains("https"));
}

#[tokio::test]
async fn new_certificate_is_shown_to_new_connections_only() {
    let (server, wanted, client) = security(true);
    let rig = Rig::new(1, Some(server), |listener| listener.tls = Some(wanted));
    let leaf = |io: &tokio_rustls::client::TlsStream<TcpStream>| io.get_ref().1.peer_certificates().unwrap()[0].clone();
    let mut old = secured(&rig, client.clone()).await;

    let (fresh, _, client_of_fresh) = security(true);
    rig.gate.tls.store(Some(fresh));

    let new = secured(&rig, client_of_fresh).await;
    assert_ne!(leaf(&old), leaf(&new));
    assert!(ask(&mut old, "/").await.contains("https"));
}

#[tokio::test]
async fn alpn_chooses_http2() {
    let (server, wanted, mut client) = security(true);
    client.alpn_protocols = vec![b"h2".to_vec()];
    let rig = Rig::new(1, Some(server), |listener| listener.tls = Some(wanted));
    let io = secured(&rig, client).await;

    assert!(ask_h2(io).await.starts_with("127.0.0.1 h2 https"));
}

#[tokio::test]
async fn http2_by_prior_knowledge_and_http1_share_a_plain_listener() {
    let rig = Rig::new(1, None, |listener| listener.http2.cleartext = true);

    assert!(ask_h2(rig.connect().await).await.starts_with("127.0.0.1 h2 http"));
    assert!(ask(&mut rig.connect().await, "/").await.starts_with("127.0.0.1 h1 http"));
}

async fn ask_h2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> String {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://a.test/").body(()).unwrap();
    let (response, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(some) = body.data().await {
        text.extend_from_slice(&some.unwrap());
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn clearly_busier_worker_hands_connections_over() {
    let rig = Rig::new(2, None, |_| ());
    let mut open = Vec::new();
    for _ in 0..60 {
        let mut io = rig.connect().await;
        ask(&mut io, "/").await;
        open.push(io);
    }

    let [one, other] = [rig.siblings[0].open(), rig.siblings[1].open()];
    assert_eq!(one + other, 60);
    // 8 and a quarter more than the other, at most.
    assert!(one.abs_diff(other) <= 8 + one.min(other) / 4 + 1, "{one} and {other}");
}

#[tokio::test]
async fn drain_ends_accepting_but_not_what_is_under_way() {
    let rig = Rig::new(2, None, |_| ());
    let mut io = rig.connect().await;
    io.write_all(b"GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    rig.mirror.asked.notified().await;
    let address = rig.address;

    rig.lifecycle.advance(Phase::Draining);
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }

    rig.mirror.release.notify_one();
    assert!(answer(&mut io).await.starts_with("HTTP/1.1 200"));
    rig.ended().await;
}

#[tokio::test]
async fn end_cuts_what_is_still_open() {
    let rig = Rig::new(1, None, |_| ());
    let mut io = rig.connect().await;
    io.write_all(b"GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    rig.mirror.asked.notified().await;

    rig.lifecycle.advance(Phase::Ending);

    assert!(ends(io).await);
    rig.ended().await;
}
