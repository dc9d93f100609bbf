//! `[pools.NAME]` as written; `health` has its own file.

use super::super::objectives::Objectives;
use super::super::pool::{
    Discover, Endpoint, Health, Outliers, Pool, Queue, Retry, SlowStart, Strategy, UpstreamClocks, UpstreamTls,
    WhenAllDown, Zones,
};
use super::discover::{DISCOVER, discover};
use super::health::{HEALTH, health};
use super::key::{Entry, Key, May, Must, Or, Section, Table, section};
use super::kinds::{
    Bytes, Choice, DAY, File, Flag, HOUR, KIB, Lasting, MIB, MINUTE, Parsed, SECOND, WATCHED, Whole, bytes, choice,
    lasting, parsed, whole,
};
use super::objectives::{OBJECTIVES, objectives};
use super::shapes::{At, Brief, List, Sub, Switch, brief, list, sub, switch};
use super::sheet::Words;
use super::steady::{OUTLIERS, QUEUE, SLOW_START, ZONES, outliers, queue, slow_start, zones};
use super::words::{host_name, host_with_port, name};
use crate::lexicon::{EndpointName, PoolName, ZoneName};

section! {
    /// A named set of interchangeable endpoints.
    pub(super) POOL: PoolKeys {
        /// Addresses of the endpoints, `"host:port"`, or tables with more settings.
        endpoints: List<Brief<Parsed<Endpoint>, Sub<Endpoint>>> =
            list(brief(parsed("host:port", endpoint_text), sub(&ENDPOINT, endpoint))).some(), May("those that `discover` finds");
        /// Endpoints that DNS names, beside those written.
        discover: Sub<Discover> = sub(&DISCOVER, discover), May("none");
        /// How an endpoint is chosen: in turn by weight, or the one with the fewest exchanges and tunnels in flight.
        strategy: Choice<Strategy> =
            choice(&[("round-robin", Strategy::RoundRobin), ("least-connection", Strategy::LeastConnection)]),
            Or("'round-robin'");
        /// TLS to the endpoints.
        tls: Switch<Sub<UpstreamTls>> = switch(sub(&TLS, tls)), Or("false");
        /// Exchanges in flight per endpoint, tunnels not counted. 20 suits Superset's image: one worker of 20 threads.
        max_in_flight: Whole<u32> = whole(1, 100_000), Or("20");
        /// Tunnels (WebSockets) per endpoint.
        max_tunnels: Whole<u32> = whole(0, 1_000_000), Or("2_000");
        /// Exchanges and tunnels per endpoint that have no connection yet: no more are held by one that swallows
        /// connects.
        max_pending: Whole<u32> = whole(1, 60_000), Or("10");
        /// Repeats per endpoint of what failed elsewhere, at once: the rest of its slots stays for first attempts.
        max_retries: Whole<u32> = whole(1, 60_000), Or("10");
        /// Exchanges that wait when every endpoint is full.
        queue: Sub<Queue> = sub(&QUEUE, queue), Or("{}");
        /// Clocks on the upstream side.
        timeouts: Sub<UpstreamClocks> = sub(&TIMEOUTS, timeouts), Or("{}");
        /// Idle connections kept per endpoint and worker.
        max_idle: Whole<usize> = whole(0, 10_000), Or("8");
        /// Whether requests that change something are sent on fresh connections only: the endpoint may close an idle one in that
        /// very moment, and nobody could say whether the request was carried out. `false` saves a connect for each of them.
        fresh_writes: Flag = Flag, Or("true");
        /// Repeating what failed before an answer began (RFC 9110 §9.2.2).
        retry: Sub<Retry> = sub(&RETRY, retry), Or("{}");
        /// Active checks. `false` trusts every endpoint.
        health: Switch<Sub<Health>> = switch(sub(&HEALTH, health)), Or("true");
        /// Ejection of endpoints that live traffic shows to be worse than the pool's others, whatever their checks say.
        /// `false` leaves judgement to the checks.
        outliers: Switch<Sub<Outliers>> = switch(sub(&OUTLIERS, outliers)), Or("true");
        /// How an endpoint grows into its share after a recovery, or when it joins. `false` gives it all at once.
        slow_start: Switch<Sub<SlowStart>> = switch(sub(&SLOW_START, slow_start)), Or("true");
        /// Percent of a priority group's weight that must be well for it to take everything; beneath, the next group
        /// takes what is missing, in proportion.
        spill_below: Whole<u8> = whole(1, 100), Or("50");
        /// What the proxy's own zone (`process.zone`) means to the pool.
        zones: Sub<Zones> = sub(&ZONES, zones), Or("{}");
        /// When no endpoint is up: answer 503 `no_endpoint`, or try all that are not disabled.
        when_all_down: Choice<WhenAllDown> =
            choice(&[("reject", WhenAllDown::Reject), ("use-all", WhenAllDown::UseAll)]), Or("'reject'");
        /// Share of endpoints, in percent, that must be up for health to be heeded; below it every endpoint is used,
        /// since a dependency that all share has failed rather than they. 0 switches it off.
        panic_threshold: Whole<u8> = whole(0, 100), Or("50");
        /// Longest response head. Beyond it: 502 `upstream_head`.
        head_bytes: Bytes<usize> = bytes(4 * KIB, MIB), Or("'64KiB'");
        /// What is promised of the pool, and measured: error budgets, burn rates, downtime.
        objectives: Sub<Objectives> = sub(&OBJECTIVES, objectives), Or("{}");
    }
}

