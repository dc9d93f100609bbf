//! Runs the real binary over real sockets: its configuration and certificates in a directory of their own, every port
//! given by the system, addresses learnt from the events on standard error, records read from standard output.
//!
//! Whatever is awaited is awaited for [`PATIENCE`] at most, and by an event, never by the clock.

pub(crate) mod collector;
pub(crate) mod countries;
pub(crate) mod dns;
pub(crate) mod h2;
pub(crate) mod h3;
#[expect(clippy::cast_possible_truncation, reason = "what a test sends is small")]
pub(crate) mod kafka;
pub(crate) mod lines;
pub(crate) mod peer;
pub(crate) mod pki;
pub(crate) mod redis;
pub(crate) mod rough;
pub(crate) mod upstream;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

pub(crate) use h2::H2;
pub(crate) use h3::H3;
pub(crate) use lines::Lines;
pub(crate) use peer::{Peer, Response};
pub(crate) use pki::Pki;
pub(crate) use upstream::{Gate, Upstream};

/// What a process has taken.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// Resident memory, bytes.
    pub(crate) memory: usize,
    /// Time of all its threads, in user and kernel space, to a hundredth of a second.
    pub(crate) cpu: Duration,
}

/// Longest wait for anything that should happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Awaits what should happen soon; says `what` when it does not.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for: {what}"),
    }
}

/// The program: as it was built with the tests, unless `SLUICEGATE_BIN` names another build of it.
fn binary() -> OsString {
    std::env::var_os("SLUICEGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sluicegate").into())
}

/// A proxy to be: parts of its configuration.
#[derive(Default)]
pub(crate) struct Setup {
    process: String,
    clients: String,
    admin: String,
    plain: String,
    secure: String,
    pool: String,
    rest: String,
    endpoints: Vec<SocketAddr>,
    weights: Vec<u16>,
    files: Vec<(String, String)>,
    environment: Vec<(&'static str, OsString)>,
    volume: bool,
    process_1: bool,
    small_disk: Option<&'static str>,
}

impl Setup {
    /// The configuration is linked to as in a volume of Kubernetes.
    pub(crate) fn in_a_volume(mut self) -> Self {
        self.volume = true;
        self
    }

    /// As process 1 of a namespace of its own, as in a container.
    pub(crate) fn in_a_container(mut self) -> Self {
        self.process_1 = true;
        self
    }

    /// With a disk of 64 KiB at this folder, which nobody else sees.
    pub(crate) fn small_disk(mut self, folder: &'static str) -> Self {
        self.small_disk = Some(folder);
        self
    }

