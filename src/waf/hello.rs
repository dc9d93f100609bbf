//! What a client's first TLS message looks like: its JA4.
//!
//! Part of `waf`. In: the first bytes of a connection, or a ClientHello as QUIC carries it. Out: the fingerprint, by the
//! public definition of JA4 (of TLS clients; BSD 3-clause, FoxIO): counts and sorted lists of what the client offers,
//! hashed. Reads what is there and bounds what it reads; whatever is no ClientHello has no fingerprint, and is for the
//! TLS library to refuse. Deliberately absent: any opinion of which fingerprint is whose.

use aws_lc_rs::digest::{SHA256, digest};

use crate::lexicon::Fingerprint;

/// What looking at the first bytes has brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// More bytes are needed.
    More,
    /// There is no ClientHello of a size that clients send.
    Nothing,
    /// There is.
    Found(Fingerprint),
}

/// What carries the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// TLS over TCP.
    Tcp,
    /// QUIC.
    Quic,
}

/// Bytes that are looked at, at most; a ClientHello with post-quantum shares has 2 KiB.
pub const LONGEST: usize = 16 * 1024;

/// Records over which a ClientHello may be spread.
const MAX_RECORDS: usize = 16;

/// Looks at the first bytes of a TCP connection: records of TLS (RFC 8446 §5.1).
pub fn look(bytes: &[u8]) -> Look {
    let mut message = Vec::new();
    let mut rest = bytes;
    for record in 0..MAX_RECORDS {
        let [kind, after_kind @ ..] = rest else { return more(bytes) };
        if *kind != 22 {
            return Look::Nothing;
        }
        let [major, _minor, high, low, content @ ..] = after_kind else { return more(bytes) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *major != 3 || length == 0 {
            return Look::Nothing;
        }
        let (part, behind) = content.split_at_checked(length).unwrap_or((content, &[]));
        if record == 0 && part.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Look::Nothing;
        }
        // One record holds it nearly always: then nothing is copied.
        let so_far: &[u8] = if record == 0 {
            part
        } else {
            message.extend_from_slice(part);
            &message
        };
        match whole(so_far) {
            Some(hello) => return read(hello, Carrier::Tcp).map_or(Look::Nothing, Look::Found),
            None if part.len() < length => return more(bytes),
            None if record == 0 => message.extend_from_slice(part),
            None => {}
        }
        rest = behind;
    }
    Look::Nothing
}

/// The fingerprint of a ClientHello with its message header (RFC 8446 §4), as QUIC's CRYPTO frames carry it; `None` while
/// it is not whole.
pub fn of_message(message: &[u8], carrier: Carrier) -> Option<Fingerprint> {
    read(whole(message)?, carrier)
}

const fn more(bytes: &[u8]) -> Look {
    if bytes.len() < LONGEST { Look::More } else { Look::Nothing }
}

const CLIENT_HELLO: u8 = 1;

/// The content of a ClientHello, once all of it is there.
fn whole(message: &[u8]) -> Option<&[u8]> {
    let [CLIENT_HELLO, high, middle, low, content @ ..] = message else { return None };
    content.get(..usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).ok()?)
}

/// Takes pieces off a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(piece)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A vector with one byte of length.
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// A vector with two bytes of length.
    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.short()?;
        self.take(length.into())
    }
}

/// Numbers of two bytes, without GREASE (RFC 8701), which is there to be ignored.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let pairs = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes));
    pairs.filter(|number| !is_grease(*number))
}

const fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

