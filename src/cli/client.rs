//! Speaks with the admin listener of a running proxy.
//!
//! Finds it by `--admin`, else by what `--config` says of `[admin]`: the Unix socket if there is one, else the address
//! with its token, and where it speaks TLS with the certificate that is configured, which is the one that must answer.
//! One request, one connection. Deliberately absent: other machines' names without being told; what the answers mean.

mod wire;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use rustls::ClientConfig;
use serde_json::Value;

use super::Exit;
use super::output::{Output, visible};
use crate::config::listener::Certificate;
use crate::config::pool::UpstreamTls;
use crate::config::{Config, Findings, Secret, SecretSource, secret};
use crate::telemetry::events::Chain;
use crate::tls;
use wire::{Incoming, Stream};

/// Patience unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest silence of a stream, on which there are signs of life every 15 s.
const SILENCE: Duration = Duration::from_secs(60);

/// Where the running proxy is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Reach {
    /// The running proxy's configuration; says where its admin listener is
    #[arg(long, short, value_name = "FILE", env = "SLUICEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Its admin listener, HOST:PORT, https://HOST:PORT or unix:PATH, instead of what the configuration says
    #[arg(long, value_name = "PLACE", env = "SLUICEGATE_ADMIN")]
    admin: Option<String>,
    /// File with the admin token, instead of what the configuration says; also the variable SLUICEGATE_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    papers: Papers,
}

/// What an admin listener with TLS is trusted by, and shown.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Papers {
    /// PEM file of the authorities that vouch for an admin listener with TLS, instead of Mozilla's
    #[arg(long, value_name = "FILE")]
    authorities: Option<PathBuf>,
    /// Certificate to show to it, a PEM file
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Key of the certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
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
    #[error("TLS")]
    Tls(#[source] tls::LoadError),
    #[error("no answer from {0}")]
    Io(String, #[source] io::Error),
    #[error("{0}")]
    Refused(String),
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
    Address { address: String, tls: Option<Arc<ClientConfig>> },
    Path(PathBuf),
}

/// How following a stream ended.
#[derive(Debug)]
pub(super) enum Followed {
    /// Whoever followed had enough.
    Enough,
    /// The other end has ended it.
    Ended,
    /// It never began; says why.
    Refused(String),
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
            return Ok(Client { token, ..Client::at(place, &self.papers)? });
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
        let known = admin.tls.as_ref().and_then(|tls| tls.certificates.first());
        let tls = known.map(|known| self.papers.trust(Some(known))).transpose()?;
        let address = reachable(admin.address).to_string();
        Ok(Client { place: Place::Address { address, tls }, token, patience: PATIENCE })
    }
}

impl Papers {
    /// TLS with whom the authorities vouch for; without any, with the holder of the certificate that is `known`.
    fn trust(&self, known: Option<&Certificate>) -> Result<Arc<ClientConfig>, Unreached> {
        let pair = self.certificate.clone().zip(self.key.clone());
        let certificate = pair.map(|(certificate, key)| Certificate { certificate, key });
        let authorities = self.authorities.clone();
        match known.filter(|_| authorities.is_none()) {
            Some(known) => tls::client::load_for(&known.certificate, certificate.as_ref()),
            None => tls::client::load(&UpstreamTls { server_name: None, authorities, verify: true, certificate }),
        }
        .map_err(Unreached::Tls)
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
    /// The listener at `place`, HOST:PORT, https://HOST:PORT or unix:PATH, as somebody who may only look.
    pub(super) fn at(place: &str, papers: &Papers) -> Result<Self, Unreached> {
        let place = if let Some(path) = place.strip_prefix("unix:") {
            Place::Path(path.into())
        } else if let Some(address) = place.strip_prefix("https://") {
            Place::Address { address: address.trim_end_matches('/').to_owned(), tls: Some(papers.trust(None)?) }
        } else {
            let address = place.strip_prefix("http://").unwrap_or(place).trim_end_matches('/');
            Place::Address { address: address.to_owned(), tls: None }
        };
        Ok(Self { place, token: None, patience: PATIENCE })
    }

    /// With another patience.
    pub(super) fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Looks at something.
    pub(super) fn look(&self, path: &str) -> Result<(StatusCode, String), Unreached> {
        self.ask(&Method::GET, path, "")
    }

    /// Looks at something that is there for whoever may look.
    pub(super) fn read(&self, path: &str) -> Result<String, Unreached> {
        match self.look(path)? {
            (StatusCode::OK, text) => Ok(text),
            (_, why) => Err(Unreached::Refused(visible(why.trim_end()))),
        }
    }

    /// Changes something.
    pub(super) fn change(&self, path: &str, body: &Value) -> Result<(StatusCode, String), Unreached> {
        self.ask(&Method::POST, path, &body.to_string())
    }

    /// Follows the events at `path`, each with its name and data, as long as `each` says true.
    pub(super) fn follow(&self, path: &str, each: impl FnMut(&str, &str) -> bool) -> Result<Followed, Unreached> {
        let failed = |error| Unreached::Io(self.to_string(), error);
        let mut stream = self.open(SILENCE).map_err(failed)?;
        let incoming = self.send(&mut *stream, &Method::GET, path, "")?;
        if incoming.status != StatusCode::OK {
            return incoming.whole().map(Followed::Refused).map_err(failed);
        }
        match incoming.events(each) {
            Ok(true) => Ok(Followed::Enough),
            Ok(false) => Ok(Followed::Ended),
            // As a process looks that has ended.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Followed::Ended),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Followed::Ended),
            Err(error) => Err(failed(error)),
        }
    }

    fn ask(&self, method: &Method, path: &str, body: &str) -> Result<(StatusCode, String), Unreached> {
        let failed = |error| Unreached::Io(self.to_string(), error);
        let mut stream = self.open(self.patience).map_err(failed)?;
        let incoming = self.send(&mut *stream, method, path, body)?;
        let status = incoming.status;
        incoming.whole().map(|text| (status, text)).map_err(failed)
    }

    fn open(&self, patience: Duration) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.place {
            Place::Address { address, tls: None } => Box::new(wire::tcp(address, patience)?),
            Place::Address { address, tls: Some(config) } => Box::new(wire::tls(address, config, patience)?),
            Place::Path(path) => Box::new(wire::unix(path, patience)?),
        })
    }

    fn send<'s>(
        &self,
        stream: &'s mut dyn Stream,
        method: &Method,
        path: &str,
        body: &str,
    ) -> Result<Incoming<'s>, Unreached> {
        let host = match &self.place {
            Place::Address { address, .. } => address.as_str(),
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
        let incoming = Incoming::of(stream, &request, method);
        let incoming = incoming.map_err(|error| Unreached::Io(self.to_string(), error))?;
        incoming.ok_or_else(|| Unreached::Malformed(self.to_string()))
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Address { address, .. } => f.write_str(address),
            Place::Path(path) => path.display().fmt(f),
        }
    }
}
