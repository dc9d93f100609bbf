//! Real Redis and Sentinel processes on ports of their own.

use std::net::SocketAddr;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::peer::Peer;
use super::soon;

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
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self::launch(free_port().await, arguments, None).await
    }

    /// A Sentinel that watches `master` with others of its kind.
    pub(crate) async fn sentinel(master: &Self, quorum: usize) -> Self {
        let port = master.address.port();
        let config = format!(
            "sentinel monitor mymaster 127.0.0.1 {port} {quorum}\nsentinel down-after-milliseconds mymaster 700\n\
             sentinel failover-timeout mymaster 4000\n"
        );
        Self::launch(free_port().await, Vec::new(), Some(config)).await
    }

    async fn launch(port: u16, arguments: Vec<String>, sentinel: Option<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("redis.conf");
        std::fs::write(&file, format!("bind 127.0.0.1\nport {port}\n{}", sentinel.as_deref().unwrap_or("save \"\"\n")))
            .unwrap();
        let child = spawn(&file, sentinel.is_some(), &arguments);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let redis = Self { address, directory, arguments, sentinel: sentinel.is_some(), child };
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

    /// The first line of what it answers to an inline command.
    pub(crate) async fn ask(&self, command: &str) -> String {
        let mut peer = Peer::connect(self.address).await;
        peer.send(format!("{command}\r\n")).await;
        peer.line().await
    }

    /// The line of INFO that begins with `key`.
    pub(crate) async fn info(&self, key: &str) -> String {
        let mut peer = Peer::connect(self.address).await;
        peer.send("INFO\r\n").await;
        let length: usize = peer.line().await.trim_start_matches('$').parse().unwrap_or(0);
        let text = String::from_utf8_lossy(&peer.exactly(length).await).into_owned();
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