/// What a pool means.
pub(super) fn pool(name: &str, table: &Table<'_>) -> Option<Pool> {
    let discover = table.get(&POOL.discover);
    let endpoints = table.get(&POOL.endpoints).and_then(|endpoints| distinct(table, endpoints.unwrap_or_default()));
    if !table.has(&POOL.endpoints) && !table.has(&POOL.discover) {
        table.error(&POOL.endpoints, Words::new("is missing").expected("a list of `host:port`, or `discover`"));
    }
    let strategy = table.get(&POOL.strategy);
    let tls = table.get(&POOL.tls);
    let max_in_flight = table.get(&POOL.max_in_flight);
    let max_tunnels = table.get(&POOL.max_tunnels);
    let max_pending = table.get(&POOL.max_pending);
    let max_retries = table.get(&POOL.max_retries);
    let queue = table.get(&POOL.queue);
    let clocks = table.get(&POOL.timeouts);
    let (max_idle, fresh_writes) = (table.get(&POOL.max_idle), table.get(&POOL.fresh_writes));
    let retry = table.get(&POOL.retry);
    let health = table.get(&POOL.health);
    let outliers = table.get(&POOL.outliers);
    let slow_start = table.get(&POOL.slow_start);
    let spill_below = table.get(&POOL.spill_below);
    let zones = table.get(&POOL.zones);
    let when_all_down = table.get(&POOL.when_all_down);
    let panic_threshold = table.get(&POOL.panic_threshold);
    let head_bytes = table.get(&POOL.head_bytes);
    let objectives = table.get(&POOL.objectives);

    let several = endpoints.as_ref().is_some_and(|endpoints: &Vec<Endpoint>| endpoints.len() > 1);
    if several && matches!(health, Some(None)) {
        let words = Words::new("is off: a dead endpoint keeps its share of the traffic");
        table.warn(&POOL.health, words.expected("checks, as there are several endpoints"));
    }
    let none_found = matches!(discover, Some(None));
    let all = endpoints.as_ref().is_some_and(|all| all.iter().all(|endpoint| endpoint.disabled));
    if all && table.has(&POOL.endpoints) && none_found {
        table.warn(&POOL.endpoints, Words::new("are all disabled: every exchange will be answered 503"));
    }
    let discover: Option<Discover> = discover?;
    let mut tls: Option<UpstreamTls> = tls?;
    if let (Some(discover), Some(tls)) = (&discover, &mut tls)
        && discover.record == super::super::pool::Record::Address
    {
        // Addresses are in nobody's certificate.
        tls.server_name.get_or_insert_with(|| discover.name.trim_end_matches('.').to_owned());
    }
    Some(Pool {
        name: PoolName::new(name),
        endpoints: endpoints?,
        discover,
        strategy: strategy?,
        tls,
        max_in_flight: max_in_flight?,
        max_tunnels: max_tunnels?,
        max_pending: max_pending?,
        max_retries: max_retries?,
        queue: queue?,
        clocks: clocks?,
        max_idle: max_idle?,
        fresh_writes: fresh_writes?,
        retry: retry?,
        health: health?,
        outliers: outliers?,
        slow_start: slow_start?,
        spill_below: spill_below?,
        zones: zones?,
        when_all_down: when_all_down?,
        panic_threshold: panic_threshold?,
        head_bytes: head_bytes?,
        objectives: objectives?,
    })
}

