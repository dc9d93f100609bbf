//! Whether an exchange was served as promised, and who is to be blamed if it was not.
//!
//! Floor 2, pure.

use std::time::Duration;

use super::causes::causes;
use crate::telemetry::record::{End, Record, Stage, Who};

causes! {
    /// How an exchange counts for its pool's objectives.
    Served {
        /// Answered in time.
        Good = "good",
        /// Answered, but late.
        Slow = "slow",
        /// The client gave up waiting, or filled the line.
        Client = "client",
        /// The proxy failed: full queues, its own clocks, a defect.
        Proxy = "proxy",
        /// An endpoint failed, or none could be asked.
        Endpoint = "endpoint",
    }
}

impl Served {
    /// How the exchange of `record` counts, if it does. `answered` is when the head of its answer was ready, measured from
    /// its last byte, and `threshold` when it should have been.
    ///
    /// What a client did wrong does not count, nor what limits and rules refused: a flood of either must not make a pool
    /// look better than it is. A client that leaves before the threshold does not count either.
    pub fn of(record: &Record, answered: Option<Duration>, threshold: Duration) -> Option<Self> {
        let broken = record.status.is_none_or(|status| status >= 500);
        let End { who, stage } = record.end;
        let in_time = |answered: Duration| if answered <= threshold { Self::Good } else { Self::Slow };
        match who {
            // The bad token of a WebSocket, answered as superset-websocket should have.
            Who::Upstream if stage == Stage::Tunnel && !broken => None,
            Who::Upstream => Some(Self::Endpoint),
            Who::Nobody if broken => Some(Self::Endpoint),
            Who::Nobody => answered.map(in_time),
            Who::Proxy if broken || stage == Stage::Data => Some(Self::Proxy),
            Who::Proxy => None,
            Who::Client if record.fault.is_some() => (broken && record.status.is_some()).then_some(Self::Client),
            // It had its answer and left in the middle of it.
            Who::Client if stage == Stage::Data => answered.filter(|_| !broken).map(in_time),
            Who::Client => {
                let waited = record.stages.total.saturating_sub(record.stages.receive);
                (stage != Stage::Request && waited > threshold).then_some(Self::Client)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::samples;

    const THRESHOLD: Duration = Duration::from_secs(10);

    fn served(
        status: Option<u16>,
        who: Who,
        stage: Stage,
        fault: Option<&'static str>,
        seconds: u64,
    ) -> Option<Served> {
        let mut record = Record { status, end: End { who, stage }, fault, ..samples::exchange() };
        let took = Duration::from_secs(seconds);
        record.stages.total = took + record.stages.receive;
        let answered = (status.is_some() && fault.is_none()).then_some(took);
        Served::of(&record, answered, THRESHOLD)
    }

    #[test]
    fn answers_are_good_or_slow_by_when_they_began() {
        assert_eq!(served(Some(200), Who::Nobody, Stage::Complete, None, 10), Some(Served::Good));
        assert_eq!(served(Some(404), Who::Nobody, Stage::Complete, None, 1), Some(Served::Good));
        assert_eq!(served(Some(200), Who::Nobody, Stage::Complete, None, 11), Some(Served::Slow));
    }

    #[test]
    fn failures_are_blamed_on_who_ended_the_exchange() {
        assert_eq!(served(Some(500), Who::Nobody, Stage::Complete, None, 1), Some(Served::Endpoint));
        assert_eq!(served(Some(502), Who::Upstream, Stage::Connect, Some("connect"), 1), Some(Served::Endpoint));
        assert_eq!(served(Some(503), Who::Upstream, Stage::Queue, Some("no_endpoint"), 1), Some(Served::Endpoint));
        assert_eq!(served(Some(200), Who::Upstream, Stage::Data, Some("upstream_closed"), 1), Some(Served::Endpoint));
        assert_eq!(served(Some(503), Who::Proxy, Stage::Queue, Some("queue_full"), 1), Some(Served::Proxy));
        assert_eq!(served(Some(200), Who::Proxy, Stage::Data, Some("exchange"), 1), Some(Served::Proxy));
        assert_eq!(served(Some(503), Who::Client, Stage::Queue, Some("queue_client_full"), 1), Some(Served::Client));
    }

    #[test]
    fn what_was_refused_for_the_clients_sake_does_not_count() {
        assert_eq!(served(Some(429), Who::Proxy, Stage::Request, Some("rate_limited"), 1), None);
        assert_eq!(served(Some(403), Who::Proxy, Stage::Request, Some("denied"), 1), None);
        assert_eq!(served(Some(400), Who::Client, Stage::Request, Some("body_malformed"), 1), None);
        assert_eq!(served(None, Who::Client, Stage::Request, Some("client_gone"), 60), None);
        assert_eq!(served(Some(401), Who::Upstream, Stage::Tunnel, Some("tunnel_refused"), 1), None);
    }

    #[test]
    fn a_client_that_leaves_counts_once_it_has_waited_for_too_long() {
        assert_eq!(served(None, Who::Client, Stage::Head, None, 10), None);
        assert_eq!(served(None, Who::Client, Stage::Head, None, 11), Some(Served::Client));
        assert_eq!(served(None, Who::Client, Stage::Queue, None, 11), Some(Served::Client));
        assert_eq!(served(None, Who::Client, Stage::Request, None, 11), None);
        assert_eq!(served(Some(200), Who::Client, Stage::Data, None, 1), Some(Served::Good));
        assert_eq!(served(Some(200), Who::Client, Stage::Data, None, 11), Some(Served::Slow));
        assert_eq!(served(Some(500), Who::Client, Stage::Data, None, 1), None);
    }
}
