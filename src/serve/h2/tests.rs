//! Clients of all manners over in-memory sockets: the h2 crate's own, and frames written by hand.

mod clocks;
mod exchanges;
mod floods;
mod leaving;
mod malformed;
mod memory;
mod tunnels;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{Method, Request as HttpRequest, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::ledger::MAX_SEND_BUFFERED;
use super::*;
use crate::body::{Body, BodyError, Frame, Source};
use crate::config::Listener;
use crate::config::listener::{Http2, RequestLimits};
use crate::head::{Fields, HeaderValue};
use crate::lexicon::{Clock, ConnectionId, ListenerName, Protocol};
use crate::lifecycle::Lifecycle;
use crate::limit::Clients;
use crate::message::{Answer, Answering, Refusal, Refused, Request, Upgrade};

// ---- the rig

fn listener() -> Listener {
    Listener {
        http3: None,
        name: ListenerName::new("test"),
        addresses: Vec::new(),
        tls: None,
        proxy_protocol: Vec::new(),
        max_connections: 10,
        max_connections_per_client: 10,
        max_tunnels_per_client: 10,
        max_streams_per_client: 1_000,
        max_resets_per_client: 1_000,
        redirect_to_https: None,
        hsts: None,
        limits: RequestLimits { head_bytes: 4096, uri_bytes: 1024, fields: 40, trailer_bytes: 256 },
        clocks: ClientClocks {
            head: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            write_idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(75),
            min_body_rate: 240,
            min_response_rate: 240,
        },
        http2: Http2 {
            enabled: true,
            cleartext: true,
            max_streams: 128,
            stream_window: 256 << 10,
            connection_window: 1 << 20,
            send_buffer: 64 << 10,
            max_pending_resets: 20,
            max_error_resets: 256,
            max_frame: 16 << 10,
        },
        max_connection_age: Duration::from_secs(3600),
    }
}

/// Answers with a closure.
#[derive(Clone)]
struct Does(Arc<dyn Fn(Request) -> Answering + Send + Sync>, mpsc::Sender<Refusal>);

impl Handler for Does {
    fn handle(&self, request: Request) -> Answering {
        (self.0)(request)
    }

    fn refuse(&self, refused: Refused) -> Answer {
        self.1.try_send(refused.refusal).unwrap_or(());
        let status = match refused.refusal {
            Refusal::UriTooLong => StatusCode::URI_TOO_LONG,
            Refusal::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Answer::new(status, Body::full("refused"))
    }
}

struct Rig {
    lifecycle: Lifecycle,
    refused: mpsc::Receiver<Refusal>,
    served: JoinHandle<()>,
}

impl Rig {
    /// Serves one end of a pipe and gives the other.
    fn start<F, A>(listener: Listener, does: F) -> (Self, DuplexStream)
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let (near, far) = duplex(64 << 10);
        (Self::over(far, listener, does), near)
    }

    /// Serves `io`.
    fn over<F, A>(io: impl Transport + 'static, listener: Listener, does: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let (sender, refused) = mpsc::channel(64);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection = Arc::new(Connection {
            id: ConnectionId::next(),
            listener: Arc::new(listener),
            peer: address,
            local: address,
            proxied: None,
            protocol: Protocol::Http2,
            tls: None,
            alternative: None,
        });
        let lifecycle = Lifecycle::new();
        let handler = Does(Arc::new(move |request| Box::pin(does(request))), sender);
        let served =
            tokio::spawn(serve(io, connection, handler, lifecycle.life(), Clients::new(64, 64).share(address.ip())));
        Self { lifecycle, refused, served }
    }

    async fn ended(self) {
        timeout(Duration::from_secs(3000), self.served).await.expect("connection ends").unwrap();
    }
}

async fn ok(_: Request) -> Answer {
    Answer::new(StatusCode::OK, Body::full("hello"))
}

async fn connect(io: DuplexStream) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let (send, connection) = client::handshake(io).await.unwrap();
    (send, tokio::spawn(connection))
}

fn get(path: &str) -> HttpRequest<()> {
    HttpRequest::get(format!("https://superset.example{path}")).version(Version::HTTP_2).body(()).unwrap()
}

fn post(path: &str) -> HttpRequest<()> {
    HttpRequest::post(format!("https://superset.example{path}")).version(Version::HTTP_2).body(()).unwrap()
}

async fn content(mut body: h2::RecvStream) -> Result<(Vec<u8>, Option<Fields>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?.map(Fields::from)))
}

/// A body made of what a channel brings; closing the channel ends it, and dropping it closes the channel.
struct Piped(mpsc::Receiver<Result<Frame, BodyError>>);