/// The endpoints, unless two of them are the same.
fn distinct(table: &Table<'_>, endpoints: Vec<At<Endpoint>>) -> Option<Vec<Endpoint>> {
    let mut seen: Vec<Endpoint> = Vec::with_capacity(endpoints.len());
    let mut twice = false;
    for At { value, place } in endpoints {
        let same = |known: &Endpoint| known.host.eq_ignore_ascii_case(&value.host) && known.port == value.port;
        if seen.iter().any(same) {
            twice = true;
            let words = Words::new("is there twice").found(format!("{:?}", value.name.as_str()));
            let words = words.help("give an endpoint more traffic by its `weight`");
            table.written.sheet.report(super::super::findings::Severity::Error, &place, words);
        }
        seen.push(value);
    }
    (!twice).then_some(seen)
}

section! {
    /// One endpoint.
    ENDPOINT: EndpointKeys {
        /// Host name or IP address, with a port.
        address: Parsed<Endpoint> = parsed("host:port", endpoint_text), Must();
        /// Share of traffic relative to the others.
        weight: Whole<u16> = whole(1, 256), Or("1");
        /// Failure domain, such as a rack or an availability zone.
        zone: Parsed<String> = parsed("name", name), May("none");
        /// Priority group. 0 serves; a higher one is a backup, for when too little of the lower ones is well.
        priority: Whole<u8> = whole(0, 9), Or("0");
        /// Taken out: no new exchanges and no checks.
        disabled: Flag = Flag, Or("false");
    }
}

fn endpoint(table: &Table<'_>) -> Option<Endpoint> {
    let address = table.get(&ENDPOINT.address);
    let weight = table.get(&ENDPOINT.weight);
    let zone = table.get(&ENDPOINT.zone);
    let priority = table.get(&ENDPOINT.priority);
    let disabled = table.get(&ENDPOINT.disabled);
    let zone = zone?.map(|zone| ZoneName::new(&zone));
    Some(Endpoint { weight: weight?, zone, priority: priority?, disabled: disabled?, ..address? })
}

fn endpoint_text(text: &str) -> Result<Endpoint, String> {
    if text.contains("//") {
        return Err("must not be a URL; TLS is switched on by the pool's `tls`".into());
    }
    let (host, port) = host_with_port(text).ok_or("is not a host with a port")?;
    if port == 0 {
        return Err("has port 0".into());
    }
    let name = EndpointName::new(text);
    Ok(Endpoint { name, host, port, weight: 1, zone: None, near: false, priority: 0, disabled: false })
}

section! {
    /// Clocks on the upstream side.
    TIMEOUTS: TimeoutsKeys {
        /// TCP (and TLS) to the endpoint.
        connect: Lasting = lasting(10, 5 * MINUTE), Or("'2s'");
        /// Longest pause while the endpoint takes the request body.
        write_idle: Lasting = lasting(100, HOUR), Or("'60s'");
        /// How long the endpoint's host may acknowledge nothing before a connection counts as dead. Its kernel answers
        /// however busy Superset is, so that only a dead host or a cut wire meets this. Whole seconds count.
        unacknowledged: Lasting = lasting(3_000, HOUR), Or("'12s'");
        /// Age of an idle connection at which it is not used again. Gunicorn closes after 2 s: stay below it.
        idle: Lasting = lasting(0, DAY), Or("'1.5s'");
        /// Whether an endpoint that is seen to close idle connections sooner than `idle` has them given up earlier still.
        learn_idle: Flag = Flag, Or("true");
    }
}

fn timeouts(table: &Table<'_>) -> Option<UpstreamClocks> {
    let (connect, write_idle) = (table.get(&TIMEOUTS.connect), table.get(&TIMEOUTS.write_idle));
    let (unacknowledged, idle) = (table.get(&TIMEOUTS.unacknowledged), table.get(&TIMEOUTS.idle));
    let learn_idle = table.get(&TIMEOUTS.learn_idle);
    if idle.is_some_and(|idle| idle.as_millis() >= u128::from(2 * SECOND)) {
        let words = Words::new("meets connections that Gunicorn is closing: its keep-alive ends after 2s");
        let words = words.expected("less than Gunicorn's `--keep-alive`");
        table.warn(&TIMEOUTS.idle, words.help("right only if every endpoint keeps idle connections for longer"));
    }
    Some(UpstreamClocks {
        connect: connect?,
        write_idle: write_idle?,
        unacknowledged: unacknowledged?,
        idle: idle?,
        learn_idle: learn_idle?,
    })
}

