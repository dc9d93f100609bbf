//! Resolves the host names of endpoints.
//!
//! Floor 5. Workers never ask the resolver: they read what is written here into each endpoint's vitals. A failure keeps
//! the last good answer, because a resolver that is away says nothing about the endpoint. In: the endpoints of the
//! present generation. Out: addresses. Deliberately absent: discovery, which makes endpoints out of answers; here a name
//! stays one endpoint, however many addresses it has.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Pools;
use super::resolver::Resolver;
use super::supervisor::Stop;
use crate::balance::Endpoint;
use crate::lexicon::PoolName;

/// Time between two rounds. Not configurable: names of single endpoints hardly ever change, and one question
/// costs little.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Time between two rounds while a name has no address at all.
pub const INTERVAL_UNRESOLVED: Duration = Duration::from_secs(1);

/// Longest wait for one answer.
const LONGEST_QUESTION: Duration = Duration::from_secs(5);

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// Addresses kept per endpoint.
const MAX_ADDRESSES: usize = 16;

/// Hears what resolving found.
pub trait Observer: Send + Sync + 'static {
    /// The endpoint has other addresses than before; before the first answer it had none.
    fn renamed(&self, pool: &PoolName, endpoint: &Endpoint, before: &[SocketAddr], now: &[SocketAddr]);

    /// No answer; the last one stays in use. Called when a name begins to fail, not at each failure.
    fn unresolved(&self, pool: &PoolName, endpoint: &Endpoint, error: &io::Error);
}

/// Keeps addresses fresh.
pub struct Names<L> {
    pools: Arc<dyn Pools>,
    observer: Arc<dyn Observer>,
    lookup: L,
    failing: HashSet<String>,
    wake: Arc<Notify>,
}

/// Asks the name servers that `servers` names at that moment, the system's when it names none.
pub fn lookup(servers: impl Fn() -> Vec<SocketAddr> + Send + 'static) -> Lookup {
    let mut known: Option<(Vec<SocketAddr>, Resolver)> = None;
    Box::new(move |host| {
        let servers = servers();
        if known.as_ref().is_none_or(|(before, _)| *before != servers) {
            known = Resolver::new(&servers).ok().map(|resolver| (servers, resolver));
        }
        let resolver = known.as_ref().map(|(_, resolver)| resolver.clone());
        Box::pin(async move {
            let resolver = resolver.ok_or(io::ErrorKind::NotConnected)?;
            Ok(resolver.addresses(&host).await?.ips)
        })
    })
}

/// Finds the addresses of a host.
pub type Lookup = Box<dyn FnMut(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send>;

impl<L, F> Names<L>
where
    L: FnMut(String) -> F,
    F: Future<Output = io::Result<Vec<IpAddr>>>,
{
    /// Resolves with `lookup`, which [`lookup()`] makes outside of tests.
    pub fn new(pools: Arc<dyn Pools>, observer: Arc<dyn Observer>, lookup: L) -> Self {
        Self { pools, observer, lookup, failing: HashSet::new(), wake: Arc::default() }
    }

    /// Begins a round at once when notified, for after a reload.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Resolves round by round until stopped.
    pub async fn run(mut self, mut stop: Stop) {
        loop {
            let complete = tokio::select! {
                () = stop.stopped() => return,
                complete = self.round() => complete,
            };
            tokio::select! {
                () = stop.stopped() => return,
                () = self.wake.notified() => {}
                () = sleep(if complete { INTERVAL } else { INTERVAL_UNRESOLVED }) => {}
            }
        }
    }

    /// Asks for every name once. Says whether each endpoint has an address now. To be awaited before serving begins, so
    /// that the first exchange does not find an endpoint without one.
    pub async fn round(&mut self) -> bool {
        let mut named: BTreeMap<String, Vec<(PoolName, Arc<Endpoint>)>> = BTreeMap::new();
        self.pools.each(&mut |pool, endpoint, _| {
            if !is_address(&endpoint.host) {
                named.entry(endpoint.host.clone()).or_default().push((pool.name.clone(), Arc::clone(endpoint)));
            }
        });
        self.failing.retain(|host| named.contains_key(host));

        let asked: Vec<_> = named
            .into_iter()
            .map(|(host, endpoints)| {
                let answer = timeout(LONGEST_QUESTION, (self.lookup)(host.clone()));
                async move {
                    let answer = answer.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                    (host, endpoints, answer)
                }
            })
            .collect();
        let mut answers = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
        let mut complete = true;
        while let Some((host, endpoints, answer)) = answers.next().await {
            match answer.and_then(|ips| if ips.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(ips) }) {
                Ok(ips) => {
                    self.failing.remove(&host);
                    for (pool, endpoint) in &endpoints {
                        renew(pool, endpoint, &ips, &*self.observer);
                    }
                }
                Err(error) => {
                    endpoints.iter().for_each(|(_, endpoint)| endpoint.vitals.note_asked());
                    if self.failing.insert(host) {
                        for (pool, endpoint) in &endpoints {
                            self.observer.unresolved(pool, endpoint, &error);
                        }
                    }
                }
            }
            complete &= endpoints.iter().all(|(_, endpoint)| !endpoint.vitals.addresses().is_empty());
        }
        complete
    }
}

