//! HTTP/1.1 as a client speaks it.

use std::cell::Cell;

use bytes::{Buf as _, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::line::{Line, dial};
use super::{Ask, Loss, Reply, Target, Transport};

/// A connection.
pub(super) struct H1 {
    wire: Mutex<Wire>,
    open: Cell<bool>,
}

struct Wire {
    line: Line,
    received: BytesMut,
}

/// A response head.
struct Head {
    status: StatusCode,
    replica: Option<String>,
    /// `None`: chunked.
    length: Option<usize>,
    closes: bool,
}

impl Transport for H1 {
    async fn connect(target: &Target) -> Result<Self, Loss> {
        let line = dial(target, b"http/1.1").await?;
        Ok(Self { wire: Mutex::new(Wire { line, received: BytesMut::new() }), open: Cell::new(true) })
    }

    async fn ask(&self, ask: &Ask) -> Result<Reply, Loss> {
        // Closed, unless the whole answer was read and says nothing else.
        self.open.set(false);
        let (reply, closes) = self.wire.lock().await.exchange(ask).await?;
        self.open.set(!closes);
        Ok(reply)
    }

    fn is_open(&self) -> bool {
        // A proxy closes idle connections when it drains; a browser sees that before it asks.
        let silent = self.wire.try_lock().is_ok_and(|wire| {
            let mut byte = [0_u8; 1];
            let (tcp, _) = wire.line.get_ref();
            matches!(tcp.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        self.open.get() && silent
    }
}

impl Wire {
    async fn exchange(&mut self, ask: &Ask) -> Result<(Reply, bool), Loss> {
        // The other end may answer and close before it has read everything: what it said counts.
        let sent = self.send(ask).await;
        let head = match (self.head().await, sent) {
            (Ok(head), _) => head,
            (Err(_), Err(error)) => return Err(Loss::Unanswered(error.to_string())),
            (Err(why), Ok(())) => return Err(Loss::Unanswered(why)),
        };
        let body = self.body(&head).await.map_err(Loss::BrokenOff)?;
        Ok((Reply { status: head.status, replica: head.replica, body: body.freeze() }, head.closes))
    }

    async fn send(&mut self, ask: &Ask) -> std::io::Result<()> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n", ask.method, ask.path);
        if ask.method == http::Method::POST {
            head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", ask.length()));
        }
        head.push_str("\r\n");
        self.line.write_all(head.as_bytes()).await?;
        for (number, piece) in ask.body.iter().enumerate() {
            if number > 0 {
                self.line.flush().await?;
                sleep(ask.pause).await;
            }
            self.line.write_all(piece).await?;
        }
        self.line.flush().await
    }

    async fn head(&mut self) -> Result<Head, String> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Response::new(&mut fields);
            match parsed.parse(&self.received) {
                Ok(httparse::Status::Complete(read)) => {
                    let get = |name: &str| {
                        let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
                        std::str::from_utf8(field.value).ok()
                    };
                    let head = Head {
                        status: StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|e| e.to_string())?,
                        replica: get("x-replica").map(str::to_owned),
                        length: get("content-length").and_then(|length| length.parse().ok()),
                        closes: get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
                    };
                    self.received.advance(read);
                    return Ok(head);
                }
                Ok(httparse::Status::Partial) => {}
                Err(error) => return Err(error.to_string()),
            }
            self.more().await?;
        }
    }

    async fn body(&mut self, head: &Head) -> Result<BytesMut, String> {
        if let Some(length) = head.length {
            return self.take(length).await;
        }
        let mut body = BytesMut::new();
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.received) {
                    Ok(httparse::Status::Complete((read, size))) => {
                        self.received.advance(read);
                        break usize::try_from(size).map_err(|error| error.to_string())?;
                    }
                    Ok(httparse::Status::Partial) => self.more().await?,
                    Err(_) => return Err("no chunk".to_owned()),
                }
            };
            body.extend_from_slice(&self.take(size).await?);
            self.take(2).await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn take(&mut self, count: usize) -> Result<BytesMut, String> {
        while self.received.len() < count {
            self.more().await?;
        }
        Ok(self.received.split_to(count))
    }

    async fn more(&mut self) -> Result<(), String> {
        match self.line.read_buf(&mut self.received).await {
            Ok(1..) => Ok(()),
            Ok(0) => Err("closed".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
