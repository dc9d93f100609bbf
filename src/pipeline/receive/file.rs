//! The temporary file of a collected body.
//!
//! Part of `pipeline::receive`. It is written off the workers, since a disk takes its time. What is read is in the kernel's
//! cache nearly always, having just been written, and is taken from there at once; what is not is read off the workers.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes read at a time: they are in the core's cache still when they are sent.
const READ: usize = 64 * 1024;

/// Writes `pieces` to `file`, or to a new one in `directory`, from `offset` on.
///
/// # Errors
/// As the file system says.
pub(super) async fn write(
    file: Option<Arc<File>>,
    directory: PathBuf,
    pieces: Vec<Bytes>,
    offset: u64,
) -> io::Result<Arc<File>> {
    let written = spawn_blocking(move || {
        let file = match file {
            Some(file) => file,
            None => Arc::new(tempfile::tempfile_in(directory)?),
        };
        write_all(&file, &pieces, offset)?;
        Ok(file)
    });
    written.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

fn write_all(file: &File, pieces: &[Bytes], mut offset: u64) -> io::Result<()> {
    let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match pwritev(file, left, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset = offset.saturating_add(written as u64);
                IoSlice::advance_slices(&mut left, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads a file piece by piece.
#[derive(Default)]
pub(super) struct Reading {
    /// What was given out last: its memory is the next piece's, once it has left.
    last: Bytes,
    waits: Option<JoinHandle<io::Result<BytesMut>>>,
}

impl Reading {
    /// The bytes at `offset`, at most `most` of them, which the file has.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<File>,
        offset: u64,
        most: u64,
    ) -> Poll<io::Result<Bytes>> {
        let waits = match &mut self.waits {
            Some(waits) => waits,
            None => {
                let length = usize::try_from(most).unwrap_or(READ).min(READ);
                let mut bytes = std::mem::take(&mut self.last).try_into_mut().unwrap_or_default();
                bytes.resize(length, 0);
                // `preadv2(2)`: fails or is cut short where it would have to wait; file systems that cannot tell refuse.
                let flags = ReadWriteFlags::NOWAIT;
                if let Ok(read @ 1..) = preadv2(file, &mut [IoSliceMut::new(&mut bytes)], offset, flags) {
                    bytes.truncate(read);
                    return Poll::Ready(Ok(self.give(bytes)));
                }
                let file = Arc::clone(file);
                self.waits.insert(spawn_blocking(move || file.read_exact_at(&mut bytes, offset).map(|()| bytes)))
            }
        };
        let read = ready!(Pin::new(waits).poll(cx));
        self.waits = None;
        Poll::Ready(read.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).map(|bytes| self.give(bytes)))
    }

    fn give(&mut self, bytes: BytesMut) -> Bytes {
        self.last = bytes.freeze();
        self.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(count: u8, size: usize) -> Vec<Bytes> {
        (0..count).map(|byte| Bytes::from(vec![byte; size])).collect()
    }

    async fn read(file: &Arc<File>, length: u64) -> (Vec<u8>, Vec<*const u8>) {
        let (mut reading, mut all, mut places) = (Reading::default(), Vec::new(), Vec::new());
        while (all.len() as u64) < length {
            let offset = all.len() as u64;
            let piece = std::future::poll_fn(|cx| reading.poll(cx, file, offset, length - offset)).await.unwrap();
            places.push(piece.as_ptr());
            all.extend_from_slice(&piece);
        }
        (all, places)
    }

    #[tokio::test]
    async fn more_pieces_than_one_call_takes_are_written_where_they_belong() {
        let file = write(None, std::env::temp_dir(), pieces(10, 7), 0).await.unwrap();
        let many: Vec<_> = (0..10).flat_map(|_| pieces(250, 3)).collect();
        let file = write(Some(file), std::env::temp_dir(), many.clone(), 70).await.unwrap();

        let (all, _) = read(&file, 70 + 7_500).await;

        assert_eq!(all, [pieces(10, 7).concat(), many.concat()].concat());
    }

    #[tokio::test]
    async fn memory_of_a_piece_that_has_left_is_the_next_ones() {
        let file = write(None, std::env::temp_dir(), pieces(10, READ), 0).await.unwrap();

        let (all, places) = read(&file, 10 * READ as u64).await;

        assert_eq!(all, pieces(10, READ).concat());
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    }

    #[tokio::test]
    async fn piece_that_is_held_keeps_its_content() {
        let file = write(None, std::env::temp_dir(), pieces(2, READ), 0).await.unwrap();
        let mut reading = Reading::default();
        let mut piece =
            async |offset| std::future::poll_fn(|cx| reading.poll(cx, &file, offset, READ as u64)).await.unwrap();

        let (first, second) = (piece(0).await, piece(READ as u64).await);

        assert_eq!([first, second], pieces(2, READ).as_slice());
    }

    #[tokio::test]
    async fn file_that_is_shorter_than_what_was_written_is_an_error() {
        let file = write(None, std::env::temp_dir(), pieces(1, 10), 0).await.unwrap();
        let mut reading = Reading::default();

        let read = std::future::poll_fn(|cx| reading.poll(cx, &file, 10, 1)).await;

        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
