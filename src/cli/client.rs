//! Speaks with the admin listener of a running proxy.
//!
//! Finds it by `--admin`, else by what `--config` says of `[admin]`: the Unix socket if there is one, else the address
//! with its token. One request, one connection. Deliberately absent: other machines' names without being told; what the
//! answers mean.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::Exit;
use super::output::Output;
use crate::config::{Config, Findings, Secret, SecretSource, secret};
use crate::h1::head::parse_response;
use crate::telemetry::events::Chain;

/// Patience unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer: the status of a pool of thousands of endpoints.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;

/// Where the running proxy is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Reach {
    /// The running proxy's configuration; says where its admin listener is
    #[arg(long, short, value_name = "FILE", env = "SLUICEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Its admin listener, HOST:PORT or unix:PATH, instead of what the configuration says
    #[arg(long, value_name = "PLACE", env = "SLUICEGATE_ADMIN")]
    admin: Option<String>,
    /// File with the admin token, instead of what the configuration says; also the variable SLUICEGATE_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Why nothing could be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error("where is it? give --config or --admin")]
    Nowhere,
    #[error("configuration refused")]
    Configuration(Findings),
    #[error("the configuration has no admin listener")]
    Off,
    #[error("its admin listener has port 0, which the system picks: give --admin")]
    AnyPort,
    #[error("admin token")]
    Token(#[source] secret::SecretError),
    #[error("no answer from {0}")]
    Io(String, #[source] io::Error),
    #[error("what {0} answers is no HTTP")]
    Malformed(String),
}

impl Unreached {
    /// Says so.
    pub(super) fn tell(&self, output: &Output) -> Exit {
        match self {
            Self::Configuration(findings) => {
                output.error(findings.render(false));
                Exit::Configuration
            }
            error => {
                output.error(format_args!("sluicegate: {}", Chain(error)));
                if matches!(error, Self::Nowhere) { Exit::Usage } else { Exit::Failed }
            }
        }
    }
}

/// The admin listener of a running proxy.
#[derive(Debug)]
pub(super) struct Client {
    place: Place,
    token: Option<Secret>,
    /// Longest wait for the connection, for each read and write.
    patience: Duration,
}

#[derive(Debug)]
enum Place {
    Address(String),
    Path(PathBuf),
}

impl Reach {
    /// Finds the listener.
    pub(super) fn find(&self) -> Result<Client, Unreached> {
        const VARIABLE: &str = "SLUICEGATE_ADMIN_TOKEN";
        let given = match &self.token_file {
            Some(file) => Some(SecretSource::File(file.clone())),
            None => std::env::var_os(VARIABLE).map(|_| SecretSource::Env(VARIABLE.to_owned())),
        };
        let read = |source: Option<SecretSource>| source.map(|source| source.read()).transpose();
        if let Some(place) = &self.admin {
            let token = read(given).map_err(Unreached::Token)?;
            return Ok(Client { token, ..Client::at(place) });
        }
        let file = self.config.as_ref().ok_or(Unreached::Nowhere)?;
        let config = Config::load(file).map_err(Unreached::Configuration)?.config;
        let admin = config.admin.ok_or(Unreached::Off)?;
        if let Some(socket) = admin.socket {
            return Ok(Client { place: Place::Path(socket.path), token: None, patience: PATIENCE });
        }
        let token = read(given.or(admin.token)).map_err(Unreached::Token)?;
        if admin.address.port() == 0 {
            return Err(Unreached::AnyPort);
        }
        Ok(Client { place: Place::Address(reachable(admin.address).to_string()), token, patience: PATIENCE })
    }
}

/// Where something bound to all addresses is reached from here.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

impl Client {
    /// The listener at `place`, HOST:PORT or unix:PATH, as somebody who may only look.
    pub(super) fn at(place: &str) -> Self {
        let place = match place.strip_prefix("unix:") {
            Some(path) => Place::Path(path.into()),
            None => Place::Address(place.to_owned()),
        };
        Self { place, token: None, patience: PATIENCE }
    }

    /// With another patience.
    pub(super) fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Looks at something.
    pub(super) fn look(&self, path: &str) -> Result<(StatusCode, String), Unreached> {
        self.ask(&Method::GET, path, "")
    }

    /// Changes something.
    pub(super) fn change(&self, path: &str, body: &Value) -> Result<(StatusCode, String), Unreached> {
        self.ask(&Method::POST, path, &body.to_string())
    }

    fn ask(&self, method: &Method, path: &str, body: &str) -> Result<(StatusCode, String), Unreached> {
        let host = match &self.place {
            Place::Address(address) => address.as_str(),
            Place::Path(_) => "localhost",
        };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n").into_bytes();
        if let Some(token) = &self.token {
            request.extend_from_slice(b"Authorization: Bearer ");
            request.extend_from_slice(token.expose());
            request.extend_from_slice(b"\r\n");
        }
        if *method == Method::POST {
            let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            request.extend_from_slice(fields.as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body.as_bytes());
        let failed = |error| Unreached::Io(self.to_string(), error);
        let answer = match &self.place {
            Place::Address(address) => {
                connect(address, self.patience).and_then(|stream| exchange(stream, &request)).map_err(failed)?
            }
            Place::Path(path) => {
                let limited = |stream: UnixStream| {
                    stream.set_read_timeout(Some(self.patience))?;
                    stream.set_write_timeout(Some(self.patience))?;
                    Ok(stream)
                };
                let stream = UnixStream::connect(path).and_then(limited);
                stream.and_then(|stream| exchange(stream, &request)).map_err(failed)?
            }
        };
        understand(&answer, method).ok_or_else(|| Unreached::Malformed(self.to_string()))
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Address(address) => f.write_str(address),
            Place::Path(path) => path.display().fmt(f),
        }
    }
}

fn connect(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and text of an answer that has come whole.
fn understand(answer: &[u8], method: &Method) -> Option<(StatusCode, String)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end.checked_add(4)?)?;
    let head = parse_response(&Bytes::copy_from_slice(head), method).ok()?;
    let announced: usize = head.parts.headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (body.len() == announced).then(|| (head.parts.status, String::from_utf8_lossy(body).into_owned()))
}
