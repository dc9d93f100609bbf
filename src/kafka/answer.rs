//! What brokers answer.
//!
//! An answer is read where it lies, from its first byte on; no length in it is believed before as many bytes are there, and
//! nothing is set aside for what was only announced.

use std::collections::BTreeMap;

use super::{Api, Refusal};

/// The answer's bytes do not say what the protocol has there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the answer is none that Kafka's protocol has for the question")]
pub struct Garbled;

/// Versions that both sides speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Versions {
    /// Of [`Api::Produce`].
    pub produce: i16,
    /// Of [`Api::SaslAuthenticate`]; `None` from a broker that has none.
    pub authenticate: Option<i16>,
}

/// Who leads what, of one topic.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cluster {
    /// Where each broker is.
    pub brokers: BTreeMap<i32, (String, u16)>,
    /// Partitions whose leader is among them: partition and leader.
    pub leaders: Vec<(i32, i32)>,
    /// Why the topic cannot be used, if so.
    pub refusal: Option<Refusal>,
}

/// What became of records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Produced {
    /// Why they were not written, if so.
    pub refusal: Option<Refusal>,
    /// What the broker says of that.
    pub words: Option<String>,
    /// Milliseconds for which nothing should be sent.
    pub throttle: u32,
}

/// What came back of words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authenticated {
    /// Why it is not believed, if so.
    pub refusal: Option<Refusal>,
    /// What the broker says of that.
    pub words: Option<String>,
    /// Words of the mechanism.
    pub challenge: Vec<u8>,
    /// Milliseconds after which the broker ends the connection; 0 never.
    pub lifetime: u64,
}

/// What both sides speak, or what the broker lacks: its answer to [`super::ask::api_versions`].
///
/// # Errors
/// When the bytes make no sense.
pub fn api_versions(bytes: &[u8], correlation: i32) -> Result<Result<Versions, Refusal>, Garbled> {
    let mut reader = Reader::begin(bytes, correlation)?;
    let refusal = Refusal::of(reader.i16()?);
    let mut understood = BTreeMap::new();
    reader.each(|reader| {
        let (key, lowest, highest) = (reader.i16()?, reader.i16()?, reader.i16()?);
        understood.insert(key, (lowest, highest));
        Ok(())
    })?;
    if let Some(refusal) = refusal {
        return Ok(Err(refusal));
    }
    let common = |api: Api| {
        let ((low, high), (lowest, highest)) = (api.spoken(), *understood.get(&api.key())?);
        Some(high.min(highest)).filter(|version| *version >= low.max(lowest))
    };
    Ok(match (common(Api::Produce), common(Api::Metadata)) {
        (Some(produce), Some(_)) => Ok(Versions { produce, authenticate: common(Api::SaslAuthenticate) }),
        (None, _) | (_, None) => Err(Refusal::UNSUPPORTED_VERSION),
    })
}

/// Who leads what: the answer to [`super::ask::metadata`].
///
/// # Errors
/// When the bytes make no sense, or speak of other topics.
pub fn metadata(bytes: &[u8], correlation: i32, topic: &str) -> Result<Cluster, Garbled> {
    let mut reader = Reader::begin(bytes, correlation)?;
    let _throttle = reader.i32()?;
    let mut brokers = BTreeMap::new();
    reader.each(|reader| {
        let (broker, host, port) = (reader.i32()?, reader.text()?.ok_or(Garbled)?.to_owned(), reader.i32()?);
        let _rack = reader.text()?;
        // One without a place cannot be reached.
        if let Some(port) = u16::try_from(port).ok().filter(|port| *port > 0 && !host.is_empty()) {
            brokers.insert(broker, (host, port));
        }
        Ok(())
    })?;
    let (_cluster, _controller) = (reader.text()?, reader.i32()?);
    let (mut refusal, mut leaders, mut found) = (None, Vec::new(), false);
    reader.each(|reader| {
        let code = reader.i16()?;
        let ours = reader.text()? == Some(topic);
        let _internal = reader.i8()?;
        if ours {
            (refusal, found) = (Refusal::of(code), true);
        }
        reader.each(|reader| {
            let (_code, partition, leader) = (reader.i16()?, reader.i32()?, reader.i32()?);
            reader.each(|replica| replica.i32().map(drop))?;
            reader.each(|in_step| in_step.i32().map(drop))?;
            if ours && brokers.contains_key(&leader) {
                leaders.push((partition, leader));
            }
            Ok(())
        })
    })?;
    if found { Ok(Cluster { brokers, leaders, refusal }) } else { Err(Garbled) }
}

