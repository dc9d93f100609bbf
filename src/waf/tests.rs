//! What lists, rules and built-in checks say of a request.

#[path = "../../tests/it/rig/countries.rs"]
mod countries;

use std::path::Path;

use super::*;
use crate::config::Config;
use crate::head::HeaderValue;

/// The shield of a configuration with `rest` in it.
pub(super) fn shield(rest: &str) -> Shield {
    let text = format!("[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.a]\nendpoints = [\"127.0.0.1:2\"]\n{rest}\n");
    let loaded = Config::parse(&text, Path::new("/nowhere/a.toml")).unwrap_or_else(|findings| panic!("{findings}"));
    let config = loaded.config.shield;
    let lists = Lists {
        allow: Networks::new(config.allow.networks.iter().copied()),
        deny: Networks::new(config.deny.networks.iter().copied()),
        crawlers: Networks::new(config.crawlers.networks.iter().copied()),
        countries: None,
    };
    Shield::new(&config, lists)
}

/// A request as a browser sends it, to be changed.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) fields: Fields,
    pub(super) client: IpAddr,
    pub(super) proof: Proof,
    pub(super) fingerprint: Option<Fingerprint>,
}

pub(super) fn get(path: &str) -> Asked {
    Asked {
        method: Method::GET,
        path: path.to_owned(),
        host: "bi.example.com".to_owned(),
        fields: Fields::new(),
        client: "203.0.113.9".parse().unwrap(),
        proof: Proof::Unproven,
        fingerprint: None,
    }
}

