//! A client that speaks HTTP/2.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode};

use super::peer::Peer;
use super::soon;

/// An HTTP/2 connection.
pub(crate) struct H2 {
    send: SendRequest<Bytes>,
}

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
    pub(crate) broken: Option<h2::Error>,
}

impl Reply {
    /// The value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl H2 {
    /// HTTP/2 over a connection that is there.
    pub(crate) async fn over(peer: Peer) -> Self {
        let (send, connection) = soon("an HTTP/2 handshake", h2::client::handshake(peer.into_io())).await.unwrap();
        tokio::spawn(connection);
        Self { send }
    }

    /// A connection that somebody drives.
    pub(crate) const fn with(send: SendRequest<Bytes>) -> Self {
        Self { send }
    }

    /// The sending half, once the settings of the other end have arrived.
    pub(crate) async fn ready(&self) -> SendRequest<Bytes> {
        soon("room for a stream", self.send.clone().ready()).await.unwrap()
    }

    /// Starts a request; its body follows on the stream unless it `ends`.
    pub(crate) async fn start(&self, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        self.ready().await.send_request(request, ends).unwrap()
    }

    /// GET of `path`.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        let (response, _) = self.start(request(Method::GET, path), true).await;
        reply(response).await
    }

    /// POST of `body` to `path`.
    pub(crate) async fn post(&self, path: &str, body: &'static [u8]) -> Reply {
        let (response, mut stream) = self.start(request(Method::POST, path), false).await;
        stream.send_data(Bytes::from_static(body), true).unwrap();
        reply(response).await
    }
}

/// A request head for the host `test`.
pub(crate) fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://test{path}")).body(()).unwrap()
}

/// A whole response.
pub(crate) async fn reply(response: ResponseFuture) -> Reply {
    try_reply(response).await.unwrap()
}

/// A response, or why its stream ended before it began.
pub(crate) async fn try_reply(response: ResponseFuture) -> Result<Reply, h2::Error> {
    let response = soon("an HTTP/2 response", response).await?;
    let (head, stream) = response.into_parts();
    let (body, trailers, broken) = soon("an HTTP/2 body", collect(stream)).await;
    Ok(Reply { status: head.status, headers: head.headers, body, trailers, broken })
}

async fn collect(mut stream: RecvStream) -> (Vec<u8>, Option<HeaderMap>, Option<h2::Error>) {
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        match piece {
            Ok(piece) => {
                drop(stream.flow_control().release_capacity(piece.len()));
                body.extend_from_slice(&piece);
            }
            Err(error) => return (body, None, Some(error)),
        }
    }
    match stream.trailers().await {
        Ok(trailers) => (body, trailers, None),
        Err(error) => (body, None, Some(error)),
    }
}
