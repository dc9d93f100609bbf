//! The configuration as written.
//!
//! One `section!` per table describes its keys, and one function beside it says what they mean together. Everything is
//! read before the first failure counts, so that all findings of a file come at once. Seen by `config` alone.
//! Deliberately absent: opening any file but the configuration itself.

mod access_log;
mod across;
mod admin;
mod bans;
mod built_in;
mod collector;
mod discover;
mod edits;
mod health;
mod http3;
mod json;
pub(super) mod key;
mod kinds;
mod labels;
mod limit;
mod listener;
mod login;
mod objectives;
mod otlp;
mod pool;
mod process;
mod receivers;
mod recorder;
mod redis;
mod route;
mod rule;
mod secret;
mod shapes;
mod sheet;
mod shield;
mod sink;
mod steady;
mod transport;
mod words;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::findings::{Finding, Findings, Severity};
use super::masked::{userinfo, without_userinfo};
use super::otlp::Exports;
use super::outline::Outline;
use super::process::{AccessLog, Admin, Clients, FaultPages, Process};
use super::quota::{Bans, Limit, Login};
use super::redis::Redis;
use super::shield::{Rule, Shield};
use super::{Config, Loaded};
use key::{Entry, Key, May, Must, Or, Section, Table, section};
use shapes::{List, Loose, Named, Sub, list, loose, named, sub, whole_list};
use sheet::{Place, Sheet, Written};

pub(super) use json::section_schema;
pub(super) use sheet::nearest;

section! {
    /// Configuration of Sluicegate.
    pub(super) ROOT: RootKeys {
        /// Bound addresses, and everything about the client's side of a connection.
        listeners: List<Loose<Sub<listener::Draft>>> =
            list(loose(sub(&listener::LISTENER, listener::listener))).some().headed("[[listeners]]"), Must();
        /// Named sets of interchangeable endpoints.
        pools: Named<super::Pool> = named("[pools.NAME]", &pool::POOL, words::plain_name, pool::pool), Must();
        /// Which requests go where, under which limits.
        routes: List<Loose<Sub<route::Draft>>> =
            list(loose(sub(&route::ROUTE, route::route))).headed("[[routes]]"), Or("[]");
        /// What is asked of a request before it may cost anything.
        shield: Sub<Shield> = sub(&shield::SHIELD, shield::shield), Or("{}");
        /// Rules of the shield, asked in their order.
        rules: List<Loose<Sub<Rule>>> = list(loose(sub(&rule::RULE, rule::rule))).headed("[[rules]]"), Or("[]");
        /// The process as a whole.
        process: Sub<Process> = sub(&process::PROCESS, process::process), Or("{}");
        /// What is believed about clients.
        clients: Sub<Clients> = sub(&process::CLIENTS, process::clients), Or("{}");
        /// The operators' listener.
        admin: Sub<Option<Admin>> = sub(&admin::ADMIN, admin::admin), Or("{}");
        /// Where the records of exchanges and tunnels go.
        access_log: Sub<AccessLog> = sub(&access_log::ACCESS_LOG, access_log::access_log), Or("{}");
        /// What OpenTelemetry's collectors are sent beside records.
        otlp: Sub<Exports> = sub(&otlp::EXPORTS, otlp::exports), Or("{}");
        /// What of the exchanges is kept in memory.
        recorder: Sub<recorder::Asked> = sub(&recorder::RECORDER, recorder::recorder), Or("{}");
        /// Own pages for the proxy's own answers.
        fault_pages: Sub<FaultPages> = sub(&process::FAULT_PAGES, process::fault_pages), Or("{}");
        /// What clients may have, over time and at once.
        limits: Named<Limit> =
            named("[limits.NAME]", &limit::LIMIT, words::plain_name, limit::limit), May("no limits");
        /// The guard of logins.
        login: Sub<Option<Login>> = sub(&login::LOGIN, login::login), Or("{}");
        /// Where proxies share what they count.
        redis: Sub<Redis> = sub(&redis::REDIS, redis::redis), May("nothing is shared");
        /// How bans come about, grow and end.
        bans: Sub<Bans> = sub(&bans::BANS, bans::bans), Or("{}");
    }
}

