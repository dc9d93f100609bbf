//! A client of HTTP/3 that says whatever a test wants, well formed or not: quinn, and frames by hand.

use std::net::SocketAddr;

use quinn::{ConnectionError, ReadError};
use sluicegate::h3::frame;

use super::h3::quic;
use super::{Pki, Rig, soon};

/// A literal field line without Huffman coding (RFC 9204 §4.5.6).
fn literal(section: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for (text, flags, mask) in [(name, 0x20_u8, 7_usize), (value, 0, 127)] {
        if text.len() < mask {
            section.push(flags | u8::try_from(text.len()).unwrap());
        } else {
            section.push(flags | u8::try_from(mask).unwrap());
            let mut rest = text.len() - mask;
            while rest >= 128 {
                section.push(u8::try_from(rest % 128).unwrap() | 0x80);
                rest /= 128;
            }
            section.push(u8::try_from(rest).unwrap());
        }
        section.extend_from_slice(text);
    }
}

/// Field lines.
pub(crate) type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The head of a request that nobody could object to.
pub(crate) const GOOD: [(&[u8], &[u8]); 4] =
    [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"test"), (b":path", b"/good")];

/// [`GOOD`] with further fields.
pub(crate) fn and<'a>(more: &[(&'a [u8], &'a [u8])]) -> Fields<'a> {
    GOOD.iter().copied().chain(more.iter().copied()).collect()
}

/// The same with POST.
pub(crate) fn post<'a>(more: &[(&'a [u8], &'a [u8])]) -> Fields<'a> {
    let mut fields = and(more);
    fields[0] = (b":method", b"POST");
    fields
}

/// A frame.
pub(crate) fn framed(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put_head(&mut bytes, kind, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

/// A HEADERS frame.
pub(crate) fn head(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut section = vec![0, 0];
    for (name, value) in fields {
        literal(&mut section, name, value);
    }
    framed(frame::HEADERS, &section)
}

/// The head of a frame of which no payload follows.
pub(crate) fn announced(kind: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put_integer(&mut bytes, kind);
    frame::put_integer(&mut bytes, length);
    bytes
}

/// A control stream with empty settings.
pub(crate) fn control() -> Vec<u8> {
    [vec![0], framed(frame::SETTINGS, b"")].concat()
}

/// A client without manners.
pub(crate) struct Rough {
    /// Its connection.
    pub(crate) quic: quinn::Connection,
    _endpoint: quinn::Endpoint,
    /// What it keeps open.
    pub(crate) open: Vec<quinn::SendStream>,
}

/// What became of a request.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The status, when it is a short literal or of the static table.
    Status(u16),
    /// The code of the stream's end.
    Reset(u64),
    /// The code of the connection's end.
    Closed(u64),
}

impl Rough {
    /// A connection with whatever is said on its control stream.
    pub(crate) async fn connect(rig: &Rig, control: &[u8]) -> Self {
        Self::connect_to(rig.secure, &rig.pki, control).await
    }

    /// The same by way of another address than the proxy's own.
    pub(crate) async fn connect_to(to: SocketAddr, pki: &Pki, control: &[u8]) -> Self {
        let (endpoint, quic) = quic(to, pki.client("h3", false)).await.unwrap();
        let mut rough = Self::over(endpoint, quic);
        rough.tell(control).await;
        rough
    }

    /// A connection that is there.
    pub(crate) const fn over(endpoint: quinn::Endpoint, quic: quinn::Connection) -> Self {
        Self { quic, _endpoint: endpoint, open: Vec::new() }
    }

    /// Opens a stream one way; it stays open.
    pub(crate) async fn tell(&mut self, bytes: &[u8]) {
        let mut stream = self.quic.open_uni().await.unwrap();
        drop(stream.write_all(bytes).await);
        self.open.push(stream);
    }

    /// Sends a request as it is, and its end if it `ends`.
    pub(crate) async fn send(&mut self, bytes: &[u8], ends: bool) -> quinn::RecvStream {
        let (mut send, recv) = self.quic.open_bi().await.unwrap();
        drop(send.write_all(bytes).await);
        if ends {
            drop(send.finish());
        } else {
            self.open.push(send);
        }
        recv
    }

    /// Sends a request and tells what became of it.
    pub(crate) async fn ask(&mut self, bytes: &[u8], ends: bool) -> Outcome {
        let mut recv = self.send(bytes, ends).await;
        outcome(&mut recv).await
    }

    /// What becomes of a request that nobody could object to.
    pub(crate) async fn good(&mut self) -> Outcome {
        self.ask(&head(&GOOD), true).await
    }

    /// The code of the connection's end.
    pub(crate) async fn ended(&self) -> u64 {
        closed(&soon("the end of the connection", self.quic.closed()).await)
    }
}

/// The code with which the other end closed a connection.
pub(crate) fn closed(error: &ConnectionError) -> u64 {
    match error {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("ended otherwise: {other:?}"),
    }
}

/// What became of a request, as its stream tells.
pub(crate) async fn outcome(recv: &mut quinn::RecvStream) -> Outcome {
    let mut bytes = Vec::new();
    loop {
        match soon("an answer", recv.read_chunk(usize::MAX, true)).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
            Ok(None) => return Outcome::Status(status(&bytes)),
            Err(ReadError::Reset(code)) => return Outcome::Reset(code.into_inner()),
            Err(ReadError::ConnectionLost(error)) => return Outcome::Closed(closed(&error)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The status of a response, from the static table or a literal behind its name.
fn status(bytes: &[u8]) -> u16 {
    let mut rest = bytes;
    assert_eq!(frame::take_integer(&mut rest), Some(frame::HEADERS));
    frame::take_integer(&mut rest).unwrap();
    match rest[2..] {
        [0xd9, ..] => 200,
        [0xff, 0x04, ..] => 400,
        [0xdb, ..] => 404,
        // Static name 24, three digits in two bytes of Huffman code, or plain.
        [0x5f, 0x09, ..] => {
            let mut lines = sluicegate::h3::qpack::Lines::of(bytes::Bytes::copy_from_slice(rest), 1 << 20).unwrap();
            let (_, value) = lines.line().unwrap().unwrap();
            std::str::from_utf8(&value).unwrap().parse().unwrap()
        }
        ref other => panic!("status: {:x?}", &other[..4]),
    }
}
