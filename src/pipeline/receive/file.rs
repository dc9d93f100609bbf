//! The temporary file of a collected body.
//!
//! Part of `pipeline::receive`. It is written off the workers, since a disk takes its time. What is read is in the kernel's
//! cache nearly always, having just been written, and is taken from there at once; what is not is read off the workers, as is
//! all where the file system cannot tell.

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

/// Bytes read at a time from the kernel's cache: they are in the core's still when they are sent.
const READ: usize = 64 * 1024;

/// Bytes read at a time where each read is a matter for another thread.
const READ_OFF: usize = 256 * 1024;

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
    /// Whether the file system cannot tell if a read would wait: tmpfs, FUSE, NFS.
    blind: bool,
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
                let length = usize::try_from(most).unwrap_or(usize::MAX).min(if self.blind { READ_OFF } else { READ });
                let mut bytes = std::mem::take(&mut self.last).try_into_mut().unwrap_or_default();
                bytes.resize(length, 0);
                if !self.blind {
                    // `preadv2(2)`: fails or is cut short where it would have to wait.
                    match preadv2(file, &mut [IoSliceMut::new(&mut bytes)], offset, ReadWriteFlags::NOWAIT) {
                        Ok(read @ 1..) => {
                            bytes.truncate(read);
                            return Poll::Ready(Ok(self.give(bytes, most)));
                        }
                        Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.blind = true,
                        // The other thread's read says what is wrong, if anything is.
                        Ok(_) | Err(_) => {}
                    }
                }
                let file = Arc::clone(file);
                self.waits.insert(spawn_blocking(move || file.read_exact_at(&mut bytes, offset).map(|()| bytes)))
            }
        };
        let read = ready!(Pin::new(waits).poll(cx));
        self.waits = None;
        Poll::Ready(read.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).map(|bytes| self.give(bytes, most)))
    }

    /// Gives out a piece, of `most` bytes that are left.
    fn give(&mut self, bytes: BytesMut, most: u64) -> Bytes {
        let bytes = bytes.freeze();
        // Nobody reads behind the last one, and who sent the body may wait for long for an answer.
        self.last = if (bytes.len() as u64) < most { bytes.clone() } else { Bytes::new() };
        bytes
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

        let (all, mut places) = read(&file, 10 * READ as u64).await;

        assert_eq!(all, pieces(10, READ).concat());
        let last = places.pop();
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}, {last:?}");
    }

    #[tokio::test]
    async fn last_piece_is_nobody_elses() {
        let file = write(None, std::env::temp_dir(), pieces(1, 10), 0).await.unwrap();
        let mut reading = Reading::default();

        let piece = std::future::poll_fn(|cx| reading.poll(cx, &file, 0, 10)).await.unwrap();

        assert!(piece.is_unique());
    }

    #[tokio::test]
    async fn what_the_kernel_has_at_hand_is_read_at_once() {
        let file = write(None, std::env::temp_dir(), pieces(1, 10), 0).await.unwrap();
        let mut there = [0; 10];
        let can_tell = preadv2(&file, &mut [IoSliceMut::new(&mut there)], 0, ReadWriteFlags::NOWAIT).is_ok();
        let (mut reading, mut cx) = (Reading::default(), Context::from_waker(std::task::Waker::noop()));

        let first = reading.poll(&mut cx, &file, 0, 10);

        assert_eq!((first.is_ready(), reading.blind), (can_tell, !can_tell));
    }

    #[tokio::test]
    async fn file_in_memory_is_read_as_it_was_written() {
        let directory = PathBuf::from("/dev/shm");
        if !directory.is_dir() {
            return;
        }
        let file = write(None, directory, pieces(11, READ), 0).await.unwrap();

        let (all, _) = read(&file, 11 * READ as u64).await;

        assert_eq!(all, pieces(11, READ).concat());
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
