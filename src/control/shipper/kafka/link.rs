//! A connection to one broker.
//!
//! Floor 5. It is there when TCP, TLS, versions and who we are have all been settled, or not at all. One question at a time,
//! with a bound on the wait and on the answer. Whoever finds it broken drops it; what was asked last may then have been done
//! or not.

use std::io;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::super::wire::{Duplex, Security, dial};
use crate::config::secret::Secret;
use crate::config::sink::{Kafka, Mechanism};
use crate::control::transport::TransportError;
use crate::kafka::answer::{self, Cluster, Garbled, Produced, Versions};
use crate::kafka::scram::{Hash, Scram};
use crate::kafka::{Refusal, ask};
use crate::telemetry::events::Chain;

/// Longest answer. That about a topic has some 50 bytes for each partition, and more for each broker.
const ANSWER: usize = 4 * 1024 * 1024;

/// Longest part of a broker's words that goes to an event.
const SHOWN: usize = 200;

/// How to get to brokers, and what to say there.
pub(super) struct Way {
    security: Option<Security>,
    user: Option<User>,
    patience: Duration,
}

struct User {
    mechanism: Mechanism,
    name: String,
    password: Secret,
}

/// A connection.
pub(super) struct Link {
    stream: Box<dyn Duplex>,
    correlation: i32,
    versions: Versions,
    /// When who we are has to be said anew, which is done on another connection.
    until: Option<Instant>,
    patience: Duration,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Unlinked {
    /// Another broker may do better.
    Unreached(String),
    /// The cluster does not want us.
    Unwelcome(String),
}

impl Unlinked {
    /// The words.
    pub(super) fn why(self) -> String {
        match self {
            Self::Unreached(why) | Self::Unwelcome(why) => why,
        }
    }
}

impl Way {
    /// Reads the files and secrets that `to` names.
    pub(super) fn new(to: &Kafka) -> Result<Self, TransportError> {
        let hosts: Vec<&str> = to.brokers.iter().map(|(host, _)| host.as_str()).collect();
        let security = to.tls.as_ref().map(|wanted| Security::new(wanted, &hosts)).transpose()?;
        let user = match &to.sasl {
            None => None,
            Some(sasl) => {
                Some(User { mechanism: sasl.mechanism, name: sasl.username.clone(), password: sasl.password.read()? })
            }
        };
        Ok(Self { security, user, patience: to.patience })
    }

    /// A connection to the broker there.
    pub(super) async fn connect(&self, (host, port): &(String, u16)) -> Result<Link, Unlinked> {
        let late = || Unlinked::Unreached(format!("no connection within {:?}", self.patience));
        let linked = timeout(self.patience, self.link(host, *port)).await.unwrap_or_else(|_| Err(late()));
        linked.map_err(|unlinked| match unlinked {
            Unlinked::Unreached(why) => Unlinked::Unreached(format!("{host}:{port}: {why}")),
            Unlinked::Unwelcome(why) => Unlinked::Unwelcome(format!("{host}:{port}: {why}")),
        })
    }

    async fn link(&self, host: &str, port: u16) -> Result<Link, Unlinked> {
        let unreached = |error: io::Error| Unlinked::Unreached(Chain(&error).to_string());
        let stream = dial(host, port, self.security.as_ref(), self.patience).await.map_err(unreached)?;
        let versions = Versions { produce: 0, authenticate: None };
        let mut link = Link { stream, correlation: 0, versions, until: None, patience: self.patience };
        let answer = link.ask(ask::api_versions).await.map_err(Unlinked::Unreached)?;
        match answer::api_versions(&answer, link.correlation) {
            Ok(Ok(versions)) => link.versions = versions,
            Ok(Err(refusal)) => return Err(Unlinked::Unwelcome(format!("versions: {refusal}"))),
            Err(garbled) => return Err(Unlinked::Unreached(garbled.to_string())),
        }
        if let Some(user) = &self.user {
            link.introduce(user).await?;
        }
        Ok(link)
    }
}

impl Link {
    /// Whether it is not known to be gone, or to end soon.
    pub(super) fn is_alive(&mut self) -> bool {
        let fresh = self.until.is_none_or(|until| until > Instant::now());
        // Nothing was asked: what can be read now is the end, or nonsense.
        fresh && self.stream.read_u8().now_or_never().is_none()
    }

    /// Who leads the partitions of `topic`.
    pub(super) async fn metadata(&mut self, topic: &str) -> Result<Cluster, String> {
        let answer = self.ask_in_time(|correlation| ask::metadata(correlation, topic)).await?;
        answer::metadata(&answer, self.correlation, topic).map_err(|garbled| garbled.to_string())
    }

    /// Hands a batch over.
    pub(super) async fn produce(&mut self, topic: &str, partition: i32, records: &[u8]) -> Result<Produced, String> {
        let version = self.versions.produce;
        // The broker gives up first, and says why.
        let patience = i32::try_from((self.patience * 3 / 4).as_millis()).unwrap_or(i32::MAX);
        let question = |correlation| ask::produce(version, correlation, topic, partition, patience, records);
        let answer = self.ask_in_time(question).await?;
        let produced = answer::produce(&answer, version, self.correlation, partition);
        produced.map_err(|garbled| garbled.to_string())
    }

