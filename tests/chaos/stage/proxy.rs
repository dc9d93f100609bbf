//! Proxies as child processes: the binary as it is shipped, with its defaults.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use super::{Fleet, Stage, process, until};
use crate::load::Target;

/// Longest wait for a proxy to do what it is told.
const PATIENCE: Duration = Duration::from_secs(30);

/// What differs from the defaults.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    /// Lines of `[process]`.
    pub(crate) process: String,
    /// Lines of the pool.
    pub(crate) pool: String,
    /// `endpoints` of the pool; those of the fleet when empty.
    pub(crate) endpoints: String,
    /// Lines of `[access_log]`; a file of its own when empty.
    pub(crate) log: String,
    /// Further tables.
    pub(crate) rest: String,
    /// Address of the listener; one that the system gives when `None`.
    pub(crate) address: Option<SocketAddr>,
    /// Most descriptors that the process may have.
    pub(crate) descriptors: Option<u32>,
    /// Whether endpoints need not be up for it to be ready.
    pub(crate) unready: bool,
}

/// A running proxy.
pub(crate) struct Proxy {
    /// Its listener.
    pub(crate) address: SocketAddr,
    /// Its process.
    pub(crate) pid: u32,
    /// Its standard output.
    pub(crate) stdout: Option<ChildStdout>,
    admin: SocketAddr,
    file: PathBuf,
    events: PathBuf,
    records: PathBuf,
    roots: Arc<RootCertStore>,
    child: Child,
}

impl Proxy {
    /// A proxy with every default in front of `fleet`.
    pub(crate) async fn start(stage: &Stage, fleet: &Fleet) -> Self {
        Self::with(stage, fleet, Setup::default()).await
    }

