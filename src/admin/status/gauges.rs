//! What gauges show of `/status`.

use std::time::Duration;

use super::{Lane, Limit, Listener, Load, Pool, Share, Status};
use crate::telemetry::metrics::{EndpointState, LimitState, ListenerState, PoolState, State, TierShare, WorkerState};

impl Status {
    /// What gauges show of it; the bridge from `Source::status` to [`crate::telemetry::metrics::Gauges`].
    pub fn gauges(&self) -> State {
        State {
            generation: self.generation,
            loaded_at: self.loaded_at,
            phase: self.phase,
            workers: self.load.iter().map(Load::gauges).collect(),
            connections_max: self.connections_max,
            listeners: self.listeners.iter().map(Listener::gauges).collect(),
            pools: self.pools.iter().map(Pool::gauges).collect(),
            temp_bytes: self.temp_bytes,
            buffered_bytes: self.buffered_bytes,
            limits: self.limits.iter().map(Limit::gauges).collect(),
            bans: self.bans,
            fleet: self.fleet,
        }
    }
}

impl Load {
    fn gauges(&self) -> WorkerState {
        let Self { busy_seconds, connections, tasks } = *self;
        WorkerState { busy: Duration::try_from_secs_f64(busy_seconds).unwrap_or_default(), connections, tasks }
    }
}

impl Limit {
    fn gauges(&self) -> LimitState {
        LimitState { name: self.name.clone(), keys: self.keys, pushed_out: self.pushed_out }
    }
}

impl Listener {
    fn gauges(&self) -> ListenerState {
        let certificates = self.certificates.iter();
        ListenerState {
            name: self.name.clone(),
            connections: self.connections,
            speaking: self.speaking,
            certificates: certificates.map(|each| (each.file.clone(), each.not_after)).collect(),
        }
    }
}

impl Pool {
    fn gauges(&self) -> PoolState {
        let endpoints = self.endpoints.iter().map(|endpoint| EndpointState {
            name: endpoint.name.clone(),
            standing: endpoint.standing,
            disabled: endpoint.disabled,
            drained: endpoint.drained,
            in_flight: endpoint.in_flight,
            pending: endpoint.pending,
            retries: endpoint.retries,
            reached: [
                ("in_flight", endpoint.limits_reached.in_flight),
                ("pending", endpoint.limits_reached.pending),
                ("retries", endpoint.limits_reached.retries),
            ],
            ejected: endpoint.bench != "in",
            warmth: endpoint.warmth,
            idle_closes: endpoint.idle_closes,
            tunnels: endpoint.tunnels,
        });
        let ended =
            |lane: &Lane| lane.ended.iter().map(|(ending, count)| (lane.lane, *ending, *count)).collect::<Vec<_>>();
        let share =
            |share: &Share| TierShare { priority: share.priority, far: share.zone == "far", percent: share.percent };
        PoolState {
            name: self.name.clone(),
            queue_length: self.queue_length,
            waits: self.queue.iter().flat_map(ended).collect(),
            shares: self.shares.iter().map(share).collect(),
            panicking: self.panicking,
            slo: self.slo.clone(),
            endpoints: endpoints.collect(),
        }
    }
}
