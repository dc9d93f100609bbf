//! Bytes to and from an admin listener: one request, and its answer whole or as a stream of events.
//!
//! Part of `cli::client`. Blocking, as a command has one thread and nothing else to do.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::h1::decode::{Decoded, Decoder};
use crate::h1::head::{ResponseHead, parse_response};

/// Longest answer: the status of a pool of thousands of endpoints.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Longest event of a stream.
const LONGEST_EVENT: usize = 4 * 1024 * 1024;

/// Longest trailer section.
const TRAILERS: usize = 1024;

/// A connection of any kind.
pub(super) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A TCP connection to the first address that answers; each read and write takes `patience` at most.
pub(super) fn tcp(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The same under TLS.
pub(super) fn tls(address: &str, config: &Arc<ClientConfig>, patience: Duration) -> io::Result<impl Stream + use<>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, tcp(address, patience)?))
}

/// A Unix socket.
pub(super) fn unix(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// An answer on its way.
pub(super) struct Incoming<'s> {
    stream: &'s mut dyn Stream,
    bytes: BytesMut,
    decoder: Decoder,
    /// Its status.
    pub(super) status: StatusCode,
}

impl<'s> Incoming<'s> {
    /// Sends `request` and reads the head of its answer; `None` when that is no HTTP.
    pub(super) fn of(stream: &'s mut dyn Stream, request: &[u8], method: &Method) -> io::Result<Option<Self>> {
        stream.write_all(request)?;
        stream.flush()?;
        let mut bytes = BytesMut::new();
        let end = loop {
            if let Some(at) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
                break at.saturating_add(4);
            }
            if bytes.len() > LONGEST_EVENT || !fill(stream, &mut bytes)? {
                return Ok(None);
            }
        };
        let head: Bytes = bytes.split_to(end).freeze();
        let Ok(ResponseHead { parts, framing }) = parse_response(&head, method) else { return Ok(None) };
        Ok(Some(Self { stream, bytes, decoder: Decoder::new(framing, TRAILERS), status: parts.status }))
    }

    /// More of the content; `None` at its end, an error when it does not come to it.
    fn more(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.decoder.decode(&mut self.bytes).map_err(io::Error::other)? {
                Decoded::Data(content) => return Ok(Some(content)),
                Decoded::End | Decoded::Trailers(_) => return Ok(None),
                Decoded::NeedMore => {
                    if !fill(self.stream, &mut self.bytes)? {
                        // Without an announced length the connection's end is the content's.
                        return match self.decoder {
                            Decoder::UntilClose => Ok(None),
                            _ => Err(io::ErrorKind::UnexpectedEof.into()),
                        };
                    }
                }
            }
        }
    }

    /// All of it.
    pub(super) fn whole(mut self) -> io::Result<String> {
        let mut content = Vec::new();
        while let Some(more) = self.more()? {
            if content.len().saturating_add(more.len()) > LONGEST_ANSWER {
                return Err(io::Error::other("the answer is too long"));
            }
            content.extend_from_slice(&more);
        }
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    /// Hands each event, its name and data, to `each` until that says false; gives whether it did.
    pub(super) fn events(mut self, mut each: impl FnMut(&str, &str) -> bool) -> io::Result<bool> {
        let mut pending = Vec::new();
        while let Some(more) = self.more()? {
            pending.extend_from_slice(&more);
            while let Some(at) = memchr::memmem::find(&pending, b"\n\n") {
                let event: Vec<u8> = pending.drain(..at.saturating_add(2)).collect();
                if let Some((name, data)) = event_of(&String::from_utf8_lossy(&event))
                    && !each(&name, &data)
                {
                    return Ok(true);
                }
            }
            if pending.len() > LONGEST_EVENT {
                return Err(io::Error::other("an event is too long"));
            }
        }
        Ok(false)
    }
}

/// Reads once; false at the end.
fn fill(stream: &mut dyn Stream, bytes: &mut BytesMut) -> io::Result<bool> {
    let mut room = [0; 16 * 1024];
    let read = loop {
        match stream.read(&mut room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A peer that ends without a farewell of TLS has ended all the same; framing tells whether too early.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break 0,
            read => break read?,
        }
    };
    bytes.extend_from_slice(room.get(..read).unwrap_or_default());
    Ok(read > 0)
}

/// Name and data of one event; `None` for a comment (WHATWG HTML, section 9.2.6).
fn event_of(text: &str) -> Option<(String, String)> {
    let (mut name, mut data) = (String::new(), Vec::new());
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data.push(value),
            _ => {}
        }
    }
    (!data.is_empty()).then(|| (name, data.join("\n")))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Answers with these bytes whatever is asked, a few at a time.
    struct Script(Cursor<Vec<u8>>);

    impl Read for Script {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let length = room.len().min(7);
            self.0.read(&mut room[..length])
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn script(answer: &str) -> Script {
        Script(Cursor::new(answer.as_bytes().to_vec()))
    }

    #[test]
    fn events_are_put_together_from_pieces_and_comments_are_skipped() {
        let events = ":\n\nevent: record\ndata: {\"a\":\ndata: 1}\n\nevent: dropped\ndata: 3\n\n";
        let (start, end) = events.split_at(20);
        let chunks = format!("14\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n", end.len());
        let mut stream = script(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));

        let mut seen = Vec::new();
        let incoming = Incoming::of(&mut stream, b"", &Method::GET).unwrap().unwrap();
        let enough = incoming.events(|name, data| {
            seen.push((name.to_owned(), data.to_owned()));
            true
        });

        assert!(!enough.unwrap());
        let expected = [("record", "{\"a\":\n1}"), ("dropped", "3")];
        assert_eq!(seen, expected.map(|(name, data)| (name.to_owned(), data.to_owned())));
    }

    #[test]
    fn answer_that_breaks_off_is_an_error_and_one_without_a_length_ends_with_its_connection() {
        let whole = |answer: &str| {
            let mut stream = script(answer);
            Incoming::of(&mut stream, b"", &Method::GET).unwrap().unwrap().whole()
        };

        assert!(whole("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").is_err());
        assert_eq!(whole("HTTP/1.1 200 OK\r\n\r\nall").unwrap(), "all");
        assert!(Incoming::of(&mut script("SSH-2.0-x\r\n\r\n"), b"", &Method::GET).unwrap().is_none());
    }
}
