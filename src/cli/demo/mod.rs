//! `demo`: the whole proxy at work on one machine, with nothing to install or configure.
//!
//! Three embedded endpoints that behave like Superset, a certificate made on the spot, and the proxy itself, configured
//! through the same TOML that anybody writes: what the demo can do, a configuration can.

mod board;
mod charts;
mod export;
mod pages;
mod replica;
mod session;
mod socket;
mod superset;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{ToSpan as _, Zoned};
use tempfile::TempDir;

use super::output::Output;
use super::{Exit, run};
use crate::app::{self, Options, Running as Proxy};
use crate::config::{Config, Findings, Listener};
use crate::lifecycle::{Lifecycle, Phase};

use board::Board;
use pages::Pages;
use replica::Running;
use session::Keys;

/// The embedded endpoints.
const REPLICAS: [&str; 3] = ["replica-1", "replica-2", "replica-3"];

/// HTTPS is here unless something else is.
const HTTPS_PORT: u16 = 8443;

/// The admin listener is here unless something else is.
const ADMIN_PORT: u16 = 9901;

/// Days that the certificate is good for.
const CERTIFICATE_DAYS: i32 = 30;

/// Why the demo did not start.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("no certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("no date for the certificate: {0}")]
    Date(#[from] jiff::Error),
    #[error("no randomness")]
    Random(#[from] aws_lc_rs::error::Unspecified),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the demo's own configuration is refused:\n{}", .0.render(false))]
    Configuration(Findings),
    #[error("the demo's own configuration has no listener")]
    NoListener,
}

/// Runs the demo until Ctrl-C.
pub(super) fn run(records: bool, output: &mut Output) -> Exit {
    match Stage::set(records, output.is_terminal()) {
        Ok(stage) => stage.play(output),
        Err(error) => {
            output.error(format_args!("sluicegate: {error}"));
            Exit::Failed
        }
    }
}

/// Everything that must be there before the proxy starts.
struct Stage {
    /// Removed with everything in it at the end.
    directory: TempDir,
    replicas: Vec<Running>,
    lifecycle: Lifecycle,
    file: PathBuf,
    /// For changes on the dashboard.
    token: String,
    live: bool,
    records: bool,
}

impl Stage {
    fn set(records: bool, terminal: bool) -> Result<Self, DemoError> {
        let directory = tempfile::Builder::new().prefix("sluicegate-demo-").tempdir()?;
        certify(directory.path())?;

        let (keys, pages) = (Arc::new(Keys::generate()?), Arc::new(Pages::new()));
        let lifecycle = Lifecycle::new();
        let settings = replica_settings()?;
        let start = |name| {
            let (settings, keys, pages) = (Arc::clone(&settings), Arc::clone(&keys), Arc::clone(&pages));
            replica::start(name, settings, keys, pages, lifecycle.life())
        };
        let replicas = REPLICAS.into_iter().map(start).collect::<io::Result<Vec<_>>>()?;

        let live = terminal && !records;
        let addresses: Vec<SocketAddr> = replicas.iter().map(|replica| replica.address).collect();
        let text = configuration(&Wanted {
            addresses: &addresses,
            https: loopback(HTTPS_PORT)?,
            admin: free(ADMIN_PORT)?,
            records,
            live,
        });
        let token = token()?;
        secret(&directory.path().join("admin.token"), token.as_bytes())?;
        let file = directory.path().join("demo.toml");
        fs::write(&file, &text)?;
        Ok(Self { directory, replicas, lifecycle, file, token, live, records })
    }

    fn play(self, output: &mut Output) -> Exit {
        let (ready, started) = std::sync::mpsc::channel();
        let cast = self.replicas.iter().map(Running::part).collect();
        let introduction = Introduction { directory: self.directory.path().to_owned(), token: self.token };
        let (live, records) = (self.live, self.records);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        // Prints and draws until `end` is dropped; without it the demo runs all the same.
        let board = std::thread::Builder::new().name("board".to_owned()).spawn(move || {
            let mut output = Output::new();
            let Ok(proxy) = started.recv() else { return };
            introduction.print(&proxy, &mut output);
            let admin = proxy.admin;
            // What else it holds is not for keeping.
            drop(proxy);
            if !records {
                Board::new(cast, admin, live).show(&ended, &mut output);
            }
        });
        let options = Options {
            file: self.file,
            // The board is gone only when its thread could not start.
            ready: Some(Box::new(move |proxy| drop(ready.send(proxy)))),
        };
        let exit = run::finish(app::run(options), output);
        drop(end);
        if let Ok(board) = board {
            drop(board.join());
        }
        self.lifecycle.advance(Phase::Ending);
        self.replicas.into_iter().for_each(Running::join);
        exit
    }
}

/// What the demo's configuration is made of.
struct Wanted<'a> {
    addresses: &'a [SocketAddr],
    https: Vec<SocketAddr>,
    admin: SocketAddr,
    records: bool,
    live: bool,
}

/// The configuration, as anybody would write it.
fn configuration(wanted: &Wanted<'_>) -> String {
    let list = |addresses: &[SocketAddr]| {
        let quoted: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        quoted.join(", ")
    };
    let (https, admin, endpoints) = (list(&wanted.https), wanted.admin, list(wanted.addresses));
    let records = if wanted.records { "stdout" } else { "off" };
    // Lines of the log would tear the table.
    let log = if wanted.live { "error" } else { "info" };
    format!(
        r#"[process]
log = "{log}"
watch_files = false

[admin]
address = "{admin}"
token = {{ file = "admin.token" }}

[access_log]
target = "{records}"

[[listeners]]
name = "https"
address = [{https}]
certificate = "demo.crt"
key = "demo.key"

[pools.superset]
endpoints = [{endpoints}]

[pools.superset.health]
interval = "2s"
deep = {{ path = "/api/v1/me/", statuses = [200, 401] }}
"#
    )
}

