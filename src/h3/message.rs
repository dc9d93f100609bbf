//! The frames of a request stream, in the only order that RFC 9114 §4.1 allows: HEADERS, DATA, HEADERS.
//!
//! This is the guard of a request stream: a field section is kept up to its bound, content passes as it comes, unknown
//! frames are skipped, and everything else ends the connection before its payload is looked at.

use bytes::{Bytes, BytesMut};

use super::frame::{self, Cutter, Part};
use super::{Code, Offence};

/// Bounds on frames that are kept or skipped.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Encoded bytes of a head.
    pub head: usize,
    /// Encoded bytes of a trailer section.
    pub trailers: usize,
    /// Bytes of a frame of unknown type.
    pub unknown: u64,
}

/// What a request stream carries.
#[derive(Debug, Eq, PartialEq)]
pub enum Event {
    /// The encoded head.
    Head(Bytes),
    /// Content. Never empty.
    Content(Bytes),
    /// The encoded trailer section.
    Trailers(Bytes),
    /// A field section exceeds its bound; nothing of it was kept, and nothing more can be read.
    TooLarge,
}

/// Reads one request stream.
#[derive(Debug)]
pub struct Message {
    bounds: Bounds,
    cutter: Cutter,
    stage: Stage,
    inside: Inside,
    /// Bytes that meant nothing.
    skipped: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Head,
    Content,
    End,
}

/// The frame that is being read.
#[derive(Debug)]
enum Inside {
    Nothing,
    Section(BytesMut),
    Content,
    Unknown,
    TooLarge,
}