/// What a text means, with all findings.
pub(super) fn resolve(text: &str, file: &Path) -> Result<Loaded, Findings> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax(text, file, &errors));
    }
    let document = DeValue::Table(document.into_inner());
    let sheet = Sheet::new(text, file, names(&document, "pools"), names(&document, "limits"));
    let place = Place { path: String::new(), span: 0..0 };
    let root = Written { value: &document, place, sheet: &sheet, implied: false };
    let meant = Table::open(&root, &ROOT).and_then(|table| configuration(&table));
    let (findings, mut files) = sheet.into_results();
    let findings = Findings::new(findings);
    match meant {
        Some(config) if !findings.has_errors() => {
            files.insert(0, file.to_owned());
            Ok(Loaded { config, warnings: findings, files, outline: Outline::of(text) })
        }
        // Never silent: what is not understood has a reason.
        None if !findings.has_errors() => {
            let finding = Finding::whole_file(file, "cannot be understood; this is a mistake of Sluicegate".into());
            Err(Findings::new(vec![finding]))
        }
        Some(_) | None => Err(findings),
    }
}

fn configuration(table: &Table<'_>) -> Option<Config> {
    let pools = table.get(&ROOT.pools);
    let listeners = table.get(&ROOT.listeners);
    let routes = table.get(&ROOT.routes);
    let (shield, rules) = (table.get(&ROOT.shield), table.get(&ROOT.rules));
    let process = table.get(&ROOT.process);
    let clients = table.get(&ROOT.clients);
    let admin = table.get(&ROOT.admin);
    let access_log = table.get(&ROOT.access_log);
    let exports = table.get(&ROOT.otlp);
    let recorder = table.get(&ROOT.recorder);
    let fault_pages = table.get(&ROOT.fault_pages);
    let bans = table.get(&ROOT.bans);
    let (limits, login) = (table.get(&ROOT.limits).map(Option::unwrap_or_default), table.get(&ROOT.login));
    let redis = table.get(&ROOT.redis);

    let parts = across::Parts {
        listeners: listeners.as_deref().unwrap_or_default(),
        pools: pools.as_deref().unwrap_or_default(),
        routes: routes.as_deref().unwrap_or_default(),
        rules: rules.as_deref().unwrap_or_default(),
        shield: shield.as_ref(),
        process: process.as_ref(),
        clients: clients.as_ref(),
        admin: admin.as_ref().and_then(Option::as_ref),
        limits: limits.as_deref().unwrap_or_default(),
        login: login.as_ref().and_then(Option::as_ref),
    };
    parts.check(table);
    otlp::check(table, exports.as_ref(), clients.as_ref());
    let own_zone = process.as_ref().and_then(|process| process.zone.clone());
    let routes = match routes? {
        written if written.is_empty() => across::default_route(table)?,
        written => whole_list(written)?,
    };
    let routes: Vec<Arc<_>> = built_in::complete(&routes).into_iter().map(Arc::new).collect();
    access_log::know_routes(table, access_log.as_ref(), &routes)?;
    let access_log = access_log?;
    Some(Config {
        process: process?,
        clients: clients?,
        listeners: across::distinct_names(whole_list(listeners?)?).into_iter().map(Arc::new).collect(),
        pools: whole_list(pools?)?.into_iter().map(|pool| Arc::new(pool.seen_from(own_zone.as_ref()))).collect(),
        routes,
        shield: Shield { rules: whole_list(rules?)?, ..shield? },
        admin: admin?,
        recorder: recorder?.beside(&access_log.sinks),
        access_log,
        otlp: exports?,
        fault_pages: fault_pages?,
        bans: bans?,
        limits: whole_list(limits?)?,
        login: login?,
        redis: redis?,
    })
}

/// The names of the tables below a key, whatever is in them.
fn names(document: &DeValue<'_>, key: &str) -> Vec<String> {
    let tables = document.get(key).and_then(|tables| tables.get_ref().as_table());
    tables.into_iter().flat_map(|tables| tables.keys()).map(|name| name.get_ref().to_string()).collect()
}

/// Findings about text that is not TOML.
fn syntax(text: &str, file: &Path, errors: &[toml::de::Error]) -> Findings {
    let finding = |error: &toml::de::Error| {
        let span = error.span().unwrap_or(0..0);
        let mut mask = secret_line(text, &span);
        mask.extend(userinfo(text));
        let mut finding = Finding::at(file, text, &span, &mask);
        finding.severity = Severity::Error;
        finding.problem = without_userinfo(&format!("not TOML: {}", error.message()));
        finding
    };
    Findings::new(errors.iter().take(20).map(finding).collect())
}

/// What must not be shown of a line that cannot be read, if its key speaks of a secret.
fn secret_line(text: &str, span: &Range<usize>) -> Vec<Range<usize>> {
    let start = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let secret = ["secret", "headers", "authorization"].iter().any(|word| line.contains(word));
    let value = line.find('=').filter(|_| secret);
    value.map(|at| start + at + 1..start + line.len()).into_iter().collect()
}
