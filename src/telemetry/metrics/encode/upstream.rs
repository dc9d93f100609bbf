//! The families of pools and endpoints.
//!
//! Floor 2.

use std::fmt;
use std::sync::Arc;

use super::{Page, Samples, by_cause, by_class, f, family};
use crate::lexicon::{EndpointName, PoolName};
use crate::telemetry::metrics::cells::{Count, Histogram};
use crate::telemetry::metrics::{
    Cause as _, Direction, DiscoveryResult, EndpointMetrics, HedgeOutcome, PoolMetrics, RaceOutcome, Standing, State,
};

pub(super) fn of_pools(pools: &[(PoolName, Arc<PoolMetrics>)], state: &State, page: &mut Page<'_>) -> fmt::Result {
    family(page, &f::POOL_EXCHANGES, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            by_class(samples, &[name.as_str()], |class| pool.shards.sum(|shard| shard.statuses.get(class)))
        })
    })?;
    family(page, &f::DURATION, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            let name = name.as_str();
            let shards = &pool.shards;
            samples.histogram(&[name, "receive"], &Histogram::of(shards, |shard| &shard.receive))?;
            samples.histogram(&[name, "queue"], &Histogram::of(shards, |shard| &shard.queue))?;
            samples.histogram(&[name, "connect"], &Histogram::of(shards, |shard| &shard.connect))?;
            samples.histogram(&[name, "first_byte"], &Histogram::of(shards, |shard| &shard.first_byte))?;
            let exemplars = pool.exemplars().into_iter().flatten().collect();
            samples.histogram(&[name, "total"], &Histogram { exemplars, ..Histogram::of(shards, |shard| &shard.total) })
        })
    })?;
    family(page, &f::QUEUE, |samples| {
        state.pools.iter().try_for_each(|pool| samples.gauge(&[pool.name.as_str()], pool.queue_length))
    })?;
    family(page, &f::QUEUE_WAITS, |samples| {
        state.pools.iter().try_for_each(|pool| {
            pool.waits
                .iter()
                .try_for_each(|(lane, ending, count)| samples.counter(&[pool.name.as_str(), lane, ending], *count))
        })
    })?;
    family(page, &f::TIER_SHARE, |samples| {
        state.pools.iter().try_for_each(|pool| {
            pool.shares.iter().try_for_each(|share| {
                let zone = if share.far { "far" } else { "near" };
                samples.gauge(&[pool.name.as_str(), &share.priority.to_string(), zone], u64::from(share.percent))
            })
        })
    })?;
    family(page, &f::PANICKING, |samples| {
        state.pools.iter().try_for_each(|pool| samples.gauge(&[pool.name.as_str()], u64::from(pool.panicking)))
    })?;
    let each = |samples: &mut Samples<'_>, count: fn(&PoolMetrics) -> &Count| {
        pools.iter().try_for_each(|(name, pool)| samples.counter(&[name.as_str()], count(pool).get()))
    };
    family(page, &f::RETRIES, |samples| {
        pools.iter().try_for_each(|(name, pool)| by_cause(samples, &[name.as_str()], |cause| pool.retries.get(cause)))
    })?;
    family(page, &f::RETRIES_REFUSED, |samples| each(samples, |pool| &pool.retries_refused))?;
    family(page, &f::HEDGES, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            by_cause(samples, &[name.as_str()], |outcome: HedgeOutcome| pool.hedges.get(outcome))
        })
    })?;
    family(page, &f::RACES, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            by_cause(samples, &[name.as_str()], |outcome: RaceOutcome| pool.races.get(outcome))
        })
    })?;
    family(page, &f::DISCOVERY, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            by_cause(samples, &[name.as_str()], |outcome: DiscoveryResult| pool.discovery.get(outcome))
        })
    })?;
    family(page, &f::TUNNELS, |samples| each(samples, |pool| &pool.tunnels))?;
    family(page, &f::TUNNEL_MESSAGES, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            samples.counter(&[name.as_str(), Direction::FromClient.as_str()], pool.messages_in.get())?;
            samples.counter(&[name.as_str(), Direction::ToClient.as_str()], pool.messages_out.get())
        })
    })?;
    family(page, &f::TUNNEL_BYTES, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            samples.counter(&[name.as_str(), Direction::FromClient.as_str()], pool.tunnel_in.get())?;
            samples.counter(&[name.as_str(), Direction::ToClient.as_str()], pool.tunnel_out.get())
        })
    })
}

