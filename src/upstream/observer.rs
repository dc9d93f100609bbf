//! Watches the WebSocket frames that pass through one direction of a tunnel (RFC 6455 §5).
//!
//! Floor 3, pure. In: the bytes as they pass. Out: how many of them may pass, what was counted, or why they must not.
//! A header passes only once it is whole, so that what has passed always ends within a payload or between two frames:
//! there a frame of our own may stand (RFC 6455 §5.4), even between fragments. Deliberately absent: payloads. They
//! are neither read nor unmasked, so that extensions such as permessage-deflate (RFC 7692) pass unseen.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest frame header (RFC 6455 §5.2); less than this is held back at most.
pub const MAX_HEADER: usize = 14;

/// An end of a tunnel.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// Whoever asked for the tunnel. Masks its frames.
    Client,
    /// The endpoint. Does not.
    Upstream,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// Why bytes must not pass.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Offence {
    /// A frame's payload exceeds the bound (Close 1009).
    TooLarge,
    /// The framing breaks RFC 6455 (Close 1002).
    Malformed(&'static str),
}

/// What was seen in some bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Bytes from the front that may pass. The rest is the beginning of a header, to be shown again with more, or
    /// stands behind the boundary that was asked for, or behind the offence.
    pub passed: usize,
    /// Frames that ended, of any kind.
    pub frames: u64,
    /// Messages that ended: data frames with FIN.
    pub messages: u64,
    /// Why the next byte must not pass.
    pub offence: Option<Offence>,
}

/// Where to stop looking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// The end of what is at hand.
    End,
    /// The next boundary between two frames; at once when there is one.
    Boundary,
}

/// The frames of one direction.
#[derive(Clone, Debug)]
pub struct Observer {
    sender: Side,
    max_frame: u64,
    /// Payload of the present frame still to come.
    left: u64,
    /// The present frame.
    frame: OpCode,
    is_final: bool,
    /// Whether a message is under way, its last fragment not begun.
    fragmented: bool,
    /// Whether a Close has begun.
    closed: bool,
}

impl Observer {
    /// Watches what `sender` sends, frames of up to `max_frame` bytes of payload.
    pub const fn new(sender: Side, max_frame: u64) -> Self {
        Self {
            sender,
            max_frame,
            left: 0,
            frame: OpCode::Data(Data::Continue),
            is_final: true,
            fragmented: false,
            closed: false,
        }
    }

    /// Whether what has passed ends between two frames.
    pub const fn is_between_frames(&self) -> bool {
        self.left == 0
    }

    /// Whether a Close has passed, its payload apart.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Looks at `bytes`, which follow what has passed.
    pub fn look(&mut self, bytes: &[u8], until: Until) -> Seen {
        let mut seen = Seen::default();
        loop {
            let rest = bytes.get(seen.passed..).unwrap_or_default();
            if self.left > 0 {
                let payload = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                seen.passed = seen.passed.saturating_add(payload);
                self.left = self.left.saturating_sub(payload as u64);
                if self.left > 0 {
                    return seen;
                }
                self.end(&mut seen);
                continue;
            }
            if until == Until::Boundary || rest.is_empty() {
                return seen;
            }
            match self.begin(rest) {
                Ok(Some(length)) => {
                    seen.passed = seen.passed.saturating_add(length);
                    if self.left == 0 {
                        self.end(&mut seen);
                    }
                }
                Ok(None) => return seen,
                Err(offence) => {
                    seen.offence = Some(offence);
                    return seen;
                }
            }
        }
    }

    /// Reads a header; its length, or `None` when it is not whole.
    fn begin(&mut self, bytes: &[u8]) -> Result<Option<usize>, Offence> {
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Offence::Malformed("unknown opcode"))?;
        let Some((header, payload)) = parsed else {
            return Ok(None);
        };
        let length = usize::try_from(cursor.position()).unwrap_or(MAX_HEADER);
        // RFC 6455 §5.1: a client masks every frame, a server none.
        if header.mask.is_some() != (self.sender == Side::Client) {
            return Err(Offence::Malformed("frame masked by the wrong side"));
        }
        // RFC 6455 §5.2: the shortest encoding, and no more than 63 bits.
        if header.len(payload) != length || payload >> 63 != 0 {
            return Err(Offence::Malformed("payload length is not minimal"));
        }
        match header.opcode {
            // RFC 6455 §5.5.
            OpCode::Control(_) if payload > 125 || !header.is_final => {
                return Err(Offence::Malformed("control frame is fragmented or too long"));
            }
            OpCode::Control(control) => self.closed |= control == Control::Close,
            // RFC 6455 §5.4.
            OpCode::Data(Data::Continue) if !self.fragmented => {
                return Err(Offence::Malformed("continuation of nothing"));
            }
            OpCode::Data(Data::Text | Data::Binary) if self.fragmented => {
                return Err(Offence::Malformed("message within a message"));
            }
            OpCode::Data(_) if payload > self.max_frame => return Err(Offence::TooLarge),
            OpCode::Data(_) => self.fragmented = !header.is_final,
        }
        (self.frame, self.is_final, self.left) = (header.opcode, header.is_final, payload);
        Ok(Some(length))
    }

    /// Counts the frame that has ended.
    fn end(&self, seen: &mut Seen) {
        seen.frames = seen.frames.saturating_add(1);
        if self.is_final && matches!(self.frame, OpCode::Data(_)) {
            seen.messages = seen.messages.saturating_add(1);
        }
    }
}

/// A Close frame with `code` (RFC 6455 §5.5.1), as `sender` would send it.
pub fn close(sender: Side, code: u16) -> Vec<u8> {
    let payload = code.to_be_bytes();
    match sender {
        Side::Upstream => [&[0x88, 2], &payload[..]].concat(),
        Side::Client => {
            // RFC 6455 §5.3: a fresh mask. It hides nothing here: both payload bytes are ours.
            let mask = fastrand::u32(..).to_be_bytes();
            let masked: Vec<u8> = payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
            [&[0x88, 0x82], &mask[..], &masked].concat()
        }
    }
}

#[cfg(test)]
mod tests;
