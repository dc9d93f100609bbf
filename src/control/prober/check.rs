//! One check of one endpoint, from its configuration to its report.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};

use super::jar::Jar;
use super::wire::To;
use super::{Report, Why, http, tcp, websocket};
use crate::balance::{Endpoint, EndpointId};
use crate::config::Pool;
use crate::config::pool::{Check, Health};

/// What a check brings back.
pub(super) struct Done {
    pub id: EndpointId,
    pub jar: Jar,
    pub report: Report,
}

/// Checks an endpoint once.
pub(super) async fn check(
    pool: Arc<Pool>,
    endpoint: Arc<Endpoint>,
    tls: Option<Arc<ClientConfig>>,
    mut jar: Jar,
) -> Done {
    let (mut result, mut deep, mut took) = (Err(Why::Unresolved), None, Duration::ZERO);
    if let Some(health) = &pool.health {
        let host = authority(&endpoint);
        // One that has just come is no worse for it that its name was not asked for yet.
        drop(timeout(health.timeout, endpoint.vitals.asked()).await);
        let began = Instant::now();
        match destination(&pool, &endpoint, tls) {
            Err(why) => result = Err(why),
            Ok(to) => {
                let late = |_| Err(if to.is_accepted() { Why::Silent(health.timeout) } else { Why::unreached() });
                result = timeout(health.timeout, main_check(&to, health, &host, &mut jar)).await.unwrap_or_else(late);
                took = began.elapsed();
                if let (Ok(()), Some(check)) = (&result, &health.deep) {
                    let probe = http::probe(&to, check, &host, &mut jar);
                    deep = Some(timeout(health.timeout, probe).await.unwrap_or_else(late));
                }
            }
        }
    }
    if result.is_err() {
        jar.clear();
    }
    Done { id: endpoint.id, jar, report: Report { result, took, deep } }
}

async fn main_check(to: &To, health: &Health, host: &str, jar: &mut Jar) -> Result<(), Why> {
    match &health.check {
        Check::Http(check) => http::probe(to, check, host, jar).await,
        Check::Tcp => tcp::probe(to).await,
        Check::WebSocket { path, host: named } => websocket::probe(to, path, named.as_deref().unwrap_or(host)).await,
    }
}

fn destination(pool: &Pool, endpoint: &Endpoint, tls: Option<Arc<ClientConfig>>) -> Result<To, Why> {
    let tls = match tls {
        None => None,
        Some(config) => {
            let named = pool.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
            let name = named.unwrap_or_else(|| bare(&endpoint.host)).to_owned();
            let name = ServerName::try_from(name).map_err(|error| Why::Tls(io::Error::other(error)))?;
            Some((config, name))
        }
    };
    Ok(To::new(endpoint.vitals.addresses(), tls, pool.clocks.connect))
}

/// Host and port as a `Host` field writes them (RFC 9110 §7.2).
fn authority(endpoint: &Endpoint) -> String {
    let host = bare(&endpoint.host);
    if host.contains(':') { format!("[{host}]:{}", endpoint.port) } else { format!("{host}:{}", endpoint.port) }
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}
