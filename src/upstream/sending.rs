//! A request body on its way to an endpoint.
//!
//! Part of `upstream`. Keeps to what the head has announced: bytes too few or too many would shift every message that
//! follows on the connection.

use std::io;

use crate::body::{Body, BodyError};
use crate::h1::encode::Delimiting;

/// A request on its way.
pub(super) struct Sending {
    pub(super) body: Body,
    pub(super) chunked: bool,
    /// Bytes announced and not yet pulled, where a length was announced.
    left: Option<u64>,
    /// Whether the body was pulled to its end.
    pub(super) ended: bool,
    /// Whether a byte has left.
    pub(super) moved: bool,
}

impl Sending {
    pub(super) const fn new(body: Body, delimiting: Delimiting) -> Self {
        let left = match delimiting {
            Delimiting::Length(length) => Some(length),
            Delimiting::Absent | Delimiting::Chunks | Delimiting::Close => None,
        };
        Self { body, chunked: matches!(delimiting, Delimiting::Chunks), left, ended: false, moved: false }
    }

    /// A body that differs from what was announced would take bytes of the next request for its own.
    pub(super) fn count(&mut self, length: usize) -> Result<(), SendError> {
        if let Some(left) = &mut self.left {
            const LONGER: BodyError = BodyError::Malformed("longer than announced");
            *left = left.checked_sub(length as u64).ok_or(SendError::Request(LONGER))?;
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), SendError> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(SendError::Request(BodyError::Malformed("shorter than announced")));
        }
        self.ended = true;
        Ok(())
    }
}

/// Why a request could not be sent to its end.
#[derive(Debug)]
pub(super) enum SendError {
    /// The client's body broke off.
    Request(BodyError),
    /// The endpoint takes no more.
    Io(io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(announced: u64) -> Sending {
        Sending::new(Body::empty(), Delimiting::Length(announced))
    }

    #[test]
    fn body_keeps_to_its_announced_length() {
        let mut exact = sending(5);
        assert!(exact.count(2).is_ok() && exact.count(3).is_ok() && exact.end().is_ok());

        let mut short = sending(5);
        assert!(short.count(4).is_ok() && short.end().is_err() && !short.ended);

        assert!(sending(5).count(6).is_err());
    }
}
