//! Connections to Redis: one server, the master that Sentinels name, or a cluster.
//!
//! Part of `fleet`. A link is opened anew after any failure, which asks the Sentinels again who the master is and the
//! cluster who serves what.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
    TlsCertificates, TlsMode,
};

use crate::config::redis::{Redis, RedisTls, Servers};
use crate::config::secret::SecretError;
use crate::config::{Secret, SecretSource};

/// A connection that is shared by all that is under way.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Redis or a Sentinel says no, or nothing.
    #[error("redis")]
    Redis(#[from] RedisError),
    /// A password cannot be read.
    #[error("password of redis")]
    Secret(#[from] SecretError),
    /// A password is no text.
    #[error("the password of redis is not UTF-8")]
    NotText,
    /// An address that is none.
    #[error("{0:?} is no address of redis")]
    Address(String),
    /// The authorities cannot be read.
    #[error("authorities of redis")]
    Authorities(#[source] io::Error),
    /// No answer in time.
    #[error("redis does not answer within {0:?}")]
    Silent(Duration),
}

impl Link {
    /// Opens a link.
    ///
    /// # Errors
    /// Everything that is wrong on the way; nothing is remembered of it.
    pub(super) async fn open(settings: &Redis) -> Result<Self, LinkError> {
        // Several steps with a patience each: names, Sentinels one after the other, the server itself.
        let patience = settings.patience.saturating_mul(4);
        match tokio::time::timeout(patience, Self::try_open(settings)).await {
            Ok(opened) => opened,
            Err(_) => Err(LinkError::Silent(patience)),
        }
    }

    async fn try_open(settings: &Redis) -> Result<Self, LinkError> {
        let password = text_of(settings.password.as_ref())?;
        let certificates = settings.tls.as_ref().map(certificates).transpose()?;
        let patience = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.patience))
            .set_response_timeout(Some(settings.patience));
        match &settings.servers {
            Servers::Single(address) => {
                let mut wanted = RedisConnectionInfo::default().set_db(settings.database);
                if let Some(username) = &settings.username {
                    wanted = wanted.set_username(username);
                }
                if let Some(password) = &password {
                    wanted = wanted.set_password(password);
                }
                let address = address_of(address, settings.tls.as_ref())?;
                let wanted = address.into_connection_info()?.set_redis_settings(wanted);
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(wanted, certificates)?,
                    None => Client::open(wanted)?,
                };
                Ok(Self::One(client.get_multiplexed_async_connection_with_config(&patience).await?))
            }
            Servers::Sentinel { sentinels, master, password: sentinel_password } => {
                let addresses: Result<Vec<_>, _> =
                    sentinels.iter().map(|each| address_of(each, settings.tls.as_ref())).collect();
                let mut wanted = SentinelClientBuilder::new(addresses?, master.clone(), SentinelServerType::Master)?
                    .set_client_to_redis_db(settings.database);
                if let Some(username) = &settings.username {
                    wanted = wanted.set_client_to_redis_username(username);
                }
                if let Some(password) = &password {
                    wanted = wanted.set_client_to_redis_password(password);
                }
                if let Some(password) = text_of(sentinel_password.as_ref())? {
                    wanted = wanted.set_client_to_sentinel_password(password);
                }
                if let Some(certificates) = certificates {
                    wanted = wanted
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates);
                }
                let mut client = wanted.build()?;
                Ok(Self::One(client.get_async_connection_with_config(&patience).await?))
            }
            Servers::Cluster(seeds) => {
                let addresses: Result<Vec<_>, _> =
                    seeds.iter().map(|each| address_of(each, settings.tls.as_ref())).collect();
                let mut wanted = ClusterClientBuilder::new(addresses?)
                    .connection_timeout(settings.patience)
                    .response_timeout(settings.patience);
                if let Some(username) = &settings.username {
                    wanted = wanted.username(username.clone());
                }
                if let Some(password) = password {
                    wanted = wanted.password(password);
                }
                if let Some(certificates) = certificates {
                    wanted = wanted.tls(TlsMode::Secure).certs(certificates);
                }
                Ok(Self::Cluster(wanted.build()?.get_async_connection().await?))
            }
        }
    }

    /// Runs a script on one key.
    pub(super) async fn run<T: redis::FromRedisValue>(
        &mut self,
        script: &redis::ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        match self {
            Self::One(connection) => script.invoke_async(connection).await,
            Self::Cluster(connection) => script.invoke_async(connection).await,
        }
    }
}

fn text_of(source: Option<&SecretSource>) -> Result<Option<String>, LinkError> {
    let Some(source) = source else { return Ok(None) };
    let secret: Secret = source.read()?;
    let text = std::str::from_utf8(secret.expose()).map_err(|_| LinkError::NotText)?;
    Ok(Some(text.to_owned()))
}

fn address_of(text: &str, tls: Option<&RedisTls>) -> Result<ConnectionAddr, LinkError> {
    let wrong = || LinkError::Address(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(match tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    })
}

fn certificates(tls: &RedisTls) -> Result<TlsCertificates, LinkError> {
    let read = |path| std::fs::read(path).map_err(LinkError::Authorities);
    Ok(TlsCertificates { client_tls: None, root_cert: tls.authorities.as_ref().map(read).transpose()? })
}
