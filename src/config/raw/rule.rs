//! `[[rules]]` as written.

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::mode::Mode;
use super::super::shield::{Action, Rule, When};
use super::key::{Describe, Entry, Key, Kind, May, Must, Or, Section, Table, section};
use super::kinds::{Choice, Lasting, MINUTE, MODE, Parsed, choice, lasting, network, parsed};
use super::shapes::{List, list, values};
use super::sheet::{Words, Written};
use super::words::{REFUSAL, Status, header_name, host_pattern, name};
use crate::lexicon::{AgentClass, LimitName, RuleName};

section! {
    /// A rule of the shield. Rules are asked in the order of the file; a request fits when it fits every condition that
    /// is written. `allow`, `deny`, `drop` and `tarpit` end the asking, `limit` and `tag` do not.
    pub(super) RULE: RuleKeys {
        /// Unique name; a metric label and the record's word for it. Never told to clients.
        name: Parsed<String> = parsed("name", rule_name), Must();
        /// Path or list of paths: a prefix on segment borders, or a glob of the whole path: `*` for anything within a
        /// segment, `**` for anything.
        path: List<Parsed<String>> = list(parsed("path prefix or glob", glob)).or_one(), May("every path");
        /// Method or list of methods.
        method: List<Parsed<Method>> = list(parsed("method", method)).or_one(), May("every method");
        /// Host or list of hosts, exact or `*.example.com`, without a port.
        host: List<Parsed<String>> = list(parsed("host", host_pattern)).or_one(), May("every host");
        /// Fields that must be there, each with a glob for its value; `*` fits every value.
        header: Globs = Globs, Or("{}");
        /// Network of the client, or list of networks.
        network: List<Parsed<IpNet>> = list(parsed("network", network)).or_one(), May("every network");
        /// Country of the client or list of countries, as ISO 3166-1 alpha-2. Needs `shield.country_database`.
        country: List<Parsed<[u8; 2]>> = list(parsed("country code", country)).or_one(), May("every country");
        /// Class of the user agent, or list of classes.
        agent: List<Choice<AgentClass>> = list(AGENT).or_one(), May("every user agent");
        /// JA4 fingerprint of the client's TLS, or list of them, as globs. Fits no plain connection.
        fingerprint: List<Parsed<String>> = list(parsed("JA4 or glob", ja4)).or_one(), May("every fingerprint");
        /// What happens.
        action: Choice<Doing> = DOING, Must();
        /// Status of `deny`.
        status: Status = REFUSAL, Or("403");
        /// Name of the limit for `limit`.
        limit: Parsed<String> = parsed("name of a limit", name), May("none");
        /// How long `tarpit` waits before it answers 403.
        delay: Lasting = lasting(100, 2 * MINUTE), Or("'10s'");
        /// Whether it happens, or is only logged and counted as if it did.
        mode: Choice<Mode> = MODE, Or("'enforce'");
    }
}

/// The word for what a rule does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Doing {
    Allow,
    Deny,
    Limit,
    Drop,
    Tarpit,
    Tag,
}

const DOING: Choice<Doing> = choice(&[
    ("allow", Doing::Allow),
    ("deny", Doing::Deny),
    ("limit", Doing::Limit),
    ("drop", Doing::Drop),
    ("tarpit", Doing::Tarpit),
    ("tag", Doing::Tag),
]);

const AGENT: Choice<AgentClass> = choice(&[
    ("none", AgentClass::None),
    ("browser", AgentClass::Browser),
    ("tool", AgentClass::Tool),
    ("automation", AgentClass::Automation),
    ("monitoring", AgentClass::Monitoring),
    ("search_engine", AgentClass::SearchEngine),
    ("ai_crawler", AgentClass::AiCrawler),
    ("crawler", AgentClass::Crawler),
    ("scanner", AgentClass::Scanner),
]);

/// What a rule means.
pub(super) fn rule(table: &Table<'_>) -> Option<Rule> {
    let name = table.get(&RULE.name);
    let when = when(table);
    let action = action(table);
    let mode = table.get(&RULE.mode);
    Some(Rule { name: RuleName::new(&name?), when: when?, action: action?, mode: mode? })
}

fn when(table: &Table<'_>) -> Option<When> {
    let paths = table.get(&RULE.path).map(Option::unwrap_or_default);
    let methods = table.get(&RULE.method).map(Option::unwrap_or_default);
    let hosts = table.get(&RULE.host).map(Option::unwrap_or_default);
    let headers = table.get(&RULE.header);
    let networks = table.get(&RULE.network).map(Option::unwrap_or_default);
    let countries = table.get(&RULE.country).map(Option::unwrap_or_default);
    let agents = table.get(&RULE.agent).map(Option::unwrap_or_default);
    let fingerprints = table.get(&RULE.fingerprint).map(Option::unwrap_or_default);
    Some(When {
        paths: values(paths?),
        methods: values(methods?),
        hosts: values(hosts?),
        headers: headers?,
        networks: values(networks?),
        countries: values(countries?),
        agents: values(agents?),
        fingerprints: values(fingerprints?),
    })
}

