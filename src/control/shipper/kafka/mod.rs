//! Takes batches to a topic of Kafka.
//!
//! Floor 5. Each batch goes to one partition, in turn, so that it is taken as a whole or not, and a partition whose leader
//! is away holds up none of the others. It is there when all replicas that are in step have it. What was certainly not
//! written is tried elsewhere at once, a few times; all else is for the shipper, which comes again: a record may be there
//! twice then, under the same key. Deliberately absent: producers' ids and sequences, which would spare that; transactions.

mod link;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::config::sink::Kafka;
use crate::control::transport::{Delivery, LONGEST_PAUSE, TransportError};
use crate::kafka::Advice;
use crate::kafka::answer::{Cluster, Produced};
use crate::telemetry::parcel::{Entry, Wrap};
use link::{Link, Unlinked, Way, shown};

/// Age at which it is asked again who leads what, whether or not anything went wrong.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// Brokers that are tried with one batch before it waits.
const TRIES: usize = 3;

/// Time for which a broker that could not be reached is passed over, if there are others.
const REST: Duration = Duration::from_secs(30);

/// Connections that are kept: brokers may announce any number of leaders.
const LINKS: usize = 32;

/// Brokers beside those of the configuration that are asked about the cluster.
const OTHERS: usize = 4;

/// A producer for one topic.
pub(super) struct Producer {
    to: Kafka,
    way: Way,
    cluster: Cluster,
    /// When that was learned; `None` when it has proved wrong.
    learned: Option<Instant>,
    /// Connections to leaders that were needed.
    links: BTreeMap<i32, Link>,
    /// Brokers that could not be reached, and until when they are passed over.
    resting: BTreeMap<i32, Instant>,
    /// Counts batches, and with them partitions.
    turn: usize,
    /// Which of the configuration's brokers answered last.
    first: usize,
    /// Brokers asked for nothing to be sent until then.
    quiet: Option<Instant>,
}

/// What became of one try.
enum Tried {
    Over(Delivery),
    /// Nothing was written, and another try may do better.
    Elsewhere(String),
}

impl Producer {
    /// Not connected yet. Reads the files and secrets that `to` names.
    pub(super) fn new(to: &Kafka) -> Result<Self, TransportError> {
        Ok(Self {
            to: to.clone(),
            way: Way::new(to)?,
            cluster: Cluster::default(),
            learned: None,
            links: BTreeMap::new(),
            resting: BTreeMap::new(),
            // Not all proxies begin with the same one.
            turn: fastrand::usize(..),
            first: 0,
            quiet: None,
        })
    }

    /// Takes entries to one partition.
    pub(super) async fn deliver(&mut self, entries: &[Entry]) -> Delivery {
        let records = match self.packed(entries).await {
            Ok(records) => records,
            Err(why) => return Delivery::Later { after: None, why },
        };
        if let Some(quiet) = self.quiet.take() {
            sleep_until(quiet).await;
        }
        let mut why = String::new();
        for _ in 0..TRIES {
            match self.attempt(&records).await {
                Tried::Over(delivery) => return delivery,
                Tried::Elsewhere(reason) => why = reason,
            }
        }
        Delivery::Later { after: None, why }
    }

    /// One record batch; compressed on a thread that others do not wait for.
    async fn packed(&self, entries: &[Entry]) -> Result<Bytes, String> {
        let (wrap, entries): (_, Arc<[Entry]>) = (Wrap::Kafka { gzip: self.to.gzip }, entries.into());
        let packing = tokio::task::spawn_blocking(move || wrap.body(&entries));
        packing.await.map_err(|panic| panic.to_string())
    }

