//! The streams that a client opens one way (RFC 9114 §6.2): its control stream and QPACK's two.
//!
//! Nothing here is kept but a frame of settings, and of that no more than its bound.

use bytes::{Bytes, BytesMut};

use super::frame::{self, Cutter, Part};
use super::{Code, Offence};

/// What a stream is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Frames about the connection.
    Control,
    /// Instructions of the client's QPACK encoder.
    Encoder,
    /// Feedback of the client's QPACK decoder.
    Decoder,
    /// Something else, to be ignored.
    Unknown,
}

/// One stream of a client.
#[derive(Debug, Default)]
pub struct Stream {
    state: State,
    skipped: u64,
}

#[derive(Debug, Default)]
enum State {
    /// Its type is not all there.
    #[default]
    New,
    /// As much of its type as is.
    Partial(BytesMut),
    Control(Control),
    Encoder,
    Decoder(Feedback),
    Unknown,
}

/// A control stream.
#[derive(Debug)]
struct Control {
    cutter: Cutter,
    inside: u64,
    payload: BytesMut,
    settled: bool,
    max_push: Option<u64>,
    goaway: Option<u64>,
    /// Largest unknown frame.
    unknown: u64,
}

/// Largest frame on a control stream that we know: settings, some hundred of them.
const LARGEST: u64 = 4096;

impl Stream {
    /// Takes what has come. Gives the purpose once it is known, at that moment only; unknown frames may have `unknown`
    /// bytes.
    ///
    /// # Errors
    /// What ends the connection.
    pub fn feed(&mut self, mut input: Bytes, unknown: u64) -> Result<Option<Purpose>, Offence> {
        let found = match &mut self.state {
            State::New | State::Partial(_) => self.open(&mut input, unknown)?,
            _ => None,
        };
        match &mut self.state {
            State::New | State::Partial(_) => {}
            State::Control(control) => self.skipped = self.skipped.saturating_add(control.feed(&mut input)?),
            State::Encoder => instructions(&input)?,
            State::Decoder(feedback) => {
                feedback.feed(&input)?;
                self.skipped = self.skipped.saturating_add(input.len() as u64);
            }
            State::Unknown => self.skipped = self.skipped.saturating_add(input.len() as u64),
        }
        Ok(found)
    }

    /// Notes the end of the stream.
    ///
    /// # Errors
    /// RFC 9114 §6.2.1, RFC 9204 §4.2: the connection cannot be without some.
    pub const fn finish(&self) -> Result<(), Offence> {
        match self.state {
            State::New | State::Partial(_) | State::Unknown => Ok(()),
            State::Control(_) => Err(Offence::new(Code::ClosedCriticalStream, "control stream ended")),
            State::Encoder | State::Decoder(_) => Err(Offence::new(Code::ClosedCriticalStream, "QPACK stream ended")),
        }
    }

    /// Bytes skipped since the last call.
    pub const fn take_skipped(&mut self) -> u64 {
        std::mem::replace(&mut self.skipped, 0)
    }

    fn open(&mut self, input: &mut Bytes, unknown: u64) -> Result<Option<Purpose>, Offence> {
        let mut held = match std::mem::take(&mut self.state) {
            State::Partial(held) => held,
            _ => BytesMut::new(),
        };
        // No type is longer.
        let more = input.split_to(input.len().min(8 - held.len().min(8)));
        held.extend_from_slice(&more);
        let mut rest = held.as_ref();
        let Some(kind) = frame::take_integer(&mut rest) else {
            self.state = State::Partial(held);
            return Ok(None);
        };
        let rest = Bytes::copy_from_slice(rest);
        if !rest.is_empty() {
            *input = [rest.as_ref(), input.as_ref()].concat().into();
        }
        let (state, purpose) = match kind {
            0x00 => (State::Control(Control::new(unknown)), Purpose::Control),
            // RFC 9114 §6.2.2: only servers push.
            0x01 => return Err(Offence::new(Code::StreamCreationError, "push stream of a client")),
            0x02 => (State::Encoder, Purpose::Encoder),
            0x03 => (State::Decoder(Feedback::default()), Purpose::Decoder),
            _ => (State::Unknown, Purpose::Unknown),
        };
        self.state = state;
        Ok(Some(purpose))
    }
}

/// RFC 9204 §4.3: with a capacity of zero, nothing can be inserted; setting it to zero is all that is left.
fn instructions(input: &[u8]) -> Result<(), Offence> {
    // §4.3.1: Set Dynamic Table Capacity is 001 and five bits.
    if input.iter().all(|byte| *byte == 0x20) {
        return Ok(());
    }
    Err(Offence::new(Code::EncoderStreamError, "instruction beyond the table's capacity"))
}

