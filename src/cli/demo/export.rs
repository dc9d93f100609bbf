//! A CSV export that is made while it is sent, as Superset streams large results.

use std::fmt::Write as _;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::body::{BodyError, Frame, Source};

/// Rows per frame: about 16 KiB.
const ROWS_PER_FRAME: u64 = 400;

/// Rows as they are asked for; its length is not known before its end, so that HTTP/1.1 sends it in chunks.
#[derive(Debug)]
pub(super) struct Export {
    next: u64,
    rows: u64,
    replica: &'static str,
}

impl Export {
    pub(super) const fn new(rows: u64, replica: &'static str) -> Self {
        Self { next: 0, rows, replica }
    }
}

impl Source for Export {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.next > self.rows {
            return Poll::Ready(None);
        }
        let mut text = String::with_capacity(20 * 1024);
        if self.next == 0 {
            text.push_str("row,city,sold,revenue,replica\n");
            self.next = 1;
        }
        let end = self.rows.min(self.next.saturating_add(ROWS_PER_FRAME - 1));
        for row in self.next..=end {
            let sold = row.wrapping_mul(7_919) % 997;
            let cents = row.wrapping_mul(104_729) % 1_000_000;
            // Writing to a String cannot fail.
            writeln!(text, "{row},City {},{sold},{}.{:02},{}", row % 97, cents / 100, cents % 100, self.replica).ok();
        }
        self.next = end.saturating_add(1);
        Poll::Ready(Some(Ok(Frame::Data(Bytes::from(text)))))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}
