//! Which rules a request could fit, found without asking each of them.
//!
//! Part of `waf`. For each kind of condition there is a table of bits, one for each rule: a row for every method, every
//! class of user agents, every beginning of a path, and so on. The rows of a request are cut with each other, and only
//! the rules that are left are asked, in their order, for all that they want. A rule that has no condition of a kind
//! stands in every row of its table, so that a table leaves out only what cannot fit. Deliberately absent: what needs
//! more than a look, such as countries and the values of fields; the rule itself asks for these.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderName;

use super::networks::{Networks, wide};
use super::rule::{Compiled, Path, bit};
use super::{Facts, Glob};
use crate::lexicon::AgentClass;

/// The tables of all rules.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Words of a row.
    words: usize,
    methods: Table,
    agents: Table,
    paths: Beginnings,
    /// Hosts from their end on: `*.example.com` is a beginning then.
    hosts: Beginnings,
    networks: Ranges,
    /// Fingerprints from their end on: nearly all of them begin alike.
    fingerprints: Beginnings,
    with_fingerprint: Box<[u64]>,
    headers: Vec<Needed>,
}

/// Rows of bits.
#[derive(Debug, Default)]
struct Table(Vec<u64>);

/// Rows by what a text begins with.
#[derive(Debug, Default)]
struct Beginnings {
    /// Whether any rule has such a condition.
    used: bool,
    /// In order, the first one empty: every text begins with it.
    texts: Vec<Beginning>,
    /// A row for each, which holds also those of whom is above.
    rows: Table,
}

#[derive(Debug)]
struct Beginning {
    text: Box<[u8]>,
    /// The longest other one that this one begins with.
    above: usize,
}

/// Rows by ranges of addresses, those of IPv4 mapped into IPv6. Empty, and not asked, beyond [`MAX_RANGES`].
#[derive(Debug, Default)]
struct Ranges {
    starts: Vec<u128>,
    rows: Table,
}

/// Words that the rows of ranges take at most: 64 KiB.
const MAX_RANGES: usize = 8 * 1024;

/// The first address of IPv4 mapped into IPv6.
const MAPPED: u128 = 0xffff << 32;

/// Fields that are looked for one by one; of more, what hints cannot tell.
const FEW: usize = 4;

/// A field that rules want.
#[derive(Debug)]
struct Needed {
    name: HeaderName,
    hint: u64,
    by: Box<[u64]>,
}

impl Index {
    pub(super) fn new(rules: &[Compiled]) -> Self {
        let words = rules.len().div_ceil(64);
        let whole = |wants: &dyn Fn(&Compiled) -> bool| row(words, rules.iter().map(wants));
        let mut methods = Table::default();
        for method in 0..u16::BITS {
            methods.push(&whole(&|rule| rule.methods & (1 << method) != 0));
        }
        let mut agents = Table::default();
        for class in AgentClass::ALL {
            agents.push(&whole(&|rule| rule.agents == 0 || rule.agents & class.bit() != 0));
        }
        let paths = rules.iter().map(|rule| rule.paths.iter().map(Path::literal).map(Into::into).collect());
        let hosts = rules.iter().map(|rule| rule.hosts.iter().map(|host| backwards(ending(host))).collect());
        let fingerprints = rules.iter().map(|rule| rule.fingerprints.iter().map(Glob::ending).map(backwards).collect());
        let mut headers: Vec<Needed> = Vec::new();
        for (name, _) in rules.iter().flat_map(|rule| &rule.headers) {
            if !headers.iter().any(|known| known.name == name) {
                let by = whole(&|rule| rule.headers.iter().any(|(other, _)| other == name));
                headers.push(Needed { name: name.clone(), hint: hint(name), by });
            }
        }
        Self {
            words,
            methods,
            agents,
            paths: Beginnings::new(words, paths),
            hosts: Beginnings::new(words, hosts),
            networks: Ranges::new(words, rules),
            fingerprints: Beginnings::new(words, fingerprints),
            with_fingerprint: whole(&|rule| !rule.fingerprints.is_empty()),
            headers,
        }
    }

    /// The places of the rules that may fit, in order.
    pub(super) fn candidates<'a>(&'a self, facts: &'a Facts<'a>) -> Candidates<'a> {
        let method = usize::try_from(bit(facts.method).trailing_zeros()).unwrap_or_default();
        Candidates {
            index: self,
            facts,
            word: 0,
            left: 0,
            method,
            agent: facts.agent as usize,
            path: self.paths.find(facts.path.as_bytes()),
            host: None,
            fingerprint: None,
            network: None,
            hints: None,
        }
    }
}

