//! One end of a connection that speaks HTTP/1.1 byte by byte: as a client, and as an endpoint.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// A transport.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An end of a connection.
pub(crate) struct Peer {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
    /// Which connection of its endpoint it is, from 0.
    pub(crate) number: usize,
}

/// A message head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// Request line or status line.
    pub(crate) line: String,
    /// Fields as sent.
    pub(crate) fields: Vec<(String, String)>,
}

/// A request as an endpoint received it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Its head.
    pub(crate) head: Head,
    /// Its body, decoded.
    pub(crate) body: Vec<u8>,
}

/// A response as a client received it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// Its status.
    pub(crate) status: u16,
    /// Its head.
    pub(crate) head: Head,
    /// Its body, decoded.
    pub(crate) body: Vec<u8>,
    /// Its trailers.
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether it came to the end that its framing announces.
    pub(crate) whole: bool,
}

impl Head {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        Self { line, fields: fields(lines) }
    }

    /// The value of a field; several are joined by `, `.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let values = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

impl Request {
    /// `GET`
    pub(crate) fn method(&self) -> &str {
        self.head.line.split(' ').next().unwrap_or_default()
    }

    /// `/path?query`
    pub(crate) fn target(&self) -> &str {
        self.head.line.split(' ').nth(1).unwrap_or_default()
    }
}

impl Response {
    /// The value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.head.get(name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Peer {
    /// An end over any transport.
    pub(crate) fn new(io: impl Io + 'static, number: usize) -> Self {
        Self { io: Box::new(io), buffer: Vec::new(), number }
    }

    /// A TCP connection.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::new(stream, 0)
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = soon("the other end to take bytes", self.try_send(bytes)).await;
        sent.expect("the other end takes bytes");
    }

    /// Sends bytes; fails when the other end has gone.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.io.write_all(bytes.as_ref()).await?;
        self.io.flush().await
    }

    /// The transport, when nothing that was read is left over.
    pub(crate) fn into_io(self) -> Box<dyn Io> {
        assert!(self.buffer.is_empty(), "bytes are left over");
        self.io
    }

    /// Reads once; false at the end, also at an abrupt one.
    async fn fill(&mut self) -> bool {
        matches!(self.io.read_buf(&mut self.buffer).await, Ok(more) if more > 0)
    }

    /// Reads up to and without `end`; `None` when the connection ends before.
    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let found = self.buffer.drain(..at + end.len()).take(at).collect();
                return Some(found);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads up to `count` bytes; fewer only when the connection ends before.
    async fn up_to(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.fill().await {}
        self.buffer.drain(..count.min(self.buffer.len())).collect()
    }

    /// Reads exactly `count` bytes; `None` when the connection ends before.
    pub(crate) async fn piece(&mut self, count: usize) -> Option<Vec<u8>> {
        let bytes = self.up_to(count).await;
        (bytes.len() == count).then_some(bytes)
    }

    /// Reads exactly `count` bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        let bytes = soon("bytes", self.up_to(count)).await;
        assert_eq!(bytes.len(), count, "the connection ended early");
        bytes
    }

    /// What still comes before the other end closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        soon("the other end to close", async { while self.fill().await {} }).await;
        std::mem::take(&mut self.buffer)
    }

    /// A line.
    pub(crate) async fn line(&mut self) -> String {
        let line = soon("a line", self.until(b"\r\n")).await;
        String::from_utf8_lossy(&line.unwrap_or_default()).into_owned()
    }

    /// A head; `None` when the connection ends instead.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        self.until(b"\r\n\r\n").await.map(|head| Head::parse(&head))
    }

    /// A chunked body: content, trailers, and whether it came to its end.
    async fn chunks(&mut self) -> (Vec<u8>, Vec<(String, String)>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.until(b"\r\n").await else {
                return (body, Vec::new(), false);
            };
            let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a chunk size");
            if size == 0 {
                let mut trailers = Vec::new();
                loop {
                    match self.until(b"\r\n").await {
                        Some(line) if line.is_empty() => return (body, trailers, true),
                        Some(line) => trailers.extend(fields([String::from_utf8_lossy(&line).as_ref()].into_iter())),
                        None => return (body, trailers, false),
                    }
                }
            }
            let chunk = self.up_to(size + 2).await;
            body.extend_from_slice(&chunk[..size.min(chunk.len())]);
            if chunk.len() < size + 2 {
                return (body, Vec::new(), false);
            }
        }
    }

    /// A whole request; `None` when the connection ends instead.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        let head = self.head().await?;
        let body = if head.get("transfer-encoding").is_some() {
            self.chunks().await.0
        } else {
            let length = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            self.up_to(length).await
        };
        Some(Request { head, body })
    }

    /// A response to a request other than HEAD. Interim responses are heads of their own: see [`Self::head`].
    pub(crate) async fn response(&mut self) -> Response {
        soon("a response", self.try_response(true)).await.expect("a response, not the end of the connection")
    }

    /// The head of a response and nothing more: to HEAD, or before the body is read in pieces.
    pub(crate) async fn response_head(&mut self) -> Response {
        soon("a response head", self.try_response(false)).await.expect("a response, not the end of the connection")
    }

    /// A response; `None` when the connection ends before its head.
    pub(crate) async fn try_response(&mut self, with_body: bool) -> Option<Response> {
        let head = self.head().await?;
        let status: u16 = head.line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let mut response = Response { status, head, body: Vec::new(), trailers: Vec::new(), whole: true };
        if !with_body || status < 200 || status == 204 || status == 304 {
            return Some(response);
        }
        if response.get("transfer-encoding").is_some() {
            (response.body, response.trailers, response.whole) = self.chunks().await;
        } else if let Some(length) = response.get("content-length") {
            let length = length.parse().expect("a length");
            response.body = self.up_to(length).await;
            response.whole = response.body.len() == length;
        } else {
            while self.fill().await {}
            response.body = std::mem::take(&mut self.buffer);
        }
        Some(response)
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}
