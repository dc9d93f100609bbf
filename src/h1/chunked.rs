//! The chunked transfer coding (RFC 9112 §7.1), decoded strictly.

use bytes::{Buf as _, Bytes, BytesMut};

use super::decode::Decoded;
use super::{HeadScan, head};

/// Bytes that chunk extensions of one body may take in sum; they are read and dropped (RFC 9112 §7.1.1).
const MAX_EXTENSIONS: usize = 16 * 1024;

/// A decoder in the middle of a body.
#[derive(Clone, Copy, Debug)]
pub struct Chunked {
    state: State,
    extensions: usize,
    max_trailer: usize,
    scan: HeadScan,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the line with the chunk's size.
    Size,
    /// In the chunk's data, that many bytes left.
    Data(u64),
    /// At the line end after the data.
    DataEnd,
    /// In the trailer section.
    Trailers,
}

impl Chunked {
    /// A decoder before the first chunk that allows `max_trailer` bytes of trailers.
    pub fn new(max_trailer: usize) -> Self {
        Self { state: State::Size, extensions: 0, max_trailer, scan: HeadScan::default() }
    }

    /// The next step from `bytes`, which are consumed as far as understood.
    ///
    /// # Errors
    /// What breaks the grammar.
    pub fn decode(&mut self, bytes: &mut BytesMut) -> Result<Decoded, &'static str> {
        loop {
            match self.state {
                State::Size => match self.size_line(bytes)? {
                    None => return Ok(Decoded::NeedMore),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(left) => {
                    if bytes.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let left = left.saturating_sub(take as u64);
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Decoded::Data(bytes.split_to(take).freeze()));
                }
                State::DataEnd => match (bytes.first(), bytes.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        bytes.advance(2);
                        self.state = State::Size;
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok(Decoded::NeedMore),
                    _ => return Err("chunk data is not followed by a line end"),
                },
                State::Trailers => return self.trailers(bytes),
            }
        }
    }

    /// `chunk-size [ chunk-ext ] CRLF`; `None` while the line is incomplete.
    fn size_line(&mut self, bytes: &mut BytesMut) -> Result<Option<u64>, &'static str> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            // The digits are judged as they come, so that a line that never ends is refused early.
            if bytes.len() > 16 && !bytes.iter().take(17).any(|byte| *byte == b';') {
                return Err("chunk size");
            }
            return if bytes.len() > MAX_EXTENSIONS { Err("chunk extensions too long") } else { Ok(None) };
        };
        let line = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or("bare line feed in chunk size")?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == 0 || digits > 15 {
            return Err("chunk size");
        }
        let mut size = 0_u64;
        for digit in line.iter().take(digits) {
            let digit = char::from(*digit).to_digit(16).ok_or("chunk size")?;
            size = size << 4 | u64::from(digit);
        }
        let extension = line.get(digits..).unwrap_or_default();
        if !extension.is_empty() {
            // RFC 9112 §7.1.1: `BWS ";"`; we want the semicolon at once and no control characters.
            if extension.first() != Some(&b';')
                || extension.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
            {
                return Err("chunk size");
            }
            self.extensions = self.extensions.saturating_add(extension.len());
            if self.extensions > MAX_EXTENSIONS {
                return Err("chunk extensions too long");
            }
        }
        bytes.advance(end + 1);
        Ok(Some(size))
    }

    fn trailers(&mut self, bytes: &mut BytesMut) -> Result<Decoded, &'static str> {
        if bytes.starts_with(b"\r\n") {
            bytes.advance(2);
            return Ok(Decoded::End);
        }
        if matches!(bytes.as_ref(), [] | [b'\r']) {
            return Ok(Decoded::NeedMore);
        }
        match self.scan.find_end(bytes) {
            Ok(Some(end)) if end <= self.max_trailer => {
                let section: Bytes = bytes.split_to(end).freeze();
                Ok(Decoded::Trailers(head::parse_trailers(&section)?))
            }
            Ok(None) if bytes.len() <= self.max_trailer => Ok(Decoded::NeedMore),
            Ok(_) => Err("trailers too long"),
            Err(_) => Err("bare line feed in trailers"),
        }
    }
}