/// The listener's side of the replicas, with Gunicorn's two seconds of keep-alive.
fn replica_settings() -> Result<Arc<Listener>, DemoError> {
    let text = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[listeners.timeouts]\nkeep_alive = \"2s\"\n\
                [pools.none]\nendpoints = [\"127.0.0.1:1\"]\n";
    let config = Config::parse(text, Path::new("replica.toml")).map_err(DemoError::Configuration)?.config;
    config.listeners.into_iter().next().ok_or(DemoError::NoListener)
}

/// Writes `demo.crt` and `demo.key`, for this machine's own names only.
fn certify(directory: &Path) -> Result<(), DemoError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(names)?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "Sluicegate demo");
    let now = Zoned::now();
    let midnight =
        |at: Zoned| rcgen::date_time_ymd(at.year().into(), at.month().unsigned_abs(), at.day().unsigned_abs());
    parameters.not_before = midnight(now.checked_sub(1.day())?);
    parameters.not_after = midnight(now.checked_add(CERTIFICATE_DAYS.days())?);
    let certificate = parameters.self_signed(&key)?;
    fs::write(directory.join("demo.crt"), certificate.pem())?;
    secret(&directory.join("demo.key"), key.serialize_pem().as_bytes())?;
    Ok(())
}

/// Writes what nobody else may read.
fn secret(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, content)
}

/// A token that nobody guesses.
fn token() -> Result<String, DemoError> {
    let mut random = [0; 12];
    aws_lc_rs::rand::fill(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Loopback addresses of both families, where there are both, on `port` or, when it is taken, on a free one.
fn loopback(port: u16) -> io::Result<Vec<SocketAddr>> {
    // HTTP/3 wants the same port for UDP.
    let four = free(port).and_then(|four| UdpSocket::bind(four).map(|_| four)).or_else(|_| free(0))?;
    let six = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), four.port());
    Ok(if TcpListener::bind(six).is_ok() { vec![four, six] } else { vec![four] })
}

/// `port` on loopback, or a free one when it is taken.
fn free(port: u16) -> io::Result<SocketAddr> {
    let on = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    TcpListener::bind(on(port)).or_else(|_| TcpListener::bind(on(0)))?.local_addr()
}

/// What is said at the start.
struct Introduction {
    directory: PathBuf,
    token: String,
}

impl Introduction {
    fn print(&self, proxy: &Proxy, output: &mut Output) {
        let port = proxy.listeners.first().map_or(HTTPS_PORT, |(_, address)| address.port());
        let site = format!("https://localhost:{port}");
        let curl = format!("curl --cacert {}", self.directory.join("demo.crt").display());
        output.line("Sluicegate demo: three replicas behind one door.\n");
        output.line(format_args!("  Open      {site}/superset/dashboard/1/"));
        output.line("            log in as admin / admin; the browser will warn about the self-signed certificate");
        if let Some(admin) = proxy.admin {
            output.line(format_args!("  Watch     http://{admin}/"));
            output.line(format_args!("            the dashboard; to drain and ban there, its token is {}", self.token));
            output.line(format_args!(
                "  Operate   http://{admin}/status   http://{admin}/metrics   http://{admin}/ready"
            ));
        }
        output.line("\nThings to try, in another terminal:");
        let mut hint = |command: String, why: &str| output.line(format_args!("  {command}\n      {why}"));
        hint(format!("{curl} {site}/demo/who"), "what a replica is told about you; again: another replica");
        hint(
            format!("{curl} -X POST {site}/demo/kill"),
            "kills the replica that gets it for 20 s; nothing fails meanwhile",
        );
        hint(format!("{curl} -o /dev/null '{site}/demo/export.csv?rows=2000000'"), "80 MB, streamed as it is made");
        hint(
            format!("head -c 50000000 /dev/zero | {curl} --data-binary @- {site}/api/v1/database/1/upload/"),
            "an upload, collected before a replica is leased",
        );
        hint(format!("{curl} -d '{{}}' {site}/api/v1/sqllab/execute/"), "a slow query, 3 s");
        hint(format!("{curl} -i {site}/version"), "404: an edge does not tell the version");
        output.line("\nCtrl-C drains; again, and it ends at once.\n");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn configuration_of_the_demo_is_accepted_without_a_warning() {
        let directory = TempDir::new().unwrap();
        certify(directory.path()).unwrap();
        let addresses = ["127.0.0.1:1001".parse().unwrap(), "127.0.0.1:1002".parse().unwrap()];
        let https = vec!["127.0.0.1:8443".parse().unwrap(), "[::1]:8443".parse().unwrap()];
        let admin = "127.0.0.1:9901".parse().unwrap();
        let text = configuration(&Wanted { addresses: &addresses, https, admin, records: false, live: true });

        let loaded = Config::parse(&text, &directory.path().join("demo.toml")).unwrap();

        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.render(false));
        assert_eq!(loaded.config.pools[0].endpoints.len(), 2);
    }

    #[test]
    fn key_is_for_its_owner_only() {
        let directory = TempDir::new().unwrap();

        certify(directory.path()).unwrap();

        let mode = fs::metadata(directory.path().join("demo.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