fn read(hello: &[u8], carrier: Carrier) -> Option<Fingerprint> {
    let mut hello = Reader(hello);
    let mut version = hello.short()?;
    hello.take(32)?; // random
    hello.vector8()?; // session id
    let mut ciphers: Vec<u16> = numbers(hello.vector16()?).collect();
    hello.vector8()?; // compression methods
    let mut extensions = Vec::new();
    let mut signatures = Vec::new();
    let mut alpn = *b"00";
    let mut named = false;
    // RFC 8446 §4.1.2: an older client may end here.
    let mut block = Reader(if hello.0.is_empty() { &[] } else { hello.vector16()? });
    while !block.0.is_empty() {
        let kind = block.short()?;
        let mut content = Reader(block.vector16()?);
        if is_grease(kind) {
            continue;
        }
        extensions.push(kind);
        match kind {
            SERVER_NAME => named = true,
            ALPN => alpn = first_protocol(&mut content).unwrap_or(alpn),
            SIGNATURE_ALGORITHMS => {
                signatures = content.vector16().map(|all| numbers(all).collect()).unwrap_or_default()
            }
            SUPPORTED_VERSIONS => {
                version = content.vector8().and_then(|all| numbers(all).max()).unwrap_or(version);
            }
            _ => {}
        }
    }
    let mut text = [b'0'; 36];
    let counts = [two_digits(ciphers.len()), two_digits(extensions.len())];
    ciphers.sort_unstable();
    extensions.retain(|kind| !matches!(*kind, SERVER_NAME | ALPN));
    extensions.sort_unstable();
    let mut listed = hex(&ciphers);
    let hash_of_ciphers = hash(&listed);
    listed = hex(&extensions);
    if !signatures.is_empty() && !extensions.is_empty() {
        listed.push(b'_');
        listed.extend_from_slice(&hex(&signatures));
    }
    let hash_of_extensions = hash(&listed);
    let transport = if carrier == Carrier::Tcp { b"t" } else { b"q" };
    let host = if named { b"d" } else { b"i" };
    let [ciphers, extensions] = counts;
    let parts: [&[u8]; 10] = [
        transport,
        version_word(version),
        host,
        &ciphers,
        &extensions,
        &alpn,
        b"_",
        &hash_of_ciphers,
        b"_",
        &hash_of_extensions,
    ];
    for (into, byte) in text.iter_mut().zip(parts.into_iter().flatten()) {
        *into = *byte;
    }
    Fingerprint::new(text)
}

/// The first and the last character of the first protocol offered; of its hexadecimal form if either is no letter or
/// digit.
fn first_protocol(content: &mut Reader<'_>) -> Option<[u8; 2]> {
    let mut list = Reader(content.vector16()?);
    let name = list.vector8()?;
    let (first, last) = (*name.first()?, *name.last()?);
    match first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        true => Some([first, last]),
        false => Some([digit(first >> 4), digit(last & 0xf)]),
    }
}

const fn version_word(version: u16) -> &'static [u8; 2] {
    match version {
        0x0304 => b"13",
        0x0303 => b"12",
        0x0302 => b"11",
        0x0301 => b"10",
        0x0300 => b"s3",
        0x0002 => b"s2",
        _ => b"00",
    }
}

fn two_digits(count: usize) -> [u8; 2] {
    let count = u8::try_from(count.min(99)).unwrap_or(99);
    [digit(count / 10), digit(count % 10)]
}

fn digit(value: u8) -> u8 {
    b"0123456789abcdef".get(usize::from(value)).copied().unwrap_or(b'0')
}

/// `1301,1302,c02b`.
fn hex(numbers: &[u16]) -> Vec<u8> {
    let mut text = Vec::with_capacity(numbers.len().saturating_mul(5));
    for number in numbers {
        if !text.is_empty() {
            text.push(b',');
        }
        for byte in number.to_be_bytes() {
            text.extend([digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
    text
}

/// The first twelve characters of the hash; zeros for an empty list.
fn hash(list: &[u8]) -> [u8; 12] {
    let mut text = [b'0'; 12];
    if !list.is_empty() {
        let hash = digest(&SHA256, list);
        let characters = hash.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
        for (into, character) in text.iter_mut().zip(characters) {
            *into = character;
        }
    }
    text
}

#[cfg(test)]
mod tests;
