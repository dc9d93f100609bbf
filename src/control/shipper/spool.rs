//! Entries on disk, in the order in which they came.
//!
//! Floor 5, blocking: for a thread that may wait. One directory for each sink, locked for this process alone. Entries are
//! appended to numbered segments, each with its length and a CRC-32, and read from the oldest on. What was read stays until
//! it is committed, so that it is read again after a failure or a restart; a segment goes when all of it is committed.
//! A tail that was cut by a crash is passed over. Beyond the size the oldest segments are dropped, and their entries
//! counted. A kill loses nothing that was appended; a power failure, at most what the system had not written yet of the
//! segment that is open.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::frame::{PREFIX, entry, put};
use crate::telemetry::parcel::Entry;

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
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    /// Bytes that are no entries.
    pub(super) torn: u64,
    /// Entries of another kind of sink, removed.
    pub(super) foreign: u64,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Held {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// When the oldest was made, in nanoseconds of Unix time.
    pub(super) oldest: Option<u64>,
}

/// Most bytes of a segment, and least.
const SEGMENT: (u64, u64) = (8 * 1024 * 1024, 8 * 1024);

impl Spool {
    /// Opens or makes the directory `dir`. `kind` says what the entries are for.
    pub(super) fn open(dir: &Path, kind: &str, size: u64) -> io::Result<(Self, Found)> {
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
            full: (size / 8).clamp(SEGMENT.1, SEGMENT.0),
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

    /// Finds what an earlier process left.
    fn scan(&mut self) -> io::Result<Found> {
        let mut numbers = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let name = file?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
            numbers.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
        }
        numbers.sort_unstable();
        let mut found = Found::default();
        for number in numbers {
            self.next = self.next.max(number + 1);
            let path = self.path(number);
            let length = fs::metadata(&path)?.len();
            let (segment, own) = self.look_through(number)?;
            if !own || segment.entries == 0 {
                found.foreign += if own { 0 } else { segment.entries };
                found.torn += if own { length.saturating_sub(segment.bytes) } else { 0 };
                fs::remove_file(&path)?;
                continue;
            }
            found.torn += length - segment.bytes;
            self.segments.push_back(segment);
        }
        self.committed = self.start();
        if let Some(cursor) = self.stored() {
            let known = self.segments.iter().find(|segment| segment.number == cursor.segment);
            if known.is_some_and(|segment| cursor.offset <= segment.bytes && cursor.entries <= segment.entries) {
                self.committed = cursor;
            }
        }
        self.read = self.committed;
        self.commit(self.committed)?;
        Ok(found)
    }

    /// A segment of an earlier process, and whether it is of this kind.
    fn look_through(&self, number: u64) -> io::Result<(Segment, bool)> {
        let mut file = BufReader::new(File::open(self.path(number))?);
        let mut segment = Segment { number, bytes: 0, entries: 0, oldest: 0 };
        let mut head = Vec::new();
        let newline = loop {
            let mut byte = [0];
            if head.len() > 64 || file.read(&mut byte)? == 0 {
                break false;
            }
            head.extend_from_slice(&byte);
            if byte == *b"\n" {
                break true;
            }
        };
        if !newline || !head.starts_with(b"sluicegate spool 1 ") {
            return Ok((segment, true));
        }
        segment.bytes = head.len() as u64;
        while let Some(entry) = entry(&mut file)? {
            if segment.entries == 0 {
                segment.oldest = entry.at;
            }
            segment.entries += 1;
            segment.bytes += (PREFIX + entry.payload.len()) as u64;
        }
        Ok((segment, head == self.head.as_bytes()))
    }

