//! Real Redis, Sentinel and cluster processes on ports of their own.

use std::net::SocketAddr;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::peer::Peer;
use super::{Pki, soon};

/// A running server; ends with the test.
pub(crate) struct Redis {
    /// Its address.
    pub(crate) address: SocketAddr,
    directory: TempDir,
    arguments: Vec<String>,
    sentinel: bool,
    child: Child,
}

impl Redis {
    /// A server with further arguments.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::launch(free_port().await, arguments, |port| format!("port {port}\nsave \"\"\n"), false).await
    }

    /// A server that speaks TLS alone, with a certificate of `pki`, and further arguments.
    pub(crate) async fn secure(pki: &Pki, arguments: &[&str]) -> Self {
        Self::launch_secure(pki, arguments, "save \"\"\n", false).await
    }

    /// A Sentinel that speaks TLS alone, to its `master` as well, whose `password` it knows; it asks for `own`.
    pub(crate) async fn secure_sentinel(pki: &Pki, master: &Self, password: &str, own: &str) -> Self {
        let watched = master.address.port();
        let config = format!(
            "tls-replication yes\nrequirepass {own}\nsentinel monitor mymaster 127.0.0.1 {watched} 1\n\
             sentinel auth-pass mymaster {password}\n"
        );
        Self::launch_secure(pki, &[], &config, true).await
    }

    async fn launch_secure(pki: &Pki, arguments: &[&str], config: &str, sentinel: bool) -> Self {
        let config = |port: u16| {
            format!(
                "port 0\ntls-port {port}\ntls-cert-file leaf.pem\ntls-key-file leaf.key\ntls-ca-cert-file ca.pem\n\
                 tls-auth-clients no\n{config}"
            )
        };
        let directory = tempfile::tempdir().unwrap();
        pki.write(directory.path());
        Self::launch_in(directory, free_port().await, arguments, config, sentinel).await
    }

    /// A Sentinel that watches `master` with others of its kind.
    pub(crate) async fn sentinel(master: &Self, quorum: usize) -> Self {
        let watched = master.address.port();
        let config = move |port: u16| {
            format!(
                "port {port}\nsentinel monitor mymaster 127.0.0.1 {watched} {quorum}\n\
                 sentinel down-after-milliseconds mymaster 700\nsentinel failover-timeout mymaster 4000\n"
            )
        };
        Self::launch(free_port().await, &[], config, true).await
    }

    /// A cluster of three masters, each with a replica, that serves all slots.
    pub(crate) async fn cluster() -> Vec<Self> {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let bus = free_port().await;
            let config = |port: u16| {
                format!(
                    "port {port}\ncluster-port {bus}\ncluster-enabled yes\ncluster-node-timeout 1000\nsave \"\"\n\
                     repl-diskless-sync-delay 0\n"
                )
            };
            nodes.push(Self::launch(free_port().await, &[], config, false).await);
        }
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]).args(nodes.iter().map(|node| node.address.to_string()));
        command.args(["--cluster-replicas", "1", "--cluster-yes"]).stdin(Stdio::null()).kill_on_drop(true);
        let created = tokio::time::timeout(6 * super::PATIENCE, command.output()).await.unwrap().unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        for node in &nodes {
            node.agrees_on_slots().await;
        }
        nodes
    }

    async fn launch(port: u16, arguments: &[&str], config: impl Fn(u16) -> String, sentinel: bool) -> Self {
        Self::launch_in(tempfile::tempdir().unwrap(), port, arguments, config, sentinel).await
    }

    async fn launch_in(
        directory: TempDir,
        port: u16,
        arguments: &[&str],
        config: impl Fn(u16) -> String,
        sentinel: bool,
    ) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let file = directory.path().join("redis.conf");
        std::fs::write(&file, format!("bind 127.0.0.1\n{}", config(port))).unwrap();
        let child = spawn(&file, sentinel, &arguments);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let redis = Self { address, directory, arguments, sentinel, child };
        redis.answers().await;
        redis
    }

    /// Waits until it answers.
    pub(crate) async fn answers(&self) {
        soon("redis to listen", async {
            loop {
                match TcpStream::connect(self.address).await {
                    Ok(_) => return,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
    }

    /// Waits until it knows a server for each slot of its cluster, and follows its master if it has one.
    async fn agrees_on_slots(&self) {
        soon("the cluster to be whole", async {
            loop {
                let state = self.bulk("CLUSTER INFO").await;
                let link = self.bulk("INFO replication").await;
                if state.contains("cluster_state:ok") && !link.contains("master_link_status:down") {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The first line of what it answers to an inline command.
    pub(crate) async fn ask(&self, command: &str) -> String {
        let mut peer = Peer::connect(self.address).await;
        peer.send(format!("{command}\r\n")).await;
        peer.line().await
    }

    /// What it answers to an inline command that has a text for an answer.
    pub(crate) async fn bulk(&self, command: &str) -> String {
        let mut peer = Peer::connect(self.address).await;
        peer.send(format!("{command}\r\n")).await;
        let length: usize = peer.line().await.trim_start_matches('$').parse().unwrap_or(0);
        String::from_utf8_lossy(&peer.exactly(length).await).into_owned()
    }

    /// The line of INFO that begins with `key`.
    pub(crate) async fn info(&self, key: &str) -> String {
        let text = self.bulk("INFO").await;
        text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned()
    }

    /// Kills it at once.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again, empty, on the same port.
    pub(crate) async fn revive(&mut self) {
        let file = self.directory.path().join("redis.conf");
        self.child = spawn(&file, self.sentinel, &self.arguments);
        self.answers().await;
    }
}

fn spawn(file: &std::path::Path, sentinel: bool, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.arg(file).args(sentinel.then_some("--sentinel")).args(arguments);
    command.current_dir(file.parent().unwrap()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().expect("redis-server: tests/run installs it from Debian")
}

/// A port that was free a moment ago: Redis cannot tell which one the system gave it.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}