impl Asked {
    pub(super) fn from(mut self, client: &str) -> Self {
        self.client = client.parse().unwrap();
        self
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// What `shield` makes of it, with the names of the rules that fit.
    pub(super) fn meets(&self, shield: &Shield) -> (Ruling, Vec<String>) {
        let agent = agents::classify(self.fields.get("user-agent").map(HeaderValue::as_bytes));
        let inspection = shield.inspect(&Facts {
            method: &self.method,
            path: &self.path,
            below: &self.path,
            written: &self.path,
            query: None,
            host: &self.host,
            fields: &self.fields,
            client: self.client,
            agent,
            proof: self.proof,
            fingerprint: self.fingerprint.as_ref(),
            checked: true,
        });
        let name = |hit: &Hit| shield.rules()[hit.rule].0.as_str().to_owned();
        (inspection.ruling, inspection.hits.iter().map(name).collect())
    }
}

const DENIED: Ruling = Ruling::Deny(StatusCode::FORBIDDEN);

#[test]
fn first_rule_that_ends_the_asking_counts() {
    let shield = shield(
        r#"
        [shield]
        profile = "off"
        [[rules]]
        name = "seen"
        path = "/api"
        action = "tag"
        [[rules]]
        name = "would"
        path = "/api/**"
        mode = "observe"
        action = "deny"
        [[rules]]
        name = "office"
        network = "10.0.0.0/8"
        action = "allow"
        [[rules]]
        name = "closed"
        path = "/api/v1/security"
        action = "deny"
        status = 404
        "#,
    );

    let everybody = get("/api/v1/security/login").meets(&shield);
    let office = get("/api/v1/security/login").from("10.1.1.1").meets(&shield);
    let elsewhere = get("/apiary").meets(&shield);

    assert_eq!(everybody.0, Ruling::Deny(StatusCode::NOT_FOUND));
    assert_eq!(everybody.1, ["seen", "would", "closed"]);
    assert_eq!((office.0, office.1.last().unwrap().as_str()), (Ruling::Pass, "office"));
    assert_eq!(elsewhere, (Ruling::Pass, vec![]));
}

#[test]
fn rule_wants_every_condition_and_one_value_of_each() {
    let shield = shield(
        r#"
        [[rules]]
        name = "all"
        path = ["/a", "/b/*"]
        method = ["GET", "POST"]
        host = ["*.example.com", "other.test"]
        header = { "x-one" = "v*", "x-two" = "*" }
        network = ["203.0.113.0/24", "2001:db8::/32"]
        agent = ["tool", "none"]
        fingerprint = "t13d*"
        action = "deny"
        "#,
    );
    let fits = || {
        let mut asked = get("/b/x").with("x-one", "value").with("x-two", "").with("user-agent", "curl/8");
        asked.fingerprint = Fingerprint::new(*b"t13d1516h2_8daaf6152771_02713d6af862");
        asked
    };

    assert_eq!(fits().meets(&shield).0, DENIED);
    let mut others: Vec<(&str, Asked)> = vec![
        ("path", Asked { path: "/b/x/y".to_owned(), ..fits() }),
        ("method", Asked { method: Method::PUT, ..fits() }),
        ("host", Asked { host: "example.com".to_owned(), ..fits() }),
        ("header", fits().with("x-one", "other")),
        ("network", fits().from("203.0.114.1")),
        ("agent", fits().with("user-agent", "Mozilla/5.0 (X11)")),
        ("fingerprint", Asked { fingerprint: None, ..fits() }),
    ];
    let mut without = fits();
    without.fields.remove("x-two");
    others.push(("absent header", without));
    for (what, asked) in others {
        assert_eq!(asked.meets(&shield).0, Ruling::Pass, "{what}");
    }
}

#[test]
fn lists_come_before_rules_and_allow_before_deny() {
    let shield = shield(
        r#"
        [shield]
        exempt = ["192.0.2.7"]
        allow.networks = ["10.1.0.0/16"]
        deny.networks = ["10.0.0.0/8", "192.0.2.0/24"]
        [[rules]]
        name = "everybody"
        action = "drop"
        "#,
    );

    assert_eq!(get("/").from("10.1.2.3").meets(&shield), (Ruling::Pass, vec![]));
    assert_eq!(get("/").from("192.0.2.7").meets(&shield), (Ruling::Pass, vec![]));
    assert_eq!(get("/").from("10.2.2.3").meets(&shield), (DENIED, vec!["shield.deny_list".to_owned()]));
    assert_eq!(get("/").meets(&shield), (Ruling::Drop, vec!["everybody".to_owned()]));
}

/// A browser's navigation.
fn browser(path: &str) -> Asked {
    get(path)
        .with("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .with("accept", "text/html")
        .with("accept-encoding", "gzip")
        .with("accept-language", "en")
}

#[test]
fn standard_refuses_attacks_and_only_notes_robots() {
    let shield = shield("");
    let denied = |asked: Asked| asked.meets(&shield);

    for (asked, rule) in [
        (browser("/.env"), "shield.probe"),
        (browser("/wp-login.php"), "shield.probe"),
        (browser("/x").with("x-api-version", "${jndi:ldap://a/b}"), "shield.injection"),
        (browser("/").with("user-agent", "sqlmap/1.8#stable (https://sqlmap.org)"), "shield.scanner"),
    ] {
        assert_eq!(denied(asked), (DENIED, vec![rule.to_owned()]));
    }
    let (ruling, rules) = denied(browser("/static/%2e%2e/x"));
    assert_eq!((ruling, rules), (Ruling::Deny(StatusCode::BAD_REQUEST), vec!["shield.spelling".to_owned()]));
    for (asked, rule) in [
        (browser("/").with("user-agent", "Mozilla/5.0 (compatible; GPTBot/1.2)"), "shield.crawler"),
        (get("/superset/welcome"), "shield.anonymous"),
        (get("/login").with("user-agent", "Mozilla/5.0 (X11)"), "shield.pretended"),
    ] {
        assert_eq!(denied(asked), (Ruling::Pass, vec![rule.to_owned()]), "{rule}");
    }
}

#[test]
fn strict_refuses_robots_but_no_client_of_superset() {
    let shield = shield("[shield]\nprofile = \"strict\"\ncrawlers.networks = [\"66.249.64.0/19\"]");
    let google =
        || browser("/").with("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)");

    assert_eq!(google().meets(&shield).0, DENIED);
    assert_eq!(google().from("66.249.66.1").meets(&shield).0, Ruling::Pass);
    assert_eq!(get("/superset/welcome").meets(&shield).0, DENIED);
    for honest in [
        browser("/superset/dashboard/1"),
        get("/api/v1/chart/data").with("user-agent", "python-requests/2.32"),
        get("/login").with("user-agent", "python-requests/2.32").with("accept", "*/*"),
        get("/health"),
        get("/health").with("user-agent", "kube-probe/1.33"),
        get("/superset/dashboard/1").with(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36",
        ),
    ] {
        assert_eq!(honest.meets(&shield), (Ruling::Pass, vec![]), "{} {:?}", honest.path, honest.fields);
    }
}

#[test]
fn profile_and_mode_say_what_acts() {
    let off = shield("[shield]\nprofile = \"off\"");
    let observed = shield("[shield]\nmode = \"observe\"\ndeny.networks = [\"10.0.0.0/8\"]");

    assert_eq!(browser("/.env").meets(&off), (Ruling::Pass, vec![]));
    assert_eq!(browser("/.env").meets(&observed), (Ruling::Pass, vec!["shield.probe".to_owned()]));
    assert_eq!(browser("/").from("10.0.0.1").meets(&observed).0, DENIED, "a list is no guess");
}

#[test]
fn country_comes_from_the_database() {
    let bytes = countries::database(&[([203, 0, 113, 0], 24, "DE"), ([198, 51, 100, 0], 22, "FR")]);
    let countries = Countries::open(bytes.clone()).unwrap();
    let of = |address: &str| countries.of(address.parse().unwrap());

    assert_eq!(of("203.0.113.77"), Some(*b"DE"));
    assert_eq!(of("::ffff:198.51.101.1"), Some(*b"FR"));
    assert_eq!(of("203.0.114.1"), None);
    assert!(Countries::open(bytes[..20].to_vec()).is_err());
}
