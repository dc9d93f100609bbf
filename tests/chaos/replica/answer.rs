//! One connection of a replica: requests in, answers out, and the moments at which it may break off.
//!
//! Content is a function of the request, so that the client can check each byte: see [`crate::content`].

use std::io::{self, Write as _};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;

use super::manners::Cut;
use super::{Replica, reset};
use crate::content;

/// Longest request head that it reads.
const LONGEST_HEAD: usize = 64 * 1024;

/// Pieces of a streamed answer.
const PIECES: usize = 10;

/// A request.
struct Request {
    /// With its query.
    path: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A number of the query.
    fn number(&self, key: &str) -> Option<u64> {
        let (_, query) = self.path.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?.parse().ok()
    }

    /// Whether what it does must be noted: the journal shows what was done twice.
    fn acts(&self) -> bool {
        self.path.starts_with("/api/v1/dashboard") || self.path.starts_with("/upload")
    }
}

/// Serves a connection until it ends.
pub(super) async fn converse(mut stream: TcpStream, replica: &Rc<Replica>) -> io::Result<()> {
    let mut received = BytesMut::new();
    loop {
        let patience = replica.manners.borrow().keep_alive;
        if received.is_empty() {
            // Gunicorn closes what has been idle for too long.
            tokio::select! {
                read = timeout(patience, stream.read_buf(&mut received)) => match read {
                    Ok(Ok(1..)) => {}
                    _ => return Ok(()),
                },
                () = left(replica) => return Ok(()),
            }
        }
        // One that leaves finishes what has begun to arrive.
        let _begun = Begun::new(replica);
        let cut = replica.manners.borrow().cuts();
        if cut == Some(Cut::Unread) && !received.starts_with(b"GET /health") {
            reset(stream);
            return Ok(());
        }
        let Some(request) = read_request(&mut stream, &mut received).await? else { return Ok(()) };
        let _turn = replica.threads.acquire().await;
        let _busy = Busy::new(replica);
        if request.path.starts_with("/health") {
            let status = replica.manners.borrow().health;
            stream.write_all(whole(replica, status, b"OK").as_slice()).await?;
            continue;
        }
        if request.get("upgrade").is_some() {
            return echo(stream, replica, &request).await;
        }
        let work = replica.manners.borrow().work;
        sleep(work).await;
        if !answer(&mut stream, replica, &request, cut).await? {
            return Ok(());
        }
        if cut == Some(Cut::Idle) {
            // From at once to well into the moment in which the next request arrives.
            sleep(Duration::from_micros(fastrand::u64(0..5_000))).await;
            return Ok(());
        }
        if replica.left.get() {
            return Ok(());
        }
    }
}

async fn left(replica: &Replica) {
    while !replica.left.get() {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Answers; false when the connection is to end here.
async fn answer(stream: &mut TcpStream, replica: &Replica, request: &Request, cut: Option<Cut>) -> io::Result<bool> {
    if cut == Some(Cut::Unanswered) {
        return Ok(false);
    }
    let errors = replica.manners.borrow().errors;
    if let Some(status) = errors {
        let text = whole(replica, status, b"it is broken");
        return stream.write_all(&text).await.map(|()| true);
    }
    let id = request.number("id").unwrap_or_default();
    let size = usize::try_from(request.number("size").unwrap_or(2_000)).unwrap_or_default();
    if request.acts() {
        // One write, whole: others write to the same file.
        replica.journal.borrow_mut().write_all(format!("{id}\n").as_bytes())?;
    }
    let body = content::answer(id, &request.body, size);
    if let Some(span) = request.number("stream") {
        return streamed(stream, replica, &body, Duration::from_millis(span), cut).await;
    }
    let mut text = whole(replica, 200, &body);
    let head = text.len() - body.len();
    match cut {
        Some(Cut::Head) => text.truncate(head / 2),
        Some(Cut::Body) => text.truncate(head + size / 2),
        _ => {}
    }
    stream.write_all(&text).await?;
    Ok(!matches!(cut, Some(Cut::Head | Cut::Body)))
}

/// Answers in pieces over `span`, as CSV exports come.
async fn streamed(
    stream: &mut TcpStream,
    replica: &Replica,
    body: &[u8],
    span: Duration,
    cut: Option<Cut>,
) -> io::Result<bool> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: gunicorn\r\nX-Replica: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        replica.name
    );
    if cut == Some(Cut::Head) {
        stream.write_all(&head.as_bytes()[..head.len() / 2]).await?;
        return Ok(false);
    }
    stream.write_all(head.as_bytes()).await?;
    for (number, piece) in body.chunks(body.len().div_ceil(PIECES).max(1)).enumerate() {
        if cut == Some(Cut::Body) && number == PIECES / 2 {
            return Ok(false);
        }
        sleep(span / u32::try_from(PIECES).expect("a few")).await;
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        stream.write_all(&chunk).await?;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    Ok(true)
}

fn whole(replica: &Replica, status: u16, body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status} So\r\nServer: gunicorn\r\nX-Replica: {}\r\nContent-Length: {}\r\n\r\n",
        replica.name,
        body.len()
    )
    .into_bytes();
    text.extend_from_slice(body);
    text
}

