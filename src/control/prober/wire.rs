//! One small HTTP/1.1 request on a connection of its own, everything bounded.
//!
//! Probes are few and must see what a new client would see, so they share neither connections nor code with the data
//! plane. In: a request, an address, perhaps TLS. Out: the response head and the first bytes of its body.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::{HeaderName, Method, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Why;
use crate::head::{Fields, HeaderValue};
use crate::message::Duplex;

/// Longest response head, interim ones included, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Fields in a response head.
const MAX_FIELDS: usize = 100;

/// Bytes of a body that are looked at.
const MAX_BODY: usize = 4 * 1024;

/// Where a probe goes.
#[derive(Debug)]
pub(crate) struct To {
    /// Tried in order until one accepts.
    addresses: Arc<[SocketAddr]>,
    /// TLS on top, with the name to verify.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// How long they have for that, together, as live traffic gives them.
    patience: Duration,
    /// Whether one has accepted. The kernel does that for a replica however busy it is, so that a check that runs out
    /// of time before it tells another thing than one that does after it.
    accepted: AtomicBool,
}

impl To {
    /// The first of `addresses` that accepts within `patience`, with `tls` on top.
    pub(crate) fn new(
        addresses: Arc<[SocketAddr]>,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        patience: Duration,
    ) -> Self {
        Self { addresses, tls, patience, accepted: AtomicBool::new(false) }
    }

    /// Whether a connection came about.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connects, with TLS where asked for.
    pub(crate) async fn connect(&self) -> Result<Box<dyn Duplex>, Why> {
        let tcp = timeout(self.patience, self.reach()).await.unwrap_or_else(|_| Err(Why::unreached()))?;
        self.accepted.store(true, Ordering::Relaxed);
        self.secure(tcp).await
    }

    async fn reach(&self) -> Result<TcpStream, Why> {
        let mut last = Why::Unresolved;
        for address in self.addresses.iter() {
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(source) => last = Why::Connect(source),
            }
        }
        Err(last)
    }

    async fn secure(&self, tcp: TcpStream) -> Result<Box<dyn Duplex>, Why> {
        // Only delays the probe's own small segments.
        drop(tcp.set_nodelay(true));
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some((config, name)) => {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                Ok(Box::new(connector.connect(name.clone(), tcp).await.map_err(Why::Tls)?))
            }
        }
    }
}

/// A request without a body.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub method: &'a Method,
    pub target: &'a str,
    pub host: &'a str,
    pub fields: &'a [(HeaderName, HeaderValue)],
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: StatusCode,
    pub fields: Fields,
    /// Its first bytes, at most 4 KiB, transfer coding removed.
    pub body: Vec<u8>,
}

/// Sends `ask` and reads the reply.
pub(crate) async fn exchange(stream: &mut dyn Duplex, ask: &Ask<'_>) -> Result<Reply, Why> {
    stream.write_all(&encode(ask)).await.map_err(Why::Broken)?;
    stream.flush().await.map_err(Why::Broken)?;
    let mut read = BytesMut::with_capacity(2 * 1024);
    let (status, fields) = head(stream, &mut read).await?;
    let bodiless = ask.method == Method::HEAD || matches!(status.as_u16(), 101 | 204 | 304);
    let body = if bodiless { Vec::new() } else { body(stream, read, &fields).await? };
    Ok(Reply { status, fields, body })
}

fn encode(ask: &Ask<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    for part in [ask.method.as_str(), " ", ask.target, " HTTP/1.1\r\nHost: ", ask.host, "\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    for (name, value) in ask.fields {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Reads the final response head; interim ones are passed over.
async fn head(stream: &mut dyn Duplex, read: &mut BytesMut) -> Result<(StatusCode, Fields), Why> {
    let mut passed = 0;
    loop {
        if let Some((status, fields, length)) = parse(read)? {
            read.advance(length);
            // RFC 9110 §15.2: any number of interim responses may come first; 101 is final here.
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok((status, fields));
            }
            passed += length;
            continue;
        }
        if passed + read.len() > MAX_HEAD {
            return Err(Why::Malformed("response head above 16 KiB"));
        }
        if more(stream, read).await? == 0 {
            return Err(if passed == 0 && read.is_empty() {
                Why::Closed
            } else {
                Why::Malformed("response head broken off")
            });
        }
    }
}

fn parse(read: &[u8]) -> Result<Option<(StatusCode, Fields, usize)>, Why> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(read) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Complete(_)) => return Err(Why::Malformed("response head above 16 KiB")),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Why::Malformed("not an HTTP/1 response head")),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Why::Malformed("no status"))?;
    let mut kept = Fields::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(field.value))
        {
            kept.append(name, value);
        }
    }
    Ok(Some((status, kept, length)))
}

/// Reads the body's beginning, to its end when it is short.
async fn body(stream: &mut dyn Duplex, mut read: BytesMut, fields: &Fields) -> Result<Vec<u8>, Why> {
    if fields.contains_key(http::header::TRANSFER_ENCODING) {
        return chunked(stream, read).await;
    }
    let length = match fields.get(http::header::CONTENT_LENGTH) {
        Some(value) => {
            let declared = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
            Some(declared.ok_or(Why::Malformed("unreadable Content-Length"))?)
        }
        None => None,
    };
    let wanted = length.map_or(MAX_BODY, |length| usize::try_from(length).unwrap_or(MAX_BODY).min(MAX_BODY));
    while read.len() < wanted {
        if more(stream, &mut read).await? == 0 {
            if length.is_some() {
                return Err(Why::Malformed("body broken off"));
            }
            break;
        }
    }
    read.truncate(wanted);
    Ok(read.to_vec())
}

/// Removes the chunked coding (RFC 9112 §7.1) from the body's beginning.
async fn chunked(stream: &mut dyn Duplex, mut read: BytesMut) -> Result<Vec<u8>, Why> {
    let mut content = Vec::new();
    loop {
        let (line, size) = match httparse::parse_chunk_size(&read) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) if read.len() <= MAX_BODY => {
                need(stream, &mut read).await?;
                continue;
            }
            Ok(httparse::Status::Partial) | Err(_) => return Err(Why::Malformed("bad chunk size")),
        };
        read.advance(line);
        if size == 0 {
            return Ok(content);
        }
        let mut left = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(2);
        while left > 2 {
            if read.is_empty() {
                need(stream, &mut read).await?;
            }
            let data = read.split_to((left - 2).min(read.len()));
            left -= data.len();
            let room = MAX_BODY.saturating_sub(content.len());
            content.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
            if content.len() >= MAX_BODY {
                return Ok(content);
            }
        }
        while read.len() < 2 {
            need(stream, &mut read).await?;
        }
        if !read.starts_with(b"\r\n") {
            return Err(Why::Malformed("chunk without an end"));
        }
        read.advance(2);
    }
}

async fn need(stream: &mut dyn Duplex, read: &mut BytesMut) -> Result<(), Why> {
    if more(stream, read).await? == 0 { Err(Why::Malformed("body broken off")) } else { Ok(()) }
}

async fn more(stream: &mut dyn Duplex, read: &mut BytesMut) -> Result<usize, Why> {
    stream.read_buf(read).await.map_err(|source| match source.kind() {
        // RST, or TLS ended without its close_notify: the endpoint went away.
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof if read.is_empty() => Why::Closed,
        _ => Why::Broken(source),
    })
}
