//! Brokers of Kafka, as far as a producer needs them. They share nothing with the product's own reading and writing.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::soon;

/// The codes that the tests speak of.
pub(crate) const NOT_LEADER: i16 = 6;
pub(crate) const TOO_LARGE: i16 = 10;
pub(crate) const NOT_ENOUGH_REPLICAS: i16 = 19;

/// A message that a broker has.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) partition: usize,
    pub(crate) key: String,
    pub(crate) value: Value,
}

/// A cluster with one topic, `records`; it ends with the test.
pub(crate) struct Brokers {
    pub(crate) addresses: Vec<SocketAddr>,
    state: Arc<Mutex<State>>,
    serving: Vec<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    addresses: Vec<SocketAddr>,
    /// The leader of each partition, as clients are told, and as it is.
    told: Vec<i32>,
    leaders: Vec<i32>,
    messages: Vec<Message>,
    batches: usize,
    refusals: VecDeque<i16>,
    /// Bytes beyond which batches are refused.
    longest: usize,
    /// Batches that are kept, but not acknowledged.
    unanswered: usize,
    user: Option<(&'static str, &'static str, &'static str)>,
    tls: Option<TlsAcceptor>,
    /// Connections to all of them.
    connections: usize,
}

impl Brokers {
    /// So many brokers with so many partitions, led in turn.
    pub(crate) async fn start(brokers: usize, partitions: usize) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..brokers {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let leaders: Vec<i32> = (0..partitions).map(|partition| (partition % brokers) as i32).collect();
        let state = State {
            addresses: addresses.clone(),
            told: leaders.clone(),
            leaders,
            longest: usize::MAX,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let serving = listeners.into_iter().enumerate().map(|(id, listener)| Some(serve(id as i32, listener, &state)));
        Self { addresses, serving: serving.collect(), state }
    }

    /// Kills a broker with its connections.
    pub(crate) async fn kill(&mut self, id: usize) {
        if let Some(serving) = self.serving[id].take() {
            serving.abort();
            drop(serving.await);
        }
    }

    /// Brings it back.
    pub(crate) async fn revive(&mut self, id: usize) {
        let listener = TcpListener::bind(self.addresses[id]).await.unwrap();
        self.serving[id] = Some(serve(id as i32, listener, &self.state));
    }

    /// Makes a broker the leader of a partition; clients learn it when they ask.
    pub(crate) fn lead(&self, partition: usize, broker: i32) {
        let mut state = self.state.lock().unwrap();
        state.leaders[partition] = broker;
        state.told[partition] = broker;
    }

    /// Refuses the next batches.
    pub(crate) fn refuse(&self, codes: &[i16]) {
        self.state.lock().unwrap().refusals.extend(codes);
    }

    /// Refuses batches beyond so many bytes.
    pub(crate) fn take_at_most(&self, bytes: usize) {
        self.state.lock().unwrap().longest = bytes;
    }

    /// Keeps the next batch, and closes the connection in place of an answer.
    pub(crate) fn forget_to_answer(&self) {
        self.state.lock().unwrap().unanswered += 1;
    }

    /// Wants this user by this mechanism.
    pub(crate) fn want(&self, mechanism: &'static str, name: &'static str, password: &'static str) {
        self.state.lock().unwrap().user = Some((mechanism, name, password));
    }

    /// Speaks TLS from now on.
    pub(crate) fn secure(&self, acceptor: TlsAcceptor) {
        self.state.lock().unwrap().tls = Some(acceptor);
    }

    /// What it has.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.state.lock().unwrap().messages.clone()
    }

    /// Batches that it has.
    pub(crate) fn batches(&self) -> usize {
        self.state.lock().unwrap().batches
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// The keys of what it has.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.state.lock().unwrap().messages.iter().map(|message| message.key.clone()).collect()
    }

    /// Waits until it has all of these.
    pub(crate) async fn have(&self, all: &BTreeSet<String>) {
        let waiting = async {
            while !self.keys().is_superset(all) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon("every message", waiting).await;
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        self.serving.iter().flatten().for_each(JoinHandle::abort);
    }
}

fn serve(id: i32, listener: TcpListener, state: &Arc<Mutex<State>>) -> JoinHandle<()> {
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let state = Arc::clone(&state);
            connections.spawn(async move {
                let _open = Open::new(&state);
                let tls = state.lock().unwrap().tls.clone();
                // A client that goes away is no failure of the broker's.
                drop(match tls {
                    None => converse(id, stream, &state).await,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => converse(id, stream, &state).await,
                        Err(error) => Err(error),
                    },
                });
            });
        }
    })
}

/// A connection, as long as it is open.
struct Open(Arc<Mutex<State>>);

impl Open {
    fn new(state: &Arc<Mutex<State>>) -> Self {
        state.lock().unwrap().connections += 1;
        Self(Arc::clone(state))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().connections -= 1;
    }
}