    /// Appends entries; gives how many older ones had to go for them.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<u64> {
        let mut lost = 0;
        let (mut block, mut count, mut oldest) = (Vec::new(), 0, 0);
        for entry in entries {
            if count > 0 && (block.len() + PREFIX + entry.payload.len()) as u64 > self.full {
                lost += self.write(&block, count, oldest)?;
                block.clear();
                count = 0;
            }
            if count == 0 {
                oldest = entry.at;
            }
            put(entry, &mut block);
            count += 1;
        }
        if count > 0 {
            lost += self.write(&block, count, oldest)?;
        }
        Ok(lost)
    }

    fn write(&mut self, block: &[u8], count: u64, oldest: u64) -> io::Result<u64> {
        let length = block.len() as u64;
        if length + self.head.len() as u64 > self.size {
            return Ok(count);
        }
        let lost = self.make_room(length)?;
        if self.open.is_none() || self.segments.back().is_some_and(|last| last.bytes + length > self.full) {
            self.begin()?;
        }
        let (Some(file), Some(last)) = (&mut self.open, self.segments.back_mut()) else { return Ok(lost) };
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
        Ok(lost)
    }

    /// Drops the oldest segments until so many bytes more are allowed; gives how many entries that were. What is under way
    /// stays: it is not lost yet.
    fn make_room(&mut self, more: u64) -> io::Result<u64> {
        let mut lost = 0;
        while self.bytes() + more + self.head.len() as u64 > self.size {
            let under_way = self.read != self.committed;
            let busy = |number: u64| under_way && (self.committed.segment..=self.read.segment).contains(&number);
            let Some(at) = self.segments.iter().position(|segment| !busy(segment.number)) else { break };
            let Some(gone) = self.segments.remove(at) else { break };
            if at == self.segments.len() {
                self.open = None;
            }
            let read = if gone.number == self.committed.segment { self.committed.entries } else { 0 };
            lost += gone.entries - read;
            fs::remove_file(self.path(gone.number))?;
            if !under_way {
                self.committed = self.start();
                self.read = self.committed;
            }
        }
        Ok(lost)
    }

    /// Begins another segment.
    fn begin(&mut self) -> io::Result<()> {
        if let Some(full) = self.open.take() {
            full.sync_data()?;
        }
        let number = self.next;
        let mut file = options().create_new(true).open(self.path(number))?;
        self.next += 1;
        file.write_all(self.head.as_bytes())?;
        self.open = Some(file);
        let bytes = self.head.len() as u64;
        self.segments.push_back(Segment { number, bytes, entries: 0, oldest: 0 });
        if self.segments.len() == 1 {
            self.committed = self.start();
            self.read = self.committed;
        }
        Ok(())
    }

    /// The next entries, at most so many and so many bytes but at least one, and the place behind them.
    pub(super) fn read(&mut self, records: usize, bytes: usize) -> io::Result<(Vec<Entry>, Cursor)> {
        // No more than a segment, so that what is under way never keeps all of a small spool.
        let bytes = bytes.min(usize::try_from(self.full).unwrap_or(usize::MAX));
        let (mut entries, mut size) = (Vec::new(), 0);
        while entries.len() < records && size < bytes {
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
            let mut file = File::open(self.path(segment.number))?;
            file.seek(SeekFrom::Start(at.offset))?;
            let mut file = BufReader::with_capacity(64 * 1024, file.take(segment.bytes - at.offset));
            let before = entries.len();
            while entries.len() < records && size < bytes {
                let Some(entry) = entry(&mut file)? else { break };
                let length = PREFIX + entry.payload.len();
                if !entries.is_empty() && size + length > bytes {
                    size = bytes;
                    break;
                }
                size += length;
                self.read.offset += length as u64;
                self.read.entries += 1;
                entries.push(entry);
            }
            if entries.len() == before && size < bytes {
                // Written, and yet not readable: nothing behind it can be found.
                self.read.offset = segment.bytes;
                self.read.entries = segment.entries;
            }
        }
        Ok((entries, self.read))
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
            fs::remove_file(self.path(first.number))?;
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

    /// Where an earlier process was.
    fn stored(&self) -> Option<Cursor> {
        let text = fs::read_to_string(self.dir.join("cursor")).ok()?;
        let mut parts = text.split_whitespace();
        let segment = u64::from_str_radix(parts.next()?, 16).ok()?;
        Some(Cursor { segment, offset: parts.next()?.parse().ok()?, entries: parts.next()?.parse().ok()? })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}.seg"))
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