/// Echoes messages (RFC 6455) until the other end closes, or the replica goes.
async fn echo(mut stream: TcpStream, replica: &Replica, request: &Request) -> io::Result<()> {
    let accept = derive_accept_key(request.get("sec-websocket-key").unwrap_or_default().as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = left(replica) => {
                // The other end may have gone before.
                drop(socket.close(None).await);
                return Ok(());
            }
        };
        match message {
            Some(Ok(message)) if message.is_ping() || message.is_pong() => {}
            Some(Ok(message)) if !message.is_close() => {
                if socket.send(message).await.is_err() {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
    }
}

/// A whole request; `None` when the connection ends before it does.
async fn read_request(stream: &mut TcpStream, received: &mut BytesMut) -> io::Result<Option<Request>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(received) {
            Ok(httparse::Status::Complete(length)) => {
                let mut request = Request {
                    path: parsed.path.unwrap_or_default().to_owned(),
                    fields: parsed
                        .headers
                        .iter()
                        .map(|field| (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned()))
                        .collect(),
                    body: Vec::new(),
                };
                received.advance(length);
                return Ok(read_body(stream, received, &mut request).await?.then_some(request));
            }
            Ok(httparse::Status::Partial) if received.len() < LONGEST_HEAD => {}
            _ => return Ok(None),
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

/// Reads the body, which the proxy sends with its length or in chunks; false when the connection ends before it does.
async fn read_body(stream: &mut TcpStream, received: &mut BytesMut, request: &mut Request) -> io::Result<bool> {
    if request.get("transfer-encoding").is_none() {
        let length = request.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        return Ok(take(stream, received, length, &mut request.body).await?.is_some());
    }
    loop {
        let size = loop {
            match httparse::parse_chunk_size(received) {
                Ok(httparse::Status::Complete((head, size))) => {
                    received.advance(head);
                    break usize::try_from(size).unwrap_or_default();
                }
                Ok(httparse::Status::Partial) if stream.read_buf(received).await? > 0 => {}
                _ => return Ok(false),
            }
        };
        let mut end = Vec::new();
        if take(stream, received, size, &mut request.body).await?.is_none()
            || take(stream, received, 2, &mut end).await?.is_none()
        {
            return Ok(false);
        }
        if size == 0 {
            return Ok(true);
        }
    }
}

async fn take(
    stream: &mut TcpStream,
    received: &mut BytesMut,
    count: usize,
    to: &mut Vec<u8>,
) -> io::Result<Option<()>> {
    while received.len() < count {
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
    to.extend_from_slice(&received.split_to(count));
    Ok(Some(()))
}

/// Counts a request of which something has come.
struct Begun<'a>(&'a Replica);

impl<'a> Begun<'a> {
    fn new(replica: &'a Replica) -> Self {
        replica.counts.begun.set(replica.counts.begun.get() + 1);
        Self(replica)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.counts.begun.set(self.0.counts.begun.get() - 1);
    }
}

/// Counts a request that has a thread.
struct Busy<'a>(&'a Replica);

impl<'a> Busy<'a> {
    fn new(replica: &'a Replica) -> Self {
        let busy = replica.counts.busy.get() + 1;
        replica.counts.busy.set(busy);
        replica.counts.peak.set(replica.counts.peak.get().max(busy));
        Self(replica)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.counts.busy.set(self.0.counts.busy.get() - 1);
    }
}
