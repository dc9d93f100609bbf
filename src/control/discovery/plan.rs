//! What to make of an answer about a pool's endpoints, and when to ask again.
//!
//! Pure: answers in, endpoints and waits out. The policy: an answer is good for its time to live, within the pool's
//! floor and ceiling. Silence of the name servers says nothing about the endpoints, which stay. An empty answer (no such
//! name, no record) is believed only where the configuration says so: a service that was deleted by mistake, or a name
//! server that has just begun, must not take a working Superset away; its endpoints' health is checked in any case.

use std::time::Duration;

use crate::config::pool::{Discover, Endpoint, OnEmpty};
use crate::control::resolver::{Addresses, Service};
use crate::lexicon::EndpointName;

/// An answer, as far as it matters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// These endpoints, for so long.
    Found(Vec<Endpoint>, Duration),
    /// Nothing of that name.
    Empty,
    /// Nobody to ask.
    Failed,
}

/// What follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Step {
    /// The endpoints to have from now on; `None` leaves them as they are.
    pub(super) endpoints: Option<Vec<Endpoint>>,
    /// Time until the next question.
    pub(super) wait: Duration,
    /// Whether this kind of answer is news: the first of its row.
    pub(super) news: bool,
}

/// What the row of answers was so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    /// Answers without endpoints in a row.
    bad: u32,
    /// Whether the last one was empty rather than missing.
    empty: bool,
}

impl Row {
    /// Takes the next answer.
    pub(super) fn next(&mut self, answer: Answer, rules: &Discover) -> Step {
        match answer {
            Answer::Found(endpoints, ttl) => {
                let news = std::mem::take(self).bad > 0;
                let wait = ttl.clamp(rules.min_ttl, rules.max_ttl);
                Step { endpoints: Some(endpoints), wait, news }
            }
            Answer::Empty => {
                let news = self.bad == 0 || !self.empty;
                let endpoints = (rules.on_empty == OnEmpty::Remove).then(Vec::new);
                Step { endpoints, wait: self.again(true, rules), news }
            }
            Answer::Failed => {
                let news = self.bad == 0 || self.empty;
                Step { endpoints: None, wait: self.again(false, rules), news }
            }
        }
    }

    /// The wait after an answer that gave nothing: from the floor, doubled each time, up to the ceiling.
    fn again(&mut self, empty: bool, rules: &Discover) -> Duration {
        let factor = 1_u32.checked_shl(self.bad.min(20)).unwrap_or(u32::MAX);
        self.bad = self.bad.saturating_add(1);
        self.empty = empty;
        rules.min_ttl.saturating_mul(factor).min(rules.max_ttl)
    }
}

/// Endpoints for addresses, in a fixed order, so that name servers which turn their answers round change nothing.
pub(super) fn of_addresses(found: &Addresses, rules: &Discover) -> Answer {
    let mut ips = found.ips.clone();
    ips.sort_unstable();
    ips.dedup();
    ips.truncate(rules.max_endpoints);
    let endpoint = |ip: std::net::IpAddr| endpoint(&ip.to_string(), ip.is_ipv6(), rules.port, rules);
    Answer::Found(ips.into_iter().map(endpoint).collect(), found.ttl)
}

/// Endpoints for services (RFC 2782): priorities become priority groups, weights keep their proportion.
pub(super) fn of_services(mut found: Vec<Service>, ttl: Duration, rules: &Discover) -> Answer {
    found.sort_unstable_by(|a, b| (a.priority, &a.host, a.port).cmp(&(b.priority, &b.host, b.port)));
    let mut services: Vec<Service> = Vec::with_capacity(found.len());
    for service in found {
        let known = services.iter().any(|known| known.host == service.host && known.port == service.port);
        if !known && services.len() < rules.max_endpoints {
            services.push(service);
        }
    }
    let mut priorities: Vec<u16> = services.iter().map(|service| service.priority).collect();
    priorities.dedup();
    let most = services.iter().map(|service| service.weight).max().unwrap_or_default();
    let endpoints = services.iter().map(|service| {
        // 0 to 65535 there, 1 to 256 here.
        let scaled = if most > 256 { u32::from(service.weight) * 256 / u32::from(most) } else { service.weight.into() };
        let weight = u16::try_from(scaled.clamp(1, 256)).unwrap_or(1);
        let group = priorities.iter().position(|priority| *priority == service.priority).unwrap_or_default();
        let priority = u8::try_from(group.min(LAST_GROUP)).unwrap_or_default();
        Endpoint { priority, weight, ..endpoint(&service.host, false, service.port, rules) }
    });
    Answer::Found(endpoints.collect(), ttl)
}