/// What became of records for one partition: the answer to [`super::ask::produce`] in that version.
///
/// # Errors
/// When the bytes make no sense, or speak of another partition.
pub fn produce(bytes: &[u8], version: i16, correlation: i32, partition: i32) -> Result<Produced, Garbled> {
    let mut reader = Reader::begin(bytes, correlation)?;
    let mut told = None;
    reader.each(|reader| {
        let _topic = reader.text()?;
        reader.each(|reader| {
            let (index, code) = (reader.i32()?, reader.i16()?);
            let (_offset, _appended) = (reader.i64()?, reader.i64()?);
            if version >= 5 {
                let _first = reader.i64()?;
            }
            let mut words = None;
            if version >= 8 {
                let mut of_record = None;
                reader.each(|reader| {
                    let _record = reader.i32()?;
                    of_record = of_record.take().or(reader.text()?.map(str::to_owned));
                    Ok(())
                })?;
                words = reader.text()?.map(str::to_owned).or(of_record);
            }
            if index == partition {
                told = Some((Refusal::of(code), words));
            }
            Ok(())
        })
    })?;
    let throttle = u32::try_from(reader.i32()?).unwrap_or_default();
    let (refusal, words) = told.ok_or(Garbled)?;
    Ok(Produced { refusal, words, throttle })
}

/// Whether a mechanism may be used, and which may: the answer to [`super::ask::sasl_handshake`].
///
/// # Errors
/// When the bytes make no sense.
pub fn sasl_handshake(bytes: &[u8], correlation: i32) -> Result<(Option<Refusal>, Vec<String>), Garbled> {
    let mut reader = Reader::begin(bytes, correlation)?;
    let refusal = Refusal::of(reader.i16()?);
    let mut offered = Vec::new();
    reader.each(|reader| {
        offered.push(reader.text()?.ok_or(Garbled)?.to_owned());
        Ok(())
    })?;
    Ok((refusal, offered))
}

/// What came back of words: the answer to [`super::ask::sasl_authenticate`] in that version.
///
/// # Errors
/// When the bytes make no sense.
pub fn sasl_authenticate(bytes: &[u8], version: i16, correlation: i32) -> Result<Authenticated, Garbled> {
    let mut reader = Reader::begin(bytes, correlation)?;
    let refusal = Refusal::of(reader.i16()?);
    let words = reader.text()?.map(str::to_owned);
    let challenge = reader.long()?.unwrap_or_default().to_vec();
    let lifetime = if version >= 1 { u64::try_from(reader.i64()?).unwrap_or_default() } else { 0 };
    Ok(Authenticated { refusal, words, challenge, lifetime })
}

/// Bytes that are not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Behind the header, which says which question is answered.
    fn begin(bytes: &'a [u8], correlation: i32) -> Result<Self, Garbled> {
        let mut reader = Self(bytes);
        if reader.i32()? == correlation { Ok(reader) } else { Err(Garbled) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Garbled> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Garbled)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        self.take(N)?.try_into().map_err(|_| Garbled)
    }

    fn i8(&mut self) -> Result<i8, Garbled> {
        self.array().map(i8::from_be_bytes)
    }

    fn i16(&mut self) -> Result<i16, Garbled> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Garbled> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Garbled> {
        self.array().map(i64::from_be_bytes)
    }

    /// A text, or none.
    fn text(&mut self) -> Result<Option<&'a str>, Garbled> {
        match self.i16()? {
            -1 => Ok(None),
            length => {
                let bytes = self.take(usize::try_from(length).map_err(|_| Garbled)?)?;
                std::str::from_utf8(bytes).map(Some).map_err(|_| Garbled)
            }
        }
    }

    /// Bytes, or none.
    fn long(&mut self) -> Result<Option<&'a [u8]>, Garbled> {
        match self.i32()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| Garbled)?).map(Some),
        }
    }

    /// Each of a list. However many are announced, it ends with the bytes: each takes some.
    fn each(&mut self, mut one: impl FnMut(&mut Self) -> Result<(), Garbled>) -> Result<(), Garbled> {
        for _ in 0..self.i32()? {
            one(self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