/// The rules that a request may fit.
pub(super) struct Candidates<'a> {
    index: &'a Index,
    facts: &'a Facts<'a>,
    /// The word that comes next, and what is left of the present one.
    word: usize,
    left: u64,
    method: usize,
    agent: usize,
    path: usize,
    /// Looked up for the first rule that wants to know.
    host: Option<usize>,
    fingerprint: Option<usize>,
    network: Option<usize>,
    hints: Option<u64>,
}

impl Candidates<'_> {
    /// Who of a word comes into question.
    fn cut(&mut self, word: usize) -> u64 {
        let Self { index, facts, .. } = *self;
        let row = |table: &Table, at: usize| table.word(index.words, at, word);
        let mut left = row(&index.methods, self.method) & row(&index.agents, self.agent);
        if index.paths.used {
            left &= row(&index.paths.rows, self.path);
        }
        if left != 0 && !index.networks.starts.is_empty() {
            let at = *self.network.get_or_insert_with(|| index.networks.find(facts.client));
            left &= row(&index.networks.rows, at);
        }
        if left != 0 && index.hosts.used {
            let at = *self.host.get_or_insert_with(|| index.hosts.find_backwards(facts.host.as_bytes()));
            left &= row(&index.hosts.rows, at);
        }
        match facts.fingerprint {
            Some(seen) if left != 0 && index.fingerprints.used => {
                let find = || index.fingerprints.find_backwards(seen.as_bytes());
                let at = *self.fingerprint.get_or_insert_with(find);
                left &= row(&index.fingerprints.rows, at);
            }
            Some(_) => {}
            None => left &= !index.with_fingerprint.get(word).copied().unwrap_or_default(),
        }
        for needed in &index.headers {
            let by = needed.by.get(word).copied().unwrap_or_default();
            if left & by == 0 {
                continue;
            }
            let fields = facts.fields;
            let hints = || fields.keys().fold(0, |all, name| all | hint(name));
            let told = index.headers.len() > FEW && *self.hints.get_or_insert_with(hints) & needed.hint == 0;
            if told || !fields.contains_key(&needed.name) {
                left &= !by;
            }
        }
        left
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.left == 0 {
            if self.word == self.index.words {
                return None;
            }
            self.left = self.cut(self.word);
            self.word = self.word.saturating_add(1);
        }
        let lowest = usize::try_from(self.left.trailing_zeros()).unwrap_or_default();
        self.left &= self.left.wrapping_sub(1);
        Some(self.word.saturating_sub(1).saturating_mul(64).saturating_add(lowest))
    }
}

impl Table {
    fn push(&mut self, row: &[u64]) {
        self.0.extend_from_slice(row);
    }

    fn word(&self, words: usize, row: usize, word: usize) -> u64 {
        self.0.get(row.saturating_mul(words).saturating_add(word)).copied().unwrap_or_default()
    }
}

impl Beginnings {
    /// `wanted` are what texts must begin with, of each rule; of none, if it is empty.
    fn new(words: usize, wanted: impl Iterator<Item = Vec<Box<[u8]>>>) -> Self {
        let wanted: Vec<Vec<Box<[u8]>>> = wanted.collect();
        let mut texts: Vec<Box<[u8]>> = wanted.iter().flatten().cloned().collect();
        texts.push(Box::default());
        texts.sort_unstable();
        texts.dedup();
        let mut rows = Table::default();
        let above = |at: usize| {
            let (before, text) = (texts.get(..at).unwrap_or_default(), texts.get(at));
            before.iter().rposition(|other| text.is_some_and(|text| text.starts_with(other))).unwrap_or_default()
        };
        for text in &texts {
            let fits = |of_rule: &Vec<Box<[u8]>>| {
                of_rule.is_empty() || of_rule.iter().any(|beginning| text.starts_with(beginning))
            };
            rows.push(&row(words, wanted.iter().map(fits)));
        }
        let above: Vec<usize> = (0..texts.len()).map(above).collect();
        let used = wanted.iter().any(|of_rule| !of_rule.is_empty());
        let texts = texts.into_iter().zip(above).map(|(text, above)| Beginning { text, above }).collect();
        Self { used, texts, rows }
    }

