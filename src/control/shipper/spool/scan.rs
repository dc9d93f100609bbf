//! What earlier processes left in a spool.
//!
//! Floor 5, blocking. Every entry is read once: only then it is known what is there and where the good part of a file ends.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::super::frame::{PREFIX, Piece, piece};
use super::{Cursor, Found, Held, Segment, Spool, options, remove};

impl Spool {
    /// Finds what an earlier process left.
    pub(super) fn scan(&mut self) -> io::Result<Found> {
        let mut found = Found::default();
        for (number, path) in segments(&self.dir)? {
            self.next = self.next.max(number + 1);
            let looked = fs::metadata(&path).and_then(|metadata| Ok((metadata.len(), look_through(&path, number)?)));
            let (length, (segment, head)) = match looked {
                Ok(looked) => looked,
                Err(error) if passes(&error) => return Err(error),
                Err(error) => {
                    // It must not stop those behind it. Who mends it gives it its name back.
                    fs::rename(&path, path.with_extension("unreadable")).ok();
                    found.aside.push(format!("{}: {error}", path.display()));
                    found.damaged += 1;
                    continue;
                }
            };
            let own = head.is_empty() || head == self.head.as_bytes();
            let torn = if own { length.saturating_sub(segment.bytes) } else { 0 };
            found.torn += torn;
            found.damaged += u64::from(torn > 0);
            if !own || segment.entries == 0 {
                found.foreign += if own { 0 } else { segment.entries };
                remove(&path)?;
                continue;
            }
            if torn > 0 {
                // What was counted once is not there the next time.
                options().open(&path)?.set_len(segment.bytes)?;
            }
            self.segments.push_back(segment);
        }
        self.committed = self.start();
        if let Some(cursor) = cursor(&self.dir) {
            let known = self.segments.iter().find(|segment| segment.number == cursor.segment);
            if known.is_some_and(|segment| cursor.offset <= segment.bytes && cursor.entries <= segment.entries) {
                self.committed = cursor;
            }
        }
        self.read = self.committed;
        self.touch()?;
        Ok(found)
    }
}

/// What waits in the directory `dir`, which nobody may ask for any more; `None` while a process uses it.
pub(in super::super) fn left_in(dir: &Path) -> io::Result<Option<Held>> {
    let lock = match File::open(dir.join("lock")) {
        Ok(lock) => lock,
        // Not a spool.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Held::default())),
        Err(error) => return Err(error),
    };
    if lock.try_lock_shared().is_err() {
        return Ok(None);
    }
    let at = cursor(dir).unwrap_or_default();
    let mut held = Held::default();
    for (number, path) in segments(dir)? {
        let (segment, _) = look_through(&path, number)?;
        let done = if number == at.segment { at.entries } else { 0 };
        held.entries += segment.entries.saturating_sub(done);
        held.bytes += segment.bytes;
        held.oldest = held.oldest.or(Some(segment.oldest));
    }
    Ok(Some(held))
}

/// The segments in `dir`, the oldest first.
fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut all = Vec::new();
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".seg"));
        all.extend(name.and_then(|number| u64::from_str_radix(number, 16).ok()).map(|number| (number, path.clone())));
    }
    all.sort_unstable();
    Ok(all)
}

/// A segment of an earlier process, and its first line; that is empty if the file is none of ours.
fn look_through(path: &Path, number: u64) -> io::Result<(Segment, Vec<u8>)> {
    let mut file = BufReader::new(File::open(path)?);
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
        return Ok((segment, Vec::new()));
    }
    segment.bytes = head.len() as u64;
    loop {
        segment.bytes += match piece(&mut file)? {
            Piece::Entry(entry) => {
                if segment.oldest == 0 {
                    segment.oldest = entry.at;
                }
                (PREFIX + entry.payload.len()) as u64
            }
            // Counted as lost when its turn comes.
            Piece::Damaged(length) => length,
            Piece::End => return Ok((segment, head)),
        };
        segment.entries += 1;
    }
}

/// Where an earlier process was.
fn cursor(dir: &Path) -> Option<Cursor> {
    let text = fs::read_to_string(dir.join("cursor")).ok()?;
    let mut parts = text.split_whitespace();
    let segment = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some(Cursor { segment, offset: parts.next()?.parse().ok()?, entries: parts.next()?.parse().ok()? })
}

/// Whether an error says nothing about the file: what the process or the machine has too little of.
pub(super) fn passes(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN))
}
