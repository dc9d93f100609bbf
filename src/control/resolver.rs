//! Asks name servers: those of the configuration, else those of the system.
//!
//! Floor 5. No answer is kept here: who asks knows how long one is good. `/etc/hosts` counts, and so do the search
//! domains of `/etc/resolv.conf` for names without a dot at their end. Deliberately absent: what the answers mean.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

/// Longest wait for one name server.
const PATIENCE: Duration = Duration::from_secs(2);

/// Questions under way at once to one name server; more wait.
const AT_ONCE: usize = 64;

/// A resolver. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

/// Addresses, and how long they are good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Addresses {
    /// In the order of the answer, IPv4 first.
    pub ips: Vec<IpAddr>,
    /// Shortest time to live of the records.
    pub ttl: Duration,
}

/// One service, as an SRV record names it (RFC 2782).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Host name, without the dot at its end.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The lowest is asked first.
    pub priority: u16,
    /// Share among those of equal priority.
    pub weight: u16,
}

/// Why there are no addresses.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The name does not exist, or has no record of the kind.
    #[error("no such name or record")]
    Nothing,
    /// No name server gave an answer that can be used.
    #[error("no answer from a name server")]
    Failed(#[source] NetError),
}

impl From<NetError> for Unanswered {
    fn from(error: NetError) -> Self {
        if error.is_nx_domain() || error.is_no_records_found() { Self::Nothing } else { Self::Failed(error) }
    }
}

impl From<Unanswered> for io::Error {
    fn from(why: Unanswered) -> Self {
        let kind = match why {
            Unanswered::Nothing => io::ErrorKind::NotFound,
            Unanswered::Failed(_) => io::ErrorKind::TimedOut,
        };
        Self::new(kind, why)
    }
}

impl Resolver {
    /// Asks `servers`, or those of the system when there are none.
    ///
    /// # Errors
    /// When the system's configuration cannot be read.
    pub fn new(servers: &[SocketAddr]) -> io::Result<Self> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(io::Error::other)?
        } else {
            let servers = servers.iter().map(|server| {
                let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
                (udp.port, tcp.port) = (server.port(), server.port());
                NameServerConfig::new(server.ip(), true, vec![udp, tcp])
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.cache_size = 0;
        options.timeout = PATIENCE;
        options.max_active_requests = AT_ONCE;
        builder.build().map(Self).map_err(io::Error::other)
    }

    /// The IPv4 and IPv6 addresses of `host`.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn addresses(&self, host: &str) -> Result<Addresses, Unanswered> {
        let answer = self.0.lookup_ip(host).await?;
        let mut ips: Vec<IpAddr> = answer.iter().collect();
        ips.sort_by_key(IpAddr::is_ipv6);
        let ttl = answer.as_lookup().answers().iter().map(|record| record.ttl).min();
        if ips.is_empty() {
            return Err(Unanswered::Nothing);
        }
        Ok(Addresses { ips, ttl: Duration::from_secs(ttl.unwrap_or_default().into()) })
    }

    /// The names of `address`, without the dot at their end, and how long they are good (RFC 1035 §3.5).
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn names(&self, address: IpAddr) -> Result<(Vec<String>, Duration), Unanswered> {
        let answer = self.0.lookup(Name::from(address.to_canonical()), RecordType::PTR).await?;
        let mut names = Vec::new();
        let mut ttl = u32::MAX;
        for record in answer.answers() {
            if let RData::PTR(name) = &record.data {
                ttl = ttl.min(record.ttl);
                let name = name.0.to_ascii();
                names.push(name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase());
            }
        }
        if names.is_empty() { Err(Unanswered::Nothing) } else { Ok((names, Duration::from_secs(ttl.into()))) }
    }

    /// The services under `name`, and how long they are good.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn services(&self, name: &str) -> Result<(Vec<Service>, Duration), Unanswered> {
        let answer = self.0.lookup(name, RecordType::SRV).await?;
        let mut services = Vec::new();
        let mut ttl = u32::MAX;
        for record in answer.answers() {
            if let RData::SRV(service) = &record.data {
                ttl = ttl.min(record.ttl);
                let host = service.target.to_ascii();
                let host = host.strip_suffix('.').unwrap_or(&host).to_ascii_lowercase();
                // RFC 2782: a root target says that the service is decidedly not available here.
                if !host.is_empty() && service.port != 0 {
                    let (port, priority, weight) = (service.port, service.priority, service.weight);
                    services.push(Service { host, port, priority, weight });
                }
            }
        }
        if services.is_empty() { Err(Unanswered::Nothing) } else { Ok((services, Duration::from_secs(ttl.into()))) }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver(..)")
    }
}
