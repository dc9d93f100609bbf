//! A pool for the tests of this floor.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Pool;
use crate::config::objectives::Objectives;
use crate::config::pool::{Endpoint, Health, Queue, Retry, Strategy, UpstreamClocks, WhenAllDown, Zones};
use crate::lexicon::{EndpointName, PoolName};

pub(crate) fn pool(endpoints: &[(&str, u16)], health: Option<Health>) -> Arc<Pool> {
    let endpoints = endpoints.iter().map(|(host, port)| Endpoint {
        name: EndpointName::new(&format!("{host}:{port}")),
        host: (*host).to_owned(),
        port: *port,
        weight: 1,
        zone: None,
        near: false,
        priority: 0,
        disabled: false,
    });
    Arc::new(Pool {
        name: PoolName::new("superset"),
        endpoints: endpoints.collect(),
        discover: None,
        strategy: Strategy::RoundRobin,
        tls: None,
        max_in_flight: 20,
        max_tunnels: 20,
        max_pending: 20,
        max_retries: 20,
        queue: Queue {
            length: 64,
            per_client: 64,
            timeout: Duration::from_secs(10),
            express: Vec::new(),
            express_length: 0,
        },
        clocks: UpstreamClocks {
            connect: Duration::from_secs(2),
            write_idle: Duration::from_secs(60),
            unacknowledged: Duration::from_secs(12),
            idle: Duration::from_millis(1_500),
            learn_idle: true,
        },
        max_idle: 8,
        fresh_writes: true,
        retry: Retry {
            attempts: 1,
            per_try: None,
            hung_after: Duration::from_secs(60),
            back_off: Duration::ZERO,
            budget_percent: 10,
        },
        health,
        outliers: None,
        slow_start: None,
        spill_below: 50,
        zones: Zones { prefer: true, fill: 75 },
        when_all_down: WhenAllDown::Reject,
        panic_threshold: 50,
        head_bytes: 64 * 1024,
        objectives: Objectives::default(),
    })
}
