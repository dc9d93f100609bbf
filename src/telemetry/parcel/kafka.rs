//! Records as Kafka has them.
//!
//! Floor 2, pure. An entry is what of a message does not depend on its batch: the record's id as the key, the line as the
//! value. A batch (magic 2, since Kafka 0.11) puts around many what depends on it, without decoding them again.

use std::io::{self, Write as _};

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::Entry;

/// Bytes of a batch before its records.
const HEADER: usize = 61;

/// Bytes of a batch before what its length counts.
const UNCOUNTED: usize = 12;

/// Bytes of a batch before what its checksum covers.
const UNCHECKED: usize = 21;

/// The attribute of a batch whose records are compressed with gzip.
const GZIP: i16 = 1;

/// Key, value, and no headers.
pub(super) fn message(key: &str, value: &[u8], out: &mut Vec<u8>) {
    for part in [key.as_bytes(), value] {
        encode_varint(signed(part.len()), out);
        out.extend_from_slice(part);
    }
    encode_varint(signed(0), out);
}

/// One batch of all entries.
pub(super) fn batch(entries: &[Entry], gzip: bool) -> Bytes {
    let stamps = || entries.iter().map(|entry| i64::try_from(entry.at / 1_000_000).unwrap_or(i64::MAX));
    let (first, last) = (stamps().min().unwrap_or_default(), stamps().max().unwrap_or_default());
    let mut records = Vec::with_capacity(entries.iter().map(|entry| entry.payload.len() + 16).sum());
    for (offset, (entry, at)) in entries.iter().zip(stamps()).enumerate() {
        let (delta, offset) = (zigzag(at.saturating_sub(first)), signed(offset));
        let length = 1 + encoded_len_varint(delta) + encoded_len_varint(offset) + entry.payload.len();
        encode_varint(signed(length), &mut records);
        // No attributes.
        records.push(0);
        encode_varint(delta, &mut records);
        encode_varint(offset, &mut records);
        records.extend_from_slice(&entry.payload);
    }
    // Writing to a Vec does not fail.
    let packed = gzip.then(|| squeezed(&records)).and_then(Result::ok);
    let (records, attributes) = packed.map_or((records, 0), |packed| (packed, GZIP));

    let mut out = BytesMut::with_capacity(HEADER + records.len());
    let count = i32::try_from(entries.len()).unwrap_or(i32::MAX);
    out.put_i64(0);
    out.put_i32(i32::try_from(HEADER - UNCOUNTED + records.len()).unwrap_or(i32::MAX));
    // The leader knows its epoch.
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(0);
    out.put_i16(attributes);
    out.put_i32(count.saturating_sub(1));
    out.put_i64(first);
    out.put_i64(last);
    // No producer with an id, an epoch and a sequence.
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(count);
    out.put_slice(&records);
    let sum = crc32c(out.get(UNCHECKED..).unwrap_or_default());
    if let Some(mut place) = out.get_mut(UNCHECKED - 4..UNCHECKED) {
        place.put_u32(sum);
    }
    out.freeze()
}

fn squeezed(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(records.len() / 4), Compression::fast());
    encoder.write_all(records)?;
    encoder.finish()
}

/// A length or a number of a list, as a number with a sign.
fn signed(length: usize) -> u64 {
    zigzag(i64::try_from(length).unwrap_or(i64::MAX))
}

/// Small numbers of either sign become small ones.
const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// CRC-32C (RFC 3720 §B.4), which is another polynomial than that of files.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        let [low, ..] = sum.to_le_bytes();
        TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default() ^ (sum >> 8)
    })
}

/// The remainder of each byte.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "at most 255")]
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82F6_3B78 } else { sum >> 1 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "`get_mut` is not to be had in a constant; the compiler checks it")]
        {
            table[byte] = sum;
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_castagnolis() {
        // RFC 3720 §B.4, and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn batch_is_laid_out_as_the_protocol_has_it() {
        let mut payload = Vec::new();
        message("k", b"hello", &mut payload);
        let entry = |at: u64| Entry { at, payload: Bytes::copy_from_slice(&payload) };

        let batch = batch(&[entry(2_000_000_000), entry(1_500_000_000)], false);

        // Length, attributes, milliseconds after the first, place, key, value, headers.
        let records = b"\x1a\x00\xe8\x07\x00\x02k\x0ahello\x00\x18\x00\x00\x02\x02k\x0ahello\x00";
        assert_eq!(&batch[HEADER..], records);
        assert_eq!(&batch[..8], [0; 8]);
        assert_eq!(batch[8..12], i32::try_from(batch.len() - 12).unwrap().to_be_bytes());
        assert_eq!(&batch[12..17], b"\xff\xff\xff\xff\x02");
        assert_eq!(batch[17..21], crc32c(&batch[21..]).to_be_bytes());
        assert_eq!(&batch[21..27], b"\x00\x00\x00\x00\x00\x01");
        assert_eq!((&batch[27..35], &batch[35..43]), (&1_500_i64.to_be_bytes()[..], &2_000_i64.to_be_bytes()[..]));
        assert_eq!(&batch[43..57], [0xff; 14]);
        assert_eq!(&batch[57..61], b"\x00\x00\x00\x02");
    }

    #[test]
    fn compressed_batch_has_the_same_records() {
        use std::io::Read as _;

        let mut payload = Vec::new();
        message("k", &[b'x'; 5_000], &mut payload);
        let entries = vec![Entry { at: 7, payload: payload.into() }; 20];
        let (plain, packed) = (batch(&entries, false), batch(&entries, true));
        let mut records = Vec::new();
        flate2::read::GzDecoder::new(&packed[HEADER..]).read_to_end(&mut records).unwrap();

        assert!(packed.len() < plain.len() / 50);
        assert_eq!(records, &plain[HEADER..]);
        assert_eq!((&plain[21..23], &packed[21..23]), (&b"\x00\x00"[..], &b"\x00\x01"[..]));
    }
}
