//! Which records somebody wants to see, as the query of `/exchanges` and `/records` says it.
//!
//! Part of `admin`. Every key narrows: `status=5xx,404`, `route=`, `pool=`, `endpoint=`, `min=` (a duration), `verdict=`
//! (a rule's name, or `any`), `fault=` (a reason code, or `any`), `client=` (an address or a network). A key that nobody
//! knows is refused: who mistypes a filter would take what he sees for what there is.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use crate::config::units::Span;
use crate::telemetry::record::Record;

/// Which records.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Wanted {
    /// Statuses from the first to the last of a pair.
    statuses: Vec<(u16, u16)>,
    route: Option<String>,
    pool: Option<String>,
    endpoint: Option<String>,
    min: Duration,
    verdict: Option<String>,
    fault: Option<String>,
    client: Option<IpNet>,
}

/// What of a query is no filter.
pub(super) type Others<'o> = Vec<(&'o str, String)>;

/// The word for whatever there is.
const ANY: &str = "any";

impl Wanted {
    /// Reads a query; keys of `others` are left to the caller, who gets them.
    ///
    /// # Errors
    /// What is wrong with it, for whoever asked.
    pub(super) fn read<'o>(query: &str, others: &[&'o str]) -> Result<(Self, Others<'o>), String> {
        let (mut wanted, mut rest) = (Self::default(), Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
            match key {
                "status" => wanted.statuses = value.split(',').map(statuses).collect::<Result<_, _>>()?,
                "route" => wanted.route = Some(value),
                "pool" => wanted.pool = Some(value),
                "endpoint" => wanted.endpoint = Some(value),
                "min" => {
                    let Span(min) = value.parse().map_err(|error| format!("`min` {error}, such as 500ms"))?;
                    wanted.min = min;
                }
                "verdict" => wanted.verdict = Some(value),
                "fault" => wanted.fault = Some(value),
                "client" => wanted.client = Some(network(&value)?),
                other => match others.iter().find(|known| **known == other) {
                    Some(known) => rest.push((*known, value)),
                    None => return Err(format!("nothing is filtered by `{}`", other.escape_default())),
                },
            }
        }
        Ok((wanted, rest))
    }

    /// Whether `record` is wanted.
    pub(super) fn fits(&self, record: &Record) -> bool {
        let named = |wanted: &Option<String>, name: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| name.is_some_and(|name| wanted == ANY || wanted == name))
        };
        let status = record.status.unwrap_or(0);
        let rules = || record.verdicts.iter().map(|verdict| verdict.rule.as_str());
        (self.statuses.is_empty() || self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status)))
            && record.stages.total >= self.min
            && named(&self.route, record.route.as_ref().map(|route| route.as_str()))
            && named(&self.pool, record.pool.as_ref().map(|pool| pool.as_str()))
            && named(&self.endpoint, record.endpoint.as_ref().map(|endpoint| endpoint.as_str()))
            && named(&self.fault, record.fault)
            && self.verdict.as_deref().is_none_or(|wanted| rules().any(|rule| wanted == ANY || wanted == rule))
            && self.client.is_none_or(|network| network.contains(&record.client.ip().to_canonical()))
    }
}

/// `404`, `5xx`, or `none` for those whose client was gone before.
fn statuses(text: &str) -> Result<(u16, u16), String> {
    let wrong = || "`status` must be a status such as 404, a class such as 5xx, or none".to_owned();
    if text == "none" {
        return Ok((0, 0));
    }
    if let Some(class) = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok()) {
        return (1..=5).contains(&class).then_some((class * 100, class * 100 + 99)).ok_or_else(wrong);
    }
    let status = text.parse().map_err(|_| wrong())?;
    (100..=599).contains(&status).then_some((status, status)).ok_or_else(wrong)
}

fn network(text: &str) -> Result<IpNet, String> {
    let alone = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    alone.or_else(|_| text.parse()).map_err(|_| "`client` must be an address or a network".into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::lexicon::{PoolName, RuleName};
    use crate::telemetry::record::Verdict;
    use crate::telemetry::samples;

    fn fits(query: &str) -> bool {
        let record = Record {
            status: Some(502),
            fault: Some("connect"),
            client: SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9).to_ipv6_mapped(), 1)),
            pool: Some(PoolName::new("super set")),
            verdicts: vec![Verdict { rule: RuleName::new("scanners"), action: "deny", observed: true }],
            ..samples::exchange()
        };
        Wanted::read(query, &[]).unwrap().0.fits(&record)
    }

    #[test]
    fn each_key_narrows() {
        for fitting in [
            "",
            "status=502",
            "status=404,5xx",
            "pool=super+set",
            "pool=super%20set",
            "route=%2F",
            "min=1s",
            "verdict=any",
            "verdict=scanners",
            "fault=any",
            "fault=connect",
            "client=203.0.113.9",
            "client=203.0.113.0/24",
            "endpoint=10.0.0.2:8088",
            "status=5xx&pool=any&min=1s",
        ] {
            assert!(fits(fitting), "{fitting}");
        }
        for other in [
            "status=4xx",
            "status=none",
            "status=503",
            "pool=other",
            "route=%2Fa",
            "min=2s",
            "verdict=other",
            "fault=silent",
            "client=203.0.113.8",
            "client=2001:db8::/32",
            "status=502&pool=other",
        ] {
            assert!(!fits(other), "{other}");
        }
    }

    #[test]
    fn what_nobody_understands_is_refused() {
        for wrong in ["states=502", "status=6xx", "status=5x", "status=", "min=2", "client=here", "limit=1"] {
            assert!(Wanted::read(wrong, &[]).is_err(), "{wrong}");
        }
        assert_eq!(Wanted::read("limit=1", &["limit"]).unwrap().1, [("limit", "1".to_owned())]);
    }
}