impl Message {
    /// A stream of which nothing was read.
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, cutter: Cutter::new(), stage: Stage::Head, inside: Inside::Nothing, skipped: 0 }
    }

    /// Takes the next event off the front of `input`; `None` when more input is needed.
    ///
    /// # Errors
    /// What ends the connection.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Event>, Offence> {
        if matches!(self.inside, Inside::TooLarge) {
            input.clear();
            return Ok(None);
        }
        while let Some(part) = self.cutter.next(input) {
            match (part, &mut self.inside) {
                (Part::Head { kind, length }, _) => {
                    if let Some(event) = self.begin(kind, length)? {
                        return Ok(Some(event));
                    }
                }
                (Part::Payload(payload), Inside::Content) => return Ok(Some(Event::Content(payload))),
                (Part::Payload(payload), Inside::Section(section)) => section.extend_from_slice(&payload),
                (Part::Payload(payload), _) => self.skipped = self.skipped.saturating_add(payload.len() as u64),
                (Part::End, inside) => {
                    if let Inside::Section(section) = std::mem::replace(inside, Inside::Nothing) {
                        let section = section.freeze();
                        return Ok(Some(match self.stage {
                            Stage::Head => {
                                self.stage = Stage::Content;
                                Event::Head(section)
                            }
                            Stage::Content | Stage::End => {
                                self.stage = Stage::End;
                                Event::Trailers(section)
                            }
                        }));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether the head has come, when the stream ends here.
    ///
    /// # Errors
    /// When it ends within a frame (RFC 9114 §7.1).
    pub fn finish(&self) -> Result<bool, Offence> {
        if !self.cutter.is_between() && !matches!(self.inside, Inside::TooLarge) {
            return Err(Offence::new(Code::FrameError, "request stream ends within a frame"));
        }
        Ok(self.stage != Stage::Head)
    }

    /// Bytes skipped since the last call.
    pub const fn take_skipped(&mut self) -> u64 {
        std::mem::replace(&mut self.skipped, 0)
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<Option<Event>, Offence> {
        let unexpected = |what| Err(Offence::new(Code::FrameUnexpected, what));
        self.inside = match (kind, self.stage) {
            (frame::DATA, Stage::Content) => Inside::Content,
            (frame::DATA, Stage::Head) => return unexpected("DATA before HEADERS"),
            (frame::DATA | frame::HEADERS, Stage::End) => return unexpected("frame after the trailer section"),
            (frame::HEADERS, stage) => {
                let most = if stage == Stage::Head { self.bounds.head } else { self.bounds.trailers };
                // RFC 9114 §4.2.2: nothing of it is kept.
                match usize::try_from(length).ok().filter(|length| *length <= most) {
                    Some(length) => Inside::Section(BytesMut::with_capacity(length.min(FIRST))),
                    None => {
                        self.inside = Inside::TooLarge;
                        return Ok(Some(Event::TooLarge));
                    }
                }
            }
            // RFC 9114 §7: those belong to a control stream; §7.2.5: a client promises nothing.
            (frame::CANCEL_PUSH | frame::SETTINGS | frame::GOAWAY | frame::MAX_PUSH_ID | frame::PUSH_PROMISE, _) => {
                return unexpected("control frame on a request stream");
            }
            (kind, _) if frame::is_of_http2(kind) => return unexpected("frame of HTTP/2"),
            // RFC 9114 §9: unknown frames are ignored; how large one may be is ours to say (§10.5).
            _ if length > self.bounds.unknown => {
                return Err(Offence::new(Code::ExcessiveLoad, "unknown frame exceeds its bound"));
            }
            _ => {
                // Its head counts, so that empty ones are not free.
                self.skipped = self.skipped.saturating_add(2);
                Inside::Unknown
            }
        };
        Ok(None)
    }
}

/// Room for a section at first, whatever its frame declares: a client pays for more by sending it.
const FIRST: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { head: 1000, trailers: 100, unknown: 50 };

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::put_head(&mut bytes, kind, payload.len());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// What comes of a stream, contents joined; and of its end.
    fn read(pieces: &[&[u8]]) -> (Vec<Event>, Result<bool, Code>) {
        let mut message = Message::new(BOUNDS);
        let mut events = Vec::new();
        for piece in pieces {
            let mut piece = Bytes::copy_from_slice(piece);
            loop {
                match message.next(&mut piece) {
                    Ok(None) => break,
                    Err(offence) => return (events, Err(offence.code)),
                    Ok(Some(Event::Content(more))) => match events.last_mut() {
                        Some(Event::Content(before)) => *before = [before.as_ref(), &more].concat().into(),
                        _ => events.push(Event::Content(more)),
                    },
                    Ok(Some(event)) => events.push(event),
                }
            }
            assert!(piece.is_empty());
        }
        (events, message.finish().map_err(|offence| offence.code))
    }

    #[test]
    fn request_with_content_and_trailers_is_read() {
        let stream = [frame(1, b"head"), frame(0x21, b"grease"), frame(0, b"one"), frame(0, b"two"), frame(1, b"end")];

        let (events, end) = read(&[&stream.concat()]);

        let [head, content, trailers] = [&b"head"[..], b"onetwo", b"end"].map(Bytes::from_static);
        assert_eq!(events, [Event::Head(head), Event::Content(content), Event::Trailers(trailers)]);
        assert_eq!(end, Ok(true));
    }

    #[test]
    fn frames_out_of_order_end_the_connection() {
        let head = frame(1, b"head");
        let cases = [
            (frame(0, b"content"), Code::FrameUnexpected),
            ([head.clone(), frame(1, b"end"), frame(0, b"more")].concat(), Code::FrameUnexpected),
            ([head.clone(), frame(1, b"end"), frame(1, b"more")].concat(), Code::FrameUnexpected),
            ([head.clone(), frame(4, b"")].concat(), Code::FrameUnexpected),
            ([head.clone(), frame(5, b"push")].concat(), Code::FrameUnexpected),
            ([head.clone(), frame(6, b"ping")].concat(), Code::FrameUnexpected),
            ([head.clone(), frame(0x21, &[0; 51])].concat(), Code::ExcessiveLoad),
            (head[..3].to_vec(), Code::FrameError),
        ];

        for (stream, code) in cases {
            assert_eq!(read(&[&stream]).1, Err(code), "{stream:x?}");
        }
    }

    #[test]
    fn section_beyond_its_bound_is_told_from_its_length_alone() {
        let mut huge = Vec::new();
        frame::put_integer(&mut huge, frame::HEADERS);
        frame::put_integer(&mut huge, 1 << 40);

        assert_eq!(read(&[&huge, b"whatever follows"]), (vec![Event::TooLarge], Ok(false)));
    }

    #[test]
    fn stream_without_a_head_is_incomplete() {
        assert_eq!(read(&[&frame(0x21, b"grease")]), (Vec::new(), Ok(false)));
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_bytes_came(
            frames in prop::collection::vec((prop::sample::select(vec![0_u64, 0, 1, 1, 0x21, 4, 7, 9]), prop::collection::vec(any::<u8>(), 0..60)), 0..8),
            at: prop::sample::Index,
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let (one, other) = stream.split_at(at.index(stream.len() + 1));

            prop_assert_eq!(read(&[&stream]), read(&[one, other]));
        }
    }
}
