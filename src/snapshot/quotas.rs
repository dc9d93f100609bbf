//! The limits of one generation, on states that outlive it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::quota::{self, Allowance, By};
use crate::config::{self, Config};
use crate::head::HeaderValue;
use crate::lexicon::LimitName;
use crate::limit::{Concurrency, Meter, Rate, Table};
use crate::route::canonical;
use crate::telemetry::metrics::{LimitMetrics, Metrics};

/// What clients may have.
#[derive(Debug, Default)]
pub struct Quotas {
    all: HashMap<LimitName, Arc<Quota>>,
    /// The guard of logins; `None` when switched off.
    pub login: Option<Arc<Guard>>,
}

/// One limit.
#[derive(Debug)]
pub struct Quota {
    /// As configured.
    pub config: quota::Limit,
    /// Over time.
    pub meter: Option<Arc<Meter>>,
    /// At once.
    pub places: Option<Arc<Concurrency>>,
    /// What clients are told of `meter`.
    pub over_time: Option<Policy>,
    /// What clients are told of `places`.
    pub at_once: Option<Policy>,
    /// What it counts.
    pub metrics: Arc<LimitMetrics>,
}

/// What clients are told of a limit that does not change (draft-ietf-httpapi-ratelimit-headers-11 §3).
#[derive(Clone, Debug)]
pub struct Policy {
    /// By which `RateLimit` names it: a limit over time and at once is two policies.
    pub name: String,
    /// `RateLimit-Policy`.
    pub field: HeaderValue,
}

/// The guard of logins.
#[derive(Debug)]
pub struct Guard {
    /// As configured.
    pub config: quota::Login,
    /// Failures of addresses.
    pub per_address: Arc<Meter>,
    /// Failures on user names.
    pub per_user: Arc<Meter>,
    /// When a user last logged in from an address: an attack on a name does not keep its owner out.
    pub known: Table,
}

impl Quotas {
    /// The limits that `config` wants. States live on where a limit has not changed.
    pub(super) fn build(config: &Config, previous: Option<&Self>, metrics: &Metrics) -> Self {
        let before = |name: &LimitName| previous.and_then(|previous| previous.all.get(name));
        let all = config.limits.iter().map(|limit| {
            let same = before(&limit.name).filter(|known| known.config == *limit);
            (limit.name.clone(), same.map_or_else(|| Arc::new(Quota::new(limit, metrics)), Arc::clone))
        });
        let guard = |login: &quota::Login| {
            let same = previous.and_then(|previous| previous.login.as_ref()).filter(|known| known.config == *login);
            same.map_or_else(|| Arc::new(Guard::new(login)), Arc::clone)
        };
        Self { all: all.collect(), login: config.login.as_ref().map(guard) }
    }

    /// The limits that hold for `route`: those it names, else the default ones.
    pub(super) fn of_route(&self, route: &config::Route, limits: &[quota::Limit]) -> Vec<Arc<Quota>> {
        let named = |name: &LimitName| self.all.get(name).cloned();
        match &route.limits {
            Some(names) => names.iter().filter_map(named).collect(),
            // In the order of the configuration.
            None => limits.iter().filter(|limit| limit.default).filter_map(|limit| named(&limit.name)).collect(),
        }
    }

    /// The limit of that name.
    pub fn get(&self, name: &LimitName) -> Option<&Arc<Quota>> {
        self.all.get(name)
    }

    /// All limits, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Quota>> {
        self.all.values()
    }
}

impl Quota {
    fn new(config: &quota::Limit, metrics: &Metrics) -> Self {
        let name = config.name.as_str();
        let over_time = config.rate.and_then(|rate| {
            let window = rate.period.as_secs_f64() / f64::from(rate.count.get()) * f64::from(rate.burst.get());
            // §3.1.3: whole seconds, at least one.
            Policy::new(name.to_owned(), &format!("q={};w={:.0}", rate.burst, window.ceil().max(1.0)))
        });
        let at_once = config.concurrency.and_then(|most| {
            let name = if config.rate.is_some() { format!("{name}.concurrency") } else { name.to_owned() };
            Policy::new(name, &format!("q={most};qu=\"concurrent-requests\""))
        });
        Self {
            meter: config.rate.map(|rate| meter(config.name.clone(), rate, config.max_keys, config.store)),
            places: config.concurrency.map(|most| Arc::new(Concurrency::new(most.get(), config.max_keys))),
            over_time,
            at_once,
            metrics: metrics.limit(&config.name),
            config: config.clone(),
        }
    }

    /// Whether it counts requests before it is known who logs in.
    pub fn is_by_head(&self) -> bool {
        !self.config.by.contains(&By::User)
    }
}

impl Policy {
    /// Names have letters, digits, `-`, `_` and `.` only, which a String of RFC 9651 takes as they are.
    fn new(name: String, parameters: &str) -> Option<Self> {
        let field = HeaderValue::try_from(format!("\"{name}\";{parameters}")).ok()?;
        Some(Self { name, field })
    }
}

impl Guard {
    fn new(config: &quota::Login) -> Self {
        let meter = |name: &str, rate| meter(LimitName::new(name), rate, config.max_keys, config.store);
        Self {
            per_address: meter("login.address", config.per_address),
            per_user: meter("login.user", config.per_user),
            known: Table::new(config.max_keys),
            config: config.clone(),
        }
    }

    /// Whether `path`, below the path of `route` or the root of its application, is that of the form.
    pub fn is_form(&self, route: &config::Route, path: &str) -> bool {
        is_one_of(&self.config.form, route, path)
    }

    /// Whether it is that of the API.
    pub fn is_api(&self, route: &config::Route, path: &str) -> bool {
        is_one_of(&self.config.api, route, path)
    }
}

/// Gunicorn and Flask serve other spellings of a path, too: all of them are guarded.
fn is_one_of(paths: &[String], route: &config::Route, path: &str) -> bool {
    let path = canonical(path);
    let below = path.strip_prefix(route.path.trim_end_matches('/')).unwrap_or(&path);
    paths.iter().any(|known| *known == path || known == below || known == route.below(&path))
}

fn meter(name: LimitName, rate: Allowance, keys: usize, store: quota::Store) -> Arc<Meter> {
    Arc::new(Meter { name, rate: Rate::new(rate.count, rate.period, rate.burst, keys), store })
}
