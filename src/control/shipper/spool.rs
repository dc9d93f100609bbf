//! Entries on disk, in the order in which they came.
//!
//! Floor 5, blocking: for a thread that may wait. One directory for each sink, locked for this process alone. Entries are
//! appended to numbered segments, each with its length and a CRC-32, and read from the oldest on. What was read stays until
//! it is committed, so that it is read again after a failure or a restart; a segment goes when all of it is committed.
//! What cannot be read, an entry, a tail that was cut by a crash, a whole segment, is passed over and counted. Beyond the
//! size the oldest segments are dropped, and their entries counted. A kill loses nothing that was appended; a power failure, at most what the system had not written yet of the
//! segment that is open.

mod scan;

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::frame::{PREFIX, Piece, piece, put};
use crate::telemetry::parcel::Entry;
pub(super) use scan::left_in;
use scan::passes;

/// A sink's files.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    /// First line of each segment: entries of another kind of sink are of no use here.
    head: String,
    size: u64,
    /// Bytes at which a segment is full.
    full: u64,
    segments: VecDeque<Segment>,
    /// The last segment, while it takes entries.
    open: Option<File>,
    next: u64,
    read: Cursor,
    committed: Cursor,
    /// Holds the lock.
    _lock: File,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// Up to the end of the last good entry.
    bytes: u64,
    entries: u64,
    /// When its first entry was made, in nanoseconds of Unix time.
    oldest: u64,
}

/// A place between two entries.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Cursor {
    segment: u64,
    offset: u64,
    entries: u64,
}

/// What opening found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    /// Bytes that are no entries.
    pub(super) torn: u64,
    /// Entries that these were, at least: one for each place.
    pub(super) damaged: u64,
    /// Entries of another kind of sink, removed.
    pub(super) foreign: u64,
    /// Segments that cannot be read, with the reason: under another name from now on, for somebody to look at.
    pub(super) aside: Vec<String>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Portion {
    /// Entries, oldest first.
    pub(super) entries: Vec<Entry>,
    /// The place behind them.
    pub(super) upto: Cursor,
    /// Entries among and before them that could not be read and never will be.
    pub(super) lost: u64,
    /// Why, where the system said something.
    pub(super) why: Option<String>,
}