impl Source for Piped {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.0.poll_recv(cx)
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

/// An endless body that counts what is pulled from it.
struct Endless(Arc<AtomicUsize>, usize);

impl Source for Endless {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.0.fetch_add(self.1, SeqCst);
        Poll::Ready(Some(Ok(Frame::Data(Bytes::from(vec![7; self.1])))))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

/// Keeps what it is given, as far as it has room, and passes it on when it is flushed: TLS before a slow socket.
struct Records {
    io: DuplexStream,
    kept: BytesMut,
    sent: u64,
}

/// As rustls has by default.
const RECORDS: usize = 64 << 10;

impl Records {
    fn before(io: DuplexStream) -> Self {
        Self { io, kept: BytesMut::new(), sent: 0 }
    }
}

impl AsyncRead for Records {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        // Nobody has said goodbye in TLS.
        let ended = buf.filled().len() == before;
        Poll::Ready(if ended { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
    }
}

impl AsyncWrite for Records {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.poll_gather(cx, &[IoSlice::new(bytes)]));
        // What the socket does not take now it is asked to take at a flush.
        let _later = self.poll_flush(cx)?;
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.kept.is_empty() {
            let gone = ready!(Pin::new(&mut this.io).poll_write(cx, &this.kept))?;
            this.kept.advance(gone);
            this.sent += gone as u64;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Transport for Records {
    fn break_off(&mut self) {}

    fn poll_gather(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.kept.len() >= RECORDS {
            ready!(Pin::new(&mut *self).poll_flush(cx))?;
        }
        let before = self.kept.len();
        for slice in slices {
            let room = RECORDS - self.kept.len();
            self.kept.extend_from_slice(&slice[..room.min(slice.len())]);
        }
        Poll::Ready(Ok(self.kept.len() - before))
    }

    fn sent(&self) -> Option<u64> {
        Some(self.sent)
    }
}

/// Tells when it is dropped.
struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

// ---- frames by hand

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// `:method GET`, `:scheme https`, `:path /`, `:authority a`, from the static table.
const GET: [u8; 6] = [0x82, 0x87, 0x84, 0x41, 0x01, b'a'];
/// The same with `:method POST`.
const POST: [u8; 6] = [0x83, 0x87, 0x84, 0x41, 0x01, b'a'];

/// A literal field without indexing (RFC 7541 §6.2.2).
#[expect(clippy::cast_possible_truncation, reason = "lengths that the tests choose")]
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0, name.len() as u8];
    out.extend_from_slice(name.as_bytes());
    // Lengths beyond 126 take a second byte here; no test needs a third.
    if value.len() < 127 {
        out.push(value.len() as u8);
    } else {
        let rest = value.len() - 127;
        out.extend_from_slice(&[127, (rest % 128) as u8 | 0x80, (rest / 128) as u8]);
    }
    out.extend_from_slice(value);
    out
}

#[expect(clippy::cast_possible_truncation, reason = "lengths that the tests choose")]
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

struct Raw2<W>(W);

impl<W: AsyncWrite + Unpin> Raw2<W> {
    async fn headers(&mut self, stream: u32) {
        self.0.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &GET)).await.unwrap();
    }
}

/// A client that writes frames by hand.
struct Raw {
    io: DuplexStream,
}

impl Raw {
    async fn new(io: DuplexStream) -> Self {
        Self::with_windows(io, 65_535).await
    }

    async fn with_windows(mut io: DuplexStream, window: u32) -> Self {
        io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut settings = vec![0, 4];
        settings.extend_from_slice(&window.to_be_bytes());
        io.write_all(&frame(SETTINGS, 0, 0, &settings)).await.unwrap();
        if window > 65_535 {
            io.write_all(&frame(8, 0, 0, &(window - 65_535).to_be_bytes())).await.unwrap();
        }
        Self { io }
    }

    async fn headers(&mut self, stream: u32, flags: u8, block: &[u8]) {
        self.io.write_all(&frame(HEADERS, flags, stream, block)).await.unwrap();
    }

    /// The next frame that says something about stream 1: its kind and payload.
    async fn verdict(&mut self) -> (u8, Vec<u8>) {
        loop {
            let (kind, _, payload) = self.frame().await;
            if [HEADERS, RST_STREAM, GOAWAY].contains(&kind) {
                return (kind, payload);
            }
        }
    }

    async fn frame(&mut self) -> (u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.io.read_exact(&mut payload).await.unwrap();
        (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
    }

    /// The next frame of `kind`.
    async fn next(&mut self, kind: u8) -> (u32, Vec<u8>) {
        loop {
            let frame = self.frame().await;
            if frame.0 == kind {
                return (frame.1, frame.2);
            }
        }
    }
}

const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];

/// Counts requests that reach the handler.
fn counting() -> (Arc<AtomicUsize>, impl Fn(Request) -> Answering) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    (count, move |request| {
        counter.fetch_add(1, SeqCst);
        Box::pin(ok(request))
    })
}