/// RFC 9204 §4.4: we insert nothing and refer to nothing, so that only a cancellation makes sense.
#[derive(Debug, Default)]
struct Feedback {
    /// Within a Stream Cancellation (§4.4.2) that goes on, and for how many bytes.
    within: u8,
}

impl Feedback {
    fn feed(&mut self, input: &[u8]) -> Result<(), Offence> {
        for byte in input {
            if self.within > 0 {
                self.within = if byte & 0x80 == 0 { 0 } else { self.within.saturating_add(1) };
                if self.within > 10 {
                    return Err(Offence::new(Code::DecoderStreamError, "integer too large"));
                }
            } else if byte & 0xc0 == 0x40 {
                self.within = u8::from(byte & 0x3f == 0x3f);
            } else {
                return Err(Offence::new(Code::DecoderStreamError, "feedback about an empty table"));
            }
        }
        Ok(())
    }
}

impl Control {
    fn new(unknown: u64) -> Self {
        Self {
            cutter: Cutter::new(),
            inside: 0,
            payload: BytesMut::new(),
            settled: false,
            max_push: None,
            goaway: None,
            unknown,
        }
    }

    /// Bytes that meant nothing.
    fn feed(&mut self, input: &mut Bytes) -> Result<u64, Offence> {
        let mut skipped = 0_u64;
        while let Some(part) = self.cutter.next(input) {
            match part {
                Part::Head { kind, length } => {
                    self.begin(kind, length)?;
                    // What we know means little as well once the settings are there.
                    skipped = skipped.saturating_add(2).saturating_add(length);
                }
                Part::Payload(payload) if is_known(self.inside) => self.payload.extend_from_slice(&payload),
                Part::Payload(_) => {}
                Part::End => {
                    let payload = std::mem::take(&mut self.payload);
                    self.end(&payload)?;
                }
            }
        }
        Ok(skipped)
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<(), Offence> {
        self.inside = kind;
        let unexpected = |what| Err(Offence::new(Code::FrameUnexpected, what));
        match kind {
            frame::SETTINGS if self.settled => return unexpected("settings twice"),
            frame::SETTINGS => self.settled = true,
            // RFC 9114 §6.2.1.
            _ if !self.settled => return Err(Offence::new(Code::MissingSettings, "no settings first")),
            frame::DATA | frame::HEADERS | frame::PUSH_PROMISE => {
                return unexpected("request frame on a control stream");
            }
            kind if frame::is_of_http2(kind) => return unexpected("frame of HTTP/2"),
            _ => {}
        }
        if length > if is_known(kind) { LARGEST } else { self.unknown } {
            return Err(Offence::new(Code::ExcessiveLoad, "control frame exceeds its bound"));
        }
        Ok(())
    }

    fn end(&mut self, payload: &[u8]) -> Result<(), Offence> {
        match self.inside {
            frame::SETTINGS => settings(payload),
            frame::MAX_PUSH_ID => {
                let id = single(payload)?;
                // RFC 9114 §7.2.7: it never falls.
                if self.max_push.is_some_and(|before| id < before) {
                    return Err(Offence::new(Code::IdError, "MAX_PUSH_ID fell"));
                }
                self.max_push = Some(id);
                Ok(())
            }
            frame::GOAWAY => {
                let id = single(payload)?;
                // RFC 9114 §5.2: it never rises.
                if self.goaway.is_some_and(|before| id > before) {
                    return Err(Offence::new(Code::IdError, "GOAWAY rose"));
                }
                self.goaway = Some(id);
                Ok(())
            }
            frame::CANCEL_PUSH => {
                single(payload)?;
                // RFC 9114 §7.2.3: nothing was promised.
                Err(Offence::new(Code::IdError, "cancels a push that was never promised"))
            }
            _ => Ok(()),
        }
    }
}

const fn is_known(kind: u64) -> bool {
    matches!(kind, frame::SETTINGS | frame::GOAWAY | frame::MAX_PUSH_ID | frame::CANCEL_PUSH)
}

/// A payload that is one integer.
fn single(mut payload: &[u8]) -> Result<u64, Offence> {
    match frame::take_integer(&mut payload) {
        Some(id) if payload.is_empty() => Ok(id),
        // RFC 9114 §7.1.
        _ => Err(Offence::new(Code::FrameError, "payload is not one integer")),
    }
}

/// Checks a frame of settings (RFC 9114 §7.2.4). None of them changes what we do: we use no dynamic table, promise
/// nothing, and answer with heads of a few KiB.
fn settings(mut payload: &[u8]) -> Result<(), Offence> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let (Some(id), Some(value)) = (frame::take_integer(&mut payload), frame::take_integer(&mut payload)) else {
            return Err(Offence::new(Code::FrameError, "settings end within one"));
        };
        // RFC 9114 §7.2.4.1: HTTP/2's own.
        if matches!(id, 0x2..=0x5) {
            return Err(Offence::new(Code::SettingsError, "setting of HTTP/2"));
        }
        // RFC 8441 §3, RFC 9220 §3: a switch; RFC 9297 §2.1.1: another.
        if matches!(id, 0x8 | 0x33) && value > 1 {
            return Err(Offence::new(Code::SettingsError, "switch that is neither 0 nor 1"));
        }
        if seen.contains(&id) || seen.len() == MOST_SETTINGS {
            return Err(Offence::new(Code::SettingsError, "setting twice, or too many"));
        }
        seen.push(id);
    }
    Ok(())
}

