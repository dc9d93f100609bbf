//! The shield of one generation: what was configured, and what its files and its secret say.

use std::path::Path;
use std::sync::Arc;

use crate::config;
use crate::config::Mode;
use crate::config::secret::{Secret, SecretError};
use crate::config::shield::Addresses;
use crate::lexicon::RuleName;
use crate::telemetry::metrics::{Metrics, RuleMetrics};
use crate::telemetry::record::Verdict;
use crate::waf::country::BadDatabase;
use crate::waf::networks::{self, BadLine, Networks};
use crate::waf::{self, Check, Countries, Hit, Lists, agents, attack};

use super::BuildError;

/// The shield of one generation.
#[derive(Debug)]
pub struct Shield {
    /// What judges.
    pub core: waf::Shield,
    /// What each rule counts, by its place in `core`.
    rules: Vec<Arc<RuleMetrics>>,
    /// A request that carries it is not judged.
    pub token: Option<Secret>,
}

/// Why the shield could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ShieldError {
    /// A list of addresses has a line that is none.
    #[error("{path}: {why}")]
    Line {
        /// The file.
        path: std::path::PathBuf,
        /// Which.
        why: BadLine,
    },
    /// The database of countries is none.
    #[error("{path}")]
    Countries {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: BadDatabase,
    },
    /// The token cannot be read.
    #[error("shield.token")]
    Token(#[source] SecretError),
}

impl Shield {
    /// Reads the files; errors go to `errors`, and what could not be read is empty then.
    pub(super) fn load(config: &config::Shield, metrics: &Metrics, errors: &mut Vec<BuildError>) -> Self {
        let countries = config
            .country_database
            .as_deref()
            .and_then(|path| countries(path).map_err(|error| errors.push(error)).ok());
        let lists = Lists {
            allow: read(&config.allow, errors),
            deny: read(&config.deny, errors),
            crawlers: read(&config.crawlers, errors),
            countries,
        };
        let token = config.token.as_ref().and_then(|token| {
            token.read().map_err(|error| errors.push(BuildError::Shield(ShieldError::Token(error)))).ok()
        });
        let core = waf::Shield::new(config, lists);
        agents::prepare();
        attack::prepare();
        let rules = core.rules().iter().map(|(name, action)| metrics.rule(name, action)).collect();
        Self { core, rules, token }
    }

    /// Counts a check about more than one request, if it is asked: the record's word for it, and whether it acts.
    pub fn note_check(&self, check: Check) -> Option<(Verdict, bool)> {
        let mode = self.core.mode(check)?;
        Some((self.note(Hit { rule: check as usize, mode })?, mode == Mode::Enforce))
    }

    /// All rules with their action, whether they act (`None`: not asked), and what they have counted: enforced, observed.
    pub fn counts(&self) -> impl Iterator<Item = (&RuleName, &'static str, Option<Mode>, u64, u64)> {
        let named = self.core.rules().iter().zip(&self.rules).enumerate();
        named.map(|(at, ((name, action), rule))| {
            let [enforced, observed] = rule.counts();
            (name, *action, self.core.mode_of(at), enforced, observed)
        })
    }

    /// Counts a rule that fits, and gives the record's word for it.
    pub fn note(&self, hit: Hit) -> Option<Verdict> {
        let observed = hit.mode == Mode::Observe;
        self.rules.get(hit.rule)?.verdict(observed);
        let (rule, action) = self.core.rules().get(hit.rule)?;
        Some(Verdict { rule: rule.clone(), action, observed })
    }
}

fn read(addresses: &Addresses, errors: &mut Vec<BuildError>) -> Networks {
    let mut all = addresses.networks.clone();
    for path in &addresses.files {
        match lines(path) {
            Ok(more) => all.extend(more),
            Err(error) => errors.push(error),
        }
    }
    Networks::new(all)
}

fn lines(path: &Path) -> Result<Vec<ipnet::IpNet>, BuildError> {
    let text = std::fs::read_to_string(path).map_err(|source| BuildError::File { path: path.to_owned(), source })?;
    networks::parse(&text).map_err(|why| BuildError::Shield(ShieldError::Line { path: path.to_owned(), why }))
}

fn countries(path: &Path) -> Result<Countries, BuildError> {
    let bytes = std::fs::read(path).map_err(|source| BuildError::File { path: path.to_owned(), source })?;
    let path = path.to_owned();
    Countries::open(bytes).map_err(|source| BuildError::Shield(ShieldError::Countries { path, source }))
}