    /// A variable of its environment.
    pub(crate) fn environment(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Lines of `[process]`.
    pub(crate) fn process(mut self, lines: &str) -> Self {
        self.process = lines.to_owned();
        self
    }

    /// Lines of `[clients]`.
    pub(crate) fn clients(mut self, lines: &str) -> Self {
        self.clients = lines.to_owned();
        self
    }

    /// Lines of `[admin]`.
    pub(crate) fn admin(mut self, lines: &str) -> Self {
        self.admin = lines.to_owned();
        self
    }

    /// Lines of the plain listener.
    pub(crate) fn plain(mut self, lines: &str) -> Self {
        self.plain = lines.to_owned();
        self
    }

    /// Lines of the listener with TLS.
    pub(crate) fn secure(mut self, lines: &str) -> Self {
        self.secure = lines.to_owned();
        self
    }

    /// An endpoint of the pool `app`.
    pub(crate) fn endpoint(mut self, upstream: &Upstream) -> Self {
        self.endpoints.push(upstream.address);
        self.weights.push(1);
        self
    }

    /// An endpoint of the pool `app` by its address.
    pub(crate) fn endpoint_at(mut self, address: SocketAddr, weight: u16) -> Self {
        self.endpoints.push(address);
        self.weights.push(weight);
        self
    }

    /// Lines of the pool `app`. Without any it has no health checks: every endpoint is trusted.
    pub(crate) fn pool(mut self, lines: &str) -> Self {
        self.pool = lines.to_owned();
        self
    }

    /// What follows the pool: routes, further pools.
    pub(crate) fn rest(mut self, text: &str) -> Self {
        self.rest = text.to_owned();
        self
    }

    /// A file beside the configuration.
    pub(crate) fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// The whole configuration. `DIR` in any part stands for the directory it lies in.
    fn text(&self, directory: &Path) -> String {
        let endpoints: Vec<String> = self
            .endpoints
            .iter()
            .zip(&self.weights)
            .map(|(address, weight)| format!("{{ address = \"{address}\", weight = {weight} }}"))
            .collect();
        let workers = if self.process.contains("workers") { "" } else { "workers = 2" };
        let health = if self.pool.contains("health") { "" } else { "health = false" };
        let routes = if self.rest.contains("[[routes]]") { "" } else { "[[routes]]\npool = \"app\"\n" };
        format!(
            "[process]\nlog_json = true\n{workers}\n{}\n[clients]\n{}\n[admin]\naddress = \"127.0.0.1:0\"\n{}\n\
             [[listeners]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n{}\n\
             [[listeners]]\nname = \"secure\"\naddress = \"127.0.0.1:0\"\n\
             certificate = \"DIR/leaf.pem\"\nkey = \"DIR/leaf.key\"\n{}\n\
             [pools.app]\n{}\n{health}\n{}\n{routes}{}\n",
            self.process,
            self.clients,
            self.admin,
            self.plain,
            self.secure,
            if self.endpoints.is_empty() { String::new() } else { format!("endpoints = [{}]", endpoints.join(", ")) },
            self.pool,
            self.rest,
        )
        .replace("DIR", &directory.to_string_lossy())
    }

    /// Starts it and waits until it serves.
    pub(crate) async fn start(self) -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::new();
        pki.write(directory.path());
        for (name, content) in &self.files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let file = directory.path().join("sluicegate.toml");
        std::fs::write(&file, self.text(directory.path())).unwrap();
        if self.volume {
            let data = directory.path().join("..first");
            std::fs::create_dir(&data).unwrap();
            std::fs::rename(&file, data.join("sluicegate.toml")).unwrap();
            std::os::unix::fs::symlink("..first", directory.path().join("..data")).unwrap();
            std::os::unix::fs::symlink("..data/sluicegate.toml", &file).unwrap();
        }
        let binary = binary();
        let alone = self.process_1 || self.small_disk.is_some();
        let mut command = if alone { Command::new("unshare") } else { Command::new(&binary) };
        if let Some(folder) = self.small_disk {
            let folder = directory.path().join(folder);
            std::fs::create_dir(&folder).unwrap();
            let mount = "mount -t tmpfs -o size=64k none \"$0\" && exec \"$@\"";
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount]).arg(folder).arg(&binary);
        }
        if self.process_1 {
            // Whoever is not root may do this in a user namespace only.
            command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]).arg(&binary);
        }
        let mut child = command
            .arg("run")
            .arg("--config")
            .arg(&file)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let records = Lines::read(child.stdout.take().unwrap());
        let events = Lines::read(child.stderr.take().unwrap());
        let mut rig = Rig {
            plain: SocketAddr::from(([0, 0, 0, 0], 0)),
            secure: SocketAddr::from(([0, 0, 0, 0], 0)),
            admin: SocketAddr::from(([0, 0, 0, 0], 0)),
            directory,
            pki,
            records,
            events,
            child,
            process_1: self.process_1,
        };
        rig.event("serving").await;
        for event in rig.events.all() {
            let address = || field(&event, "address").as_str().unwrap_or_default().parse().unwrap();
            match (message(&event), field(&event, "listener").as_str()) {
                ("listening", Some("plain")) => rig.plain = address(),
                ("listening", Some("secure")) => rig.secure = address(),
                ("admin listening", _) => rig.admin = address(),
                _ => {}
            }
        }
        rig
    }
}

/// A running proxy; ends with the test.
pub(crate) struct Rig {
    /// Address of the plain listener.
    pub(crate) plain: SocketAddr,
    /// Address of the listener with TLS.
    pub(crate) secure: SocketAddr,
    /// Address of the admin listener.
    pub(crate) admin: SocketAddr,
    /// Where configuration and certificates lie.
    pub(crate) directory: TempDir,
    /// Its certificates.
    pub(crate) pki: Pki,
    /// The access log.
    pub(crate) records: Lines,
    /// Standard error.
    pub(crate) events: Lines,
    child: Child,
    process_1: bool,
}

