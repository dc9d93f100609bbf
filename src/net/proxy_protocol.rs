//! The header by which a proxy in front of us names its client (PROXY protocol, versions 1 and 2).
//!
//! Floor 3. In: the first bytes of a connection from a network that the listener trusts. Out: whom they name, and how
//! many bytes they take. Strict: a header is required there, and one that breaks the grammar ends the connection,
//! since whatever follows would be read as somebody else's request. Deliberately absent: guessing whether there is a
//! header; from all other networks these bytes are a request like any other. The clock is the caller's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;

use super::io::Socket;

/// A header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Header {
    /// The proxy speaks for itself (a health check), or does not know its client.
    Own,
    /// The proxy speaks for a client.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// Where the client had connected to.
        destination: SocketAddr,
    },
}

/// The bytes are no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed PROXY protocol header: {0}")]
pub struct Malformed(&'static str);

/// Reads the header of a connection; whom it names. What was read beyond it is given back to the socket.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] with a [`Malformed`], [`io::ErrorKind::UnexpectedEof`], and those of the socket.
pub async fn read(socket: &mut Socket) -> io::Result<Option<SocketAddr>> {
    let mut bytes = BytesMut::with_capacity(USUAL);
    loop {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(&bytes) {
            Err(malformed) => return Err(io::Error::new(io::ErrorKind::InvalidData, malformed)),
            // `parse` asks for no more than `MAX` bytes.
            Ok(None) => {}
            Ok(Some((header, length))) => {
                socket.unread(bytes.split_off(length).freeze());
                return Ok(match header {
                    Header::Own => None,
                    Header::Proxied { source, .. } => Some(source),
                });
            }
        }
    }
}

/// The header that `bytes` begin with, and its length; `None` when more bytes are needed.
///
/// # Errors
/// As soon as no further byte can make a header of them.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    if begins(bytes, V2_SIGNATURE) {
        version_2(bytes)
    } else if begins(bytes, b"PROXY ") {
        version_1(bytes)
    } else {
        Err(Malformed("no signature"))
    }
}

/// Room for every header without unusual extensions, in bytes.
const USUAL: usize = 536;

/// Longest header that is taken, in bytes.
pub const MAX: usize = 4096;

/// Longest header of version 1, line end included (section 2.1).
const V1_MAX: usize = 107;

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Whether `bytes` and `start` agree as far as both go.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(one, other)| one == other)
}

/// Section 2.1: one line of text.
fn version_1(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let window = bytes.get(..V1_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memchr2(b'\r', b'\n', window) else {
        return if bytes.len() < V1_MAX { Ok(None) } else { Err(Malformed("line too long")) };
    };
    let (line, rest) = window.split_at_checked(end).ok_or(Malformed("line"))?;
    match rest {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if bytes.len() < V1_MAX => return Ok(None),
        _ => return Err(Malformed("line end")),
    }
    let line = std::str::from_utf8(line).map_err(|_| Malformed("not text"))?;
    let length = end.saturating_add(2);
    let mut words = line.split(' ');
    let header = match (words.next(), words.next()) {
        // What follows is to be ignored.
        (Some("PROXY"), Some("UNKNOWN")) => return Ok(Some((Header::Own, length))),
        (Some("PROXY"), Some("TCP4")) => {
            version_1_addresses(&mut words, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::from))
        }
        (Some("PROXY"), Some("TCP6")) => {
            version_1_addresses(&mut words, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::from))
        }
        _ => return Err(Malformed("unknown protocol")),
    };
    match (header, words.next()) {
        (Some(header), None) => Ok(Some((header, length))),
        _ => Err(Malformed("addresses")),
    }
}

fn version_1_addresses<'a>(
    words: &mut impl Iterator<Item = &'a str>,
    address: impl Fn(&str) -> Option<IpAddr>,
) -> Option<Header> {
    let (source, destination) = (address(words.next()?)?, address(words.next()?)?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    Some(proxied(SocketAddr::new(source, from), SocketAddr::new(destination, to)))
}

/// A decimal number without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// Addresses as the rest of the proxy compares them: an IPv4 client is an IPv4 client.
const fn proxied(source: SocketAddr, destination: SocketAddr) -> Header {
    Header::Proxied {
        source: SocketAddr::new(source.ip().to_canonical(), source.port()),
        destination: SocketAddr::new(destination.ip().to_canonical(), destination.port()),
    }
}

/// Section 2.2: binary.
fn version_2(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(([.., version, family, high, low], rest)) = bytes.split_first_chunk::<16>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let whole = length.saturating_add(16);
    if whole > MAX {
        return Err(Malformed("header too long"));
    }
    let command = match version {
        0x20 => Command::Local,
        0x21 => Command::Proxy,
        _ => return Err(Malformed("version or command")),
    };
    let Some(content) = rest.get(..length) else { return Ok(None) };
    let header = match (command, family) {
        // The addresses of LOCAL are to be discarded, whatever they are; UNSPEC has none.
        (Command::Local, _) => return Ok(Some((Header::Own, whole))),
        (Command::Proxy, 0x00) => return Ok(Some((Header::Own, whole))),
        (Command::Proxy, 0x11) => addresses::<4, 12>(content),
        (Command::Proxy, 0x21) => addresses::<16, 36>(content),
        // Datagrams and Unix sockets name nobody who could have opened this connection.
        (Command::Proxy, _) => return Err(Malformed("address family")),
    };
    let (header, extensions) = header.ok_or(Malformed("addresses"))?;
    check_extensions(bytes.get(..whole).unwrap_or(bytes), extensions)?;
    Ok(Some((header, whole)))
}

#[derive(Clone, Copy)]
enum Command {
    Local,
    Proxy,
}

/// Two addresses of `N` bytes and two ports, `ALL` bytes in sum; what follows them.
fn addresses<const N: usize, const ALL: usize>(content: &[u8]) -> Option<(Header, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (_, extensions) = content.split_first_chunk::<ALL>()?;
    let (source, rest) = content.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let (to, _) = rest.split_first_chunk::<2>()?;
    let source = SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*from));
    let destination = SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*to));
    Some((proxied(source, destination), extensions))
}

/// Section 2.2: type, length, value each. They are skipped, except for the checksum.
fn check_extensions(header: &[u8], mut extensions: &[u8]) -> Result<(), Malformed> {
    const CRC32C: u8 = 0x03;
    while let Some((kind, rest)) = extensions.split_first() {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(Malformed("extension"))?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed("extension"))?;
        if *kind == CRC32C {
            let wanted = value.try_into().map(u32::from_be_bytes).map_err(|_| Malformed("checksum"))?;
            // The checksum's own bytes count as zeros.
            let start = header.len().saturating_sub(rest.len()).saturating_sub(value.len());
            let (before, behind) = header.split_at_checked(start).ok_or(Malformed("checksum"))?;
            let behind = behind.iter().skip(value.len());
            let all = before.iter().copied().chain([0; 4]).chain(behind.copied());
            if crc32c(all) != wanted {
                return Err(Malformed("checksum"));
            }
        }
        extensions = rest;
    }
    Ok(())
}

/// RFC 9260 appendix A. Bit by bit: a header is short.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests;
