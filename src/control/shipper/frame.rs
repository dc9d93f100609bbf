//! An entry in a file of the spool.
//!
//! Floor 5. Its length, a CRC-32 of what follows, when it was made, itself; numbers are little-endian.

use std::io::{self, Read as _};

use bytes::Bytes;

use crate::telemetry::parcel::Entry;

/// Bytes before an entry's payload.
pub(super) const PREFIX: usize = 16;

/// Longest entry; a longer one in a file is none.
const LONGEST: usize = 64 * 1024 * 1024;

/// Appends an entry.
pub(super) fn put(entry: &Entry, out: &mut Vec<u8>) {
    let length = u32::try_from(entry.payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(entry.at, &entry.payload).to_le_bytes());
    out.extend_from_slice(&entry.at.to_le_bytes());
    out.extend_from_slice(&entry.payload);
}

/// What stands at a place in a file.
#[derive(Debug)]
pub(super) enum Piece {
    /// An entry.
    Entry(Entry),
    /// An entry of so many bytes that are not what was written; what is behind it may be well.
    Damaged(u64),
    /// Nothing, or no whole entry.
    End,
}

/// What comes next.
pub(super) fn piece(file: &mut impl io::Read) -> io::Result<Piece> {
    let mut length = [0; 4];
    let mut sum = [0; 4];
    let mut at = [0; 8];
    for part in [&mut length[..], &mut sum[..], &mut at[..]] {
        match file.read_exact(part) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Piece::End),
            Err(error) => return Err(error),
        }
    }
    let (length, at) = (u32::from_le_bytes(length) as usize, u64::from_le_bytes(at));
    if length > LONGEST {
        return Ok(Piece::End);
    }
    let mut payload = Vec::new();
    file.take(length as u64).read_to_end(&mut payload)?;
    if payload.len() < length {
        return Ok(Piece::End);
    }
    if checksum(at, &payload) == u32::from_le_bytes(sum) {
        return Ok(Piece::Entry(Entry { at, payload: Bytes::from(payload) }));
    }
    // Zeros are what a power failure leaves of a file that had grown.
    Ok(if length == 0 { Piece::End } else { Piece::Damaged((PREFIX + length) as u64) })
}

fn checksum(at: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&at.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}
