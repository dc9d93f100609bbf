//! Answers of brokers, true and untrue ones.

use super::*;
use crate::kafka::Advice;

/// Bytes as a broker writes them.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn answer() -> Self {
        Self::default().i32(7)
    }

    fn i8(self, value: i8) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn i16(self, value: i16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn i32(self, value: i32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn i64(self, value: i64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.i16(i16::try_from(text.len()).unwrap()).raw(text.as_bytes())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

fn two_brokers() -> Bytes {
    let brokers = Bytes::answer().i32(0).i32(2);
    let brokers = brokers.i32(1).text("a").i32(9092).i16(-1).i32(2).text("b").i32(9093).text("rack");
    brokers.text("cluster").i32(1)
}

#[test]
fn versions_are_the_highest_that_both_speak() {
    let answer = |produce: (i16, i16)| {
        let apis = Bytes::answer().i16(0).i32(3);
        let apis = apis.i16(0).i16(produce.0).i16(produce.1).i16(3).i16(0).i16(13).i16(36).i16(0).i16(2);
        api_versions(&apis.0, 7).unwrap()
    };

    assert_eq!(answer((0, 13)), Ok(Versions { produce: 8, authenticate: Some(1) }));
    assert_eq!(answer((0, 5)).unwrap().produce, 5);
    assert_eq!(answer((9, 20)), Err(Refusal::UNSUPPORTED_VERSION));
    assert_eq!(answer((0, 2)), Err(Refusal::UNSUPPORTED_VERSION));
}

#[test]
fn leaders_are_partitions_with_a_broker_that_is_there() {
    let answer = two_brokers().i32(1).i16(0).text("logs").i8(0).i32(3);
    let partition = |answer: Bytes, index: i32, leader: i32| {
        answer.i16(0).i32(index).i32(leader).i32(2).i32(1).i32(2).i32(1).i32(leader)
    };
    let answer = partition(partition(partition(answer, 0, 1), 1, -1), 2, 2);

    let cluster = metadata(&answer.0, 7, "logs").unwrap();

    assert_eq!(cluster.leaders, [(0, 1), (2, 2)]);
    assert_eq!(cluster.brokers[&2], ("b".to_owned(), 9093));
    assert_eq!(cluster.refusal, None);
    assert_eq!(metadata(&answer.0, 7, "other"), Err(Garbled));
    assert_eq!(metadata(&answer.0, 8, "logs"), Err(Garbled), "the answer to another question");
}

#[test]
fn topic_that_is_not_there_is_told() {
    let answer = two_brokers().i32(1).i16(3).text("logs").i8(0).i32(0);

    let refusal = metadata(&answer.0, 7, "logs").unwrap().refusal.unwrap();

    assert_eq!((refusal.to_string().as_str(), refusal.advice()), ("UNKNOWN_TOPIC_OR_PARTITION", Advice::Elsewhere));
}

#[test]
fn refusal_of_records_has_the_words_of_its_version() {
    let partition = |code: i16| Bytes::answer().i32(1).text("logs").i32(1).i32(5).i16(code).i64(100).i64(-1);
    let taken = partition(0).i32(250);
    let refused = partition(87).i64(0).i32(1).i32(3).text("no key").i16(-1).i32(0);

    let taken = produce(&taken.0, 3, 7, 5).unwrap();
    assert_eq!(taken, Produced { refusal: None, words: None, throttle: 250 });

    let told = produce(&refused.0, 8, 7, 5).unwrap();
    assert_eq!((told.refusal.unwrap().advice(), told.words.as_deref()), (Advice::Never, Some("no key")));
    assert_eq!(produce(&refused.0, 8, 7, 6), Err(Garbled), "another partition");
}

#[test]
fn announced_lengths_are_not_believed() {
    let brokers = Bytes::answer().i32(0).i32(i32::MAX);
    let text = Bytes::answer().i16(0).i32(1).i16(i16::MAX).raw(b"short");
    let long = Bytes::answer().i16(0).i16(-1).i32(i32::MAX).raw(b"short");
    let negative = Bytes::answer().i16(0).i32(1).i16(-2);

    assert_eq!(metadata(&brokers.0, 7, "logs"), Err(Garbled));
    assert_eq!(sasl_handshake(&text.0, 7), Err(Garbled));
    assert_eq!(sasl_authenticate(&long.0, 0, 7), Err(Garbled));
    assert_eq!(sasl_handshake(&negative.0, 7), Err(Garbled));
}

#[test]
fn lifetime_comes_with_the_later_version() {
    let answer = Bytes::answer().i16(0).i16(-1).i32(3).raw(b"v=x");

    let early = sasl_authenticate(&answer.0, 0, 7).unwrap();
    assert_eq!((early.challenge.as_slice(), early.lifetime), (&b"v=x"[..], 0));
    assert_eq!(sasl_authenticate(&answer.i64(3_600_000).0, 1, 7).unwrap().lifetime, 3_600_000);
}
