//! The families of pools and endpoints.
//!
//! Floor 2.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;

use super::{Samples, by_cause, by_class, f, family};
use crate::lexicon::{EndpointName, PoolName};
use crate::telemetry::metrics::cells::{Count, Histogram};
use crate::telemetry::metrics::{
    Cause as _, Direction, DiscoveryResult, EndpointMetrics, PoolMetrics, RaceOutcome, Standing, State,
};

pub(super) fn of_pools(
    pools: &[(PoolName, Arc<PoolMetrics>)],
    state: &State,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    family(encoder, &f::POOL_EXCHANGES, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            by_class(samples, &[name.as_str()], |class| pool.shards.sum(|shard| shard.statuses.get(class)))
        })
    })?;
    family(encoder, &f::DURATION, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            let name = name.as_str();
            let shards = &pool.shards;
            samples.histogram(&[name, "queue"], &Histogram::of(shards, |shard| &shard.queue))?;
            samples.histogram(&[name, "connect"], &Histogram::of(shards, |shard| &shard.connect))?;
            samples.histogram(&[name, "first_byte"], &Histogram::of(shards, |shard| &shard.first_byte))?;
            samples.histogram(&[name, "total"], &Histogram::of(shards, |shard| &shard.total))
        })
    })?;
    family(encoder, &f::QUEUE, |samples| {
        state.pools.iter().try_for_each(|pool| samples.gauge(&[pool.name.as_str()], pool.queue_length))
    })?;
    family(encoder, &f::QUEUE_WAITS, |samples| {
        state.pools.iter().try_for_each(|pool| {
            pool.waits
                .iter()
                .try_for_each(|(lane, ending, count)| samples.counter(&[pool.name.as_str(), lane, ending], *count))
        })
    })?;
    family(encoder, &f::TIER_SHARE, |samples| {
        state.pools.iter().try_for_each(|pool| {
            pool.shares.iter().try_for_each(|share| {
                let zone = if share.far { "far" } else { "near" };
                samples.gauge(&[pool.name.as_str(), &share.priority.to_string(), zone], u64::from(share.percent))
            })
        })
    })?;
    family(encoder, &f::PANICKING, |samples| {
        state.pools.iter().try_for_each(|pool| samples.gauge(&[pool.name.as_str()], u64::from(pool.panicking)))
    })?;
    let each = |samples: &mut Samples<'_>, count: fn(&PoolMetrics) -> &Count| {
        pools.iter().try_for_each(|(name, pool)| samples.counter(&[name.as_str()], count(pool).get()))
    };
    family(encoder, &f::RETRIES, |samples| {
        pools.iter().try_for_each(|(name, pool)| by_cause(samples, &[name.as_str()], |cause| pool.retries.get(cause)))
    })?;
    family(encoder, &f::RETRIES_REFUSED, |samples| each(samples, |pool| &pool.retries_refused))?;
    family(encoder, &f::RACES, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            by_cause(samples, &[name.as_str()], |outcome: RaceOutcome| pool.races.get(outcome))
        })
    })?;
    family(encoder, &f::DISCOVERY, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            by_cause(samples, &[name.as_str()], |outcome: DiscoveryResult| pool.discovery.get(outcome))
        })
    })?;
    family(encoder, &f::TUNNELS, |samples| each(samples, |pool| &pool.tunnels))?;
    family(encoder, &f::TUNNEL_MESSAGES, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            samples.counter(&[name.as_str(), Direction::FromClient.as_str()], pool.messages_in.get())?;
            samples.counter(&[name.as_str(), Direction::ToClient.as_str()], pool.messages_out.get())
        })
    })?;
    family(encoder, &f::TUNNEL_BYTES, |samples| {
        pools.iter().try_for_each(|(name, pool)| {
            samples.counter(&[name.as_str(), Direction::FromClient.as_str()], pool.tunnel_in.get())?;
            samples.counter(&[name.as_str(), Direction::ToClient.as_str()], pool.tunnel_out.get())
        })
    })
}

pub(super) fn of_endpoints(
    pools: &[(PoolName, Arc<PoolMetrics>)],
    state: &State,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let endpoints: Vec<(&str, EndpointName, Arc<EndpointMetrics>)> = pools
        .iter()
        .flat_map(|(pool, metrics)| {
            metrics.endpoints().into_iter().map(|(name, endpoint)| (pool.as_str(), name, endpoint))
        })
        .collect();
    family(encoder, &f::ENDPOINT_EXCHANGES, |samples| {
        endpoints.iter().try_for_each(|(pool, name, endpoint)| {
            by_class(samples, &[*pool, name.as_str()], |class| endpoint.shards.sum(|shard| shard.get(class)))
        })
    })?;
    family(encoder, &f::UPSTREAM_CONNECTIONS, |samples| {
        endpoints.iter().try_for_each(|(pool, name, endpoint)| {
            by_cause(samples, &[*pool, name.as_str()], |result| endpoint.connections.get(result))
        })
    })?;
    family(encoder, &f::FLIPS, |samples| {
        endpoints.iter().try_for_each(|(pool, name, endpoint)| {
            by_cause(samples, &[*pool, name.as_str()], |standing| endpoint.flips.get(standing))
        })
    })?;
    family(encoder, &f::PROBES, |samples| {
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
    family(encoder, &f::STANDING, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| {
            Standing::ALL.iter().try_for_each(|standing| {
                samples.gauge(&[*pool, *name, standing.as_str()], u64::from(endpoint.standing == *standing))
            })
        })
    })?;
    family(encoder, &f::DISABLED, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], u64::from(endpoint.disabled)))
    })?;
    family(encoder, &f::DRAINED, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], u64::from(endpoint.drained)))
    })?;
    family(encoder, &f::IN_FLIGHT, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], endpoint.in_flight))
    })?;
    family(encoder, &f::PENDING, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], endpoint.pending))
    })?;
    family(encoder, &f::RETRIES_OPEN, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], endpoint.retries))
    })?;
    family(encoder, &f::LIMIT_REACHED, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| {
            endpoint.reached.iter().try_for_each(|(limit, count)| samples.counter(&[*pool, *name, *limit], *count))
        })
    })?;
    family(encoder, &f::EJECTED, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], u64::from(endpoint.ejected)))
    })?;
    family(encoder, &f::EJECTIONS, |samples| {
        endpoints.iter().try_for_each(|(pool, name, endpoint)| {
            by_cause(samples, &[*pool, name.as_str()], |cause| endpoint.ejections.get(cause))
        })
    })?;
    family(encoder, &f::IDLE_CLOSES, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.counter(&[*pool, *name], endpoint.idle_closes))
    })?;
    family(encoder, &f::WARMTH, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], u64::from(endpoint.warmth)))
    })?;
    family(encoder, &f::TUNNELS_OPEN, |samples| {
        now.iter().try_for_each(|(pool, name, endpoint)| samples.gauge(&[*pool, *name], endpoint.tunnels))
    })
}