impl Rig {
    /// A proxy to be.
    pub(crate) fn setup() -> Setup {
        Setup::default()
    }

    /// A connection to the plain listener.
    pub(crate) async fn client(&self) -> Peer {
        Peer::connect(self.plain).await
    }

    /// A TLS connection that speaks HTTP/1.1.
    pub(crate) async fn secure_client(&self) -> Peer {
        self.pki.connect(self.secure, "http/1.1", false).await.unwrap()
    }

    /// An HTTP/2 connection over TLS.
    pub(crate) async fn h2(&self) -> H2 {
        H2::over(self.pki.connect(self.secure, "h2", false).await.unwrap()).await
    }

    /// An HTTP/3 connection.
    pub(crate) async fn h3(&self) -> H3 {
        H3::connect(self.secure, self.pki.client("h3", false)).await.unwrap()
    }

    /// GET of `path` on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Response {
        let mut client = self.client().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        client.response().await
    }

    /// The record of an exchange or tunnel on `path` (with its query).
    pub(crate) async fn record(&self, path: &str) -> Value {
        self.record_where(&format!("record of {path}"), |record| record["path"] == path).await
    }

    /// The first record that `wanted` accepts.
    pub(crate) async fn record_where(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        soon(what, self.records.find(wanted)).await
    }

    /// The first event with `wanted` as its message.
    pub(crate) async fn event(&self, wanted: &str) -> Value {
        soon(&format!("event {wanted}"), self.events.find(|event| message(event) == wanted)).await
    }

    /// What the admin listener answers on `path`.
    pub(crate) async fn admin(&self, path: &str) -> Response {
        let mut client = Peer::connect(self.admin).await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
        client.send(head).await;
        client.response().await
    }

    /// What the admin listener answers to a change, with further fields.
    pub(crate) async fn change(&self, path: &str, fields: &str, body: &str) -> Response {
        let mut client = Peer::connect(self.admin).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.admin, body.len());
        client.send(format!("{head}{fields}\r\n{body}")).await;
        client.response().await
    }

    /// Runs `sluicegate` with these arguments: whether it ended well, and what it said on both outputs.
    pub(crate) async fn command(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null()).kill_on_drop(true);
        let output = soon(&format!("the end of {arguments:?}"), command.output()).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// `/status`.
    pub(crate) async fn status(&self) -> Value {
        serde_json::from_slice(&self.admin("/status").await.body).unwrap()
    }

    /// Asks `/status` until `wanted` accepts it.
    pub(crate) async fn status_where(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        soon(what, async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
            }
        })
        .await
    }

    /// The same for what takes seconds by its nature: a failover.
    pub(crate) async fn status_long(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = tokio::time::timeout(6 * PATIENCE, async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("waited in vain for: {what}"))
    }

    /// A sample of `/metrics`, named as there: `sluicegate_retries_total{pool="app",cause="connect"}`.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The configuration as it lies there.
    pub(crate) fn config(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("sluicegate.toml")).unwrap()
    }

    /// Puts another configuration in place, in one step.
    pub(crate) fn write_config(&self, text: &str) {
        let next = self.directory.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.directory.path().join("sluicegate.toml")).unwrap();
    }

    /// Sends a signal: `TERM`, `HUP`.
    pub(crate) async fn signal(&self, name: &str) {
        let mut pid = self.child.id().expect("it runs");
        if self.process_1 {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            pid = children.trim().parse().unwrap();
        }
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().await.unwrap();
        assert!(sent.success());
    }

    /// What it has taken by now.
    pub(crate) fn cost(&self) -> Cost {
        let pid = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let memory = line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // Behind the name, which may have spaces: utime and stime are fields 14 and 15, in hundredths of a second.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Cost { memory, cpu: Duration::from_millis(ticks * 10) }
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon("the end of the process", self.child.wait()).await.unwrap()
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in self.events.all().iter().chain(self.records.all().iter()) {
                eprintln!("{line}");
            }
        }
    }
}

/// The message of an event.
pub(crate) fn message(event: &Value) -> &str {
    field(event, "message").as_str().unwrap_or_default()
}

/// A field of an event, whether events are flat or not.
pub(crate) fn field<'a>(event: &'a Value, name: &str) -> &'a Value {
    match &event["fields"][name] {
        Value::Null => &event[name],
        value => value,
    }
}
