//! Asks the name servers whether clients that call themselves a search engine are one.
//!
//! Floor 5. Forward-confirmed reverse DNS, as the search engines themselves tell their sites to do it: the address has a
//! name, the name is in a domain of theirs, and that name has this address. In: addresses, from the book of proofs. Out:
//! answers, in the same book, good for as long as the records are. Deliberately absent: requests; they wait for nobody.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::resolver::{Resolver, Unanswered};
use super::supervisor::Stop;
use crate::telemetry::metrics::{Metrics, ProofResult};
use crate::waf::proofs::{Proofs, is_within};

/// Addresses asked about at once.
const AT_ONCE: usize = 8;

/// Names of an address that are looked at, and those of them that are asked for their addresses.
const NAMES: usize = 16;
const CANDIDATES: usize = 4;

/// How long an answer is good, whatever its records say; one that is no for less.
const PROVEN: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(24 * 60 * 60));
const REFUTED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(60 * 60));

/// What to ask, and whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name servers; the system's if there are none.
    pub nameservers: Vec<SocketAddr>,
    /// Domains of search engines.
    pub domains: Vec<String>,
}

/// Answers until stopped. `settings` gives those of the moment.
pub async fn run(
    proofs: Proofs,
    settings: impl Fn() -> Settings + Send + 'static,
    metrics: Metrics,
    now: fn() -> u64,
    mut stop: Stop,
) {
    let mut under_way = FuturesUnordered::new();
    let mut known: Option<(Vec<SocketAddr>, Resolver)> = None;
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            Some((address, answer)) = under_way.next() => {
                let (proven, good, result): (bool, Duration, ProofResult) = answer;
                let now = now();
                let until = now.saturating_add(u64::try_from(good.as_nanos()).unwrap_or(u64::MAX));
                metrics.proof(result);
                proofs.learn(address, proven, until, now);
            }
            address = proofs.next(), if under_way.len() < AT_ONCE => {
                let Settings { nameservers, domains } = settings();
                if known.as_ref().is_none_or(|(before, _)| *before != nameservers) {
                    known = Resolver::new(&nameservers).ok().map(|resolver| (nameservers, resolver));
                }
                // Without a resolver nothing can be proven.
                let resolver = known.as_ref().map(|(_, resolver)| resolver.clone());
                under_way.push(async move {
                    let answer = match resolver {
                        Some(resolver) => confirm(&resolver, address, &domains).await,
                        None => (false, REFUTED.0, ProofResult::Unanswered),
                    };
                    (address, answer)
                });
            }
        }
    }
}

/// Whether `address` is in one of `domains` by its name, and by that name's addresses; for how long that is good.
async fn confirm(resolver: &Resolver, address: IpAddr, domains: &[String]) -> (bool, Duration, ProofResult) {
    let refuted = |ttl: Duration| (false, ttl.clamp(REFUTED.0, REFUTED.1), ProofResult::Refuted);
    let unanswered = (false, REFUTED.0, ProofResult::Unanswered);
    let (names, ttl) = match resolver.names(address).await {
        Ok(names) => names,
        Err(Unanswered::Nothing) => return refuted(Duration::ZERO),
        Err(Unanswered::Failed(_)) => return unanswered,
    };
    let mut failed = false;
    let candidates = names.iter().take(NAMES).filter(|name| is_within(name, domains)).take(CANDIDATES);
    for name in candidates {
        // The dot keeps search domains out of it.
        match resolver.addresses(&format!("{name}.")).await {
            Ok(found) if found.ips.iter().any(|ip| ip.to_canonical() == address.to_canonical()) => {
                let good = found.ttl.min(ttl).clamp(PROVEN.0, PROVEN.1);
                return (true, good, ProofResult::Proven);
            }
            Ok(_) | Err(Unanswered::Nothing) => {}
            Err(Unanswered::Failed(_)) => failed = true,
        }
    }
    if failed { unanswered } else { refuted(ttl) }
}
