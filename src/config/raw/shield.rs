//! `[shield]` as written; the rules have their own file.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;

use super::super::mode::Mode;
use super::super::secret::SecretSource;
use super::super::shield::{Addresses, Profile, Shield};
use super::key::{Entry, Key, May, Or, Section, Table, section};
use super::kinds::{Choice, File, Flag, MODE, Parsed, WATCHED, Whole, choice, network, parsed, whole};
use super::limit::rate;
use super::rule::method;
use super::secret::Secret;
use super::shapes::{List, Sub, list, sub, values};
use super::sheet::Words;
use super::words::host_name;

const PROFILE: Choice<Profile> =
    choice(&[("off", Profile::Off), ("standard", Profile::Standard), ("strict", Profile::Strict)]);

section! {
    /// What is asked of a request before it may cost anything: lists, then `[[rules]]`, then the built-in checks.
    pub(super) SHIELD: ShieldKeys {
        /// The built-in checks. `standard` refuses what no honest client of Superset sends; `strict` also crawlers,
        /// robots that give themselves away, and browsers that are none; `off` leaves lists and rules.
        profile: Choice<Profile> = PROFILE, Or("'standard'");
        /// Whether the built-in checks act. `observe` logs and counts what they would do.
        mode: Choice<Mode> = MODE, Or("'enforce'");
        /// Methods let through. Others: 405 `method`.
        methods: List<Parsed<Method>> = list(parsed("method", method)).some(),
            Or("['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']");
        /// Networks that nothing judges, bans included: monitoring, and Superset's own headless browser for reports.
        exempt: List<Parsed<IpNet>> = list(parsed("network", network)), Or("[]");
        /// A request that carries this secret in `X-Shield-Token` is not judged, bans included. The field goes no further.
        token: Secret = Secret, May("no token");
        /// Addresses let through before any rule is asked, whatever bans say.
        allow: Sub<Addresses> = sub(&ADDRESSES, addresses), Or("{}");
        /// Addresses refused before any rule is asked, 403 `denied`. `allow` counts more.
        deny: Sub<Addresses> = sub(&ADDRESSES, addresses), Or("{}");
        /// Addresses that search engines publish as their crawlers'. Who says that it is a search engine and comes from
        /// elsewhere is a crawler like any other.
        crawlers: Sub<Addresses> = sub(&ADDRESSES, addresses), Or("{}");
        /// Domains in which search engines have the names of their crawlers. An address that `crawlers` does not list is
        /// looked up by reverse DNS, and its name by forward DNS, away from the request: until there is an answer, and
        /// for 5 s at most, `shield.crawler` only observes. Answers are good as long as their records.
        /// `[]` asks nobody.
        crawler_domains: List<Parsed<String>> = list(parsed("host name", domain)), Or(
            "['googlebot.com', 'google.com', 'search.msn.com', 'applebot.apple.com', 'crawl.yahoo.net', 'yandex.ru', \
             'yandex.net', 'yandex.com', 'crawl.baidu.com', 'crawl.baidu.jp', 'petalsearch.com', 'seznam.cz']"
        );
        /// Database of countries in MaxMind's format, for `country` in rules. Read again when it changes.
        country_database: File = WATCHED, May("no country is known");
        /// Whether what clients at private, loopback and providers' shared addresses (100.64.0.0/10) do, guessing
        /// passwords included, can add up to a ban. Behind a load balancer that `clients.trusted_proxies` does not
        /// name, all clients share its address, and a ban would shut out everybody.
        ban_private: Flag = Flag, Or("false");
        /// Answers 404 beyond one in ten that a client may get, at once or within the time: `shield.misses`. Files below
        /// `/static` aside. Needs a restart.
        misses: Parsed<(NonZeroU32, Duration)> = parsed("rate", rate), Or("'40/m'");
        /// Pages that a client may get with nothing between them that belongs to a page, at once or within the time:
        /// `shield.pages`. Needs a restart.
        pages: Parsed<(NonZeroU32, Duration)> = parsed("rate", rate), Or("'60/10m'");
        /// Clients whose misses and page storms are counted at once, 64 bytes each; beyond it the mildest are forgotten. Needs a
        /// restart.
        max_tracked: Whole<usize> = whole(1_024, 16_777_216), Or("65_536");
        /// Addresses of which it is known at once whether they are a search engine's, some 100 bytes each; beyond it those
        /// that are not are forgotten. Needs a restart.
        max_crawlers: Whole<usize> = whole(100, 1_000_000), Or("10_000");
        /// Requests that `tarpit` holds back at once; beyond it they are denied without delay.
        max_tarpits: Whole<usize> = whole(0, 100_000), Or("256");
    }
}

/// What `[shield]` means, but for its rules.
pub(super) fn shield(table: &Table<'_>) -> Option<Shield> {
    let (profile, mode) = (table.get(&SHIELD.profile), table.get(&SHIELD.mode));
    let methods = table.get(&SHIELD.methods).map(values);
    let exempt = table.get(&SHIELD.exempt).map(values);
    let token: Option<Option<SecretSource>> = table.get(&SHIELD.token);
    let (allow, deny) = (table.get(&SHIELD.allow), table.get(&SHIELD.deny));
    let crawlers = table.get(&SHIELD.crawlers);
    let crawler_domains = table.get(&SHIELD.crawler_domains).map(values);
    let country_database = table.get(&SHIELD.country_database);
    let ban_private = table.get(&SHIELD.ban_private);
    let (misses, pages) = (table.get(&SHIELD.misses), table.get(&SHIELD.pages));
    let max_crawlers = table.get(&SHIELD.max_crawlers);
    let (max_tracked, max_tarpits) = (table.get(&SHIELD.max_tracked), table.get(&SHIELD.max_tarpits));
    if exempt.iter().flatten().any(|network: &IpNet| network.prefix_len() == 0) {
        table.warn(&SHIELD.exempt, Words::new("exempts everybody: nothing is judged"));
    }
    if deny.iter().any(|deny: &Addresses| deny.networks.iter().any(|network| network.prefix_len() == 0)) {
        table.warn(&SHIELD.deny, Words::new("refuses everybody whom `allow` does not name"));
    }
    Some(Shield {
        profile: profile?,
        mode: mode?,
        methods: methods?,
        exempt: exempt?,
        token: token?,
        allow: allow?,
        deny: deny?,
        crawlers: crawlers?,
        crawler_domains: crawler_domains?,
        country_database: country_database?,
        ban_private: ban_private?,
        misses: misses?,
        pages: pages?,
        max_crawlers: max_crawlers?,
        max_tracked: max_tracked?,
        max_tarpits: max_tarpits?,
        rules: Vec::new(),
    })
}

section! {
    /// A list of addresses.
    ADDRESSES: AddressesKeys {
        /// Networks or addresses.
        networks: List<Parsed<IpNet>> = list(parsed("network", network)), Or("[]");
        /// Files with one network or address a line, `#` before comments; up to a million lines each. Read again when
        /// they change.
        files: List<File> = list(WATCHED), Or("[]");
    }
}

fn domain(text: &str) -> Result<String, String> {
    host_name(text.strip_suffix('.').unwrap_or(text)).map(|name| name.to_ascii_lowercase())
}

fn addresses(table: &Table<'_>) -> Option<Addresses> {
    let networks = table.get(&ADDRESSES.networks).map(values);
    let files: Option<Vec<PathBuf>> = table.get(&ADDRESSES.files).map(values);
    Some(Addresses { networks: networks?, files: files? })
}
