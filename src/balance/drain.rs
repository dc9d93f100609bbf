//! What operators have taken out of service, and until when.
//!
//! Part of `balance`. Orders go by name, so that they hold for endpoints that a reload or discovery brings later. Pure:
//! `now` is an argument, in milliseconds since any fixed point.

use std::fmt;

use crate::lexicon::{EndpointName, PoolName, ZoneName};

/// Orders that may stand at once.
pub const MOST_ORDERS: usize = 1_000;

/// What an operator takes out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// One endpoint.
    Endpoint {
        /// Its pool.
        pool: PoolName,
        /// Its name in there.
        endpoint: EndpointName,
    },
    /// Every endpoint of a zone, in all pools.
    Zone(ZoneName),
}

/// One order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order {
    /// What is out.
    pub target: Target,
    /// When it ends by itself; `None` never.
    pub until: Option<u64>,
}

/// The orders that stand.
#[derive(Clone, Debug, Default)]
pub struct Orders(Vec<Order>);

impl Target {
    /// Whether it speaks of this endpoint.
    pub fn covers(&self, pool: &PoolName, endpoint: &EndpointName, zone: Option<&ZoneName>) -> bool {
        match self {
            Self::Endpoint { pool: its, endpoint: name } => its == pool && name == endpoint,
            Self::Zone(name) => zone == Some(name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { pool, endpoint } => write!(f, "{pool}/{endpoint}"),
            Self::Zone(zone) => write!(f, "zone {zone}"),
        }
    }
}

impl Orders {
    /// Puts an order in place of an earlier one about the same; false when [`MOST_ORDERS`] stand.
    pub fn put(&mut self, order: Order) -> bool {
        if let Some(known) = self.0.iter_mut().find(|known| known.target == order.target) {
            *known = order;
            return true;
        }
        let room = self.0.len() < MOST_ORDERS;
        if room {
            self.0.push(order);
        }
        room
    }

    /// Takes an order back; false when there is none about exactly this.
    pub fn take_back(&mut self, target: &Target) -> bool {
        let before = self.0.len();
        self.0.retain(|order| order.target != *target);
        self.0.len() < before
    }

    /// Takes back what has come to its end, and says what that was.
    pub fn expire(&mut self, now: u64) -> Vec<Target> {
        let over = |order: &Order| order.until.is_some_and(|until| until <= now);
        let ended = self.0.iter().filter(|order| over(order)).map(|order| order.target.clone()).collect();
        self.0.retain(|order| !over(order));
        ended
    }

    /// When the next one ends by itself.
    pub fn next_end(&self) -> Option<u64> {
        self.0.iter().filter_map(|order| order.until).min()
    }

    /// Whether some order takes this endpoint out.
    pub fn cover(&self, pool: &PoolName, endpoint: &EndpointName, zone: Option<&ZoneName>) -> bool {
        self.0.iter().any(|order| order.target.covers(pool, endpoint, zone))
    }

    /// All of them, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Order> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(number: u8) -> Target {
        Target::Endpoint { pool: PoolName::new("p"), endpoint: EndpointName::new(&number.to_string()) }
    }

    #[test]
    fn zone_covers_its_endpoints_in_every_pool_and_no_others() {
        let mut orders = Orders::default();
        assert!(orders.put(Order { target: Target::Zone(ZoneName::new("a")), until: None }));

        let (one, zone) = (EndpointName::new("1"), ZoneName::new("a"));
        assert!(orders.cover(&PoolName::new("p"), &one, Some(&zone)));
        assert!(orders.cover(&PoolName::new("q"), &one, Some(&zone)));
        assert!(!orders.cover(&PoolName::new("p"), &one, Some(&ZoneName::new("b"))));
        assert!(!orders.cover(&PoolName::new("p"), &one, None));
    }

    #[test]
    fn orders_are_bounded_and_a_repeated_one_takes_no_room() {
        let mut orders = Orders::default();
        for number in 0..MOST_ORDERS {
            let target = Target::Zone(ZoneName::new(&number.to_string()));
            assert!(orders.put(Order { target, until: None }));
        }

        assert!(!orders.put(Order { target: endpoint(1), until: None }));
        assert!(orders.put(Order { target: Target::Zone(ZoneName::new("7")), until: Some(9) }));
        assert_eq!((orders.iter().count(), orders.next_end()), (MOST_ORDERS, Some(9)));
    }

    proptest! {
        /// Whatever the row of orders: an endpoint is out exactly while the last word about it stands.
        #[test]
        fn endpoint_is_out_while_its_last_order_stands(
            steps in prop::collection::vec((0_u8..4, prop::option::of(0_u64..50), 0_u64..20, any::<bool>()), 1..60),
        ) {
            let mut orders = Orders::default();
            let mut model: std::collections::BTreeMap<u8, Option<u64>> = std::collections::BTreeMap::new();
            let mut now = 0;
            for (number, lasting, pause, out) in steps {
                now += pause;
                orders.expire(now);
                model.retain(|_, until| until.is_none_or(|until| until > now));
                if out {
                    let until = lasting.map(|lasting| now + lasting + 1);
                    orders.put(Order { target: endpoint(number), until });
                    model.insert(number, until);
                } else {
                    prop_assert_eq!(orders.take_back(&endpoint(number)), model.remove(&number).is_some());
                }
                for number in 0..4 {
                    let name = EndpointName::new(&number.to_string());
                    prop_assert_eq!(orders.cover(&PoolName::new("p"), &name, None), model.contains_key(&number));
                }
                prop_assert_eq!(orders.next_end(), model.values().flatten().min().copied());
            }
        }
    }
}