/// Stores new addresses. The same ones in another order are no news: resolvers turn their answers round.
fn renew(pool: &PoolName, endpoint: &Endpoint, ips: &[IpAddr], observer: &dyn Observer) {
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(ips.len());
    for ip in ips {
        let address = SocketAddr::new(*ip, endpoint.port);
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let before = endpoint.vitals.addresses();
    let same = before.len() == addresses.len() && before.iter().all(|address| addresses.contains(address));
    if !same {
        endpoint.vitals.set_addresses(&addresses);
        observer.renamed(pool, endpoint, &before, &addresses);
    }
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::balance::Roster;
    use crate::config::Pool;
    use crate::control::{Visit, testing};

    struct One(Arc<Pool>, Roster);

    impl Pools for One {
        fn each(&self, visit: Visit<'_>) {
            for endpoint in self.1.endpoints() {
                visit(&self.0, endpoint, None);
            }
        }
    }

    #[derive(Default)]
    struct Heard {
        renamed: Mutex<Vec<Vec<SocketAddr>>>,
        unresolved: Mutex<Vec<String>>,
    }

    impl Observer for Heard {
        fn renamed(&self, _: &PoolName, _: &Endpoint, _: &[SocketAddr], now: &[SocketAddr]) {
            self.renamed.lock().unwrap().push(now.to_vec());
        }

        fn unresolved(&self, _: &PoolName, endpoint: &Endpoint, _: &io::Error) {
            self.unresolved.lock().unwrap().push(endpoint.host.clone());
        }
    }

    /// One endpoint, `superset:8088`, and a resolver that gives `answers` in turn.
    #[expect(clippy::type_complexity, reason = "a closure's type has no name")]
    fn rig(
        answers: &[&[&str]],
    ) -> (Names<impl Fn(String) -> std::future::Ready<io::Result<Vec<IpAddr>>>>, Arc<One>, Arc<Heard>) {
        let pool = testing::pool(&[("superset", 8088)], None);
        let one = Arc::new(One(Arc::clone(&pool), Roster::new(&pool.endpoints)));
        let heard = Arc::new(Heard::default());
        let mut left: Vec<Vec<IpAddr>> =
            answers.iter().rev().map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        left.reserve(1);
        let left = Mutex::new(left);
        let lookup = move |_| std::future::ready(Ok(left.lock().unwrap().pop().unwrap_or_default()));
        (Names::new(Arc::clone(&one) as _, Arc::clone(&heard) as _, lookup), one, heard)
    }

    #[tokio::test]
    async fn answer_reaches_the_endpoint_with_its_port() {
        let (mut names, one, _) = rig(&[&["10.0.0.1", "10.0.0.1", "10.0.0.2"]]);

        assert!(names.round().await);

        let addresses = one.1.endpoints()[0].vitals.addresses();
        assert_eq!(*addresses, ["10.0.0.1:8088".parse().unwrap(), "10.0.0.2:8088".parse().unwrap()]);
    }

    #[tokio::test]
    async fn failure_keeps_the_last_answer_and_is_told_once() {
        let (mut names, one, heard) = rig(&[&["10.0.0.1"]]);

        assert!(names.round().await);
        assert!(names.round().await);
        assert!(names.round().await);

        assert_eq!(one.1.endpoints()[0].vitals.addresses().len(), 1);
        assert_eq!(*heard.unresolved.lock().unwrap(), ["superset"]);
    }

    #[tokio::test]
    async fn other_order_is_no_change() {
        let (mut names, _, heard) = rig(&[&["10.0.0.1", "10.0.0.2"], &["10.0.0.2", "10.0.0.1"], &["10.0.0.3"]]);

        for _ in 0..3 {
            names.round().await;
        }

        assert_eq!(heard.renamed.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn name_without_any_answer_leaves_the_round_incomplete() {
        let (mut names, one, heard) = rig(&[]);

        let asked = one.1.endpoints()[0].vitals.clone();
        let mut asked = std::pin::pin!(asked.asked());
        assert!(futures_util::poll!(&mut asked).is_pending());

        assert!(!names.round().await);

        assert!(heard.renamed.lock().unwrap().is_empty());
        assert!(futures_util::poll!(&mut asked).is_ready(), "who waited for the name waits no longer");
    }
}