fn action(table: &Table<'_>) -> Option<Action> {
    let (status, delay) = (table.get(&RULE.status), table.get(&RULE.delay));
    let (doing, limit) = (table.get(&RULE.action)?, table.get(&RULE.limit)?);
    for (written, wanted, word, of) in [
        (table.has(&RULE.status), Doing::Deny, "status", "deny"),
        (table.has(&RULE.limit), Doing::Limit, "limit", "limit"),
        (table.has(&RULE.delay), Doing::Tarpit, "delay", "tarpit"),
    ] {
        if written && doing != wanted {
            let words = Words::new(format!("has a `{word}`, which belongs to `action = \"{of}\"`"));
            table.error(&RULE.action, words);
        }
    }
    match doing {
        Doing::Allow => Some(Action::Allow),
        Doing::Deny => status.map(|status: StatusCode| Action::Deny(status)),
        Doing::Limit => named_limit(table, limit),
        Doing::Drop => Some(Action::Drop),
        Doing::Tarpit => delay.map(|delay: Duration| Action::Tarpit(delay)),
        Doing::Tag => Some(Action::Tag),
    }
}

fn named_limit(table: &Table<'_>, limit: Option<String>) -> Option<Action> {
    let known = &table.written.sheet.limits;
    match limit {
        Some(limit) if known.contains(&limit) => Some(Action::Limit(LimitName::new(&limit))),
        Some(limit) => {
            let expected = if known.is_empty() { "a limit; there is none".into() } else { known.join(" or ") };
            let words = Words::new("is not a limit of this file").found(format!("{limit:?}")).expected(expected);
            table.error(&RULE.limit, words.near(&limit, known.iter().map(String::as_str)));
            None
        }
        None => {
            table.error(&RULE.limit, Words::new("is missing").expected("the name of a `[limits.NAME]`"));
            None
        }
    }
}

fn rule_name(text: &str) -> Result<String, String> {
    match text.starts_with("shield.") {
        true => Err("begins with `shield.`, as the built-in checks do".into()),
        false => name(text),
    }
}

/// A method in upper case: methods are case-sensitive (RFC 9110 §9.1), and all that are known are upper case.
pub(super) fn method(text: &str) -> Result<Method, String> {
    let upper = !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    let known = Method::from_bytes(text.as_bytes()).ok().filter(|_| upper);
    known.ok_or_else(|| "is no method in upper case".into())
}

fn glob(text: &str) -> Result<String, String> {
    if !text.starts_with(['/', '*']) {
        return Err("begins neither with `/` nor with `*`".into());
    }
    let good = text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    if good { Ok(text.to_owned()) } else { Err("has characters that a path cannot have".into()) }
}

fn country(text: &str) -> Result<[u8; 2], String> {
    let code = <[u8; 2]>::try_from(text.as_bytes()).ok().filter(|code| code.iter().all(u8::is_ascii_uppercase));
    code.ok_or_else(|| "is no code of two upper-case letters".into())
}

fn ja4(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'*');
    match (1..=64).contains(&text.len()) && text.bytes().all(good) {
        true => Ok(text.to_owned()),
        false => Err("is no JA4 such as t13d1516h2_8daaf6152771_02713d6af862".into()),
    }
}

/// Fields by name, each with a glob for its value.
pub(super) struct Globs;

impl Describe for Globs {
    fn shape(&self) -> String {
        "table of field names and globs".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

impl Kind for Globs {
    type Value = Vec<(HeaderName, String)>;

    fn read(&self, written: &Written<'_>) -> Option<Self::Value> {
        let Some(table) = written.value.as_table() else {
            written.wrong_type(&self.shape());
            return None;
        };
        let mut fields = Some(Vec::new());
        for (key, value) in table {
            let name = header_name(key.get_ref());
            let text = value.get_ref().as_str().filter(|text| text.len() <= 1024);
            let problem = match (&name, text) {
                (Err(problem), _) => Some(problem.as_str()),
                (Ok(_), None) => Some("is no text of at most 1,024 bytes"),
                (Ok(_), Some(_)) => None,
            };
            if let Some(problem) = problem {
                written.below(key.get_ref(), key.span(), value.get_ref()).error(Words::new(problem));
            }
            let one = name.ok().zip(text.map(str::to_owned));
            fields = fields.zip(one).map(|(mut fields, one)| {
                fields.push(one);
                fields
            });
        }
        fields
    }
}
