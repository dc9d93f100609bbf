//! The temporary file of a collected body.
//!
//! Part of `pipeline::receive`. It is written and closed off the workers, since a disk takes its time. What is read is in the
//! kernel's cache nearly always, having just been written, and is taken from there at once; what is not is read off the
//! workers, as is all where the file system cannot tell.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use super::vault::Share;

/// Bytes read at a time from the kernel's cache: they are in the core's still when they are sent.
const READ: usize = 64 * 1024;

/// Bytes read at a time where each read is a matter for another thread.
const READ_OFF: usize = 256 * 1024;

/// A temporary file without a name, with its share of the disk.
#[derive(Debug)]
pub(super) struct Spill {
    /// Made when it is first written.
    file: Option<File>,
    room: Share,
}

impl Spill {
    pub(super) const fn new(room: Share) -> Self {
        Self { file: None, room }
    }

    /// Bytes in it.
    pub(super) const fn length(&self) -> u64 {
        self.room.bytes()
    }

    /// Adds `pieces`, which are `length` bytes, and lets go of them and of their share of the memory.
    ///
    /// # Errors
    /// As the file system says, or that the bound of all files is reached. The file is gone then.
    pub(super) async fn write(
        mut self,
        directory: &Path,
        pieces: Vec<Bytes>,
        length: u64,
        memory: Share,
    ) -> io::Result<Self> {
        let (offset, directory) = (self.length(), directory.to_owned());
        if !self.room.grow(length) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = spawn_blocking(move || {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile_in(directory)?),
            };
            write_all(file, &pieces, offset)?;
            drop((pieces, memory));
            Ok(self)
        });
        written.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if let (Some(file), Ok(runtime)) = (self.file.take(), Handle::try_current()) {
            let room = self.room.take();
            // With its last descriptor the file goes, which is the disk's business, too.
            runtime.spawn_blocking(move || drop((file, room)));
        }
    }
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
    /// Some bytes from `offset` on, where the file has more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, spill: &Arc<Spill>, offset: u64) -> Poll<io::Result<Bytes>> {
        let left = spill.length().saturating_sub(offset);
        let waits = match &mut self.waits {
            Some(waits) => waits,
            None => {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(if self.blind { READ_OFF } else { READ });
                let mut bytes = std::mem::take(&mut self.last).try_into_mut().unwrap_or_default();
                bytes.resize(length, 0);
                if !self.blind {
                    // `preadv2(2)`: fails or is cut short where it would have to wait.
                    match preadv2(spill.file()?, &mut [IoSliceMut::new(&mut bytes)], offset, ReadWriteFlags::NOWAIT) {
                        Ok(read @ 1..) => {
                            bytes.truncate(read);
                            return Poll::Ready(Ok(self.give(bytes, left)));
                        }
                        Ok(_) | Err(Errno::AGAIN) => {}
                        // The other thread's read says what is wrong, if anything is.
                        Err(_) => self.blind = true,
                    }
                }
                let spill = Arc::clone(spill);
                self.waits.insert(spawn_blocking(move || {
                    spill.file()?.read_exact_at(&mut bytes, offset)?;
                    Ok(bytes)
                }))
            }
        };
        let read = ready!(Pin::new(waits).poll(cx));
        self.waits = None;
        Poll::Ready(read.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).map(|bytes| self.give(bytes, left)))
    }

    /// Gives out a piece, of `left` bytes.
    fn give(&mut self, bytes: BytesMut, left: u64) -> Bytes {
        let bytes = bytes.freeze();
        // Nobody reads behind the last one, and who sent the body may wait for long for an answer.
        self.last = if (bytes.len() as u64) < left { bytes.clone() } else { Bytes::new() };
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::vault::Allowance;
    use super::*;

    fn pieces(count: u8, size: usize) -> Vec<Bytes> {
        (0..count).map(|byte| Bytes::from(vec![byte; size])).collect()
    }

    /// A file of `pieces`, in the directory for temporary ones.
    async fn spill(pieces: Vec<Bytes>) -> Arc<Spill> {
        Arc::new(add(Spill::new(Allowance::of(u64::MAX).share()), &std::env::temp_dir(), pieces).await)
    }

    async fn add(spill: Spill, directory: &Path, pieces: Vec<Bytes>) -> Spill {
        let (length, memory) = (pieces.concat().len() as u64, Allowance::of(0).share());
        spill.write(directory, pieces, length, memory).await.unwrap()
    }

    async fn read(spill: &Arc<Spill>) -> (Vec<u8>, Vec<*const u8>) {
        let (mut reading, mut all, mut places) = (Reading::default(), Vec::new(), Vec::new());
        while (all.len() as u64) < spill.length() {
            let offset = all.len() as u64;
            let piece = std::future::poll_fn(|cx| reading.poll(cx, spill, offset)).await.unwrap();
            places.push(piece.as_ptr());
            all.extend_from_slice(&piece);
        }
        (all, places)
    }

    #[tokio::test]
    async fn more_pieces_than_one_call_takes_are_written_where_they_belong() {
        let first = add(Spill::new(Allowance::of(u64::MAX).share()), &std::env::temp_dir(), pieces(10, 7)).await;
        let many: Vec<_> = (0..10).flat_map(|_| pieces(250, 3)).collect();
        let spill = Arc::new(add(first, &std::env::temp_dir(), many.clone()).await);

        let (all, _) = read(&spill).await;

        assert_eq!(all, [pieces(10, 7).concat(), many.concat()].concat());
    }

    #[tokio::test]
    async fn memory_of_a_piece_that_has_left_is_the_next_ones() {
        let spill = spill(pieces(10, READ)).await;

        let (all, mut places) = read(&spill).await;

        assert_eq!(all, pieces(10, READ).concat());
        let last = places.pop();
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}, {last:?}");
    }

    #[tokio::test]
    async fn last_piece_is_nobody_elses() {
        let spill = spill(pieces(1, 10)).await;
        let mut reading = Reading::default();

        let piece = std::future::poll_fn(|cx| reading.poll(cx, &spill, 0)).await.unwrap();

        assert!(piece.is_unique());
    }

    #[tokio::test]
    async fn what_the_kernel_has_at_hand_is_read_at_once() {
        let spill = spill(pieces(1, 10)).await;
        let mut there = [0; 10];
        let can_tell =
            preadv2(spill.file().unwrap(), &mut [IoSliceMut::new(&mut there)], 0, ReadWriteFlags::NOWAIT).is_ok();
        let (mut reading, mut cx) = (Reading::default(), Context::from_waker(std::task::Waker::noop()));

        let first = reading.poll(&mut cx, &spill, 0);

        assert_eq!((first.is_ready(), reading.blind), (can_tell, !can_tell));
    }

    #[tokio::test]
    async fn file_in_memory_is_read_as_it_was_written() {
        let directory = Path::new("/dev/shm");
        if !directory.is_dir() {
            return;
        }
        let spill = Arc::new(add(Spill::new(Allowance::of(u64::MAX).share()), directory, pieces(11, READ)).await);

        let (all, _) = read(&spill).await;

        assert_eq!(all, pieces(11, READ).concat());
    }

    #[tokio::test]
    async fn piece_that_is_held_keeps_its_content() {
        let spill = spill(pieces(2, READ)).await;
        let mut reading = Reading::default();
        let mut piece = async |offset| std::future::poll_fn(|cx| reading.poll(cx, &spill, offset)).await.unwrap();

        let (first, second) = (piece(0).await, piece(READ as u64).await);

        assert_eq!([first, second], pieces(2, READ).as_slice());
    }

    #[tokio::test]
    async fn file_that_is_shorter_than_what_was_written_is_an_error() {
        let spill = spill(pieces(1, 10)).await;
        spill.file().unwrap().set_len(9).unwrap();
        let mut reading = Reading::default();

        let read = std::future::poll_fn(|cx| reading.poll(cx, &spill, 9)).await;

        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