/// Answers questions until one ends the connection.
async fn converse(id: i32, mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<State>) -> io::Result<()> {
    let mut session = Session::default();
    loop {
        let length = stream.read_i32().await?;
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await?;
        let mut question = &frame[..];
        let (api, version, correlation) = (question.get_i16(), question.get_i16(), question.get_i32());
        assert_eq!(text(&mut question).unwrap(), "sluicegate");
        let mut answer = Vec::new();
        answer.put_i32(correlation);
        let goes_on = {
            let mut state = state.lock().unwrap();
            match api {
                18 => versions(&mut answer),
                17 => session.handshake(&mut question, &state, &mut answer),
                36 => session.authenticate(version, &mut question, &state, &mut answer),
                _ if state.user.is_some() && !session.known => false,
                3 => metadata(version, &mut question, &state, &mut answer),
                0 => produce(id, version, &mut question, &mut state, &mut answer),
                other => panic!("question {other}"),
            }
        };
        if !goes_on {
            return Ok(());
        }
        assert!(question.is_empty(), "{} bytes behind question {api}", question.len());
        stream.write_i32(answer.len() as i32).await?;
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
}

fn versions(answer: &mut Vec<u8>) -> bool {
    answer.put_i16(0);
    let apis = [(0, 0, 12), (3, 0, 13), (17, 0, 1), (18, 0, 4), (36, 0, 2)];
    answer.put_i32(apis.len() as i32);
    for (api, lowest, highest) in apis {
        answer.put_i16(api);
        answer.put_i16(lowest);
        answer.put_i16(highest);
    }
    true
}

fn metadata(version: i16, question: &mut &[u8], state: &State, answer: &mut Vec<u8>) -> bool {
    assert_eq!((version, question.get_i32()), (4, 1));
    let topic = text(question).unwrap();
    let _may_create = question.get_u8();
    answer.put_i32(0);
    answer.put_i32(state.addresses.len() as i32);
    for (id, address) in state.addresses.iter().enumerate() {
        answer.put_i32(id as i32);
        put_text("localhost", answer);
        answer.put_i32(address.port().into());
        answer.put_i16(-1);
    }
    put_text("cluster", answer);
    answer.put_i32(0);
    answer.put_i32(1);
    answer.put_i16(if topic == "records" { 0 } else { 3 });
    put_text(&topic, answer);
    answer.put_u8(0);
    let partitions = if topic == "records" { &state.told[..] } else { &[] };
    answer.put_i32(partitions.len() as i32);
    for (partition, leader) in partitions.iter().enumerate() {
        answer.put_i16(if *leader < 0 { 5 } else { 0 });
        answer.put_i32(partition as i32);
        answer.put_i32(*leader);
        for _replicas_and_those_in_step in 0..2 {
            answer.put_i32(1);
            answer.put_i32(*leader);
        }
    }
    true
}

fn produce(id: i32, version: i16, question: &mut &[u8], state: &mut State, answer: &mut Vec<u8>) -> bool {
    assert_eq!(
        (version, question.get_i16(), question.get_i16()),
        (8, -1, -1),
        "version, transaction, acknowledgements"
    );
    assert!(question.get_i32() > 0, "no time");
    assert_eq!(question.get_i32(), 1);
    assert_eq!(text(question).unwrap(), "records");
    assert_eq!(question.get_i32(), 1);
    let partition = question.get_i32() as usize;
    let records = long(question);
    let code = match state.refusals.pop_front() {
        Some(code) => code,
        None if state.leaders[partition] != id => NOT_LEADER,
        None if records.len() > state.longest => TOO_LARGE,
        None => {
            state.messages.extend(messages(partition, &records));
            state.batches += 1;
            0
        }
    };
    if code == 0 && state.unanswered > 0 {
        state.unanswered -= 1;
        return false;
    }
    answer.put_i32(1);
    put_text("records", answer);
    answer.put_i32(1);
    answer.put_i32(partition as i32);
    answer.put_i16(code);
    for _offset_time_and_first in 0..3 {
        answer.put_i64(-1);
    }
    answer.put_i32(0);
    answer.put_i16(-1);
    answer.put_i32(0);
    true
}

/// The messages of one batch, which must be whole.
fn messages(partition: usize, whole: &[u8]) -> Vec<Message> {
    let (mut batch, mut unpacked) = (whole, Vec::new());
    assert_eq!(batch.get_i64(), 0, "offset");
    assert_eq!(batch.get_i32() as usize, batch.len(), "length");
    assert_eq!((batch.get_i32(), batch.get_u8()), (-1, 2), "epoch, magic");
    assert_eq!(batch.get_u32(), castagnoli(batch), "checksum");
    let gzip = match batch.get_i16() {
        0 => false,
        1 => true,
        other => panic!("attributes {other}"),
    };
    let last = batch.get_i32();
    let (first_at, last_at) = (batch.get_i64(), batch.get_i64());
    assert!(first_at > 1_700_000_000_000 && last_at >= first_at, "{first_at} {last_at}");
    assert_eq!((batch.get_i64(), batch.get_i16(), batch.get_i32()), (-1, -1, -1), "producer");
    let count = batch.get_i32();
    assert_eq!(last, count - 1);
    if gzip {
        flate2::read::GzDecoder::new(batch).read_to_end(&mut unpacked).unwrap();
        batch = &unpacked;
    }
    let one = |place: i32| {
        let length = varint(&mut batch) as usize;
        let (mut record, rest) = batch.split_at(length);
        batch = rest;
        assert_eq!(record.get_u8(), 0, "attributes");
        assert!((0..=last_at - first_at).contains(&varint(&mut record)), "time");
        assert_eq!(varint(&mut record), i64::from(place));
        let mut part = || {
            let length = varint(&mut record) as usize;
            record.copy_to_bytes(length)
        };
        let (key, value) = (part(), part());
        assert_eq!((varint(&mut record), record.len()), (0, 0), "headers, rest");
        let key = String::from_utf8(key.to_vec()).unwrap();
        Message { partition, key, value: serde_json::from_slice(&value).unwrap() }
    };
    let all = (0..count).map(one).collect();
    assert!(batch.is_empty(), "{} bytes behind the records", batch.len());
    all
}

/// What a connection has said of itself.
#[derive(Default)]
struct Session {
    known: bool,
    mechanism: String,
    /// Of SCRAM: the client's first message and ours.
    first: Option<(String, String)>,
}

impl Session {
    fn handshake(&mut self, question: &mut &[u8], state: &State, answer: &mut Vec<u8>) -> bool {
        self.mechanism = text(question).unwrap();
        let Some((wanted, _, _)) = state.user else { return false };
        answer.put_i16(if self.mechanism == wanted { 0 } else { 33 });
        answer.put_i32(1);
        put_text(wanted, answer);
        true
    }

    fn authenticate(&mut self, version: i16, question: &mut &[u8], state: &State, answer: &mut Vec<u8>) -> bool {
        assert_eq!(version, 1);
        let words = long(question);
        let Some((_, name, password)) = state.user else { return false };
        let answered = match self.mechanism.as_str() {
            "PLAIN" => (words == format!("\0{name}\0{password}")).then(Vec::new),
            _ => self.scram(std::str::from_utf8(&words).unwrap(), name, password),
        };
        match answered {
            Some(words) => {
                self.known |= self.mechanism == "PLAIN" || words.starts_with(b"v=");
                answer.put_i16(0);
                answer.put_i16(-1);
                answer.put_i32(words.len() as i32);
                answer.put_slice(&words);
            }
            None => {
                answer.put_i16(58);
                // As a careless broker would.
                put_text(&format!("wrong: {}", String::from_utf8_lossy(&words)), answer);
                answer.put_i32(0);
            }
        }
        answer.put_i64(0);
        true
    }

    /// The server's side of SCRAM-SHA-512 (RFC 5802 §3).
    fn scram(&mut self, said: &str, name: &str, password: &str) -> Option<Vec<u8>> {
        let mac = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), text).as_ref().to_vec();
        let Some((bare, ours)) = self.first.take() else {
            let bare = said.strip_prefix("n,,")?.to_owned();
            let nonce = bare.strip_prefix(&format!("n={name},r="))?;
            let ours = format!("r={nonce}server,s={},i=4096", STANDARD.encode(b"some salt"));
            self.first = Some((bare, ours.clone()));
            return Some(ours.into_bytes());
        };
        let (unproven, proof) = said.rsplit_once(",p=")?;
        assert_eq!(Some(unproven), ours.split(",s=").next().map(|nonce| format!("c=biws,{nonce}")).as_deref());
        let mut salted = [0; 64];
        let rounds = NonZeroU32::new(4096).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, b"some salt", password.as_bytes(), &mut salted);
        let all = format!("{bare},{ours},{unproven}");
        let stored = digest::digest(&digest::SHA512, &mac(&salted, b"Client Key")).as_ref().to_vec();
        let signature = mac(&stored, all.as_bytes());
        let key: Vec<u8> =
            STANDARD.decode(proof).ok()?.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        let known = digest::digest(&digest::SHA512, &key).as_ref() == stored;
        let ours = STANDARD.encode(mac(&mac(&salted, b"Server Key"), all.as_bytes()));
        known.then(|| format!("v={ours}").into_bytes())
    }
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(bytes.get_i16()).ok()?;
    Some(String::from_utf8(bytes.copy_to_bytes(length).to_vec()).unwrap())
}

fn long(bytes: &mut &[u8]) -> Bytes {
    let length = usize::try_from(bytes.get_i32()).unwrap();
    bytes.copy_to_bytes(length)
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn varint(bytes: &mut &[u8]) -> i64 {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.get_u8();
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// CRC-32C, bit by bit.
fn castagnoli(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _: u32| if sum & 1 == 1 { (sum >> 1) ^ 0x82F6_3B78 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}
