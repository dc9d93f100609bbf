use std::path::Path;

use http::HeaderValue;

use super::*;
use crate::config::Config;

/// The shield of a configuration with `rest` in it.
pub(super) fn shield(rest: &str) -> Shield {
    let text = format!("[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.a]\nendpoints = [\"127.0.0.1:2\"]\n{rest}\n");
    let loaded = Config::parse(&text, Path::new("/nowhere/a.toml")).unwrap_or_else(|findings| panic!("{findings}"));
    let config = loaded.config.shield;
    let lists = Lists {
        allow: Networks::new(config.allow.networks.iter().copied()),
        deny: Networks::new(config.deny.networks.iter().copied()),
    };
    Shield::new(&config, lists)
}

/// A request as a browser sends it, to be changed.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) fields: HeaderMap,
    pub(super) client: IpAddr,
    pub(super) fingerprint: Option<Fingerprint>,
}

pub(super) fn get(path: &str) -> Asked {
    Asked {
        method: Method::GET,
        path: path.to_owned(),
        host: "bi.example.com".to_owned(),
        fields: HeaderMap::new(),
        client: "203.0.113.9".parse().unwrap(),
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
            host: &self.host,
            fields: &self.fields,
            client: self.client,
            agent,
            fingerprint: self.fingerprint.as_ref(),
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