section! {
    /// Repeating what failed before an answer began: safe methods, unsent requests, and a route's `read_only_posts`.
    RETRY: RetryKeys {
        /// Further attempts per exchange, beside those of which not a byte was sent: these go on while there is an
        /// endpoint to try.
        attempts: Whole<u32> = whole(0, 5), Or("1");
        /// Wait for the response head after which an attempt that may be repeated goes elsewhere, if another endpoint is
        /// free at once and the budget allows it; else it stays. Only where no query is slower: one that is asked for
        /// twice runs twice.
        per_try: Lasting = lasting(50, HOUR), May("no limit but the route's `first_byte`");
        /// How long an endpoint must have been down, accepting checks and not answering them, until exchanges that wait for
        /// it and may be repeated are asked elsewhere: once another is free, within attempts and budget. 0 waits for
        /// `first_byte` in any case.
        hung_after: Lasting = lasting(0, HOUR), Or("'60s'");
        /// Wait before the second repeat; doubled for each further one, and varied by up to half. The first repeat goes
        /// to another endpoint at once.
        back_off: Lasting = lasting(0, 10 * SECOND), Or("'25ms'");
        /// Retries in percent of the exchanges of the last 10 s, with a floor of 3 a second.
        budget_percent: Whole<u8> = whole(0, 100), Or("10");
    }
}

fn retry(table: &Table<'_>) -> Option<Retry> {
    let (attempts, budget_percent) = (table.get(&RETRY.attempts), table.get(&RETRY.budget_percent));
    let (per_try, back_off) = (table.get(&RETRY.per_try), table.get(&RETRY.back_off));
    let hung_after = table.get(&RETRY.hung_after);
    if per_try.flatten().is_some_and(|limit| limit.as_secs() < 60) {
        let words = Words::new("repeats queries that are only slow: Superset lets them take a minute");
        table.warn(&RETRY.per_try, words.expected("60s or more, unless the pool serves no queries"));
    }
    if budget_percent.is_some_and(|percent| percent > 50) {
        let words = Words::new("lets retries add half the load again when endpoints are already failing");
        table.warn(&RETRY.budget_percent, words.expected("50 or less"));
    }
    Some(Retry {
        attempts: attempts?,
        per_try: per_try?,
        hung_after: hung_after?,
        back_off: back_off?,
        budget_percent: budget_percent?,
    })
}

section! {
    /// TLS to whom the proxy connects.
    pub(super) TLS: TlsKeys {
        /// Name to verify and to send as SNI.
        server_name: Parsed<String> = parsed("host name", host_name), May("the host that is connected to");
        /// PEM file of trust anchors.
        authorities: File = WATCHED, May("Mozilla's");
        /// Whether the certificate is verified.
        verify: Flag = Flag, Or("true");
        /// Certificate shown to the other side, a PEM file.
        certificate: File = WATCHED, May("none");
        /// Key of `certificate`, a PEM file.
        key: File = WATCHED, May("none");
    }
}

pub(super) fn tls(table: &Table<'_>) -> Option<UpstreamTls> {
    let server_name = table.get(&TLS.server_name);
    let authorities = table.get(&TLS.authorities);
    let verify = table.get(&TLS.verify);
    let (certificate, key) = (table.get(&TLS.certificate), table.get(&TLS.key));
    if verify == Some(false) {
        let words = Words::new("trusts whoever answers").expected("true");
        table.warn(&TLS.verify, words.help("for a private authority, name its PEM file in `authorities`"));
    }
    let certificate = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some(super::super::listener::Certificate { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            table.error(&TLS.certificate, Words::new("has no `key`"));
            return None;
        }
        (None, Some(_)) => {
            table.error(&TLS.key, Words::new("has no `certificate`"));
            return None;
        }
    };
    Some(UpstreamTls { server_name: server_name?, authorities: authorities?, verify: verify?, certificate })
}