/// What became of entries that were appended.
#[derive(Debug, Default)]
pub(super) struct Appended {
    /// How many of them, from the first on, are done with.
    pub(super) stored: usize,
    /// Entries that had to go for them, or would have been too many at once.
    pub(super) lost: u64,
    /// Why the others are not stored.
    pub(super) error: Option<io::Error>,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Held {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// When the oldest was made, in nanoseconds of Unix time.
    pub(super) oldest: Option<u64>,
}

impl Spool {
    /// Opens or makes the directory `dir`. `kind` says what the entries are for, `size` how many bytes of them there may be,
    /// `segment` how many in a file.
    pub(super) fn open(dir: &Path, kind: &str, size: u64, segment: u64) -> io::Result<(Self, Found)> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = options().create(true).truncate(false).open(dir.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another process uses it"),
            fs::TryLockError::Error(error) => error,
        })?;
        let mut spool = Self {
            dir: dir.to_owned(),
            head: format!("sluicegate spool 1 {kind}\n"),
            size,
            full: segment,
            segments: VecDeque::new(),
            open: None,
            next: 0,
            read: Cursor::default(),
            committed: Cursor::default(),
            _lock: lock,
        };
        let found = spool.scan()?;
        Ok((spool, found))
    }

    /// Appends entries.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Appended {
        let mut done = Appended::default();
        let (mut block, mut from) = (Vec::new(), 0);
        for (at, entry) in entries.iter().enumerate() {
            if at > from && (block.len() + PREFIX + entry.payload.len()) as u64 > self.full {
                if !self.write_part(&block, entries.get(from..at).unwrap_or_default(), &mut done) {
                    return done;
                }
                block.clear();
                from = at;
            }
            put(entry, &mut block);
        }
        self.write_part(&block, entries.get(from..).unwrap_or_default(), &mut done);
        done
    }

    /// Writes a part of what is appended; gives whether that was possible.
    fn write_part(&mut self, block: &[u8], part: &[Entry], done: &mut Appended) -> bool {
        let Some(first) = part.first() else { return true };
        match self.write(block, part.len() as u64, first.at, &mut done.lost) {
            Ok(()) => done.stored += part.len(),
            Err(error) => done.error = Some(error),
        }
        done.error.is_none()
    }

    fn write(&mut self, block: &[u8], count: u64, oldest: u64, lost: &mut u64) -> io::Result<()> {
        let length = block.len() as u64;
        if length + self.head.len() as u64 > self.size {
            *lost += count;
            return Ok(());
        }
        self.make_room(length, lost)?;
        if self.open.is_none() || self.segments.back().is_some_and(|last| last.bytes + length > self.full) {
            self.begin()?;
        }
        let (Some(file), Some(last)) = (&mut self.open, self.segments.back_mut()) else { return Ok(()) };
        if let Err(error) = file.write_all(block) {
            // Half an entry must not stand before a whole one.
            let restored = file.set_len(last.bytes).and_then(|()| file.seek(SeekFrom::End(0)));
            if restored.is_err() {
                self.open = None;
            }
            return Err(error);
        }
        if last.entries == 0 {
            last.oldest = oldest;
        }
        last.bytes += length;
        last.entries += count;
        Ok(())
    }

    /// Drops the oldest segments until so many bytes more are allowed, and counts their entries. What is under way stays: it
    /// is not lost yet.
    fn make_room(&mut self, more: u64, lost: &mut u64) -> io::Result<()> {
        while self.bytes() + more + self.head.len() as u64 > self.size {
            let under_way = self.read != self.committed;
            let busy = |number: u64| under_way && (self.committed.segment..=self.read.segment).contains(&number);
            let Some(at) = self.segments.iter().position(|segment| !busy(segment.number)) else { break };
            let Some(gone) = self.segments.remove(at) else { break };
            if at == self.segments.len() {
                self.open = None;
            }
            let read = if gone.number == self.committed.segment { self.committed.entries } else { 0 };
            *lost += gone.entries - read;
            remove(&self.path(gone.number))?;
            if !under_way {
                self.committed = self.start();
                self.read = self.committed;
            }
        }
        Ok(())
    }

    /// Begins another segment.
    fn begin(&mut self) -> io::Result<()> {
        if let Some(full) = self.open.take() {
            full.sync_data()?;
        }
        let number = self.next;
        let path = self.path(number);
        let mut file = options().create_new(true).open(&path)?;
        self.next += 1;
        if let Err(error) = file.write_all(self.head.as_bytes()) {
            // A full disk is tried again and again: no file may stay of each time.
            remove(&path)?;
            return Err(error);
        }
        self.open = Some(file);
        let bytes = self.head.len() as u64;
        self.segments.push_back(Segment { number, bytes, entries: 0, oldest: 0 });
        if self.segments.len() == 1 {
            self.committed = self.start();
            self.read = self.committed;
        }
        Ok(())
    }

    /// The next entries, at most so many and so many bytes but at least one. Where a segment or what is left of it cannot
    /// be read, the next one is.
    ///
    /// # Errors
    /// What will pass by itself, and nothing could be read before it.
    pub(super) fn read(&mut self, records: usize, bytes: usize) -> io::Result<Portion> {
        // No more than a segment, so that what is under way never keeps all of a small spool.
        let bytes = bytes.min(usize::try_from(self.full).unwrap_or(usize::MAX));
        let (mut read, mut size) = (Portion::default(), 0);
        while read.entries.len() < records && size < bytes {
            let at = self.read;
            let Some(place) = self.segments.iter().position(|segment| segment.number >= at.segment) else { break };
            let Some(segment) = self.segments.get(place) else { break };
            if segment.number != at.segment {
                self.read = self.beginning(segment);
                continue;
            }
            if at.offset >= segment.bytes {
                let Some(next) = self.segments.get(place + 1) else { break };
                self.read = self.beginning(next);
                continue;
            }
            let (path, end, all) = (self.path(segment.number), segment.bytes, segment.entries);
            match self.read_from(&path, end, (records, bytes), &mut size, &mut read) {
                Ok(()) if size >= bytes || read.entries.len() >= records || self.read.offset >= end => continue,
                Ok(()) => {}
                Err(error) if !passes(&error) => read.why = Some(format!("{}: {error}", path.display())),
                Err(error) if read.entries.is_empty() => return Err(error),
                Err(_) => break,
            }
            // Written, and yet not readable: nothing behind it can be found, and nothing more may go there.
            if place + 1 == self.segments.len() {
                self.open = None;
            }
            read.lost += all.saturating_sub(self.read.entries);
            (self.read.offset, self.read.entries) = (end, all);
        }
        read.upto = self.read;
        Ok(read)
    }

    /// Reads on in one segment, up to its end or as far as that is possible.
    fn read_from(
        &mut self,
        path: &Path,
        end: u64,
        (records, bytes): (usize, usize),
        size: &mut usize,
        read: &mut Portion,
    ) -> io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.read.offset))?;
        let mut file = BufReader::with_capacity(64 * 1024, file.take(end - self.read.offset));
        while read.entries.len() < records && *size < bytes {
            let length = match piece(&mut file)? {
                Piece::Entry(entry) => {
                    let length = PREFIX + entry.payload.len();
                    if !read.entries.is_empty() && *size + length > bytes {
                        *size = bytes;
                        break;
                    }
                    *size += length;
                    read.entries.push(entry);
                    length as u64
                }
                Piece::Damaged(length) => {
                    read.lost += 1;
                    length
                }
                Piece::End => break,
            };
            self.read.offset += length;
            self.read.entries += 1;
        }
        Ok(())
    }

    /// What is before `cursor` will not be needed again.
    pub(super) fn commit(&mut self, cursor: Cursor) -> io::Result<()> {
        self.committed = self.committed.max(cursor);
        self.read = self.read.max(self.committed);
        while let Some(first) = self.segments.front() {
            let over = self.committed.offset >= first.bytes;
            let done = first.number < self.committed.segment || (first.number == self.committed.segment && over);
            if !done {
                break;
            }
            remove(&self.path(first.number))?;
            self.segments.pop_front();
            if self.segments.is_empty() {
                self.open = None;
            }
        }
        let start = self.start();
        self.committed = self.committed.max(start);
        self.read = self.read.max(self.committed);
        let Cursor { segment, offset, entries } = self.committed;
        let new = self.dir.join("cursor.new");
        fs::write(&new, format!("{segment:x} {offset} {entries}\n"))?;
        fs::rename(new, self.dir.join("cursor"))
    }

    /// Writes down again where it is; an error says that the disk takes nothing.
    pub(super) fn touch(&mut self) -> io::Result<()> {
        self.commit(self.committed)
    }

    /// What was read and not committed is read again.
    pub(super) const fn rewind(&mut self) {
        self.read = self.committed;
    }

    /// Whether everything was read.
    pub(super) fn is_read(&self) -> bool {
        let end = self.segments.back().map(|last| (last.number, last.bytes));
        end.is_none_or(|end| (self.read.segment, self.read.offset) >= end)
    }

    /// What waits, what is under way included.
    pub(super) fn held(&self) -> Held {
        let all: u64 = self.segments.iter().map(|segment| segment.entries).sum();
        let first = self.segments.front();
        let done = first.filter(|first| first.number == self.committed.segment).map_or(0, |_| self.committed.entries);
        let entries = all.saturating_sub(done);
        let oldest = first.filter(|_| entries > 0).map(|first| first.oldest);
        Held { bytes: self.bytes(), entries, oldest }
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The place of the oldest entry.
    fn start(&self) -> Cursor {
        self.segments.front().map_or_else(Cursor::default, |first| self.beginning(first))
    }

    const fn beginning(&self, segment: &Segment) -> Cursor {
        Cursor { segment: segment.number, offset: self.head.len() as u64, entries: 0 }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}.seg"))
    }
}

/// Bytes that an entry has on disk.
pub(super) fn length(entry: &Entry) -> u64 {
    (PREFIX + entry.payload.len()) as u64
}

/// Removes a file, by whomever that is done.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Files that name people's addresses: for this user alone.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests;
