//! Finds the end of a head as it trickles in.
//!
//! Each byte is looked at once, however slowly the peer sends, so that a head of one byte per packet costs no more
//! than one of a single packet.

use memchr::memchr_iter;

/// Progress through a head that is not complete yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    scanned: usize,
    line_start: usize,
    begun: bool,
}

/// A line feed without a carriage return before it (RFC 9112 §2.2: a recipient may accept it; we do not).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BareLineFeed;

impl HeadScan {
    /// The length of the head in `bytes`, its empty line included, once it is complete.
    ///
    /// `bytes` must begin with what earlier calls saw. Empty lines before the first one are part of the head
    /// (RFC 9112 §2.2).
    ///
    /// # Errors
    /// [`BareLineFeed`] as soon as one is seen.
    pub fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, BareLineFeed> {
        let from = self.scanned;
        for found in memchr_iter(b'\n', bytes.get(from..).unwrap_or_default()) {
            let line_feed = from + found;
            let line = bytes.get(self.line_start..line_feed).unwrap_or_default();
            match line {
                [b'\r'] if self.begun => return Ok(Some(line_feed + 1)),
                [b'\r'] => {}
                [.., b'\r'] => self.begun = true,
                _ => return Err(BareLineFeed),
            }
            self.line_start = line_feed + 1;
        }
        self.scanned = bytes.len();
        Ok(None)
    }

    /// Whether the first line is still open; then its length so far.
    pub fn open_first_line(&self, bytes: &[u8]) -> Option<usize> {
        (!self.begun).then(|| bytes.len().saturating_sub(self.line_start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_is_found_whatever_the_packets() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        for cut in 0..head.len() {
            let mut scan = HeadScan::default();
            let first = scan.find_end(&head[..cut]).unwrap();
            let end = match first {
                Some(end) => Some(end),
                None => scan.find_end(head).unwrap(),
            };
            assert_eq!(end, Some(head.len() - 4), "cut at {cut}");
        }
    }

    #[test]
    fn bare_line_feed_is_refused_at_once() {
        assert_eq!(HeadScan::default().find_end(b"GET / HTTP/1.1\n"), Err(BareLineFeed));
        assert_eq!(HeadScan::default().find_end(b"\n"), Err(BareLineFeed));
    }
}
