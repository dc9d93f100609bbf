//! When an endpoint that keeps a request waiting is left.

use std::path::Path;

use super::*;
use crate::config::Config;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;

/// A pool of two endpoints that carry one exchange each.
fn two(more: &str) -> (Arc<Pool>, [Arc<Endpoint>; 2]) {
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.p]\nendpoints = [\"10.0.0.1:1\", \"10.0.0.2:1\"]\n\
         max_in_flight = 1\n{more}\n"
    );
    let config = Config::parse(&text, Path::new("a.toml")).unwrap().config;
    let pool = Arc::clone(&Snapshot::build(config, None, &Metrics::new(1)).unwrap().pools[0]);
    let endpoints = pool.upstream.roster().endpoints().to_vec();
    (pool, endpoints.try_into().unwrap())
}

fn spent(pool: &Pool) -> u64 {
    pool.upstream.budget.fill(now_ms()).used
}

#[test]
fn slow_endpoint_is_left_for_one_that_is_free_and_paid_for() {
    let (pool, [slow, other]) = two("health = false");

    let lease = way_out(&pool, &[slow.id], true).unwrap();

    assert_eq!((lease.endpoint().id, other.vitals.in_flight(), spent(&pool)), (other.id, 1, 1));
    assert!(!hung(&pool, &slow), "it is not known to hang");
}

#[test]
fn nobody_leaves_without_a_place_elsewhere() {
    let (pool, [slow, other]) = two("health = false");
    let taken = pool.upstream.try_lease(&[slow.id]).unwrap();

    assert!(way_out(&pool, &[slow.id], true).is_none(), "the other one is full");
    drop(taken);
    assert!(way_out(&pool, &[other.id, slow.id], true).is_none(), "the other one was asked already");
    while pool.upstream.budget.try_retry(now_ms()) {}
    let all = spent(&pool);
    assert!(way_out(&pool, &[slow.id], true).is_none(), "nothing is left to pay with");

    assert_eq!((other.vitals.in_flight(), spent(&pool)), (0, all));
}

#[test]
fn nobody_leaves_for_who_is_not_known_to_be_up() {
    let (pool, [slow, other]) = two("panic_threshold = 0\nhealth = { initially_up = false }");
    slow.vitals.set_standing(Standing::Up, "");

    for standing in [Standing::Unknown, Standing::Down] {
        other.vitals.set_standing(standing, "");
        assert!(way_out(&pool, &[slow.id], true).is_none(), "{standing:?}");
    }

    assert_eq!(spent(&pool), 0);
    other.vitals.set_standing(Standing::Up, "");
    assert!(way_out(&pool, &[slow.id], true).is_some());
}

#[test]
fn who_is_only_slow_is_not_left_for_who_is_ejected() {
    let (pool, [slow, other]) = two("health = false");
    other.vitals.set_bench(Bench::Out);
    assert!(pool.upstream.try_lease(&[slow.id]).is_some(), "it would be taken if nobody else were there");

    for bench in [Bench::Out, Bench::Trial, Bench::OpenTrial, Bench::OnTrial] {
        other.vitals.set_bench(bench);
        assert!(way_out(&pool, &[slow.id], true).is_none(), "{bench:?}");
    }

    assert_eq!((other.vitals.in_flight(), spent(&pool)), (0, 0));
    other.vitals.set_bench(Bench::In);
    assert!(way_out(&pool, &[slow.id], true).is_some());
}

#[test]
fn nobody_leaves_for_who_is_down_though_a_pool_in_panic_would_ask_him() {
    let (pool, [slow, other]) = two("panic_threshold = 50");
    for endpoint in [&slow, &other] {
        endpoint.vitals.set_standing(Standing::Down, "");
    }

    assert!(pool.upstream.try_lease(&[slow.id]).is_some());
    assert!(way_out(&pool, &[slow.id], true).is_none());

    assert_eq!((other.vitals.in_flight(), spent(&pool)), (0, 0));
}

#[test]
fn answer_in_doubt_counts_on_its_endpoint_though_nobody_waits_for_a_better_one() {
    let (pool, [first, other]) = two("health = false");

    drop(Said::new(&pool, Arc::clone(&first), LiveResult::Erred));
    Said::new(&pool, Arc::clone(&other), LiveResult::Erred).alone();

    let rows = |endpoint: &Endpoint| (endpoint.vitals.tally().errors, endpoint.vitals.tally().seen.gateway);
    assert_eq!((rows(&first), rows(&other)), ((1, 0), (1, 1)));
}