/// The last priority group that there is.
const LAST_GROUP: usize = 9;

fn endpoint(host: &str, brackets: bool, port: u16, rules: &Discover) -> Endpoint {
    let name = if brackets { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Endpoint {
        name: EndpointName::new(&name),
        host: host.to_owned(),
        port,
        weight: 1,
        zone: rules.zone.clone(),
        near: rules.near,
        priority: 0,
        disabled: false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::pool::Record;

    fn rules(on_empty: OnEmpty) -> Discover {
        Discover {
            name: "superset.internal".into(),
            record: Record::Address,
            port: 8088,
            zone: None,
            near: false,
            min_ttl: Duration::from_secs(5),
            max_ttl: Duration::from_secs(60),
            max_endpoints: 8,
            on_empty,
        }
    }

    fn service(host: &str, priority: u16, weight: u16) -> Service {
        Service { host: host.into(), port: 8088, priority, weight }
    }

    #[test]
    fn priorities_become_groups_and_weights_keep_their_proportion() {
        let found = vec![service("b", 1, 60_000), service("a", 1, 30_000), service("c", 2, 1), service("a", 1, 30_000)];

        let Answer::Found(endpoints, _) = of_services(found, Duration::ZERO, &rules(OnEmpty::Keep)) else { panic!() };

        let told = endpoints.iter().map(|each| (each.name.as_str(), each.weight, each.priority));
        assert_eq!(told.collect::<Vec<_>>(), [("a:8088", 128, 0), ("b:8088", 256, 0), ("c:8088", 1, 1)]);
    }

    #[test]
    fn addresses_come_once_in_a_fixed_order_and_within_the_bound() {
        let ips = ["10.0.0.2", "10.0.0.1", "10.0.0.2", "::1"].map(|ip| ip.parse().unwrap()).to_vec();
        let rules = Discover { max_endpoints: 3, ..rules(OnEmpty::Keep) };

        let Answer::Found(endpoints, _) = of_addresses(&Addresses { ips, ttl: Duration::ZERO }, &rules) else {
            panic!()
        };

        let told: Vec<&str> = endpoints.iter().map(|each| each.name.as_str()).collect();
        assert_eq!(told, ["10.0.0.1:8088", "10.0.0.2:8088", "[::1]:8088"]);
    }

    proptest! {
        /// Simulated time: whatever name servers say in a row, waits stay between floor and ceiling, silence never
        /// changes the endpoints, emptiness only where that is wanted, and each change of fortune is news once.
        #[test]
        fn waits_are_bounded_and_only_answers_change_endpoints(
            answers in prop::collection::vec((0_u8..3, 0_u64..200), 1..80), remove: bool,
        ) {
            let rules = rules(if remove { OnEmpty::Remove } else { OnEmpty::Keep });
            let (mut row, mut last, mut elapsed) = (Row::default(), 0_u8, Duration::ZERO);
            for (kind, ttl) in answers {
                let answer = match kind {
                    0 => Answer::Found(Vec::new(), Duration::from_secs(ttl)),
                    1 => Answer::Empty,
                    _ => Answer::Failed,
                };
                let step = row.next(answer, &rules);
                elapsed += step.wait;
                prop_assert!((rules.min_ttl..=rules.max_ttl).contains(&step.wait));
                prop_assert_eq!(step.endpoints.is_some(), kind == 0 || (kind == 1 && remove));
                prop_assert_eq!(step.news, kind != last);
                last = kind;
            }
            prop_assert!(elapsed >= rules.min_ttl);
        }
    }
}
