//! `[redis]`: where proxies share what they count.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::SecretSource;

/// `[redis]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redis {
    /// How the servers are organised, and where they are.
    pub servers: Servers,
    /// Database. Default 0; a cluster has no other.
    pub database: i64,
    /// User of an access control list. Default none.
    pub username: Option<String>,
    /// Its password, or that of `requirepass`. Default none.
    pub password: Option<SecretSource>,
    /// TLS to Redis and to the Sentinels. Default none.
    pub tls: Option<RedisTls>,
    /// Begins every key. Default `sluicegate`.
    pub prefix: String,
    /// How often proxies tell and learn what they let pass. Default 50 ms.
    pub interval: Duration,
    /// Patience with a connection or an answer. Default 500 ms; then Redis is away.
    pub patience: Duration,
    /// Keys that may wait to be told. Default 10,000; beyond it they are dropped and counted.
    pub max_pending: usize,
    /// Keys that are told at once, and questions of limits that Redis decides at once. Default 256 of each; the others wait
    /// for their turn, questions in `queue`.
    pub max_calls: usize,
    /// What workers tell that may wait to be summed up, each less than 100 bytes, and as many bans and ends of bans behind it.
    /// Default 16,384; beyond it they are dropped and counted.
    pub queue: usize,
}

/// Where Redis is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Servers {
    /// One server.
    Single(String),
    /// Sentinels that know who the master is.
    Sentinel {
        /// `host:port` of each.
        sentinels: Vec<String>,
        /// The master's name.
        master: String,
        /// The Sentinels' own password. Default none.
        password: Option<SecretSource>,
    },
    /// Some servers of a cluster.
    Cluster(Vec<String>),
}

/// TLS to Redis.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RedisTls {
    /// Authorities in PEM. Default: the public ones.
    pub authorities: Option<PathBuf>,
}
