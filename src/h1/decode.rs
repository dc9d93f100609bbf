//! Takes a body out of a stream of bytes.

use bytes::{Bytes, BytesMut};

use super::chunked::Chunked;
use super::framing::Framing;
use crate::head::Fields;

/// Progress through a body.
#[derive(Clone, Copy, Debug)]
pub enum Decoder {
    /// Nothing is left.
    Done,
    /// That many bytes are left.
    Length(u64),
    /// In the middle of chunks.
    Chunked(Chunked),
    /// Everything until the end of the connection.
    UntilClose,
}

/// One step of a body.
#[derive(Debug)]
pub enum Decoded {
    /// More bytes are needed.
    NeedMore,
    /// Content, never empty.
    Data(Bytes),
    /// Trailers; the body is over.
    Trailers(Fields),
    /// The body is over.
    End,
}

impl Decoder {
    /// A decoder for a body of that extent.
    pub fn new(framing: Framing, max_trailer: usize) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::new(max_trailer)),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// The next step from `bytes`, which are consumed as far as understood. What follows the body stays.
    ///
    /// # Errors
    /// What breaks the grammar; nothing more can be understood then.
    pub fn decode(&mut self, bytes: &mut BytesMut) -> Result<Decoded, &'static str> {
        match self {
            Self::Done => Ok(Decoded::End),
            Self::Length(_) | Self::UntilClose if bytes.is_empty() => Ok(Decoded::NeedMore),
            Self::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left = left.saturating_sub(take as u64);
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Decoded::Data(bytes.split_to(take).freeze()))
            }
            Self::UntilClose => Ok(Decoded::Data(bytes.split().freeze())),
            Self::Chunked(chunked) => {
                let decoded = chunked.decode(bytes)?;
                if matches!(decoded, Decoded::End | Decoded::Trailers(_)) {
                    *self = Self::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// Bytes of content left, when known.
    pub const fn remaining(&self) -> Option<u64> {
        match self {
            Self::Done => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Whether nothing is left.
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(wire: &[u8], step: usize) -> Result<(Vec<u8>, Option<Fields>, usize), &'static str> {
        let mut decoder = Decoder::new(Framing::Chunked, 1024);
        let mut bytes = BytesMut::new();
        let mut content = Vec::new();
        let mut feed = wire.chunks(step.max(1));
        loop {
            match decoder.decode(&mut bytes)? {
                Decoded::Data(data) => content.extend_from_slice(&data),
                Decoded::Trailers(trailers) => {
                    return Ok((content, Some(trailers), bytes.len() + feed.map(<[u8]>::len).sum::<usize>()));
                }
                Decoded::End => return Ok((content, None, bytes.len() + feed.map(<[u8]>::len).sum::<usize>())),
                Decoded::NeedMore => match feed.next() {
                    Some(more) => bytes.extend_from_slice(more),
                    None => return Err("incomplete"),
                },
            }
        }
    }

    #[test]
    fn chunks_are_joined_whatever_the_packets() {
        let wire = b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nDigest: z\r\n\r\nNEXT";
        for step in 1..wire.len() {
            let (content, trailers, left) = chunks(wire, step).unwrap();
            assert_eq!(content, b"abc0123456789");
            assert_eq!(trailers.unwrap()["digest"], "z");
            assert_eq!(left, 4, "what follows is not touched (step {step})");
        }
    }

    #[test]
    fn odd_chunks_are_refused() {
        let cases: [&[u8]; 16] = [
            b"\r\nabc",
            b"g\r\n",
            b"-1\r\n",
            b"+1\r\na\r\n",
            b"0x1\r\na\r\n",
            b"1 \r\na\r\n0\r\n\r\n",
            b" 1\r\na\r\n0\r\n\r\n",
            b"1\na\r\n0\r\n\r\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\na\r0\r\n\r\n",
            b"FFFFFFFFFFFFFFFF\r\n",
            b"1000000000000000000000\r\n",
            b"1;a\x00\r\na\r\n0\r\n\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
        ];
        for wire in cases {
            let got = chunks(wire, 1);
            assert!(matches!(got, Err(what) if what != "incomplete"), "{}", String::from_utf8_lossy(wire));
        }
    }
}