    async fn attempt(&mut self, records: &[u8]) -> Tried {
        let later = |why| Tried::Over(Delivery::Later { after: None, why });
        if self.learned.is_none_or(|learned| learned.elapsed() > FRESH)
            && let Err(why) = self.learn().await
        {
            return later(why);
        }
        let Some((partition, leader)) = self.choose() else {
            self.learned = None;
            return later(format!("no partition of {} has a leader", self.to.topic));
        };
        let mut link = match self.link(leader).await {
            Ok(link) => link,
            Err(why) => {
                self.resting.insert(leader, Instant::now() + REST);
                self.learned = None;
                return Tried::Elsewhere(why);
            }
        };
        let told = link.produce(&self.to.topic, partition, records).await;
        let Produced { refusal, words, throttle } = match told {
            Ok(told) => told,
            Err(why) => {
                self.learned = None;
                return later(why);
            }
        };
        self.keep(leader, link);
        if throttle > 0 {
            self.quiet = Some(Instant::now() + Duration::from_millis(throttle.into()).min(LONGEST_PAUSE));
        }
        let Some(refusal) = refusal else { return Tried::Over(Delivery::Taken) };
        let words = words.map(|words| format!(": {}", shown(&words))).unwrap_or_default();
        let why = format!("partition {partition}: {refusal}{words}");
        match refusal.advice() {
            Advice::Elsewhere => {
                self.learned = None;
                Tried::Elsewhere(why)
            }
            Advice::Later => later(why),
            Advice::Never => Tried::Over(Delivery::Refused { why }),
        }
    }

    /// The next partition and its leader, one that rests only if all do.
    fn choose(&mut self) -> Option<(i32, i32)> {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let leaders = &self.cluster.leaders;
        let awake: Vec<_> = leaders.iter().filter(|(_, leader)| !self.resting.contains_key(leader)).collect();
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        let chosen = match awake.len() {
            0 => leaders.get(turn.checked_rem(leaders.len())?),
            some => awake.get(turn.checked_rem(some)?).copied(),
        };
        chosen.copied()
    }

    /// A connection to the leader, that which is there if it is alive.
    async fn link(&mut self, leader: i32) -> Result<Link, String> {
        if let Some(mut link) = self.links.remove(&leader)
            && link.is_alive()
        {
            return Ok(link);
        }
        match self.cluster.brokers.get(&leader) {
            Some(place) => self.way.connect(place).await.map_err(Unlinked::why),
            None => Err(format!("broker {leader} is nowhere")),
        }
    }

    /// Keeps a connection, if need be in place of another.
    fn keep(&mut self, leader: i32, link: Link) {
        if self.links.len() >= LINKS {
            self.links.pop_first();
        }
        self.links.insert(leader, link);
    }

    /// Asks who leads what: those of the configuration first, the last that answered before the others.
    async fn learn(&mut self) -> Result<(), String> {
        let known = self.to.brokers.len();
        let order = (0..known).filter_map(|at| (self.first + at).checked_rem(known)).map(|at| (Some(at), at));
        let written = order.filter_map(|(first, at)| Some((first, self.to.brokers.get(at)?.clone())));
        let found = self.cluster.brokers.values().filter(|place| !self.to.brokers.contains(place));
        let others = found.take(OTHERS).map(|place| (None, place.clone()));
        let places: Vec<(Option<usize>, (String, u16))> = written.chain(others).collect();
        let mut why = String::new();
        for (first, place) in places {
            match self.ask(&place).await {
                Ok(cluster) => {
                    self.first = first.unwrap_or(self.first);
                    return self.adopt(cluster);
                }
                // It would be so at the others, and they might lock the user out.
                Err(Unlinked::Unwelcome(reason)) => return Err(reason),
                Err(Unlinked::Unreached(reason)) => why = reason,
            }
        }
        Err(why)
    }

    async fn ask(&self, place: &(String, u16)) -> Result<Cluster, Unlinked> {
        let mut link = self.way.connect(place).await?;
        let (host, port) = place;
        let unreached = |why| Unlinked::Unreached(format!("{host}:{port}: {why}"));
        link.metadata(&self.to.topic).await.map_err(unreached)
    }

    /// Makes `cluster` what is known.
    fn adopt(&mut self, cluster: Cluster) -> Result<(), String> {
        let before = std::mem::replace(&mut self.cluster, cluster);
        let now = &self.cluster.brokers;
        self.links.retain(|broker, _| now.contains_key(broker) && now.get(broker) == before.brokers.get(broker));
        self.learned = Some(Instant::now());
        match self.cluster.refusal {
            Some(refusal) => {
                self.learned = None;
                Err(format!("topic {}: {refusal}", self.to.topic))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("to", &self.to).field("cluster", &self.cluster).finish_non_exhaustive()
    }
}
