//! Replicas as child processes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Stage, process};

/// Longest wait for a replica to do what it is told.
const PATIENCE: Duration = Duration::from_secs(20);

/// Replicas, each with a name and a place to which it returns.
pub(crate) struct Fleet {
    journal: PathBuf,
    pub(crate) replicas: Vec<Replica>,
}

/// A replica.
pub(crate) struct Replica {
    /// Its name, which it puts into every answer.
    pub(crate) name: String,
    /// Where it listens, in each of its lives.
    pub(crate) address: SocketAddr,
    /// The network namespace that it lives in.
    namespace: Option<String>,
    journal: PathBuf,
    life: Mutex<Option<Life>>,
}

/// A replica's process.
struct Life {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What a replica has seen in this life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Connections accepted.
    pub(crate) connections: usize,
    /// Most requests at once.
    pub(crate) peak: usize,
}

impl Fleet {
    /// No replica yet.
    pub(crate) fn empty(stage: &Stage) -> Self {
        Self { journal: stage.path().join("journal"), replicas: Vec::new() }
    }

    /// `count` replicas on loopback.
    pub(crate) async fn start(stage: &Stage, count: usize) -> Self {
        let mut fleet = Self::empty(stage);
        for _ in 0..count {
            fleet.add(IpAddr::V4(Ipv4Addr::LOCALHOST), None).await;
        }
        fleet
    }

    /// One more replica, on `host` in `namespace`.
    pub(crate) async fn add(&mut self, host: IpAddr, namespace: Option<&str>) {
        self.add_at(SocketAddr::new(host, 0), namespace).await;
    }

    /// One more replica, at `address` in `namespace`.
    pub(crate) async fn add_at(&mut self, address: SocketAddr, namespace: Option<&str>) {
        let name = char::from(b'a' + u8::try_from(self.replicas.len()).expect("a few")).to_string();
        let mut replica = Replica {
            name,
            address,
            namespace: namespace.map(str::to_owned),
            journal: self.journal.clone(),
            life: Mutex::new(None),
        };
        replica.address = replica.start().await;
        self.replicas.push(replica);
    }

    /// For a pool's `endpoints`.
    pub(crate) fn endpoints(&self) -> String {
        let all: Vec<String> = self.replicas.iter().map(|replica| format!("\"{}\"", replica.address)).collect();
        format!("[{}]", all.join(", "))
    }

    /// Requests that were done more than once although they change something.
    pub(crate) fn done_twice(&self) -> usize {
        let text = std::fs::read_to_string(&self.journal).unwrap_or_default();
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for id in text.lines() {
            *times.entry(id).or_default() += 1;
        }
        times.values().filter(|times| **times > 1).count()
    }

    /// The replica of that number, from 0.
    pub(crate) fn replica(&self, number: usize) -> &Replica {
        &self.replicas[number]
    }
}

impl Replica {
    /// Begins a life; at the place of the one before, if there was one.
    pub(crate) async fn start(&self) -> SocketAddr {
        let program = std::env::current_exe().expect("this program");
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        let mut child = command
            .args(["replica", &self.name, &self.address.to_string()])
            .arg(&self.journal)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a replica");
        let orders = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut life = Life { child, orders, answers };
        let line = life.line().await;
        let address = line.strip_prefix("listening ").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("replica {} said: {line}", self.name));
        *self.life.lock().await = Some(life);
        address
    }

    /// Gives an order; see `replica::manners`.
    pub(crate) async fn obey(&self, order: &str) -> String {
        let mut life = self.life.lock().await;
        let life = life.as_mut().expect("it lives");
        life.orders.write_all(format!("{order}\n").as_bytes()).await.expect("it listens");
        life.line().await
    }

    /// What it has seen in this life.
    pub(crate) async fn counts(&self) -> Counts {
        let line = self.obey("count").await;
        let numbers: Vec<usize> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
        let &[connections, peak] = numbers.as_slice() else { panic!("no counts: {line}") };
        Counts { connections, peak }
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, name: &str) {
        let life = self.life.lock().await;
        let pid = life.as_ref().and_then(|life| life.child.id());
        process::signal(pid.expect("it lives"), name);
    }

    /// Ends it as the kernel's killer of processes would.
    pub(crate) async fn kill(&self) {
        self.signal("KILL").await;
        self.gone().await;
    }

    /// Ends it as a rolling update does: it stops to listen, finishes what is under way, and goes.
    pub(crate) async fn finish(&self) {
        self.obey("finish").await;
        self.gone().await;
    }

    async fn gone(&self) {
        let life = self.life.lock().await.take();
        let mut life = life.expect("it lived");
        timeout(PATIENCE, life.child.wait()).await.expect("it ends").expect("it ended");
    }
}

impl Life {
    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.answers.next_line()).await.expect("an answer in time");
        line.expect("an answer").unwrap_or_else(|| "nothing, and ended".to_owned())
    }
}