    /// A proxy in front of `fleet`; returns when all endpoints are up.
    pub(crate) async fn with(stage: &Stage, fleet: &Fleet, setup: Setup) -> Self {
        let name = format!("proxy-{}", fastrand::u32(..));
        let place = |kind: &str| stage.path().join(format!("{name}.{kind}"));
        let (file, events, records) = (place("toml"), place("events"), place("records"));
        std::fs::write(&file, text(stage, fleet, &setup, &records)).expect("the configuration");
        let program = &stage.binary;
        let mut command = match setup.descriptors {
            None => Command::new(program),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")]).arg(program);
                shell
            }
        };
        let stderr = File::create(&events).expect("a file for events");
        let mut child = command
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .expect("the proxy");
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let stdout = child.stdout.take();
        let pid = child.id().expect("it runs");
        let roots = stage.certificates.roots();
        let mut proxy = Self { address: nowhere, pid, stdout, admin: nowhere, file, events, records, roots, child };
        let serving = until(Instant::now(), PATIENCE, async || proxy.event("serving").is_some()).await;
        assert!(serving.is_some(), "it does not start:\n{}", proxy.last_events());
        let address = |event: &str| proxy.event(event)?["address"].as_str()?.parse().ok();
        let (own, admin) = (address("listening"), address("admin listening"));
        proxy.address = own.expect("its address");
        proxy.admin = admin.expect("its admin address");
        if !setup.unready {
            let ready = until(Instant::now(), PATIENCE, async || proxy.all_in().await).await;
            assert!(ready.is_some(), "its endpoints do not come up:\n{}", proxy.last_events());
        }
        proxy
    }

    /// Where clients find it.
    pub(crate) fn target(&self) -> Target {
        Target { addresses: vec![self.address], roots: Arc::clone(&self.roots) }
    }

    /// `/status`, or null when it does not answer.
    pub(crate) async fn status(&self) -> Value {
        serde_json::from_str(&self.admin("/status").await).unwrap_or_default()
    }

    /// A sample of `/metrics`, named as there; 0 when it is not there.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let text = self.admin("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }

    /// The sum of a family's samples, whatever their labels.
    pub(crate) async fn sum(&self, family: &str) -> f64 {
        let text = self.admin("/metrics").await;
        let samples = text.lines().filter_map(|line| line.strip_prefix(family)?.rsplit_once(' '));
        samples.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }

    async fn admin(&self, path: &str) -> String {
        let ask = async {
            let mut stream = TcpStream::connect(self.admin).await?;
            let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
            stream.write_all(head.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        let text = timeout(Duration::from_secs(2), ask).await.unwrap_or_else(|_| Ok(String::new()));
        let text = text.unwrap_or_default();
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// Whether `replica` gets new requests.
    pub(crate) async fn is_in(&self, replica: &str) -> bool {
        let status = self.status().await;
        let endpoints = status["pools"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.iter().any(|endpoint| endpoint["name"] == replica && serves(endpoint))
    }

    async fn all_in(&self) -> bool {
        let status = self.status().await;
        let endpoints = status["pools"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        !endpoints.is_empty() && endpoints.iter().all(serves)
    }

    /// How long after `since` the endpoint at `address` was out.
    pub(crate) async fn out(&self, address: SocketAddr, since: Instant) -> Option<Duration> {
        until(since, Duration::from_secs(60), async || !self.is_in(&address.to_string()).await).await
    }

    /// The last event with that message.
    pub(crate) fn event(&self, message: &str) -> Option<Value> {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        let events = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.into_iter().find(|event| event["message"] == message)
    }

    /// The last lines of its events.
    pub(crate) fn last_events(&self) -> String {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// What its access log says of the request `id`.
    pub(crate) fn record(&self, id: u64) -> Option<Value> {
        let wanted = format!("?id={id}&");
        let text = std::fs::read_to_string(&self.records).unwrap_or_default();
        text.lines().find(|line| line.contains(&wanted)).and_then(|line| serde_json::from_str(line).ok())
    }

    /// The configuration as it lies there.
    pub(crate) fn config(&self) -> String {
        std::fs::read_to_string(&self.file).expect("the configuration")
    }

    /// Puts another configuration in place, in one step, and asks for a reload.
    pub(crate) fn reload(&self, text: &str) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, text).expect("the configuration");
        std::fs::rename(next, &self.file).expect("the configuration");
        process::signal(self.pid, "HUP");
    }

    /// Ends it at once.
    pub(crate) async fn kill(&mut self) {
        process::signal(self.pid, "KILL");
        self.ended().await;
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        timeout(Duration::from_secs(90), self.child.wait()).await.expect("it ends").expect("it ended")
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Memory of its own, KiB.
    pub(crate) fn memory(&self) -> u64 {
        process::memory(self.pid)
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        process::descriptors(self.pid)
    }
}

/// Whether an endpoint of `/status` gets new requests.
fn serves(endpoint: &Value) -> bool {
    let well = matches!(endpoint["standing"].as_str(), Some("up" | "late"));
    well && endpoint["bench"] != "ejected" && endpoint["drained"] != true
}

fn text(stage: &Stage, fleet: &Fleet, setup: &Setup, records: &std::path::Path) -> String {
    let address = setup.address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let endpoints = match setup.endpoints.as_str() {
        _ if setup.pool.contains("discover") => String::new(),
        "" => format!("endpoints = {}", fleet.endpoints()),
        written => format!("endpoints = {written}"),
    };
    let log = if setup.log.is_empty() { format!("path = \"{}\"", records.display()) } else { setup.log.clone() };
    format!(
        "[process]\nlog_json = true\nworkers = 2\n{}\n[admin]\naddress = \"127.0.0.1:0\"\n[access_log]\n{log}\n\
         [[listeners]]\nname = \"secure\"\naddress = \"{address}\"\n\
         certificate = \"{directory}/leaf.pem\"\nkey = \"{directory}/leaf.key\"\n\
         [pools.app]\n{endpoints}\n{}\n[[routes]]\npool = \"app\"\n{}\n",
        setup.process,
        setup.pool,
        setup.rest,
        directory = stage.path().display(),
    )
}
