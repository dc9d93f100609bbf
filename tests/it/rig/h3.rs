//! A client that speaks HTTP/3, on the h3 crate: an implementation that shares nothing with ours but QUIC.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3::error::{ConnectionError, StreamError};
use h3_quinn::{BidiStream, OpenStreams};
use http::{HeaderMap, Method, Request, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::task::JoinHandle;

use super::soon;

/// An HTTP/3 connection.
pub(crate) struct H3 {
    /// Where it comes from.
    pub(crate) endpoint: quinn::Endpoint,
    send: SendRequest<OpenStreams, Bytes>,
    driver: JoinHandle<ConnectionError>,
}

/// A request under way.
pub(crate) type Stream = RequestStream<BidiStream<Bytes>, Bytes>;

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its fields.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// Its trailers.
    pub(crate) trailers: Option<HeaderMap>,
    /// Why the body broke off.
    pub(crate) broken: Option<StreamError>,
}

impl Reply {
    /// The value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A QUIC connection from a port of its own.
pub(crate) async fn quic(
    to: SocketAddr,
    tls: rustls::ClientConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    quic_with(to, tls, quinn::TransportConfig::default()).await
}

/// The same with settings of the transport.
pub(crate) async fn quic_with(
    to: SocketAddr,
    tls: rustls::ClientConfig,
    transport: quinn::TransportConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connecting = endpoint.connect_with(config, to, "localhost").unwrap();
    let connection = soon("a QUIC handshake", connecting).await?;
    Ok((endpoint, connection))
}

impl H3 {
    /// Connects.
    pub(crate) async fn connect(to: SocketAddr, tls: rustls::ClientConfig) -> Result<Self, quinn::ConnectionError> {
        let (endpoint, quic) = quic(to, tls).await?;
        Ok(Self::over(endpoint, quic).await)
    }

    /// HTTP/3 over a QUIC connection that is there.
    pub(crate) async fn over(endpoint: quinn::Endpoint, quic: quinn::Connection) -> Self {
        let transport = h3_quinn::Connection::new(quic);
        let (mut connection, send) = soon("HTTP/3", h3::client::new(transport)).await.unwrap();
        let driver = tokio::spawn(async move { std::future::poll_fn(|cx| connection.poll_close(cx)).await });
        Self { endpoint, send, driver }
    }

    /// Starts a request.
    pub(crate) async fn start(&mut self, request: Request<()>) -> Stream {
        self.try_start(request).await.unwrap()
    }

    /// Starts a request, if the server still takes any.
    pub(crate) async fn try_start(&mut self, request: Request<()>) -> Result<Stream, StreamError> {
        soon("a stream", self.send.send_request(request)).await
    }

    /// GET of `path`.
    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        let mut stream = self.start(request(Method::GET, path)).await;
        stream.finish().await.unwrap();
        reply(&mut stream).await.unwrap()
    }

    /// Why the connection ended.
    pub(crate) async fn ended(self) -> ConnectionError {
        soon("the end of the connection", self.driver).await.unwrap()
    }
}

/// A request head for the host `test`.
pub(crate) fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://test{path}")).body(()).unwrap()
}

/// A whole response, or why its stream ended before it began.
pub(crate) async fn reply(stream: &mut Stream) -> Result<Reply, StreamError> {
    let head = soon("an HTTP/3 response", stream.recv_response()).await?;
    let mut reply = Reply {
        status: head.status(),
        headers: head.headers().clone(),
        body: Vec::new(),
        trailers: None,
        broken: None,
    };
    loop {
        match soon("an HTTP/3 body", stream.recv_data()).await {
            Ok(Some(mut piece)) => reply.body.extend_from_slice(&piece.copy_to_bytes(piece.remaining())),
            Ok(None) => break,
            Err(error) => {
                reply.broken = Some(error);
                return Ok(reply);
            }
        }
    }
    reply.trailers = soon("trailers", stream.recv_trailers()).await?;
    Ok(reply)
}