    /// The row of the longest beginning of `text`.
    ///
    /// Whatever `text` begins with sorts before it, and all that sorts between the two begins with it as well: the
    /// last one that sorts before `text` leads to all of them.
    fn find(&self, text: &[u8]) -> usize {
        self.find_by(|beginning| *beginning <= *text, |beginning| text.starts_with(beginning))
    }

    /// The same of `text` from its end on, which is not turned round for it: most texts differ in a byte or two.
    fn find_backwards(&self, text: &[u8]) -> usize {
        let backwards = || text.iter().rev();
        let begins =
            |beginning: &[u8]| beginning.len() <= text.len() && beginning.iter().eq(backwards().take(beginning.len()));
        self.find_by(|beginning| beginning.iter().le(backwards()), begins)
    }

    fn find_by(&self, sorts_before: impl Fn(&[u8]) -> bool, begins: impl Fn(&[u8]) -> bool) -> usize {
        let mut at = self.texts.partition_point(|beginning| sorts_before(&beginning.text)).saturating_sub(1);
        while let Some(beginning) = self.texts.get(at).filter(|_| at > 0) {
            if begins(&beginning.text) {
                break;
            }
            at = beginning.above;
        }
        at
    }
}

impl Ranges {
    fn new(words: usize, rules: &[Compiled]) -> Self {
        let networks = || rules.iter().filter_map(|rule| rule.networks.as_ref());
        let ends = |(first, last): (u128, u128)| [Some(first), last.checked_add(1)];
        let mut starts: Vec<u128> = networks().flat_map(Networks::ranges).flat_map(ends).flatten().collect();
        if starts.is_empty() {
            return Self::default();
        }
        // Between these IPv4 stands for itself.
        starts.extend([0, MAPPED, MAPPED.saturating_add(1 << 32)]);
        starts.sort_unstable();
        starts.dedup();
        if starts.len().saturating_mul(words) > MAX_RANGES {
            return Self::default();
        }
        let mut rows = Table::default();
        for start in &starts {
            let address = IpAddr::V6(Ipv6Addr::from_bits(*start));
            let within = |rule: &Compiled| rule.networks.as_ref().is_none_or(|networks| networks.contains(address));
            rows.push(&row(words, rules.iter().map(within)));
        }
        Self { starts, rows }
    }

    fn find(&self, address: IpAddr) -> usize {
        let address = wide(address.to_canonical());
        self.starts.partition_point(|start| *start <= address).saturating_sub(1)
    }
}

/// A row with a bit for each rule that is in it.
fn row(words: usize, bits: impl Iterator<Item = bool>) -> Box<[u64]> {
    let mut row = vec![0; words];
    for (at, _) in bits.enumerate().filter(|(_, is_in)| *is_in) {
        if let Some(word) = row.get_mut(at / 64) {
            *word |= 1_u64 << (at % 64);
        }
    }
    row.into()
}

/// What every host that fits a pattern ends with.
fn ending(host: &str) -> &[u8] {
    host.strip_prefix('*').unwrap_or(host).as_bytes()
}

fn backwards(text: &[u8]) -> Box<[u8]> {
    text.iter().rev().copied().collect()
}

