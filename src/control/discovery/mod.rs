//! Keeps pools' endpoints as DNS names them.
//!
//! Floor 5. One task asks for every pool that discovers, each in the rhythm of its answers. In: the pools of the present
//! generation, and what a resolver says. Out: endpoints, handed to [`Discovered`]; those that stay keep their health and
//! claims, those that leave get nothing new and finish what they have. The judgement is in `plan`, which is pure.
//! Deliberately absent: addresses of single endpoints; that is `names`.

mod plan;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::resolver::{Resolver, Unanswered};
use super::supervisor::Stop;
use crate::config::pool::{Discover, Endpoint, Record};
use crate::lexicon::PoolName;
use crate::telemetry::metrics::DiscoveryResult;
use plan::{Answer, Row};

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// Longest wait for a whole answer, all name servers and search domains included.
const LONGEST_QUESTION: Duration = Duration::from_secs(10);

/// How often pools are looked through when nobody says that they changed.
const REFRESH: Duration = Duration::from_secs(60);

/// The pools that discover, and the place for what was found. Must not block.
pub trait Discovered: Send + Sync + 'static {
    /// What is wanted, by pool.
    fn wanted(&self) -> Vec<(PoolName, Discover)>;

    /// Name servers of the configuration; none means the system's.
    fn servers(&self) -> Vec<SocketAddr>;

    /// The endpoints of `pool` from now on, if it still discovers by these rules.
    fn found(&self, pool: &PoolName, rules: &Discover, endpoints: Vec<Endpoint>);

    /// The answer gave nothing; `kept` says that the endpoints are as before. Called when a row of such answers begins.
    fn unanswered(&self, pool: &PoolName, name: &str, why: &Unanswered, kept: bool);

    /// An answer has come, or none in time.
    fn answered(&self, pool: &PoolName, name: &str, result: DiscoveryResult);
}

/// Asks for endpoints.
pub struct Discovery {
    pools: Arc<dyn Discovered>,
    resolver: Option<(Vec<SocketAddr>, Resolver)>,
    known: HashMap<PoolName, Asked>,
    wake: Arc<Notify>,
}

struct Asked {
    rules: Discover,
    row: Row,
    due: Instant,
}

impl Discovery {
    /// Asks for what `pools` wants.
    pub fn new(pools: Arc<dyn Discovered>) -> Self {
        Self { pools, resolver: None, known: HashMap::new(), wake: Arc::default() }
    }

    /// Looks at the pools anew when notified, for after a reload.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Asks until stopped.
    pub async fn run(mut self, mut stop: Stop) {
        loop {
            let next = tokio::select! {
                () = stop.stopped() => return,
                next = self.round() => next,
            };
            tokio::select! {
                () = stop.stopped() => return,
                () = self.wake.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Asks whatever is due, and says when the next question is. To be awaited before serving begins.
    pub async fn round(&mut self) -> Instant {
        let wanted = self.pools.wanted();
        let now = Instant::now();
        self.known.retain(|pool, asked| wanted.iter().any(|(name, rules)| name == pool && *rules == asked.rules));
        let mut due = Vec::new();
        for (pool, rules) in wanted {
            let asked = self.known.entry(pool.clone()).or_insert_with(|| Asked {
                rules: rules.clone(),
                row: Row::default(),
                due: now,
            });
            if asked.due <= now {
                due.push((pool, rules));
            }
        }
        if !due.is_empty() {
            self.ask(due).await;
        }
        let next = self.known.values().map(|asked| asked.due).min();
        next.unwrap_or_else(|| Instant::now() + REFRESH).min(Instant::now() + REFRESH)
    }

    async fn ask(&mut self, due: Vec<(PoolName, Discover)>) {
        let resolver = self.resolver();
        let questions = due.into_iter().map(|(pool, rules)| {
            let resolver = resolver.clone();
            async move {
                let answer = match &resolver {
                    Some(resolver) => tokio::time::timeout(LONGEST_QUESTION, question(resolver, &rules)).await.ok(),
                    None => None,
                };
                (pool, rules, answer)
            }
        });
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        while let Some((pool, rules, answer)) = answers.next().await {
            let Some(asked) = self.known.get_mut(&pool) else { continue };
            let late = || Unanswered::Failed("no answer in time".into());
            let (answer, why) = match answer {
                Some(Ok(answer)) => (answer, None),
                Some(Err(why @ Unanswered::Nothing)) => (Answer::Empty, Some(why)),
                Some(Err(why @ Unanswered::Failed(_))) => (Answer::Failed, Some(why)),
                None => (Answer::Failed, Some(late())),
            };
            let result = match &answer {
                Answer::Found(..) => DiscoveryResult::Found,
                Answer::Empty => DiscoveryResult::Empty,
                Answer::Failed => DiscoveryResult::Failed,
            };
            let step = asked.row.next(answer, &rules);
            asked.due = Instant::now() + step.wait;
            self.pools.answered(&pool, &rules.name, result);
            if let Some(why) = why.filter(|_| step.news) {
                self.pools.unanswered(&pool, &rules.name, &why, step.endpoints.is_none());
            }
            if let Some(endpoints) = step.endpoints {
                self.pools.found(&pool, &rules, endpoints);
            }
        }
    }

    /// The resolver for the name servers that are configured now; `None` when the system has no usable ones.
    fn resolver(&mut self) -> Option<Resolver> {
        let servers = self.pools.servers();
        if self.resolver.as_ref().is_none_or(|(known, _)| *known != servers) {
            self.resolver = Resolver::new(&servers).ok().map(|resolver| (servers, resolver));
        }
        self.resolver.as_ref().map(|(_, resolver)| resolver.clone())
    }
}

async fn question(resolver: &Resolver, rules: &Discover) -> Result<Answer, Unanswered> {
    match rules.record {
        Record::Address => Ok(plan::of_addresses(&resolver.addresses(&rules.name).await?, rules)),
        Record::Service => {
            let (services, ttl) = resolver.services(&rules.name).await?;
            Ok(plan::of_services(services, ttl, rules))
        }
    }
}