    /// Says who we are.
    async fn introduce(&mut self, user: &User) -> Result<(), Unlinked> {
        let (mechanism, hash) = match user.mechanism {
            Mechanism::Plain => ("PLAIN", None),
            Mechanism::ScramSha256 => ("SCRAM-SHA-256", Some(Hash::Sha256)),
            Mechanism::ScramSha512 => ("SCRAM-SHA-512", Some(Hash::Sha512)),
        };
        let answer = self.ask(|correlation| ask::sasl_handshake(correlation, mechanism)).await;
        let answer = answer.map_err(Unlinked::Unreached)?;
        let (refusal, offered) = answer::sasl_handshake(&answer, self.correlation).map_err(nonsense)?;
        if let Some(refusal) = refusal {
            let offered = shown(&offered.join(", "));
            return Err(Unlinked::Unwelcome(format!("{refusal}: {mechanism}, where it takes: {offered}")));
        }
        let password = user.password.expose();
        let Some(hash) = hash else {
            // RFC 4616 §2: for nobody else, the name, the password.
            let words = [&b"\0"[..], user.name.as_bytes(), b"\0", password].concat();
            return self.say(&words, user).await.map(drop);
        };
        let scram = Scram::new(hash, &user.name, password, nonce()?);
        let challenge = self.say(&scram.first(), user).await?;
        // So many rounds are nothing for a thread that others wait for.
        let proving = tokio::task::spawn_blocking(move || scram.last(&challenge)).await;
        let proved = proving.map_err(|panic| Unlinked::Unreached(panic.to_string()))?;
        let (proof, expected) = proved.map_err(|error| Unlinked::Unwelcome(error.to_string()))?;
        let theirs = self.say(&proof, user).await?;
        expected.is_met_by(&theirs).map_err(|error| Unlinked::Unwelcome(error.to_string()))
    }

    /// Says words of a mechanism, and hears those of the broker.
    async fn say(&mut self, words: &[u8], user: &User) -> Result<Vec<u8>, Unlinked> {
        let Some(version) = self.versions.authenticate else {
            return Err(Unlinked::Unwelcome(format!("SASL: {}", Refusal::UNSUPPORTED_VERSION)));
        };
        let answer = self.ask(|correlation| ask::sasl_authenticate(version, correlation, words)).await;
        let answer = answer.map_err(Unlinked::Unreached)?;
        let heard = answer::sasl_authenticate(&answer, version, self.correlation).map_err(nonsense)?;
        if let Some(refusal) = heard.refusal {
            let words = heard.words.unwrap_or_default();
            // A broker may repeat what it was told.
            let secret = String::from_utf8_lossy(user.password.expose());
            return Err(Unlinked::Unwelcome(format!("{refusal}: {}", shown(&words.replace(secret.as_ref(), "***")))));
        }
        if heard.lifetime > 0 {
            // With a while left for what is under way (KIP-368).
            self.until = Instant::now().checked_add(Duration::from_millis(heard.lifetime / 10 * 8));
        }
        Ok(heard.challenge)
    }

    async fn ask_in_time(&mut self, question: impl FnOnce(i32) -> Bytes) -> Result<Vec<u8>, String> {
        let patience = self.patience;
        let late = || format!("no answer within {patience:?}");
        timeout(patience, self.ask(question)).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks, and gives the answer's bytes.
    async fn ask(&mut self, question: impl FnOnce(i32) -> Bytes) -> Result<Vec<u8>, String> {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = question(self.correlation);
        let exchange = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await?;
            let length = self.stream.read_i32().await?;
            let within = u64::try_from(length).ok().filter(|length| *length <= ANSWER as u64);
            let within = within.ok_or_else(|| io::Error::other(format!("an answer of {length} bytes")))?;
            // What is announced is not set aside before it is there.
            let mut answer = Vec::new();
            (&mut self.stream).take(within).read_to_end(&mut answer).await?;
            if (answer.len() as u64) < within { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
        };
        exchange.await.map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "the broker has closed the connection".to_owned(),
            _ => Chain(&error).to_string(),
        })
    }
}

/// Characters that were never used before.
fn nonce() -> Result<String, Unlinked> {
    let mut bytes = [0; 24];
    rand::fill(&mut bytes).map_err(|_| Unlinked::Unreached("no random bytes".to_owned()))?;
    Ok(STANDARD.encode(bytes))
}

fn nonsense(garbled: Garbled) -> Unlinked {
    Unlinked::Unreached(garbled.to_string())
}

/// A broker's words, as an event may have them.
pub(super) fn shown(words: &str) -> String {
    words.chars().take(SHOWN).collect::<String>().escape_debug().to_string()
}