/// A bit that names of the same length and the same first and last byte share: most names that are not there are told
/// by it, without a hash of each.
fn hint(name: &HeaderName) -> u64 {
    let name = name.as_str().as_bytes();
    let byte = |byte: Option<&u8>| byte.copied().map_or(0, u32::from);
    let sum = byte(name.first()) ^ byte(name.last()).rotate_left(2);
    1 << (sum.wrapping_add(u32::try_from(name.len()).unwrap_or_default()) % u64::BITS)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;
    use crate::config::Mode;
    use crate::config::shield::{Action, Rule, When};
    use crate::head::{Fields, HeaderValue};
    use crate::lexicon::{Fingerprint, RuleName};
    use crate::waf::Proof;

    const PATHS: [&str; 9] = ["/", "/a", "/a/", "/a/b", "/a/*", "/a/**", "/ab", "**", "/a/b/c*"];
    const HOSTS: [&str; 5] = ["*.example.com", "a.example.com", "example.com", "*.com", "b.test"];
    /// More than [`FEW`], so that hints are asked; of two the hint is the same.
    const NAMES: [&str; 8] = ["x-one", "x-two", "x-bne", "accept", "dnt", "range", "te", "x-three"];
    const NETWORKS: [&str; 6] =
        ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32", "::/0", "::ffff:10.1.0.0/112"];
    const FINGERPRINTS: [&str; 3] = ["t13d*", "*_5", "q13d*"];
    const METHODS: [&str; 4] = ["GET", "POST", "PURGE", "LOCK"];

    fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        prop_oneof![Just(Vec::new()), subsequence(of, 0..=of.len())]
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let agents = prop_oneof![Just(Vec::new()), subsequence(&AgentClass::ALL[..], 0..=3)];
        let one =
            (some(&PATHS), some(&METHODS), some(&HOSTS), some(&NAMES), some(&NETWORKS), agents, some(&FINGERPRINTS));
        one.prop_map(|(paths, methods, hosts, names, networks, agents, fingerprints)| Rule {
            name: RuleName::new("any"),
            when: When {
                paths: paths.into_iter().map(str::to_owned).collect(),
                methods: methods.into_iter().map(|name| name.parse().unwrap()).collect(),
                hosts: hosts.into_iter().map(str::to_owned).collect(),
                headers: names.into_iter().map(|name| (HeaderName::from_static(name), "v*".to_owned())).collect(),
                networks: networks.into_iter().map(|network| network.parse().unwrap()).collect(),
                countries: Vec::new(),
                agents,
                fingerprints: fingerprints.into_iter().map(str::to_owned).collect(),
            },
            action: Action::Tag,
            mode: Mode::Enforce,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn asking_the_index_finds_what_asking_every_rule_finds(
            rules in prop_oneof![prop::collection::vec(rule(), 0..6), prop::collection::vec(rule(), 60..140)],
            path in "/[ab]{0,2}(/[bc]{1,2}){0,2}/?",
            host in prop::sample::select(vec!["a.example.com", "example.com", "com", "b.test", "xb.test", ""]),
            fields in subsequence(&NAMES[..], 0..=NAMES.len()),
            client in prop::sample::select(vec!["10.1.2.3", "10.2.0.0", "11.0.0.0", "2001:db8::1", "::1", "::ffff:10.1.0.9"]),
            agent in prop::sample::select(&AgentClass::ALL[..]),
            method in prop::sample::select(&METHODS[..]),
            fingerprint in any::<bool>(),
        ) {
            let rules: Vec<Compiled> = rules.iter().map(Compiled::new).collect();
            let fields: Fields = fields
                .into_iter()
                .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("value")))
                .collect();
            let fingerprint = fingerprint.then(|| Fingerprint::new(*b"t13d1516h2_8daaf6152771_02713d6af8_5").unwrap());
            let method: Method = method.parse().unwrap();
            let facts = Facts {
                method: &method,
                path: &path,
                below: &path,
                written: &path,
                query: None,
                host,
                fields: &fields,
                client: client.parse().unwrap(),
                agent,
                proof: Proof::Unproven,
                fingerprint: fingerprint.as_ref(),
                checked: true,
            };
            let fits = |at: &usize| rules[*at].fits(&facts, |_| None);

            let found: Vec<usize> = Index::new(&rules).candidates(&facts).filter(fits).collect();

            prop_assert_eq!(found, (0..rules.len()).filter(fits).collect::<Vec<usize>>());
        }
    }

    #[test]
    fn rules_about_others_are_not_asked() {
        let rule = |when: When| {
            Compiled::new(&Rule { name: RuleName::new("any"), when, action: Action::Tag, mode: Mode::Enforce })
        };
        let texts = |text: &str| vec![text.to_owned()];
        let rules = [
            rule(When { paths: texts("/admin"), ..When::default() }),
            rule(When { networks: vec!["192.0.2.0/24".parse().unwrap()], ..When::default() }),
            rule(When { hosts: texts("*.example.org"), ..When::default() }),
            rule(When { headers: vec![(HeaderName::from_static("x-key"), "*".to_owned())], ..When::default() }),
            rule(When { fingerprints: texts("t13d*"), ..When::default() }),
            rule(When { agents: vec![AgentClass::Scanner], ..When::default() }),
            rule(When { methods: vec![Method::PUT], ..When::default() }),
            rule(When { paths: texts("/api/**"), ..When::default() }),
        ];
        let facts = Facts {
            method: &Method::GET,
            path: "/api/v1/chart",
            below: "/api/v1/chart",
            written: "/api/v1/chart",
            query: None,
            host: "example.com",
            fields: &Fields::new(),
            client: "203.0.113.9".parse().unwrap(),
            agent: AgentClass::Browser,
            proof: Proof::Unproven,
            fingerprint: None,
            checked: true,
        };

        assert_eq!(Index::new(&rules).candidates(&facts).collect::<Vec<usize>>(), [7]);
    }
}
