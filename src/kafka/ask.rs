//! Questions as frames: a length, a header (version 1), a body.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Api;

/// What brokers know the producer by, in their quotas and logs.
const CLIENT: &str = "sluicegate";

/// The place of a frame's length.
const LENGTH: usize = 4;

/// Which versions the broker understands.
pub fn api_versions(correlation: i32) -> Bytes {
    end(begin(Api::ApiVersions, 0, correlation, 0))
}

/// Who leads the partitions of `topic`. A cluster that creates topics by itself does so.
pub fn metadata(correlation: i32, topic: &str) -> Bytes {
    let mut out = begin(Api::Metadata, 4, correlation, topic.len());
    out.put_i32(1);
    text(topic, &mut out);
    out.put_u8(1);
    end(out)
}

/// That `records`, a whole record batch, be written to a partition and to all replicas that are in step, within
/// `patience` milliseconds.
pub fn produce(version: i16, correlation: i32, topic: &str, partition: i32, patience: i32, records: &[u8]) -> Bytes {
    let mut out = begin(Api::Produce, version, correlation, topic.len() + records.len());
    // No transaction.
    out.put_i16(-1);
    // All of them.
    out.put_i16(-1);
    out.put_i32(patience);
    out.put_i32(1);
    text(topic, &mut out);
    out.put_i32(1);
    out.put_i32(partition);
    long(records, &mut out);
    end(out)
}

/// That what follows are words of `mechanism`.
pub fn sasl_handshake(correlation: i32, mechanism: &str) -> Bytes {
    let mut out = begin(Api::SaslHandshake, 1, correlation, mechanism.len());
    text(mechanism, &mut out);
    end(out)
}

/// Words of the mechanism.
pub fn sasl_authenticate(version: i16, correlation: i32, words: &[u8]) -> Bytes {
    let mut out = begin(Api::SaslAuthenticate, version, correlation, words.len());
    long(words, &mut out);
    end(out)
}

fn begin(api: Api, version: i16, correlation: i32, body: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(body + 64);
    out.put_i32(0);
    out.put_i16(api.key());
    out.put_i16(version);
    out.put_i32(correlation);
    text(CLIENT, &mut out);
    out
}

fn end(mut out: BytesMut) -> Bytes {
    let length = i32::try_from(out.len() - LENGTH).unwrap_or(i32::MAX);
    if let Some(mut place) = out.get_mut(..LENGTH) {
        place.put_i32(length);
    }
    out.freeze()
}

/// A text; what is sent is a name from the configuration, which is short.
fn text(text: &str, out: &mut BytesMut) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

fn long(bytes: &[u8], out: &mut BytesMut) {
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_protocol() {
        let header = b"\x00\x00\x00\x07\x00\x0asluicegate";

        let versions = [&b"\x00\x00\x00\x14\x00\x12\x00\x00"[..], header].concat();
        assert_eq!(api_versions(7), versions);

        let body = b"\x00\x00\x00\x01\x00\x02ab\x01";
        assert_eq!(metadata(7, "ab"), [&b"\x00\x00\x00\x1d\x00\x03\x00\x04"[..], header, body].concat());

        let body = b"\xff\xff\xff\xff\x00\x00\x1d\x4c\x00\x00\x00\x01\x00\x02ab\x00\x00\x00\x01\x00\x00\x00\x05\
                     \x00\x00\x00\x03xyz";
        let produce = produce(3, 7, "ab", 5, 7_500, b"xyz");
        assert_eq!(produce, [&b"\x00\x00\x00\x33\x00\x00\x00\x03"[..], header, body].concat());
    }
}