pub(super) fn of_endpoints(pools: &[(PoolName, Arc<PoolMetrics>)], state: &State, page: &mut Page<'_>) -> fmt::Result {
    let endpoints: Vec<(&str, EndpointName, Arc<EndpointMetrics>)> = pools
        .iter()
        .flat_map(|(pool, metrics)| {
            metrics.endpoints().into_iter().map(|(name, endpoint)| (pool.as_str(), name, endpoint))
        })
        .collect();
    family(page, &f::ENDPOINT_EXCHANGES, |samples| {
        endpoints.iter().try_for_each(|(pool, name, endpoint)| {
            by_class(samples, &[*pool, name.as_str()], |class| endpoint.shards.sum(|shard| shard.get(class)))
        })
    })?;
    family(page, &f::UPSTREAM_CONNECTIONS, |samples| {
        endpoints.iter().try_for_each(|(pool, name, endpoint)| {
            by_cause(samples, &[*pool, name.as_str()], |result| endpoint.connections.get(result))
        })
    })?;
    family(page, &f::FLIPS, |samples| {
        endpoints.iter().try_for_each(|(pool, name, endpoint)| {
            by_cause(samples, &[*pool, name.as_str()], |standing| endpoint.flips.get(standing))
        })
    })?;
    family(page, &f::PROBES, |samples| {
        endpoints.iter().try_for_each(|(pool, name, endpoint)| {
            by_cause(samples, &[*pool, name.as_str()], |result| endpoint.probes.get(result))
        })
    })?;
    let now: Vec<_> = state
        .pools
        .iter()
        .flat_map(|pool| {
            pool.endpoints.iter().map(move |endpoint| (pool.name.as_str(), endpoint.name.as_str(), endpoint))
        })
        .collect();
    family(page, &f::STANDING, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| {
            Standing::ALL.iter().try_for_each(|standing| {
                samples.gauge(&[*pool, *name, standing.as_str()], u64::from(endpoint.standing == *standing))
            })
        })
    })?;
    family(page, &f::DISABLED, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], u64::from(endpoint.disabled)))
    })?;
    family(page, &f::DRAINED, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], u64::from(endpoint.drained)))
    })?;
    family(page, &f::IN_FLIGHT, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], endpoint.in_flight))
    })?;
    family(page, &f::PENDING, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], endpoint.pending))
    })?;
    family(page, &f::RETRIES_OPEN, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], endpoint.retries))
    })?;
    family(page, &f::LIMIT_REACHED, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| {
            endpoint.reached.iter().try_for_each(|(limit, count)| samples.counter(&[*pool, *name, *limit], *count))
        })
    })?;
    family(page, &f::EJECTED, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], u64::from(endpoint.ejected)))
    })?;
    family(page, &f::EJECTIONS, |samples| {
        endpoints.iter().try_for_each(|(pool, name, endpoint)| {
            by_cause(samples, &[*pool, name.as_str()], |cause| endpoint.ejections.get(cause))
        })
    })?;
    family(page, &f::IDLE_CLOSES, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.counter(&[*pool, *name], endpoint.idle_closes))
    })?;
    family(page, &f::WARMTH, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], u64::from(endpoint.warmth)))
    })?;
    family(page, &f::TUNNELS_OPEN, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], endpoint.tunnels))
    })
}