/// Settings in one frame.
const MOST_SETTINGS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_bytes(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::put_head(&mut bytes, kind, payload.len());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn control(frames: &[(u64, &[u8])]) -> Vec<u8> {
        let frames = frames.iter().flat_map(|(kind, payload)| frame_bytes(*kind, payload));
        [0].into_iter().chain(frames).collect()
    }

    /// The code that a stream gets, whole and byte by byte.
    fn verdict(bytes: &[u8]) -> Option<Code> {
        let whole = Stream::default().feed(Bytes::copy_from_slice(bytes), 50).err().map(|offence| offence.code);
        let mut stream = Stream::default();
        let by_byte = bytes.iter().find_map(|byte| stream.feed(Bytes::copy_from_slice(&[*byte]), 50).err());
        assert_eq!(by_byte.map(|offence| offence.code), whole, "depends on how it came: {bytes:x?}");
        whole
    }

    #[test]
    fn what_a_browser_sends_is_taken() {
        // Grease among the settings and as a frame.
        let settings: &[u8] = &[0x06, 0x80, 0x04, 0x00, 0x00, 0x33, 0x01, 0x40, 0x40, 0x05];

        assert_eq!(
            verdict(&control(&[(4, settings), (0xd, &[0x00]), (0x21, b"grease"), (0xd, &[0x08]), (7, &[0])])),
            None
        );
        assert_eq!(verdict(&[0x02, 0x20]), None);
        assert_eq!(verdict(&[0x03, 0x40, 0x7f, 0x80, 0x01]), None);
        assert_eq!(verdict(&[0x40, 0x54, 1, 2, 3]), None);
    }

    #[test]
    fn offences_get_the_code_of_the_specification() {
        let cases: [(Vec<u8>, Code); 17] = [
            (control(&[(7, &[0])]), Code::MissingSettings),
            (control(&[(0x21, b"")]), Code::MissingSettings),
            (control(&[(4, b""), (4, b"")]), Code::FrameUnexpected),
            (control(&[(4, b""), (0, b"")]), Code::FrameUnexpected),
            (control(&[(4, b""), (1, b"")]), Code::FrameUnexpected),
            (control(&[(4, b""), (5, b"")]), Code::FrameUnexpected),
            (control(&[(4, b""), (8, b"")]), Code::FrameUnexpected),
            (control(&[(4, &[6])]), Code::FrameError),
            (control(&[(4, &[6, 1, 6, 2])]), Code::SettingsError),
            (control(&[(4, &[2, 1])]), Code::SettingsError),
            (control(&[(4, &[8, 2])]), Code::SettingsError),
            (control(&[(4, b""), (0xd, &[8]), (0xd, &[4])]), Code::IdError),
            (control(&[(4, b""), (7, &[0]), (7, &[4])]), Code::IdError),
            (control(&[(4, b""), (3, &[0])]), Code::IdError),
            (control(&[(4, b""), (7, &[0, 0])]), Code::FrameError),
            (control(&[(4, b""), (0x21, &[0; 60])]), Code::ExcessiveLoad),
            (vec![0x01, 0x00], Code::StreamCreationError),
        ];

        for (bytes, code) in cases {
            assert_eq!(verdict(&bytes), Some(code), "{bytes:x?}");
        }
        assert_eq!(verdict(&[0x02, 0x3f, 0x01]), Some(Code::EncoderStreamError));
        assert_eq!(verdict(&[0x02, 0xc0, 0x00]), Some(Code::EncoderStreamError));
        assert_eq!(verdict(&[0x03, 0x01]), Some(Code::DecoderStreamError));
        assert_eq!(verdict(&[0x03, 0x80]), Some(Code::DecoderStreamError));
    }

    #[test]
    fn critical_streams_must_not_end() {
        for (kind, ends) in [(0, false), (2, false), (3, false), (0x21, true)] {
            let mut stream = Stream::default();
            stream.feed(Bytes::copy_from_slice(&[kind]), 50).unwrap();

            assert_eq!(stream.finish().is_ok(), ends, "{kind}");
        }
    }
}
